"""An index of photographs beside their tags, in one SQLite file, and searches in it.

``Index``, ``Filter`` and ``Hit`` are for users; ``autotag index`` and ``autotag search`` use them. It may
import ``pipeline``, ``relevance``, ``metadata`` and what is below them.
"""

from autotag.search.filters import Filter
from autotag.search.index import Hit, Index

__all__ = ["Filter", "Hit", "Index"]
