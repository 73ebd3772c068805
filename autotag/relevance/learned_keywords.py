"""The keywords that somebody's photographs taught, and the file that keeps them.

A ``.tags`` file is one safetensors file: ``weights`` (K, D), ``biases`` (K,), ``declined_vectors`` (V, D) and
``declined_keywords`` (V,), and a card as JSON in its metadata, with a SHA-256 over card and tensors. It holds
nothing of a single photograph: no name, no path, no vector.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.config.checks import check_row
from autotag.errors import ConfigError
from autotag.files.bounded_files import read_bounded
from autotag.files.replacing import appearing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

NEAR_DECLINED = 0.9
"""A keyword is not proposed from this cosine to the middle of photographs that people removed it from."""

NEAR_CUT = "near_cut"
"""The key in a result's extras of the suggested keywords that only just reached their thresholds."""

_DOUBTFUL = 2.0  # times the odds at the threshold
_FORMAT = 1
_MOST_BYTES = 2**30
_ROUNDING = 1e-4
_ENTRY, _CARD, _DIGEST = "autotag", "card", "sha256"
_TENSORS: Mapping[str, str] = {
    "weights": "float32",
    "biases": "float32",
    "declined_vectors": "float32",
    "declined_keywords": "int64",
}


@dataclass(frozen=True, slots=True)
class LearnedKeyword:
    """A keyword and how well it was learned.

    Attributes:
        path: the keyword with its parents, outermost first: ``("Places", "Italy")``; the keyword alone where
            it has none.
        photographs: that taught it.
        average_precision: in [0, 1], on photographs that its head had not seen.
        low: lower end of the 95 % interval of ``average_precision``.
        high: its upper end.
        threshold: the lowest probability, in [0, 1], at which it is proposed.
    """

    path: tuple[str, ...]
    photographs: int
    average_precision: float
    low: float
    high: float
    threshold: float

    @property
    def text(self) -> str:
        """The keyword without its parents."""
        return self.path[-1]

    def is_near_cut(self, probability: float) -> bool:
        """Return whether the odds of a suggestion are less than twice those at the threshold."""
        return probability * (1 - self.threshold) < _DOUBTFUL * self.threshold * (1 - probability)

    def __str__(self) -> str:
        return "|".join(self.path)


