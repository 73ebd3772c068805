"""An index of photographs beside their tags, in one SQLite file, and searches in it.

``Index``, ``Filter``, ``Hit`` and ``find_duplicates`` are for users; ``autotag index``, ``autotag search``
and ``autotag duplicates`` use them. It may import ``pipeline``, ``relevance``, ``metadata`` and what is below
them.
"""

from autotag.search.duplicates import Copy, DuplicateGroup, find_duplicates, find_duplicates_in
from autotag.search.filters import Filter
from autotag.search.hits import Hit
from autotag.search.index import Index

__all__ = ["Copy", "DuplicateGroup", "Filter", "Hit", "Index", "find_duplicates", "find_duplicates_in"]
