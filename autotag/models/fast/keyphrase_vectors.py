"""Sentence vectors once per text, and only as many tokens as there are.

``SentenceTransformer.encode`` pads the texts of a batch to the longest, and forgets what it has seen.
Keyphrases are short and come again: here each text is embedded once over all batches. A BERT reads texts of
all lengths together (``ragged_bert``); any other model, by its own modules, those of exactly one length in
tokens.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from autotag.models.fast.fast_paths import say_not_used
from autotag.models.fast.packed_linears import pack_linears
from autotag.models.fast.ragged_bert import ragged_bert

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

_TOKENS_ON_CPU = 512  # more falls out of the cache
_TOKENS_ON_GPU = 16_384
_TOLERANCE = 2e-5
_PROBE = [
    "a dog",
    "two dogs",
    "café terrace at night, 1888",
    "",
    "a man in a red jacket stands near the edge of the snow covered mountain",
    "a very long text that no model of sentences can read to its end " * 60,
]


class SentenceVectors:
    """The vectors of texts, computed once and kept. Safe to use from several threads.

    Args:
        encode: distinct texts -> (T, D) float32.
        capacity: texts that are kept; beyond, the least recently used are forgotten.
    """

    def __init__(self, encode: Callable[[list[str]], NDArray[np.float32]], *, capacity: int = 50_000) -> None:
        self.capacity = capacity
        self._encode = encode
        self._rows: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = Lock()

    def __call__(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Each text's vector: (D,) float32, of length 1 (or 0, where the model gives 0)."""
        unique = dict.fromkeys(texts)
        with self._lock:
            found = {text: self._rows[text] for text in unique if text in self._rows}
            missing = [text for text in unique if text not in found]
            if missing:
                rows = unit_rows(self._encode(missing))
                found.update((text, row.copy()) for text, row in zip(missing, rows, strict=True))
            self._keep(found)
        return found

    def _keep(self, found: dict[str, NDArray[np.float32]]) -> None:
        self._rows.update(found)
        for text in found:
            self._rows.move_to_end(text)
        while len(self._rows) > self.capacity:
            self._rows.popitem(last=False)


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; rows of zeros stay zeros."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return np.asarray(rows / np.where(norms == 0, np.float32(1), norms), dtype=np.float32)


def sentence_vectors(model: SentenceTransformer, *, packed: bool = False) -> SentenceVectors | None:
    """The vectors by a model, or None with a warning where texts by their length do not give its vectors.

    A model that looks words up (``StaticEmbedding``) pads nothing; it calculates as ever.

    Args:
        model: float32, evaluating.
        packed: whether linear layers may be packed, the model's own among them.
    """

    def plain(texts: list[str]) -> NDArray[np.float32]:
        return np.asarray(model.encode(texts, show_progress_bar=False), dtype=np.float32)

    if isinstance(model[0], StaticEmbedding):
        return SentenceVectors(plain)
    expected = plain(_PROBE)
    ragged = ragged_bert(model)
    if packed:
        pack_linears(model if ragged is None else torch.nn.ModuleList([model, ragged]))
    if ragged is not None and _objection(ragged, expected) is None:
        return SentenceVectors(ragged)
    by_length = _ByLength(model)
    objection = _objection(by_length, expected)
    if objection is not None:
        say_not_used("keyphrase_vectors", f"{type(model[0]).__name__} {objection}")
        return None
    return SentenceVectors(by_length)


def _objection(
    encode: Callable[[list[str]], NDArray[np.float32]], expected: NDArray[np.float32]
) -> str | None:
    """What speaks against embedding texts so; None if the probe gets the vectors that are expected."""
    try:
        found = encode(_PROBE)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        return f"cannot be called so: {error}"
    if found.shape == expected.shape and np.allclose(unit_rows(found), unit_rows(expected), atol=_TOLERANCE):
        return None
    return "gives other vectors for texts without padding than one by one"


class _ByLength:
    """Embeds texts together with those of the same length.

    Args:
        model: its first module takes ``input_ids`` and ``attention_mask``.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        """(T, D) float32."""
        prepare = getattr(self.model, "preprocess", None) or self.model.tokenize
        features = prepare(texts)
        lengths = features["attention_mask"].sum(dim=1).tolist()
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for index, length in enumerate(lengths):
            groups[length].append(index)
        rows: list[NDArray[np.float32]] = []
        for length, members in groups.items():
            step = self._texts_at_once(length)
            rows += [
                self._rows(features, members[start : start + step], length)
                for start in range(0, len(members), step)
            ]
        order = np.argsort([index for members in groups.values() for index in members])
        ordered: NDArray[np.float32] = np.concatenate(rows)[order]
        return ordered

    def _texts_at_once(self, length: int) -> int:
        tokens = _TOKENS_ON_CPU if self.model.device.type == "cpu" else _TOKENS_ON_GPU
        return max(1, tokens // length)

    def _rows(self, features: dict[str, Any], members: list[int], length: int) -> NDArray[np.float32]:
        """(len(members), D) of texts that are all ``length`` tokens long."""
        batch = {
            name: values[members, :length].to(self.model.device)
            if isinstance(values, torch.Tensor)
            else values
            for name, values in features.items()
        }
        with torch.inference_mode():
            vectors = self.model(batch)["sentence_embedding"]
        rows: NDArray[np.float32] = vectors.float().cpu().numpy()
        return rows
