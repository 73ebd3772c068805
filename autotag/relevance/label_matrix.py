"""The vectors of long lists of labels: computed once per encoder, labels and template, kept on disk.

A file is called by the hash of all three and of the encoder's precision, so that no other encoder or list
can be taken for it. It is written aside and put in place whole, and read by mapping it into memory: several
processes may compute the same matrix at once, and share one copy of it. The matrices of the bundled
vocabularies by the bundled encoder come with autotag.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autotag.files.replacing import appearing
from autotag.files.user_folders import FOLDER_VARIABLE, user_cache
from autotag.protocols import dtype_of
from autotag.vocabularies.templates import SLOT, filled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder
    from autotag.vocabularies.vocabulary import Vocabulary

SHIPPED = Path(__file__).resolve().parent.parent / "data" / "label_vectors"
"""Matrices that come with autotag: those of clip-mini, in half precision."""

NOT_SHIPPED = frozenset({"flavors"})
"""Bundled vocabularies without one, to keep the package small; it takes seconds to compute."""

_FORMAT = "2"
_TEXTS_AT_ONCE = 1024
_FEWEST_KEPT = 256
_ROWS_LOOKED_AT = 64

_logger = logging.getLogger("autotag")
_said: set[Path] = set()


@dataclass(frozen=True, eq=False)
class LabelMatrix:
    """Labels and their vectors by one encoder.

    Attributes:
        labels: N of them, repetitions and all.
        vectors: (N, D) float32, unit rows; may be mapped from a file, read-only.
    """

    labels: tuple[str, ...]
    vectors: NDArray[np.float32]

    def similarities(self, image_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, N) cosines of B unit vectors of images with every label: one matrix product."""
        if not self.labels:
            return np.zeros((len(image_vectors), 0), dtype=np.float32)
        return image_vectors @ self.vectors.T


