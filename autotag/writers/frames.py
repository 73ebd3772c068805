"""Results as a pandas table. Needs the extra ``autotag-images[pandas]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from autotag.errors import ConfigError, install_hint, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from autotag.records import Result

_COLUMNS = {
    "image": ["source", "width", "height", "caption", "tags", "prompt", "error"],
    "tag": ["source", "tag", "score", "by", "count", "path"],
}
_MAY_BE_NONE = {"error", "count"}


def to_pandas(results: Iterable[Result], *, per: Literal["image", "tag"] = "image") -> Any:
    """Return results as a ``pandas.DataFrame``.

    ::

        frame = autotag.to_pandas(tagger.stream(images, on_error="record"))
        best = autotag.to_pandas(results, per="tag").groupby("tag").score.mean()

    Args:
        results: any iterable of results, such as a stream.
        per: ``"image"`` for one row per image: source, width, height, caption, tags (a list of texts, best
            first), prompt, error (None without one). ``"tag"`` for one row per tag, best first within each
            image: source, tag, score, by (the stage that proposed it), count (None when nothing counted it),
            path (a list); images without tags have no row.

    Raises:
        ConfigError: pandas is not installed, or ``per`` is unknown.
    """
    if per not in _COLUMNS:
        raise ConfigError(f"unknown per={per!r}. {suggestion(str(per), _COLUMNS)}")
    try:
        import pandas as pd
    except ImportError as error:
        raise ConfigError(f"tables of pandas need: {install_hint('pandas')}") from error
    rows = _image_rows(results) if per == "image" else _tag_rows(results)
    frame = pd.DataFrame.from_records(list(rows), columns=_COLUMNS[per])
    for name, values in frame.items():
        if name in _MAY_BE_NONE:  # pandas makes NaN of None, which is true
            frame[name] = values.astype(object).where(values.notna(), None)
    return frame


def _image_rows(results: Iterable[Result]) -> Iterator[tuple[object, ...]]:
    for result in results:
        tags = list(result.tag_texts)
        yield (result.source, *result.size, result.caption, tags, result.prompt, result.error)


def _tag_rows(results: Iterable[Result]) -> Iterator[tuple[object, ...]]:
    for result in results:
        for tag in result.tags:
            yield result.source, tag.text, tag.score, tag.source, tag.count, list(tag.path)
