"""Recall at k: how often a query's partner is among the k most similar (Karpathy and Fei-Fei, CVPR 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def partner_ranks(similarities: NDArray[np.floating], *, first: int = 0) -> NDArray[np.intp]:
    """Return the rank of each query's partner, 1 for the most similar: (Q, N) -> (Q,).

    Ties rank before the partner, so that a model which gives all the same similarity scores 0.

    Args:
        similarities: (Q, N), of Q queries with N candidates.
        first: column of the first query's partner; the partners of the other queries follow in order.

    Raises:
        ValueError: a query has no partner.
    """
    queries = len(similarities)
    if similarities.ndim != 2 or first + queries > similarities.shape[1]:
        raise ValueError(
            f"every query needs a partner; shape {similarities.shape} from column {first} has less"
        )
    partners = similarities[np.arange(queries), first + np.arange(queries)]
    ranks: NDArray[np.intp] = (similarities >= partners[:, None]).sum(axis=1)
    return ranks


def found_at(ranks: NDArray[np.intp], k: int) -> NDArray[np.float64]:
    """Return 1.0 per query if its partner is among the first ``k``, else 0.0: (Q,) -> (Q,). The mean is R@k.

    Raises:
        ValueError: ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"recall at {k}: the least is 1")
    return (ranks <= k).astype(np.float64)
