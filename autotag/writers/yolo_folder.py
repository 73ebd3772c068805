"""Write boxes as YOLO's text files, one per image, for programs that train detectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.errors import ConfigError
from autotag.files.replacing import PartFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from autotag.records import Result


def write_yolo_folder(
    results: Iterable[Result], folder: Path, labels: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Write ``labels/<name>.txt`` for each image and ``data.yaml`` with the names of the classes.

    A line is a class number, then centre x, centre y, width and height as fractions of the image. An image
    without objects has an empty file, which trains on it as background; one that could not be read has none.

    Args:
        results: of images whose names differ, since the files are named after them.
        folder: is made if it is missing; files of the same names are replaced.
        labels: the classes, in order of their numbers; None for the labels found, in alphabetical order.

    Returns:
        The labels by class number.

    Raises:
        ConfigError: two images have the same name without ending, or a label is not among ``labels``.
        OSError: the files cannot be written.
    """
    read = [result for result in results if result.error is None]
    found = sorted({one.label for result in read for one in result.detections})
    classes = tuple(found if labels is None else labels)
    missing = next((label for label in found if label not in classes), None)
    if missing is not None:
        raise ConfigError(f"labels of the YOLO files lack {missing!r}, which was found; add it")
    check_names(result.source for result in read)
    numbers = {label: number for number, label in enumerate(classes)}
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for result in read:
        text = "".join(f"{line}\n" for line in _lines(result, numbers))
        _write(folder / "labels" / f"{Path(result.source).stem}.txt", text.encode())
    rows = "".join(f"  {number}: {json.dumps(label)}\n" for number, label in enumerate(classes))
    _write(folder / "data.yaml", f"path: .\nnames:\n{rows}".encode())
    return classes


def check_names(sources: Iterable[str]) -> None:
    """Refuse images whose files would have the same name; call it before a model runs.

    Raises:
        ConfigError: two images have the same name without ending.
    """
    names: dict[str, str] = {}
    for source in sources:
        stem = Path(source).stem
        if stem in names:
            raise ConfigError(
                f"{names[stem]!r} and {source!r} would both have {stem}.txt, because YOLO finds the boxes of "
                "an image by its name without ending; rename one, or leave one out"
            )
        names[stem] = source


def _write(path: Path, content: bytes) -> None:
    with PartFile(path) as part:
        part.write(content)
        part.replace()


def _lines(result: Result, numbers: dict[str, int]) -> Iterable[str]:
    width, height = result.size
    for one in result.detections:
        left, top, right, bottom = one.box
        middle = (left + right) / 2 / width, (top + bottom) / 2 / height
        shape = *middle, (right - left) / width, (bottom - top) / height
        yield f"{numbers[one.label]} {' '.join(f'{value:.6f}' for value in shape)}"
