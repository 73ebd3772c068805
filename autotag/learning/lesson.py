"""Learn keywords from vectors of photographs, and refuse the ones that cannot be learned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from autotag.errors import DISTRIBUTION
from autotag.learning.events import folds, near_copies
from autotag.learning.heads import Heads, fit_blocks, fit_heads
from autotag.learning.judging import Judgement, average_precision, judged, settled
from autotag.metadata.keywords import fold
from autotag.relevance.learned_keywords import NEAR_DECLINED, LearnedKeyword, LearnedKeywords
from autotag.vocabularies.templates import PHOTO, filled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from autotag.learning.teaching import Taught
    from autotag.metadata.keywords import KeywordPath
    from autotag.protocols import ImageTextEncoder

    Floats = NDArray[np.float32]
    Places = NDArray[np.intp]

MIN_PHOTOS = 8
"""With fewer photographs a keyword is refused, unless the caller says otherwise."""

FOLDS = 3
"""Parts of the photographs for cross-validation."""

RIDGES = (0.1, 0.3, 1.0)
"""What ``best_ridge`` chooses from."""

_ASKED = 32  # keywords that choose the ridge
_DECIMALS = 4
_SAME = 0.998  # cosine of two copies of one photograph; the frames of a burst are farther apart
_UNLIKELY = 0.05


@dataclass(frozen=True, slots=True)
class Refused:
    """A keyword that was not learned.

    Attributes:
        path: the keyword with its parents, outermost first.
        photographs: that have it.
        reason: why, as the end of a sentence.
    """

    path: KeywordPath
    photographs: int
    reason: str

    def __str__(self) -> str:
        return "|".join(self.path)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What some photographs taught.

    Attributes:
        learned: what goes into the file.
        refused: the keywords that could not be learned, most photographs first.
    """

    learned: LearnedKeywords
    refused: tuple[Refused, ...]