@dataclass(frozen=True, eq=False)
class VocabularyMatrix:
    """The vectors of all names of a vocabulary by one encoder.

    Attributes:
        vocabulary: its labels.
        names: the vectors of ``vocabulary.all_names()``.
    """

    vocabulary: Vocabulary
    names: LabelMatrix

    @classmethod
    def embedded(
        cls, vocabulary: Vocabulary, encoder: ImageTextEncoder, *, template: str | None = None
    ) -> VocabularyMatrix:
        """Return the matrix of a vocabulary, from where ``label_matrix`` finds it.

        Args:
            vocabulary: of one label at least.
            encoder: embeds the names.
            template: sentence around a name; None for the vocabulary's own.
        """
        names = vocabulary.all_names()
        matrix = label_matrix(encoder, names, template=template or vocabulary.template, name=vocabulary.name)
        return cls(vocabulary, matrix)

    def similarities(self, image_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (B, labels): of B unit vectors of images the best cosine with one of each label's names."""
        cosines = self.names.similarities(image_vectors)
        if not self.vocabulary.synonyms:
            return cosines
        best: NDArray[np.float32] = np.maximum.reduceat(cosines, self._starts, axis=1)
        return best

    @cached_property
    def _starts(self) -> NDArray[np.intp]:
        """Where the names of each label begin."""
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
    """The matrix of labels: from autotag or the cache, else computed under a progress bar, and cached.

    Lists of fewer than 256 labels are not worth a file. A file that is damaged or cut short is computed
    again; a folder that cannot be written to costs a warning in the log ``"autotag"``.

    Args:
        encoder: embeds the labels.
        labels: may be empty.
        template: sentence around a label, with one ``{}``.
        folder: of the cache; None for ``cache_folder()``.
        name: of the list, for the progress bar.
    """
    labels = tuple(labels)
    key = matrix_key(encoder.id, labels, template, dtype=dtype_of(encoder))
    path = (folder or cache_folder()) / f"{key}.npy"
    vectors = _read(SHIPPED / path.name, len(labels))
    if vectors is None:
        vectors = _read(path, len(labels))
    if vectors is None:
        vectors = _computed(encoder, [filled(template, label) for label in labels], name)
        if len(labels) >= _FEWEST_KEPT:
            _keep(path, vectors)
    return LabelMatrix(labels, vectors)


def write_matrix(
    encoder: ImageTextEncoder, labels: Sequence[str], folder: Path, *, template: str = SLOT
) -> Path:
    """Compute the matrix of labels in a template, and write it where ``label_matrix`` looks in ``folder``.

    It is written in half precision: cosines differ by 0.0002 at most, and the package stays small.

    Raises:
        OSError: it cannot be written.
    """
    key = matrix_key(encoder.id, labels, template, dtype=dtype_of(encoder))
    path = folder / f"{key}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    vectors = _computed(encoder, [filled(template, label) for label in labels], "labels")
    np.save(path, vectors.astype(np.float16))
    return path


def cache_folder() -> Path:
    """Where matrices are kept: ``labels`` in the user's cache."""
    return user_cache() / "labels"


def matrix_key(encoder_id: str, labels: Sequence[str], template: str, *, dtype: str = "float32") -> str:
    """32 hexadecimal digits that tell matrices apart: a hash of the format and of all arguments.

    Args:
        encoder_id: names the weights.
        labels: of the matrix, in order.
        template: sentence around a label.
        dtype: what the encoder calculates in; an id does not say it, and vectors differ by it.
    """
    digest = sha256()
    for text in (_FORMAT, encoder_id, dtype, template, *labels):
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()[:32]


def _read(path: Path, rows: int) -> NDArray[np.float32] | None:
    """The matrix in a file, or None when there is no file, or none that is whole."""
    if not path.is_file():
        return None
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        _logger.warning("label matrix %s is damaged and computed again: %s", path, error)
        return None
    known = vectors.dtype in (np.float16, np.float32)
    whole = vectors.ndim == 2 and known and len(vectors) == rows and vectors.shape[1] > 0
    if whole:
        sampled = np.linalg.norm(vectors[:: max(1, rows // _ROWS_LOOKED_AT)].astype(np.float32), axis=1)
        whole = bool(np.allclose(sampled, 1, atol=1e-2))
    if not whole:
        _logger.warning("label matrix %s is damaged and computed again: not %d unit rows", path, rows)
        return None
    # A plain array over the mapped file: products of a np.memmap would be np.memmap too.
    return np.asarray(vectors).view(np.ndarray).astype(np.float32, copy=False)


def _computed(encoder: ImageTextEncoder, texts: list[str], name: str) -> NDArray[np.float32]:
    if not texts:
        return np.zeros((0, 0), dtype=np.float32)
    if len(texts) < _TEXTS_AT_ONCE:
        return np.asarray(encoder.embed_texts(texts), dtype=np.float32)
    from huggingface_hub.utils.tqdm import tqdm  # on terminals only, and silenced with the hub's own bars

    rows = []
    with tqdm(  # type: ignore[no-untyped-call]
        total=len(texts), desc=f"embedding {name}", unit="label", disable=None, leave=False
    ) as bar:
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            batch = texts[start : start + _TEXTS_AT_ONCE]
            rows.append(np.asarray(encoder.embed_texts(batch), dtype=np.float32))
            bar.update(len(batch))
    return np.concatenate(rows)


def _say_not_kept(folder: Path, reason: str) -> None:
    """A warning per folder, however many lists are computed."""
    if folder not in _said:
        _said.add(folder)
        _logger.warning(
            "label matrices are not kept, and computed in every run: %s cannot be written to (%s); "
            "%s names another folder",
            folder,
            reason,
            FOLDER_VARIABLE,
        )


def _keep(path: Path, vectors: NDArray[np.float32]) -> None:
    """Write the file; a folder that refuses costs a warning."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as stream:
            np.save(stream, vectors)
    except OSError as error:
        _say_not_kept(path.parent, error.strerror or str(error))
