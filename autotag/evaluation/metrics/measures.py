"""Figures of a model over a set of images, with their uncertainty.

A ``Measure`` keeps each image's contribution, so that images can be resampled (the bootstrap, Efron 1979) and
the results of two models exchanged (approximate randomization, Noreen 1989; for BLEU: Riezler and Maxwell
2005). Images are resampled because the results should hold for other images of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Combine = Callable[["NDArray[np.float64]", "NDArray[np.float64]"], "NDArray[np.float64]"]
"""(rows (N, C), weights (B, N)) -> (B,): figure b, in which image n counts ``weights[b, n]`` times."""

_AT_ONCE = 500


@dataclass(frozen=True, eq=False)
class Measure:
    """One figure of one model.

    Attributes:
        name: e.g. ``"cider_d"``.
        rows: (N, C) float64, the contribution of each image.
        combine: computes the figure from the rows.
        exchangeable: whether the rows of two models may be mixed. They may not if they contain scores,
            because each model's scores have their own scale.
    """

    name: str
    rows: NDArray[np.float64]
    combine: Combine
    exchangeable: bool = True

    @property
    def value(self) -> float:
        """The figure, with every image counted once."""
        return float(self.combine(self.rows, np.ones((1, len(self.rows))))[0])


@dataclass(frozen=True, slots=True)
class Interval:
    """A bootstrap interval.

    Attributes:
        low: lower end.
        high: upper end.
        level: share of the resamples whose figure lies between the ends, such as 0.95.
    """

    low: float
    high: float
    level: float


def mean_measure(name: str, per_image: NDArray[np.float64]) -> Measure:
    """Return the measure that is the mean of one number per image (N,)."""
    return Measure(name, np.asarray(per_image, dtype=np.float64)[:, None], _mean)


def sum_measure(
    name: str, rows: NDArray[np.float64], figure: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Measure:
    """Return a measure of sums over images: rows (N, C); ``figure`` maps sums (B, C) to figures (B,)."""
    return Measure(name, rows, lambda some, weights: figure(weights @ some))


def bootstrap_interval(
    measure: Measure, *, seed: int, resamples: int = 1000, level: float = 0.95
) -> Interval | None:
    """Return the percentile interval of the bootstrap; None for fewer than two images."""
    drawn = _drawn(len(measure.rows), seed, resamples)
    if drawn is None:
        return None
    return _interval(_in_parts(measure, drawn), level)


def difference_interval(
    one: Measure, other: Measure, *, seed: int, resamples: int = 1000, level: float = 0.95
) -> Interval | None:
    """Return the interval of ``one`` minus ``other``; each resample uses the same images for both.

    It is None for fewer than two images.

    Raises:
        ValueError: the shapes of their rows differ.
    """
    _check_paired(one, other)
    drawn = _drawn(len(one.rows), seed, resamples)
    if drawn is None:
        return None
    return _interval(_in_parts(one, drawn) - _in_parts(other, drawn), level)


def paired_test(one: Measure, other: Measure, *, seed: int, rounds: int = 4999) -> float | None:
    """Return the two-sided p-value of the difference, under the hypothesis that both models are equally good.

    In each round the models' rows are exchanged at random, image by image. p is the share of rounds with a
    difference at least as large; the observed one counts as a round, so that p is never 0. It is None if
    rows are not exchangeable.

    Raises:
        ValueError: the shapes of their rows differ.
    """
    _check_paired(one, other)
    if not (one.exchangeable and other.exchangeable):
        return None
    both = Measure(one.name, np.concatenate([one.rows, other.rows]), one.combine)
    difference = abs(one.value - other.value)
    generator = np.random.default_rng(seed)
    kept = generator.integers(0, 2, size=(rounds, len(one.rows))).astype(np.float64)
    first = _in_parts(both, np.concatenate([kept, 1 - kept], axis=1))
    second = _in_parts(both, np.concatenate([1 - kept, kept], axis=1))
    as_large = int((np.abs(first - second) >= difference - 1e-12).sum())
    return (as_large + 1) / (rounds + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p-values adjusted for multiple tests (Holm 1979), under the same names."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for place, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_value))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def _mean(rows: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = weights @ rows[:, 0] / weights.sum(axis=1)
    return means


def _drawn(images: int, seed: int, resamples: int) -> NDArray[np.float64] | None:
    """Return how often each image is drawn in each resample: (B, N); None for fewer than two images."""
    if images < 2:
        return None
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)


def _in_parts(measure: Measure, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Combine a few hundred weightings at a time, which bounds the memory."""
    parts = [
        measure.combine(measure.rows, weights[start : start + _AT_ONCE])
        for start in range(0, len(weights), _AT_ONCE)
    ]
    return np.concatenate(parts)


def _interval(values: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def _check_paired(one: Measure, other: Measure) -> None:
    if one.rows.shape != other.rows.shape:
        raise ValueError(f"{one.name}: {one.rows.shape} and {other.rows.shape} are not of the same images")
