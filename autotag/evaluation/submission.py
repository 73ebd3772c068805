"""Writes and reads submissions to the Kaggle competition "Stable Diffusion - Image to Prompts" (2023).

A submission is a CSV file with columns ``imgId_eId`` and ``val``: for every image, sorted by id, 384 lines
``<id>_0`` to ``<id>_383`` with the sentence embedding of its prompt by all-MiniLM-L6-v2. Values have nine
significant digits, enough to read a float32 back bit for bit.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autotag.errors import ConfigError
from autotag.evaluation.ensembles import mean_embedding
from autotag.evaluation.sentence_encoder import load_sentence_encoder
from autotag.writers.output_file import open_output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from autotag.evaluation.sentence_encoder import SentenceEncoder

DIMENSIONS = 384
HEADER = ("imgId_eId", "val")


def image_id(source: str) -> str:
    """Return the id of an image file: its name without folder and suffix."""
    return Path(source).stem


def check_ids(ids: Sequence[str]) -> None:
    """Refuse duplicate or empty ids; call it before a model runs.

    Raises:
        ConfigError: an id is empty or a duplicate; names the first one.
    """
    seen: set[str] = set()
    for name in ids:
        if not name:
            raise ConfigError("an image has no id; a submission names every image.")
        if name in seen:
            raise ConfigError(f"two images have the id {name!r}; a submission has each id once.")
        seen.add(name)


def submitted_vectors(
    texts: Sequence[Sequence[str]], encoder: SentenceEncoder, weights: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """Return each image's text embedding, or the mean over models: (N, D) float32, rows of length 1.

    An empty text is left out of its image's mean. If all models' texts are empty, the empty text is embedded,
    because a submission has a row for every image.

    Args:
        texts: per model, one text per image.
        encoder: embeds the texts.
        weights: one per model, see ``autotag.evaluation.ensembles``; None for equal weights.

    Raises:
        ConfigError: the weights do not fit the models.
    """
    vectors = mean_embedding([encoder.vectors(some) for some in texts], weights)
    silent = ~vectors.any(axis=1)
    if silent.any():
        vectors[silent] = encoder.encode([""])[0]
    return vectors


def load_submission_encoder(name: str, *, device: str = "auto") -> SentenceEncoder:
    """Load the sentence encoder of a submission, before any image is read.

    Args:
        name: as for ``load_sentence_encoder``.
        device: as for ``Pipeline``.

    Raises:
        ConfigError: its embeddings have another size, or the model is unknown or of another kind.
        ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
    """
    otherwise = "A submission needs all-MiniLM-L6-v2; --similarity-model FOLDER uses a copy that you have."
    encoder = load_sentence_encoder(name, device=device, otherwise=otherwise)
    size = encoder.vectors(["a"]).shape[1]
    if size != DIMENSIONS:
        raise ConfigError(
            f"{name!r} embeds a text in {size} numbers; a submission needs {DIMENSIONS}, as all-MiniLM-L6-v2 "
            "(--similarity-model minilm) gives."
        )
    return encoder


def write_submission(vectors: Mapping[str, NDArray[np.float32]], file: Path) -> None:
    """Write a submission, then read the file back and compare it bit for bit.

    Args:
        vectors: image id -> embedding, (384,) float32.
        file: the file to write; it appears only when it is complete.

    Raises:
        ConfigError: there is no image, a vector has the wrong size or is not finite, the file cannot be
            written, or reading it back gives other values.
    """
    ids = sorted(vectors)
    check_ids(ids)
    for name in ids:
        _check_vector(name, vectors[name])
    if not ids:
        raise ConfigError("a submission needs at least one image.")
    with open_output(file, streams=False, binary=False) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        for name in ids:
            writer.writerows((f"{name}_{place}", f"{value:.9g}") for place, value in enumerate(vectors[name]))
    _check_written(vectors, file)


def read_submission(file: Path) -> dict[str, NDArray[np.float32]]:
    """Return the embeddings in a submission: image id -> (384,) float32, in the order of the file.

    Raises:
        ConfigError: it cannot be read, or is not a valid submission; names the line.
    """
    found: dict[str, list[float]] = {}
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = csv.reader(stream)
            if tuple(next(rows, ())) != HEADER:
                raise ConfigError(f"{str(file)!r} does not begin with {','.join(HEADER)}.")
            for line, row in enumerate(rows, 2):
                _take(row, found, f"{file}, line {line}")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {str(file)!r}: {error}.") from error
    for name, values in found.items():
        if len(values) != DIMENSIONS:
            raise ConfigError(f"{str(file)!r}: image {name!r} has {len(values)} values, not {DIMENSIONS}.")
    return {name: np.array(values, dtype=np.float32) for name, values in found.items()}


def _take(row: Sequence[str], found: dict[str, list[float]], where: str) -> None:
    """Check one line and append its value to its image's values."""
    if len(row) != len(HEADER):
        raise ConfigError(f"{where}: {len(row)} cells instead of {len(HEADER)}.")
    name, _, place = row[0].rpartition("_")
    values = found.setdefault(name, [])
    if place != str(len(values)):
        raise ConfigError(f"{where}: {row[0]!r} where {name}_{len(values)} should be.")
    try:
        value = float(row[1])
    except ValueError as error:
        raise ConfigError(f"{where}: {row[1]!r} is not a number.") from error
    if not np.isfinite(value):
        raise ConfigError(f"{where}: {row[1]!r} is not finite.")
    values.append(value)


def _check_vector(name: str, vector: NDArray[np.float32]) -> None:
    if vector.shape != (DIMENSIONS,):
        raise ConfigError(
            f"the embedding of {name!r} has the shape {vector.shape}; a submission needs ({DIMENSIONS},), "
            "the size that all-MiniLM-L6-v2 gives."
        )
    if vector.dtype != np.float32 or not np.isfinite(vector).all():
        raise ConfigError(f"the embedding of {name!r} is not float32 and finite.")


def _check_written(vectors: Mapping[str, NDArray[np.float32]], file: Path) -> None:
    back = read_submission(file)
    same = back.keys() == vectors.keys() and all(
        np.array_equal(back[name], vectors[name]) for name in vectors
    )
    if not same:
        raise ConfigError(f"{str(file)!r} does not read back as it was written.")
