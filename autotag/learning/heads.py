"""Fit one logistic head for each keyword on frozen vectors of images, all keywords at once.

A head is a weight vector w and a bias b; its logit for the vector x is w @ x + b. It minimises the weighted
logistic loss over all photographs plus ``ridge / 2`` times the squared distance of w from its prior. The
prior is the vector of the keyword's text, times one slope for all keywords that is fitted before. So without
photographs a head ranks as zero-shot CLIP does (Radford et al. 2021, arXiv:2103.00020), and each photograph
moves it.

People's keywords are incomplete: a photograph without a keyword may show it all the same. It has the weight
of a negative times the probability that it is one. That probability is estimated as by Elkan and Noto (2008,
"Learning classifiers from only positive and unlabeled data", section 2). A first fit gives g(x), the
probability that x was given the keyword. The mean c of g over the photographs with the keyword estimates how
often people give it where it fits. The odds that an unlabelled x shows it are
(1 - c) / c * g(x) / (1 - g(x)), at most 1. A photograph from which somebody removed the keyword is a certain
negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Bools = NDArray[np.bool_]
    _Fit = tuple[Floats, Floats]  # weights (D, K), biases (K,)

RIDGE = 0.3
"""How strongly a head is held to its prior, for vectors whose mean squared distance from their mean is 1."""

_STEPS = 12
_ENOUGH = 1e-3  # about twice what another step would take off the loss
_HALVINGS = 6
_ENTRIES_AT_ONCE = 2**23  # photographs times keywords, 32 MiB in float32
_SLOPE_STEPS = 12
_ASKED = 64
_LEAST_CURVATURE = 1e-6
_TRUSTED = np.float32(-30)  # a logit


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """Linear heads on vectors of images.

    Attributes:
        weights: (K, D) float32.
        biases: (K,) float32.
    """

    weights: Floats
    biases: Floats

    def logits(self, vectors: Floats) -> Floats:
        """Return (B, K) float32 for (B, D) unit vectors."""
        found: Floats = vectors @ self.weights.T + self.biases
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Center and scale vectors, so that one ridge suits every encoder.

    Attributes:
        mean: (D,) float32, of the vectors.
        scale: what centered vectors are multiplied by, for a mean squared length of 1.
        rows: (N, D) float32, the centered and scaled vectors.
        curvatures: (D,) float32, eigenvalues of the covariance of ``rows``.
        axes: (D, D) float32, the eigenvectors, one per column.
    """

    mean: Floats
    scale: float
    rows: Floats
    curvatures: Floats
    axes: Floats

    @classmethod
    def of(cls, vectors: Floats) -> Space:
        """Return the space of (N, D) float32 vectors, N at least 1."""
        mean = vectors.mean(axis=0)
        rows = vectors - mean
        spread = float(np.sqrt(np.square(rows).sum(axis=1).mean()))
        scale = 1 / max(spread, 1e-6)
        rows *= np.float32(scale)
        curvatures, axes = np.linalg.eigh(rows.T @ rows / np.float32(len(rows)))
        return cls(mean, scale, rows, np.maximum(curvatures, 0), axes)

    def heads(self, weights: Floats, biases: Floats) -> Heads:
        """Return heads of this space, (D, K) and (K,), as heads on the vectors themselves."""
        outside = np.ascontiguousarray(weights.T * np.float32(self.scale))
        return Heads(outside, (biases - outside @ self.mean).astype(np.float32))


def fit_heads(
    vectors: Floats,
    given: Sequence[NDArray[np.intp]],
    priors: Floats,
    *,
    removed: Sequence[NDArray[np.intp]] | None = None,
    ridge: float = RIDGE,
    folds: NDArray[np.intp] | None = None,
) -> tuple[Heads, list[Floats]]:
    """Return the heads of K keywords, and each keyword's cross-validated logits.

    Args:
        vectors: (N, D) float32 unit vectors of the photographs.
        given: for each keyword the places of its photographs in ``vectors``, at least one.
        priors: (K, D) float32 unit vectors of the keywords' texts; a row of zeros for no prior.
        removed: for each keyword the places of photographs that certainly do not show it.
        ridge: above 0.
        folds: (N,) the fold of each photograph, counted from 0. The logits of a photograph then come from
            heads that were fitted to the other folds. None gives no logits.

    Returns:
        The heads, and K arrays of logits, each (N,) float32; [] without folds.
    """
    blocks = list(fit_blocks(vectors, given, priors, removed=removed, ridge=ridge, folds=folds))
    heads = [heads for _, heads, _ in blocks]
    weights, biases = ([getattr(one, name) for one in heads] for name in ("weights", "biases"))
    crossed = [row for *_, rows in blocks for row in rows]
    return Heads(np.concatenate(weights), np.concatenate(biases)), crossed