def learn(
    taught: Sequence[Taught],
    vectors: Floats,
    groups: Places,
    encoder: ImageTextEncoder,
    *,
    min_photos: int = MIN_PHOTOS,
    ridge: float | None = None,
    standing: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Lesson:
    """Return the keywords that the photographs teach; see ``heads`` and ``judging`` for the methods.

    Args:
        taught: the keywords, with places of photographs in ``vectors``.
        vectors: (N, D) float32 unit vectors of the photographs.
        groups: (N,) the event of each photograph, see ``events``. No event is on both sides of a test.
        encoder: the one that made the vectors; it embeds the keywords, as the heads' prior.
        min_photos: with fewer photographs a keyword is refused; at least 2.
        ridge: how strongly the heads are held to their prior; None for ``best_ridge``.
        standing: a tag in normal form (``autotag.metadata.keywords.fold``) -> number of photographs in which
            people left it as the machine wrote it.
        seed: of the folds and the intervals.
    """
    standing = standing or {}
    unwanted = _unwanted(taught, groups, standing)
    known = [one for one in taught if fold(one.path[-1]) not in unwanted]
    named = [one for one in known if one.given]
    refused = [one for one in (_too_few(one, groups, min_photos) for one in named) if one is not None]
    refused += [
        Refused(one.path, len(one.given), "people took it out of most of the photographs that had it")
        for one in taught
        if one.given and fold(one.path[-1]) in unwanted
    ]
    hopeless = {one.path for one in refused}
    wanted = [one for one in named if one.path not in hopeless]
    verdicts, heads = _judged(wanted, vectors, groups, encoder, ridge=ridge, seed=seed)
    good = [place for place, verdict in enumerate(verdicts) if verdict.is_learned]
    counts = [len(one.given) for one in wanted]
    cuts = settled(
        np.array([verdicts[place].threshold for place in good], dtype=np.float32),
        np.array([counts[place] for place in good], dtype=np.intp),
    )
    keywords = [
        LearnedKeyword(
            wanted[place].path,
            counts[place],
            round(verdicts[place].average_precision, _DECIMALS),
            round(verdicts[place].low, _DECIMALS),
            round(verdicts[place].high, _DECIMALS),
            round(float(1 / (1 + np.exp(-cut))), 2 * _DECIMALS),
        )
        for place, cut in zip(good, cuts, strict=True)
    ]
    refused += [
        Refused(
            wanted[place].path,
            counts[place],
            f"its average precision of {verdict.average_precision:.2f} (95 % interval {verdict.low:.2f} to "
            f"{verdict.high:.2f}) on other events is not above chance ({verdict.by_chance:.2f})",
        )
        for place, verdict in enumerate(verdicts)
        if not verdict.is_learned
    ]
    learned_paths = {keyword.path for keyword in keywords}
    others = [one for one in known if one.path not in learned_paths]
    declined = _Declined.of([*(wanted[place] for place in good), *others], vectors, learned=len(good))
    learned = LearnedKeywords(
        encoder=encoder.id,
        photographs=len(vectors),
        keywords=tuple(keywords),
        weights=heads.weights[good],
        biases=heads.biases[good],
        declined_vectors=declined.vectors,
        declined_keywords=declined.places,
        learned=date.today().isoformat(),
        version=version(DISTRIBUTION),
        others=declined.others,
        unwanted=tuple(unwanted.values()),
    )
    return Lesson(learned, tuple(sorted(refused, key=lambda one: (-one.photographs, one.path))))


def _judged(
    wanted: Sequence[Taught],
    vectors: Floats,
    groups: Places,
    encoder: ImageTextEncoder,
    *,
    ridge: float | None,
    seed: int,
) -> tuple[list[Judgement], Heads]:
    """Return the judgement of each keyword, and the heads; logits are kept of a block of keywords only."""
    size = vectors.shape[1]
    if not wanted:
        return [], Heads(np.zeros((0, size), dtype=np.float32), np.zeros(0, dtype=np.float32))
    given = [np.array(one.given, dtype=np.intp) for one in wanted]
    removed = [np.array(one.removed, dtype=np.intp) for one in wanted]
    priors = np.asarray(encoder.embed_texts([filled(PHOTO, one.path[-1]) for one in wanted]), np.float32)
    parts = folds(groups, FOLDS, seed=seed)
    ridge = best_ridge(vectors, given, priors, parts) if ridge is None else ridge
    verdicts: list[Judgement] = []
    heads: list[Heads] = []
    for block, fitted, crossed in fit_blocks(
        vectors, given, priors, removed=removed, ridge=ridge, folds=parts
    ):
        heads.append(fitted)
        verdicts += [
            judged(logits, places, groups, removed=taken, seed=seed)
            for logits, places, taken in zip(crossed, given[block], removed[block], strict=True)
        ]
    weights = np.concatenate([one.weights for one in heads])
    return verdicts, Heads(weights, np.concatenate([one.biases for one in heads]))


def _unwanted(taught: Sequence[Taught], groups: Places, standing: Mapping[str, int]) -> dict[str, str]:
    """Return the tags that people removed from most photographs that had them: in normal form -> as written.

    A sign test: if at least half of a tag's photographs were right, so many removals would come about in less
    than 5 of 100 cases. Removals from one event count once, what was left in counts by photograph.
    """
    from scipy.stats import binom

    by_word: dict[str, list[Taught]] = {}
    for one in taught:
        by_word.setdefault(fold(one.path[-1]), []).append(one)
    found = {}
    for word, several in by_word.items():
        removed = {place for one in several for place in one.removed}
        given = {place for one in several for place in one.given}
        wrong = len(np.unique(groups[sorted(removed - given)]))
        right = len(given) + standing.get(word, 0)
        if wrong and binom.sf(wrong - 1, wrong + right, 0.5) < _UNLIKELY:
            found[word] = several[0].path[-1]
    return found


@dataclass(frozen=True, slots=True)
class _Declined:
    """Hold the middles of photographs from which people removed a tag twice; see ``LearnedKeywords``."""

    vectors: Floats
    places: NDArray[np.int64]
    others: tuple[str, ...]

    @classmethod
    def of(cls, taught: Sequence[Taught], vectors: Floats, *, learned: int) -> _Declined:
        """Return the middles for the learned keywords, which come first, and for other tags."""
        middles: list[Floats] = []
        places: list[int] = []
        others: dict[str, int] = {}
        for number, one in enumerate(taught):
            for middle in _middles(one, vectors):
                middles.append(middle)
                place = others.setdefault(one.path[-1], len(others)) if number >= learned else 0
                places.append(number if number < learned else learned + place)
        rows = np.array(middles, dtype=np.float32).reshape(len(middles), vectors.shape[1])
        return cls(rows, np.array(places, dtype=np.int64), tuple(others))


def best_ridge(vectors: Floats, given: Sequence[Places], priors: Floats, parts: Places) -> float:
    """Return the ridge with the best mean average precision in cross-validation, one for all keywords.

    How much the words of an encoder say about somebody's photographs differs from album to album. At most 32
    keywords choose, evenly spread over the list.

    Args:
        vectors: (N, D) float32 unit vectors of the photographs.
        given: for each keyword the places of its photographs.
        priors: (K, D) float32 unit vectors of the keywords' texts.
        parts: (N,) the fold of each photograph.
    """
    some = np.unique(np.linspace(0, len(given) - 1, min(_ASKED, len(given))).astype(int)).tolist()
    asked = [given[place] for place in some]

    def quality(ridge: float) -> float:
        _, crossed = fit_heads(vectors, asked, priors[some], ridge=ridge, folds=parts)
        return float(np.mean([average_precision(*pair) for pair in zip(crossed, asked, strict=True)]))

    return max(reversed(RIDGES), key=quality)


def _too_few(one: Taught, groups: Places, min_photos: int) -> Refused | None:
    """Return the refusal of a keyword that no test can judge, or None."""
    count = len(one.given)
    if count < min_photos:
        return Refused(one.path, count, f"it has {count} of the {min_photos} photographs that are needed")
    if count == len(groups):
        return Refused(one.path, count, "it is on every photograph, so nothing tells when it does not fit")
    if len(np.unique(groups[list(one.given)])) < 2:
        return Refused(one.path, count, "all its photographs are of one event, so nothing can test it")
    return None


def _middles(one: Taught, vectors: Floats) -> Iterator[Floats]:
    """Yield the middle of each cluster of similar photographs from which the keyword was removed twice.

    Copies of one photograph count once. A cluster to whose middle a photograph with the keyword is similar,
    too, is left out.
    """
    from scipy.sparse.csgraph import connected_components

    if len(one.removed) < 2:
        return
    rows = vectors[list(one.removed)]
    rows = rows[np.unique(near_copies(rows, cosine=_SAME), return_index=True)[1]]
    count, cluster = connected_components(rows @ rows.T >= NEAR_DECLINED, directed=False)
    for number in range(count):
        members = rows[cluster == number]
        if len(members) < 2:
            continue
        middle = members.mean(axis=0)
        middle /= np.linalg.norm(middle)
        if not (vectors[list(one.given)] @ middle >= NEAR_DECLINED).any():
            yield middle
