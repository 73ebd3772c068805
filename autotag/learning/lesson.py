"""Learn keywords from vectors of photographs, and refuse those that cannot be learned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from autotag.errors import DISTRIBUTION
from autotag.learning.events import folds, near_copies
from autotag.learning.heads import Heads, fit_heads
from autotag.learning.judging import average_precision, judged, settled
from autotag.relevance.learned_keywords import NEAR_DECLINED, LearnedKeyword, LearnedKeywords
from autotag.vocabularies.templates import PHOTO, filled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        seed: of the folds and the intervals.
    """
    refused = [one for one in (_too_few(one, groups, min_photos) for one in taught) if one is not None]
    hopeless = {one.path for one in refused}
    wanted = [one for one in taught if one.path not in hopeless]
    if not wanted:
        return Lesson(_kept(encoder, [], _no_heads(vectors), [], vectors), tuple(refused))
    given = [np.array(one.given, dtype=np.intp) for one in wanted]
    priors = np.asarray(encoder.embed_texts([filled(PHOTO, one.path[-1]) for one in wanted]), np.float32)
    parts = folds(groups, FOLDS, seed=seed)
    heads, crossed = fit_heads(
        vectors,
        given,
        priors,
        removed=[np.array(one.removed, dtype=np.intp) for one in wanted],
        ridge=best_ridge(vectors, given, priors, parts) if ridge is None else ridge,
        folds=parts,
    )
    verdicts = [
        judged(logits, places, groups, seed=seed) for logits, places in zip(crossed, given, strict=True)
    ]
    good = [place for place, verdict in enumerate(verdicts) if verdict.is_learned]
    cuts = settled(
        np.array([verdicts[place].threshold for place in good], dtype=np.float32),
        np.array([len(given[place]) for place in good], dtype=np.intp),
    )
    keywords = [
        LearnedKeyword(
            wanted[place].path,
            len(given[place]),
            round(verdicts[place].average_precision, _DECIMALS),
            round(verdicts[place].low, _DECIMALS),
            round(verdicts[place].high, _DECIMALS),
            round(float(1 / (1 + np.exp(-cut))), 2 * _DECIMALS),
        )
        for place, cut in zip(good, cuts, strict=True)
    ]
    by_chance = [
        Refused(
            wanted[place].path,
            len(given[place]),
            f"its average precision of {verdict.average_precision:.2f} (95 % interval {verdict.low:.2f} to "
            f"{verdict.high:.2f}) on other events is not above chance ({verdict.by_chance:.2f})",
        )
        for place, verdict in enumerate(verdicts)
        if not verdict.is_learned
    ]
    chosen = Heads(heads.weights[good], heads.biases[good])
    learned = _kept(encoder, keywords, chosen, [wanted[place] for place in good], vectors)
    return Lesson(
        learned, tuple(sorted((*refused, *by_chance), key=lambda one: (-one.photographs, one.path)))
    )


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


def _no_heads(vectors: Floats) -> Heads:
    return Heads(np.zeros((0, vectors.shape[1]), dtype=np.float32), np.zeros(0, dtype=np.float32))


def _kept(
    encoder: ImageTextEncoder,
    keywords: Sequence[LearnedKeyword],
    heads: Heads,
    taught: Sequence[Taught],
    vectors: Floats,
) -> LearnedKeywords:
    declined = [(middle, number) for number, one in enumerate(taught) for middle in _middles(one, vectors)]
    return LearnedKeywords(
        encoder=encoder.id,
        photographs=len(vectors),
        keywords=tuple(keywords),
        weights=heads.weights,
        biases=heads.biases,
        declined_vectors=np.array([middle for middle, _ in declined], dtype=np.float32).reshape(
            len(declined), vectors.shape[1]
        ),
        declined_keywords=np.array([number for _, number in declined], dtype=np.int64),
        learned=date.today().isoformat(),
        version=version(DISTRIBUTION),
    )


def _middles(one: Taught, vectors: Floats) -> Iterator[Floats]:
    """Yield the middle of each cluster of similar photographs from which the keyword was removed twice.

    Near copies count as one photograph. A cluster to whose middle a photograph with the keyword is similar,
    too, is left out.
    """
    from scipy.sparse.csgraph import connected_components

    if len(one.removed) < 2:
        return
    rows = vectors[list(one.removed)]
    rows = rows[np.unique(near_copies(rows), return_index=True)[1]]
    count, cluster = connected_components(rows @ rows.T >= NEAR_DECLINED, directed=False)
    for number in range(count):
        members = rows[cluster == number]
        if len(members) < 2:
            continue
        middle = members.mean(axis=0)
        middle /= np.linalg.norm(middle)
        if not (vectors[list(one.given)] @ middle >= NEAR_DECLINED).any():
            yield middle
