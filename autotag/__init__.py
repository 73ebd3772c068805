"""autotag turns images into tags.

::

    import autotag

    result = autotag.tag("beach.jpg")  # caption, tags (best first), prompt
    tagger = autotag.load("base", device="cuda", filter_tags={"top_k": 5})
    for result in tagger.stream(autotag.find_images("photos/"), on_error="record"):
        print(result.source, result.error or result.tag_texts)

The names below are imported on first use, so ``import autotag`` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autotag import errors, records
    from autotag.api import tag
    from autotag.images.reading import find_images
    from autotag.pipeline.function_stage import stage
    from autotag.pipeline.pipeline import Pipeline
    from autotag.pipeline.presets import load
    from autotag.search.index import Index
    from autotag.server.core.tagger import serve_async
    from autotag.vocabularies.vocabulary import Vocabulary
    from autotag.writers.frames import to_pandas

    __version__: str

__all__ = [
    "Index",
    "Pipeline",
    "Vocabulary",
    "__version__",
    "errors",
    "find_images",
    "load",
    "records",
    "serve_async",
    "stage",
    "tag",
    "to_pandas",
]

_HOMES = {
    "Index": "autotag.search.index",
    "Pipeline": "autotag.pipeline.pipeline",
    "Vocabulary": "autotag.vocabularies.vocabulary",
    "find_images": "autotag.images.reading",
    "load": "autotag.pipeline.presets",
    "serve_async": "autotag.server.core.tagger",
    "stage": "autotag.pipeline.function_stage",
    "tag": "autotag.api",
    "to_pandas": "autotag.writers.frames",
}


def __getattr__(name: str) -> Any:
    if name in {"errors", "records"}:
        return import_module(f"autotag.{name}")
    if name == "__version__":
        from importlib.metadata import version

        from autotag.errors import DISTRIBUTION

        return version(DISTRIBUTION)
    if name not in _HOMES:
        raise AttributeError(f"module 'autotag' has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