def fit_blocks(
    vectors: Floats,
    given: Sequence[NDArray[np.intp]],
    priors: Floats,
    *,
    removed: Sequence[NDArray[np.intp]] | None = None,
    ridge: float = RIDGE,
    folds: NDArray[np.intp] | None = None,
) -> Iterator[tuple[slice, Heads, Floats]]:
    """Yield what ``fit_heads`` returns block by block of keywords, so that memory does not grow with K.

    Yields:
        Which keywords, in their order; their heads; their cross-validated logits, (keywords, N) float32, or
        (0, N) without folds.
    """
    space = Space.of(vectors)
    removed = removed or [np.empty(0, dtype=np.intp)] * len(given)
    at_once = max(1, _ENTRIES_AT_ONCE // len(vectors))
    slope = _slope(space, given, priors)
    for start in range(0, len(given), at_once):
        block = slice(start, start + at_once)
        present, certain = _table(given[block], len(vectors)), _table(removed[block], len(vectors))
        prior = np.ascontiguousarray(priors[block].T) * np.float32(slope)
        fit = _Block(space, present, certain, prior, ridge)
        weights, biases, logits = fit.heads(folds)
        yield block, space.heads(weights, biases), np.ascontiguousarray(logits.T)


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-logit)), float32, without overflow."""
    found: Floats = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
    return found


def _table(places: Sequence[NDArray[np.intp]], rows: int) -> Bools:
    """Return (N, K) bool: which photographs each keyword lists."""
    table = np.zeros((rows, len(places)), dtype=bool)
    for column, listed in enumerate(places):
        table[listed, column] = True
    return table


def _slope(space: Space, given: Sequence[NDArray[np.intp]], priors: Floats) -> float:
    """Return the slope of the zero-shot score that fits all keywords best, each with a bias of its own.

    At most 64 keywords say so, evenly spread over the list.
    """
    slope, first, second = 0.0, 0.0, 0.0
    known = np.flatnonzero(priors.any(axis=1))
    if not len(known):
        return 0.0
    some = known[np.linspace(0, len(known) - 1, min(_ASKED, len(known))).astype(int)].tolist()
    scores = space.rows @ priors[some].T
    present = _table([given[number] for number in some], len(scores))
    shares = np.clip(present.mean(axis=0), 1e-4, 1 - 1e-4).astype(np.float32)
    biases = np.log(shares / (1 - shares))
    for _ in range(_SLOPE_STEPS):
        found = sigmoid(np.float32(slope) * scores + biases)
        curved = found * (1 - found)
        wrong = found - present
        middle = (curved * scores).sum(axis=0) / np.maximum(curved.sum(axis=0), _LEAST_CURVATURE)
        apart = scores - middle
        first, second = float((wrong * apart).sum()), float((curved * np.square(apart)).sum())
        step = -first / max(second, _LEAST_CURVATURE)
        slope = float(np.clip(slope + np.clip(step, -5, 5), 0, 100))
        biases -= wrong.sum(axis=0) / np.maximum(curved.sum(axis=0), _LEAST_CURVATURE) + step * middle
        biases = np.clip(biases, -30, 30)
    return slope


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Fit as many keywords at once as fit into memory.

    Attributes:
        space: of the photographs.
        present: (N, K) who has the keyword.
        certain: (N, K) from whom it was removed.
        prior: (D, K) float32.
        ridge: see ``fit_heads``.
    """

    space: Space
    present: Bools
    certain: Bools
    prior: Floats
    ridge: float

    def heads(self, folds: NDArray[np.intp] | None) -> tuple[Floats, Floats, Floats]:
        """Return weights (D, K), biases (K,) and cross-validated logits (N, K), or (N, 0) without folds."""
        ones = np.ones(self.present.shape, dtype=np.float32)
        shares = np.clip(self.present.mean(axis=0), 1e-4, 0.9999).astype(np.float32)
        weights, biases = self._fit(ones, self.prior, np.log(shares / (1 - shares)))
        if folds is None:
            logits = self.space.rows @ weights + biases
            trust = self._trust(logits)
            weights, biases = self._fit(trust, weights, biases)
            return weights, biases, np.empty((len(logits), 0), dtype=np.float32)
        blind = self._blind(folds, (self.prior, biases))
        trust = self._trust(self._logits_from(blind, folds))
        weights, biases = self._fit(trust, weights, biases)
        return weights, biases, self._crossed(folds, blind)

    def _blind(self, folds: NDArray[np.intp], start: _Fit) -> dict[frozenset[int], _Fit]:
        """Return heads that did not see a fold, for each one and each two; without weights for trust."""
        numbers = range(int(folds.max()) + 1)
        found = {}
        for unseen in (*combinations(numbers, 1), *combinations(numbers, 2)):
            rest = ~np.isin(folds, unseen)
            if rest.any():
                ones = np.ones((int(rest.sum()), self.present.shape[1]), dtype=np.float32)
                found[frozenset(unseen)] = self._fit(ones, *start, among=rest)
        return found

    def _logits_from(
        self, blind: dict[frozenset[int], _Fit], folds: NDArray[np.intp], without: int | None = None
    ) -> Floats:
        """Return logits (N, K), each fold's from heads that saw neither it nor the fold ``without``.

        Where there are no such heads, as with two folds, they are so low that every photograph is trusted.
        """
        logits = np.full(self.present.shape, _TRUSTED, dtype=np.float32)
        for fold in range(int(folds.max()) + 1):
            fit = blind.get(frozenset({fold} if without is None else {fold, without}))
            if fit is not None and fold != without:
                weights, biases = fit
                logits[folds == fold] = self.space.rows[folds == fold] @ weights + biases
        return logits

    def _crossed(self, folds: NDArray[np.intp], blind: dict[frozenset[int], _Fit]) -> Floats:
        """Return logits (N, K), each fold's from heads that were fitted to the others.

        The weights for trust are of heads that did not see the fold either: others would pass on what its
        photographs are called, and keywords given at random would look learned.
        """
        logits = np.empty(self.present.shape, dtype=np.float32)
        for fold in range(int(folds.max()) + 1):
            among = folds != fold
            trust = self._trust(self._logits_from(blind, folds, without=fold), among)
            weights, biases = self._fit(trust, *blind[frozenset({fold})], among=among)
            logits[~among] = self.space.rows[~among] @ weights + biases
        return logits

    def _trust(self, logits: Floats, among: Bools | slice = slice(None)) -> Floats:
        """Return the weight of each photograph ``among`` all in the loss, (M, K) float32 in (0, 1]."""
        present, certain = self.present[among], self.certain[among]
        found = np.clip(sigmoid(logits[among]), 1e-6, 1 - 1e-6)
        counts = np.maximum(present.sum(axis=0), 1)
        often = np.clip((found * present).sum(axis=0) / counts, 0.05, 1).astype(np.float32)
        odds = (1 - often) / often * found / (1 - found)
        negative = 1 - np.clip(odds, 0, 1)
        return np.where(present | certain, np.float32(1), negative.astype(np.float32))

    def _fit(
        self, trust: Floats, weights: Floats, biases: Floats, *, among: Bools | None = None
    ) -> tuple[Floats, Floats]:
        """Return weights (D, K) and biases (K,) by conjugate gradients, preconditioned by the covariance.

        Each step is Newton's along its direction, halved where the loss would grow.

        Args:
            trust: (M, K) the weight of each photograph in the loss.
            weights: to start from.
            biases: to start from.
            among: (N,) which M photographs to fit to; None for all.
        """
        rows, present, ridge = self.space.rows, self.present, np.float32(self.ridge)
        if among is not None:
            rows, present = rows[among], present[among]
        axes, spread = self.space.axes, self.space.curvatures[:, None]
        weights, biases = weights.copy(), biases.copy()
        logits = rows @ weights + biases
        found = sigmoid(logits)
        lost = _loss(found, present, trust)
        direction = bias_direction = before = before_bias = before_product = None
        for _ in range(_STEPS):
            wrong = found - present
            wrong *= trust
            curved = found * (1 - found)
            curved *= trust
            total = np.maximum(curved.sum(axis=0), _LEAST_CURVATURE)
            slope = rows.T @ wrong + ridge * (weights - self.prior)
            bias_slope = wrong.sum(axis=0)
            scaled = axes @ ((axes.T @ slope) / (total * spread + ridge))
            bias_scaled = bias_slope / total
            product = (slope * scaled).sum(axis=0) + bias_slope * bias_scaled
            if (product <= _ENOUGH).all():
                break
            if direction is None:
                direction, bias_direction = -scaled, -bias_scaled
            else:
                kept = (product - (before * scaled).sum(axis=0) - before_bias * bias_scaled) / before_product
                kept = np.maximum(kept, 0)
                direction = -scaled + kept * direction
                bias_direction = -bias_scaled + kept * bias_direction
                uphill = (direction * slope).sum(axis=0) + bias_direction * bias_slope >= 0
                direction = np.where(uphill, -scaled, direction)
                bias_direction = np.where(uphill, -bias_scaled, bias_direction)
            before, before_bias = slope, bias_slope
            before_product = np.maximum(product, np.float32(1e-30))
            moved = rows @ direction + bias_direction
            downhill = (direction * slope).sum(axis=0) + bias_direction * bias_slope
            along, square = ((weights - self.prior) * direction).sum(axis=0), np.square(direction).sum(axis=0)
            curved *= moved
            bend = np.einsum("nk,nk->k", curved, moved) + ridge * square
            step = -downhill / np.maximum(bend, np.float32(1e-20))
            for halving in range(_HALVINGS + 1):
                found = sigmoid(logits + step * moved)
                now = _loss(found, present, trust)
                grows = now - lost + ridge * (step * along + step * step * square / 2) > 1e-4 * lost
                if halving == _HALVINGS or not grows.any():
                    break
                step = np.where(grows, step / 2, step)
            lost = now
            weights += step * direction
            biases += step * bias_direction
            logits += step * moved
        return weights, biases


def _loss(found: Floats, present: Bools, trust: Floats) -> Floats:
    """Return the weighted logistic loss of each keyword, (K,), for probabilities (M, K) float32."""
    right = np.where(present, found, 1 - found)
    np.log(np.maximum(right, np.float32(1e-7), out=right), out=right)
    lost: Floats = -np.einsum("mk,mk->k", trust, right)
    return lost