@dataclass(frozen=True, slots=True, eq=False)
class LearnedKeywords:
    """Keywords, their heads, and photographs that they are not proposed for.

    Attributes:
        encoder: id of the encoder whose vectors the heads take.
        photographs: number of photographs that they were learned from.
        keywords: K keywords.
        weights: (K, D) float32.
        biases: (K,) float32; the probability of a keyword is sigmoid(weights · vector + bias).
        declined_vectors: (V, D) float32 unit vectors, each the middle of at least two photographs from which
            people removed a keyword or another tag.
        declined_keywords: (V,) int64, the place of that keyword in ``keywords``, or K + its place in
            ``others``.
        learned: date of learning, ``2026-11-29``.
        version: version of autotag that learned them.
        encoder_name: by which the encoder can be loaded, where it is known.
        others: tags that are not learned and that ``declined_keywords`` names.
        unwanted: tags that are not proposed for any image, since people removed them from most.
    """

    encoder: str
    photographs: int
    keywords: tuple[LearnedKeyword, ...]
    weights: Floats
    biases: Floats
    declined_vectors: Floats
    declined_keywords: NDArray[np.int64]
    learned: str = ""
    version: str = ""
    encoder_name: str = ""
    others: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether it neither proposes nor declines anything."""
        return not (self.keywords or self.others or self.unwanted)

    def probabilities(self, vectors: Floats) -> Floats:
        """Return (B, K) float32 probabilities for (B, D) unit vectors of images."""
        logits = vectors @ self.weights.T + self.biases
        found: Floats = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
        return found

    def suggested(self, vectors: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the probabilities, (B, K) float32, and which keywords are proposed, (B, K) bool."""
        found = self.probabilities(vectors)
        thresholds = np.array([keyword.threshold for keyword in self.keywords], dtype=np.float32)
        proposed = found >= thresholds
        if len(self.declined_keywords):
            proposed &= ~self.declined(vectors)[:, : len(self.keywords)]
        return found, proposed

    def declined(self, vectors: Floats) -> NDArray[np.bool_]:
        """Return which tags are not proposed, (B, K + O) bool: the keywords first, then ``others``.

        Args:
            vectors: (B, D) float32 unit vectors of images.
        """
        found = np.zeros((len(vectors), len(self.keywords) + len(self.others)), dtype=bool)
        near, which = np.nonzero(vectors @ self.declined_vectors.T >= NEAR_DECLINED)
        found[near, self.declined_keywords[which]] = True
        return found

    def is_like(self, other: LearnedKeywords) -> bool:
        """Return whether both suggest the same: only rounding, date and version may differ."""
        mine, theirs = (
            [
                one.encoder,
                one.encoder_name,
                one.photographs,
                one.others,
                one.unwanted,
                *((keyword.path, keyword.photographs) for keyword in one.keywords),
                *(getattr(one, name).shape for name in _TENSORS),
            ]
            for one in (self, other)
        )
        if mine != theirs:
            return False
        cuts, others = ([keyword.threshold for keyword in one.keywords] for one in (self, other))
        pairs: list[tuple[Any, Any]] = [
            (cuts, others),
            *((getattr(self, name), getattr(other, name)) for name in _TENSORS),
        ]
        return all(np.allclose(one, two, rtol=1e-4, atol=_ROUNDING) for one, two in pairs)

    def check_encoder(self, encoder: str, *, file: str) -> None:
        """Refuse an encoder whose vectors the heads do not take.

        Raises:
            ConfigError: naming both encoders and the way out.
        """
        if encoder != self.encoder:
            own = repr(self.encoder_name or self.encoder)
            raise ConfigError(
                f"{file!r} was learned with encoder {own} ({self.encoder}), not with {encoder!r}. Use a "
                f"preset with {own}, or learn the keywords again: `autotag learn` with the --preset in use."
            )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the file; one that exists is replaced when the new one is complete.

        Raises:
            OSError: it cannot be written.
        """
        from safetensors.numpy import save

        card = json.dumps(self._card(), ensure_ascii=False, sort_keys=True)
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}
        # one entry: safetensors writes several in another order each time
        entry = json.dumps({_CARD: card, _DIGEST: _digest(card, tensors)}, ensure_ascii=False)
        content = save(tensors, metadata={_ENTRY: entry})
        with appearing(Path(path)) as stream:
            stream.write(content)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> LearnedKeywords:
        """Read a file.

        Raises:
            ConfigError: it does not exist, is not such a file, is damaged, or a newer autotag wrote it.
        """
        file = str(path)
        try:
            content = read_bounded(path, most=_MOST_BYTES)
        except FileNotFoundError as error:
            raise ConfigError(f"there is no file {file!r}; `autotag learn PHOTOS` makes one.") from error
        except OSError as error:
            raise ConfigError(f"cannot read {file!r}: {error.strerror or error}.") from error
        card, tensors = _unpacked(content, file)
        fields: dict[str, Any] = {**_from_card(card, file)}
        return cls(**fields, **_checked(tensors, len(fields["keywords"]), len(fields["others"]), file))

    def _card(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "encoder": self.encoder,
            "encoder_name": self.encoder_name,
            "photographs": self.photographs,
            "learned": self.learned,
            "version": self.version,
            "others": list(self.others),
            "unwanted": list(self.unwanted),
            "keywords": [{**asdict(keyword), "path": list(keyword.path)} for keyword in self.keywords],
        }


def _digest(card: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of a card and its tensors, as hexadecimal digits."""
    digest = sha256(card.encode())
    for name in _TENSORS:
        array = tensors[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _unpacked(content: bytes, file: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return card and tensors of a file whose hash fits.

    Raises:
        ConfigError: it is not such a file, is damaged, or a newer autotag wrote it.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        (length,) = struct.unpack_from("<Q", content)
        entry = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_ENTRY])
        written, digest = entry[_CARD], entry[_DIGEST]
        card = json.loads(written)
        version = card["format"]
    except (struct.error, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ConfigError(f"{file!r} is not a file of `autotag learn`, or it is damaged.") from error
    if version != _FORMAT:
        raise ConfigError(
            f"{file!r} is of format {version!r}, and this autotag reads {_FORMAT}; update autotag."
        )
    try:
        tensors = load(content)
        whole = set(tensors) == set(_TENSORS) and _digest(written, tensors) == digest
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{file!r} is damaged: {error}. Copy it again, or learn again.") from error
    if not whole:
        raise ConfigError(f"{file!r} is damaged: its SHA-256 does not fit. Copy it again, or learn again.")
    return card, tensors


def _from_card(card: dict[str, Any], file: str) -> dict[str, Any]:
    """Return the fields of ``LearnedKeywords`` that the card holds."""
    check_row(
        f"the card of {file!r}",
        card,
        format="whole",
        encoder="text",
        encoder_name="text",
        photographs="whole",
        learned="text",
        version="text",
        others="texts",
        unwanted="texts",
        keywords="list",
    )
    keywords = []
    for number, row in enumerate(card["keywords"], 1):
        check_row(
            f"keyword {number} of {file!r}",
            row,
            path="texts",
            photographs="whole",
            average_precision="number",
            low="number",
            high="number",
            threshold="number",
        )
        if not row["path"]:
            raise ConfigError(f"keyword {number} of {file!r} has no name.")
        keywords.append(LearnedKeyword(**{**row, "path": tuple(row["path"])}))
    kept = {name: value for name, value in card.items() if name != "format"}
    tags = {name: tuple(card[name]) for name in ("others", "unwanted")}
    return {**kept, **tags, "keywords": tuple(keywords)}


def _checked(tensors: dict[str, NDArray[Any]], keywords: int, others: int, file: str) -> dict[str, Any]:
    """Return the tensors, whose types and shapes fit together and whose numbers are finite.

    Raises:
        ConfigError: they do not, or are not.
    """
    weights, declined = tensors["weights"], tensors["declined_keywords"]
    fits = weights.ndim == 2 and all(tensors[name].dtype == dtype for name, dtype in _TENSORS.items())
    fits = fits and len(weights) == keywords and tensors["biases"].shape == (keywords,)
    fits = (
        fits
        and declined.ndim == 1
        and tensors["declined_vectors"].shape == (len(declined), weights.shape[-1])
    )
    fits = fits and bool(np.all((declined >= 0) & (declined < keywords + others)))
    if not fits or not all(np.isfinite(array).all() for array in tensors.values()):
        raise ConfigError(f"{file!r} is damaged: its tensors do not fit together. Learn again.")
    return tensors
