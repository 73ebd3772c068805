"""Reads photographs with captions, classes or tags into memory, as uint8 tensors.

Three layouts are supported: Parquet files (columns ``image`` with encoded bytes, and ``captions``, ``names``
or ``labels``), a folder with a ``metadata.jsonl`` (``file_name`` and ``caption``, ``captions`` or ``text``),
and a folder of images each with a ``.txt`` of the same stem, one caption per line.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from autotag.errors import ConfigError, install_hint
from autotag.images.reading import find_images, read_image


@dataclass(frozen=True)
class CaptionedPhotos:
    """Photographs with human captions.

    Attributes:
        pixels: (N, 3, S, S) uint8, resized to a square without keeping the aspect ratio.
        captions: N lists of lower-case captions, none of them empty.
    """

    pixels: Tensor
    captions: list[list[str]]


@dataclass(frozen=True)
class LabelledPhotos:
    """Photographs with one class each.

    Attributes:
        pixels: (N, 3, S, S) uint8.
        classes: (N,) int64, indices into ``names``.
        names: per class its synonyms.
    """

    pixels: Tensor
    classes: Tensor
    names: list[list[str]]


@dataclass(frozen=True)
class TaggedPhotos:
    """Photographs with any number of labels each.

    Attributes:
        pixels: (N, 3, S, S) uint8.
        present: (N, L) bool, whether a photograph shows a label.
        labels: L texts, sorted.
    """

    pixels: Tensor
    present: Tensor
    labels: list[str]


def read_captioned(place: Path, *, size: int) -> CaptionedPhotos:
    """Read a Parquet file or a folder of captioned photographs.

    Args:
        place: the file or folder.
        size: side of the square that every photograph is resized to, in pixels.

    Raises:
        ConfigError: it contains no captioned photograph, or ``metadata.jsonl`` is damaged.
        ImageReadError: a captioned photograph cannot be read.
    """
    rows = _captioned_parquet(place) if place.suffix == ".parquet" else _captioned_folder(place)
    pixels: list[Tensor] = []
    captions: list[list[str]] = []
    for image, texts in rows:
        pixels.append(_squashed(image, size))
        captions.append(texts)
    if not pixels:
        raise ConfigError(
            f"no captioned photographs in {str(place)!r}: expected a Parquet file, a metadata.jsonl, "
            "or .txt files beside the images"
        )
    return CaptionedPhotos(torch.stack(pixels), captions)


def read_labelled(files: Sequence[Path], *, size: int, most: int | None = None) -> LabelledPhotos:
    """Read Parquet files with columns ``image``, ``wnid`` and ``names``; classes are sorted by ``wnid``.

    Args:
        files: the Parquet files.
        size: side of the square that every photograph is resized to, in pixels.
        most: read only this many photographs, the first ones; None for all.

    Raises:
        ConfigError: the files contain no photograph.
    """
    rows = [row for file in files for row in _parquet_rows(file)][:most]
    if not rows:
        raise ConfigError(f"no labelled photographs in {len(files)} Parquet files")
    names = {row["wnid"]: list(row["names"]) for row in rows}
    number = {wnid: index for index, wnid in enumerate(sorted(names))}
    return LabelledPhotos(
        pixels=torch.stack([_squashed(_decoded(row["image"]), size) for row in rows]),
        classes=torch.tensor([number[row["wnid"]] for row in rows]),
        names=[names[wnid] for wnid in sorted(names)],
    )


def read_tagged(file: Path, *, size: int, held_out: bool = False) -> TaggedPhotos:
    """Read a Parquet file with columns ``file_name``, ``image`` and ``labels``.

    One photograph in eight, chosen by a hash of its name, is held out and never used for training.

    Args:
        file: the Parquet file.
        size: side of the square that every photograph is resized to, in pixels.
        held_out: whether to read the held-out photographs instead of the training photographs.

    Raises:
        ConfigError: the file contains no such photograph.
    """
    rows = list(_parquet_rows(file))
    labels = sorted({label for row in rows for label in row["labels"]})
    rows = [row for row in rows if is_held_out(row["file_name"]) == held_out]
    if not rows:
        raise ConfigError(f"no {'held-out' if held_out else 'training'} photographs in {str(file)!r}")
    present = [[label in row["labels"] for label in labels] for row in rows]
    pixels = [_squashed(_decoded(row["image"]), size) for row in rows]
    return TaggedPhotos(torch.stack(pixels), torch.tensor(present), labels)


def is_held_out(file_name: str) -> bool:
    """Return True if a photograph is held out for evaluation: one in eight, by the SHA-256 of its name."""
    return hashlib.sha256(file_name.encode()).digest()[0] % 8 == 0


def clean_caption(text: str) -> str:
    """Return a caption in lower case, single-spaced, no space before punctuation, no final full stop."""
    text = " ".join(text.lower().split())
    for mark in ",.;:!?'":
        text = text.replace(f" {mark}", mark)
    return text.strip(' ."')


def _parquet_rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"reading Parquet files needs pyarrow: {install_hint('train')}") from error

    yield from pyarrow.parquet.read_table(file).to_pylist()


def _captioned_parquet(file: Path) -> Iterator[tuple[Image.Image, list[str]]]:
    for row in _parquet_rows(file):
        captions = _cleaned(row["captions"])
        if captions:
            yield _decoded(row["image"]), captions


def _captioned_folder(folder: Path) -> Iterator[tuple[Image.Image, list[str]]]:
    metadata = folder / "metadata.jsonl"
    described = _rows_of(metadata) if metadata.is_file() else _texts_beside(folder)
    for file, texts in described:
        captions = _cleaned(texts)
        if captions:
            yield read_image(file).image, captions


def _rows_of(metadata: Path) -> Iterator[tuple[Path, list[str]]]:
    for number, line in enumerate(metadata.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            file = metadata.parent / row["file_name"]
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{metadata}, line {number}: not a JSON object with a 'file_name'") from error
        yield file, row.get("captions") or [row.get("caption") or row.get("text") or ""]


def _texts_beside(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    for file in map(Path, find_images(folder)):
        beside = file.with_suffix(".txt")
        yield file, beside.read_text(encoding="utf-8").splitlines() if beside.is_file() else []


def _cleaned(texts: list[str]) -> list[str]:
    return [caption for caption in map(clean_caption, texts) if caption]


def _decoded(encoded: bytes) -> Image.Image:
    return Image.open(io.BytesIO(encoded)).convert("RGB")


def _squashed(image: Image.Image, size: int) -> Tensor:
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous()
