"""Ensembles of models, for metrics that compare sentence embeddings: the weighted mean of their embeddings.

Public solutions of the Kaggle competition "Stable Diffusion - Image to Prompts" (2023) use weighted sums of
their models' embeddings (for example the 111th place, LUPIN11/KaggeCompetitionSDIP-111thPlaceSolution on
GitHub). As there, each member's embeddings have length 1 before they are weighted; the last layer of
all-MiniLM-L6-v2 normalises its own. The mean is normalised again, which does not change a cosine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from autotag.errors import ConfigError
from autotag.evaluation.metrics.text_similarity import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def shares_of(weights: Sequence[float] | None, members: int) -> tuple[float, ...]:
    """Return the weights as shares that sum to 1; equal shares for None.

    Args:
        weights: one per member, each at least 0.
        members: number of members.

    Raises:
        ConfigError: the number of weights is wrong, one is negative or not finite, or all are zero.
    """
    if weights is None:
        return (1 / members,) * members
    listed = ", ".join(f"{weight:g}" for weight in weights)
    if len(weights) != members:
        raise ConfigError(
            f"models: {members}, weights: {len(weights)} ({listed}); give each model one weight."
        )
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise ConfigError(f"weights are numbers of at least 0, not {listed}.")
    total = math.fsum(weights)
    if not total:
        raise ConfigError("all weights are 0; at least one model has to count.")
    return tuple(weight / total for weight in weights)


def mean_embedding(
    vectors: Sequence[NDArray[np.floating]], weights: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """Return the weighted mean of the members' embeddings, row by row: (N, D) float32, rows of length 1.

    A row of zeros, which stands for a text without words, is left out of the mean. A row that is zeros for
    all members stays zeros.

    Args:
        vectors: per member (N, D), one row per text; rows are normalised to length 1 first.
        weights: one per member, see ``shares_of``.

    Raises:
        ConfigError: the weights do not fit.
        ValueError: there is no member, or the members' shapes differ.
    """
    shapes = {member.shape for member in vectors}
    if len(shapes) != 1:
        raise ValueError(f"an ensemble needs members of one shape, not {sorted(shapes)}")
    shares = shares_of(weights, len(vectors))
    total = sum(share * unit_rows(member) for share, member in zip(shares, vectors, strict=True))
    return unit_rows(np.asarray(total)).astype(np.float32)
