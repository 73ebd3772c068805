"""Finds photographs again: an index beside the tags, in one file."""

from autotag.search.filters import Filter
from autotag.search.index import Hit, Index

__all__ = ["Filter", "Hit", "Index"]
