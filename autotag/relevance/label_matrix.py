"""The vectors of long lists of labels, computed once per encoder, labels and template, and cached on disk.

A file's name is the hash of these three and of the encoder's precision, so encoders and lists are never mixed
up. The file is written under another name, renamed, and memory-mapped: several processes may compute the same
matrix at once, and they share one copy of it. The cache has at most 2 GiB; the matrices that were used least
recently go first. The matrices of the bundled vocabularies by the bundled encoder come with autotag.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autotag.files.replacing import appearing
from autotag.files.user_folders import FOLDER_VARIABLE, delete_oldest, user_cache
from autotag.protocols import dtype_of
from autotag.relevance.embeddings import unit_vectors
from autotag.vocabularies.templates import SLOT, filled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder
    from autotag.vocabularies.vocabulary import Vocabulary

SHIPPED = Path(__file__).resolve().parent.parent / "data" / "label_vectors"
"""Folder of the matrices that come with autotag: those of clip-mini, in half precision."""

NOT_SHIPPED = frozenset({"flavors"})
"""Bundled vocabularies without a matrix, to keep the package small; computing it takes seconds."""

_FORMAT = "2"
_TEXTS_AT_ONCE = 1024
_FEWEST_KEPT = 256
_ROWS_LOOKED_AT = 64
_MOST_BYTES = 2 * 2**30
_CLEARED_TO = 0.8  # part of them that stays when the cache has become too large

_logger = logging.getLogger("autotag")
_said: set[Path] = set()


@dataclass(frozen=True, eq=False)
class LabelMatrix:
    """Keep labels and their vectors by one encoder.

    Attributes:
        labels: N labels, repetitions included.
        vectors: (N, D) float32, rows of length 1; may be memory-mapped, then read-only.
    """

    labels: tuple[str, ...]
    vectors: NDArray[np.float32]

    def similarities(self, image_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the (B, N) float32 cosines of B unit image vectors with every label: one matrix product."""
        if not self.labels:
            return np.zeros((len(image_vectors), 0), dtype=np.float32)
        return image_vectors @ self.vectors.T


