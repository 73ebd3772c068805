"""Recall at k: how often what is looked for is among the k most similar (Karpathy and Fei-Fei, CVPR 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def partner_ranks(similarities: NDArray[np.floating]) -> NDArray[np.intp]:
    """Per query the rank of its partner, 1 for the most similar: (N, N) -> (N,).

    Query n's partner is column n. Others that are just as similar count as before it, so that a model which
    finds all alike scores nothing.

    Raises:
        ValueError: not square.
    """
    if similarities.ndim != 2 or similarities.shape[0] != similarities.shape[1]:
        raise ValueError(f"queries and partners are one to one, not of shape {similarities.shape}")
    ranks: NDArray[np.intp] = (similarities >= np.diagonal(similarities)[:, None]).sum(axis=1)
    return ranks


def found_at(similarities: NDArray[np.floating], k: int) -> NDArray[np.float64]:
    """Per query 1.0 when its partner is among the ``k`` most similar, else 0.0: (N, N) -> (N,).

    Raises:
        ValueError: not square, or ``k`` below 1.
    """
    if k < 1:
        raise ValueError(f"recall at {k}: the least is 1")
    return (partner_ranks(similarities) <= k).astype(np.float64)
