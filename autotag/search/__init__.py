"""An index of photographs beside their tags, in one SQLite file or in a database server, and searches in it.

``Index``, ``StoreIndex``, ``Filter``, ``Hit`` and ``find_duplicates`` are for users; ``autotag index``,
``autotag search`` and ``autotag duplicates`` use them. ``VectorStore`` is for authors of further stores.
It may import ``pipeline``, ``relevance``, ``metadata`` and what is below them.
"""

from autotag.search.duplicates import Copy, DuplicateGroup, find_duplicates, find_duplicates_in
from autotag.search.filters import Filter
from autotag.search.hits import Hit
from autotag.search.index import Index
from autotag.search.store import Conditions, StoredPhoto, StoreEncoder, VectorStore, open_store
from autotag.search.store_index import StoreIndex

__all__ = [
    "Conditions",
    "Copy",
    "DuplicateGroup",
    "Filter",
    "Hit",
    "Index",
    "StoreEncoder",
    "StoreIndex",
    "StoredPhoto",
    "VectorStore",
    "find_duplicates",
    "find_duplicates_in",
    "open_store",
]