@dataclass(frozen=True, eq=False)
class VocabularyMatrix:
    """Keep the vectors of all names of a vocabulary by one encoder.

    Attributes:
        vocabulary: the labels and their synonyms.
        names: the vectors of ``vocabulary.all_names()``.
    """

    vocabulary: Vocabulary
    names: LabelMatrix

    @classmethod
    def embedded(
        cls, vocabulary: Vocabulary, encoder: ImageTextEncoder, *, template: str | None = None
    ) -> VocabularyMatrix:
        """Return the matrix of a vocabulary, computed or read by ``label_matrix``.

        Args:
            vocabulary: has at least one label.
            encoder: embeds the names.
            template: sentence around a name; None for the vocabulary's own.
        """
        names = vocabulary.all_names()
        matrix = label_matrix(encoder, names, template=template or vocabulary.template, name=vocabulary.name)
        return cls(vocabulary, matrix)

    def similarities(self, image_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (B, labels) float32: the best cosine of B unit image vectors with any name of each label."""
        cosines = self.names.similarities(image_vectors)
        if not self.vocabulary.synonyms:
            return cosines
        best: NDArray[np.float32] = np.maximum.reduceat(cosines, self._starts, axis=1)
        return best

    @cached_property
    def _starts(self) -> NDArray[np.intp]:
        """The index of each label's first name."""
        counts = [len(self.vocabulary.names(label)) for label in self.vocabulary]
        return np.cumsum([0, *counts[:-1]], dtype=np.intp)


def label_matrix(
    encoder: ImageTextEncoder,
    labels: Sequence[str],
    *,
    template: str = SLOT,
    folder: Path | None = None,
    name: str = "labels",
) -> LabelMatrix:
    """Return the matrix of labels: bundled or cached, else computed with a progress bar and cached.

    Lists of fewer than 256 labels are not cached. A damaged file is computed again; if the folder cannot be
    written to, the log ``"autotag"`` gets a warning.

    Args:
        encoder: embeds the labels.
        labels: may be empty.
        template: sentence around a label, with one ``{}``.
        folder: of the cache; None for ``cache_folder()``.
        name: of the list, for the progress bar.

    Raises:
        ModelError: the encoder gives vectors that are not finite, or not of length 1.
    """
    labels = tuple(labels)
    key = matrix_key(encoder.id, labels, template, dtype=dtype_of(encoder))
    path = (folder or cache_folder()) / f"{key}.npy"
    vectors = _read(SHIPPED / path.name, len(labels))
    if vectors is None:
        vectors = _read(path, len(labels))
        if vectors is not None:
            with suppress(OSError):
                os.utime(path)  # so that it is not among the first to go
    if vectors is None:
        vectors = _computed(encoder, [filled(template, label) for label in labels], name)
        if len(labels) >= _FEWEST_KEPT:
            _keep(path, vectors)
    return LabelMatrix(labels, vectors)


def write_matrix(
    encoder: ImageTextEncoder, labels: Sequence[str], folder: Path, *, template: str = SLOT
) -> Path:
    """Compute the matrix of labels in a template, write it for ``label_matrix``, and return its path.

    It is written in half precision: cosines change by at most 0.0002, and the package stays small.

    Raises:
        OSError: the file cannot be written.
    """
    key = matrix_key(encoder.id, labels, template, dtype=dtype_of(encoder))
    path = folder / f"{key}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    vectors = _computed(encoder, [filled(template, label) for label in labels], "labels")
    np.save(path, vectors.astype(np.float16))
    return path


def cache_folder() -> Path:
    """Return the folder of cached matrices: ``labels`` in the user's cache."""
    return user_cache() / "labels"


def matrix_key(encoder_id: str, labels: Sequence[str], template: str, *, dtype: str = "float32") -> str:
    """Return the key of a matrix: 32 hexadecimal digits, a hash of the format and all arguments.

    Args:
        encoder_id: names the weights.
        labels: of the matrix, in order.
        template: sentence around a label.
        dtype: the type that the encoder computes in; it changes the vectors and is not part of the id.
    """
    digest = sha256()
    for text in (_FORMAT, encoder_id, dtype, template, *labels):
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()[:32]


def _read(path: Path, rows: int) -> NDArray[np.float32] | None:
    """Return the matrix in a file, or None if the file is missing or damaged."""
    if not path.is_file():
        return None
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        _logger.warning("label matrix %s is damaged; it is computed again: %s", path, error)
        return None
    known = vectors.dtype in (np.float16, np.float32)
    whole = vectors.ndim == 2 and known and len(vectors) == rows and vectors.shape[1] > 0
    if whole:
        sampled = np.linalg.norm(vectors[:: max(1, rows // _ROWS_LOOKED_AT)].astype(np.float32), axis=1)
        whole = bool(np.allclose(sampled, 1, atol=1e-2))
    if not whole:
        _logger.warning("label matrix %s is damaged; it is computed again: not %d unit vectors", path, rows)
        return None
    # A plain array over the mapped file, because products of a np.memmap would be a np.memmap, too.
    return np.asarray(vectors).view(np.ndarray).astype(np.float32, copy=False)


def _computed(encoder: ImageTextEncoder, texts: list[str], name: str) -> NDArray[np.float32]:
    if not texts:
        return np.zeros((0, 0), dtype=np.float32)
    if len(texts) < _TEXTS_AT_ONCE:
        return unit_vectors(encoder.embed_texts(texts), encoder)
    from huggingface_hub.utils.tqdm import tqdm  # shown on terminals only; silenced with the hub's own bars

    rows = []
    with tqdm(  # type: ignore[no-untyped-call]
        total=len(texts), desc=f"embedding {name}", unit="label", disable=None, leave=False
    ) as bar:
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            batch = texts[start : start + _TEXTS_AT_ONCE]
            rows.append(unit_vectors(encoder.embed_texts(batch), encoder))
            bar.update(len(batch))
    return np.concatenate(rows)


def _say_not_kept(folder: Path, reason: str) -> None:
    """Warn once per folder."""
    if folder not in _said:
        _said.add(folder)
        _logger.warning(
            "label matrices are not cached, so each run computes them again: cannot write to %s (%s); "
            "set %s to another folder",
            folder,
            reason,
            FOLDER_VARIABLE,
        )


def _keep(path: Path, vectors: NDArray[np.float32]) -> None:
    """Write the file, and make room for it; a folder that refuses costs a warning."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as stream:
            np.save(stream, vectors)
        delete_oldest(path.parent, "*.npy", above=_MOST_BYTES, down_to=int(_MOST_BYTES * _CLEARED_TO))
    except OSError as error:
        _say_not_kept(path.parent, error.strerror or str(error))
