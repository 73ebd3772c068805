"""A cache of sentence vectors, one per text, over all batches.

``SentenceTransformer.encode`` has no cache. Captions and keyphrases repeat; here each text is embedded once.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


class SentenceVectors:
    """Keep the vectors of texts, each computed once. Safe to use from several threads.

    Args:
        encode: distinct texts -> (T, D) float32.
        capacity: largest number of texts; beyond it, the least recently used are removed.
    """

    def __init__(self, encode: Callable[[list[str]], NDArray[np.float32]], *, capacity: int = 50_000) -> None:
        self.capacity = capacity
        self._encode = encode
        self._rows: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = Lock()

    def __call__(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return each text's vector: (D,) float32, of length 1 (or 0 if the model returns zeros)."""
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
    """Return rows of length 1; rows of zeros stay zeros."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return np.asarray(rows / np.where(norms == 0, np.float32(1), norms), dtype=np.float32)
