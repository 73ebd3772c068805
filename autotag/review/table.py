"""The tags of an album in columns, so that 100,000 photographs are filtered and counted in milliseconds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from autotag.relevance.learned_keywords import NEAR_CUT
from autotag.review.decisions import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from autotag.albums.plan import PlannedPhoto
    from autotag.records import Tag
    from autotag.review.decisions import Decision, Order, Where

    Mask = NDArray[np.bool_]
    Rows = NDArray[np.int64]

STATES: tuple[State, ...] = get_args(State)
_UNDECIDED, _CONFIRMED, _REJECTED = range(3)
_NEW_STATE = {"confirm": _CONFIRMED, "reject": _REJECTED, "reset": _UNDECIDED}
_STEPS = 100  # of the score slider


@dataclass(frozen=True, slots=True)
class TagOfPhoto:
    """A tag of a photograph, as it stands.

    Attributes:
        place: of the tag in the photograph's line of the plan, from 0; None for one that a person added.
        text: as it is spelt now.
        was: as the plan spells it.
        score: from the plan; 1 for one that a person added.
        state: what was decided.
        is_near_cut: whether the plan says that the tag only just reached its threshold.
        is_given: whether a person added it, also where the plan has it already.
    """

    place: int | None
    text: str
    was: str
    score: float
    state: State
    is_near_cut: bool = False
    is_given: bool = False


@dataclass(frozen=True, slots=True)
class TagCount:
    """How many photographs have a tag, by what was decided about it."""

    tag: str
    undecided: int
    confirmed: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Cuts:
    """What is left of tags and photographs at each cut of the scores.

    Attributes:
        scores: the cuts, ascending.
        tags: how many tags have at least that score.
        photographs: how many photographs have such a tag.
    """

    scores: list[float]
    tags: list[int]
    photographs: list[int]


@dataclass(frozen=True, slots=True)
class Edit:
    """What a decision changes, and what is needed to take it back.

    Attributes:
        rows: of the columns.
        word: the new words of these rows.
        state: their new states.
        merged: whether each disappears, because the photograph has the word already.
        given: whether a person added each.
        photos: the photographs that it touches, ascending.
        added: how many rows at the end are new.
    """

    rows: Rows
    word: NDArray[np.int32]
    state: NDArray[np.int8]
    merged: Mask
    given: Mask
    photos: Rows
    added: int = 0


class ReviewTable:
    """Hold photographs and tags, and what was decided about them.

    Args:
        photos: the lines of a plan.

    Attributes:
        files: of each photograph, relative to the album.
        ids: of each photograph: a digest of its file's name, the same in every review.
        captions: of each photograph.
        folders: every folder that holds photographs, in order.
    """

    def __init__(self, photos: Sequence[PlannedPhoto]) -> None:
        self.files = [photo.file for photo in photos]
        self.ids = [_id_of(file) for file in self.files]
        self.captions = [photo.result.caption for photo in photos]
        self._index = {key: number for number, key in enumerate(self.ids)}
        folders = [file.rpartition("/")[0] for file in self.files]
        self.folders = sorted(set(folders))
        places = {folder: number for number, folder in enumerate(self.folders)}
        self._folder = np.array([places[folder] for folder in folders], np.int32)
        self._haystacks = [
            f"{file}\n{caption}".casefold() for file, caption in zip(self.files, self.captions, strict=True)
        ]
        self._near_cut = {
            number: frozenset(photo.result.extras[NEAR_CUT])
            for number, photo in enumerate(photos)
            if NEAR_CUT in photo.result.extras
        }
        self._words: list[str] = []
        self._word_ids: dict[str, int] = {}
        self._columns([photo.result.tags for photo in photos])

    def _columns(self, tags: Sequence[Sequence[Tag]]) -> None:
        lengths = np.array([len(several) for several in tags], np.int64)
        self._first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = [tag for several in tags for tag in several]
        self._photo = np.repeat(np.arange(len(tags), dtype=np.int64), lengths)
        self._word = np.array([self._word_id(tag.text) for tag in flat], np.int32)
        self._score = np.array([tag.score for tag in flat], np.float32)
        self._state = np.zeros(len(flat), np.int8)
        self._merged = np.zeros(len(flat), np.bool_)
        self._given = np.zeros(len(flat), np.bool_)
        self._was = self._word.copy()
        self._added: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self.files)

    def index(self, key: str) -> int:
        """Return the place of a photograph.

        Raises:
            KeyError: no photograph has this id.
        """
        return self._index[key]

    def tags(self, photo: int) -> list[TagOfPhoto]:
        """Return a photograph's tags, those of the plan first."""
        first, last = int(self._first[photo]), int(self._first[photo + 1])
        rows = [*range(first, last), *self._added.get(photo, ())]
        doubtful = self._near_cut.get(photo, frozenset())
        return [
            TagOfPhoto(
                row - first if row < last else None,
                self._words[self._word[row]],
                self._words[self._was[row]],
                round(float(self._score[row]), 4),
                STATES[self._state[row]],
                row < last and self._words[self._was[row]] in doubtful,
                bool(self._given[row]),
            )
            for row in rows
            if not self._merged[row]
        ]

    def words(self) -> dict[str, int]:
        """Return every tag that is not rejected, with the number of its photographs."""
        counts = np.bincount(
            self._word[~self._merged & (self._state != _REJECTED)], minlength=len(self._words)
        )
        return {word: int(count) for word, count in zip(self._words, counts, strict=True) if count}

    def found(self, where: Where, order: Order = "album") -> Rows:
        """Return the photographs that fit, in order.

        Args:
            where: what fits.
            order: ``"best"`` puts the highest score of a fitting tag first, ``"worst"`` the lowest score
                of a fitting tag; ties stay in the album's order.
        """
        photos = self._fitting_photos(where)
        if order == "album" and not where.is_about_tags:
            return np.flatnonzero(photos)
        rows = np.flatnonzero(self._fitting_tags(where, photos))
        if where.is_about_tags:
            photos = np.zeros(len(self), np.bool_)
            photos[self._photo[rows]] = True
        found = np.flatnonzero(photos)
        if order == "album":
            return found
        keys = np.full(len(self), np.inf, np.float32)  # photographs without a fitting tag come last
        score = self._score[rows] if order == "worst" else -self._score[rows]
        np.minimum.at(keys, self._photo[rows], score)
        return found[np.argsort(keys[found], kind="stable")]

    def counts(self, where: Where) -> list[TagCount]:
        """Return the tags of the photographs that fit, the most frequent first."""
        rows = self._fitting_tags(where, self._fitting_photos(where))
        numbers = np.stack(
            [
                np.bincount(self._word[rows & (self._state == state)], minlength=len(self._words))
                for state in range(3)
            ]
        )
        total = numbers.sum(axis=0)
        order = np.argsort(-total, kind="stable")[: np.count_nonzero(total)]
        return [TagCount(self._words[word], *map(int, numbers[:, word])) for word in order]

    def states(self) -> dict[State, int]:
        """Return how many tags there are in each state."""
        numbers = np.bincount(self._state[~self._merged], minlength=3)
        return dict(zip(STATES, map(int, numbers), strict=True))

    def folder_counts(self) -> list[tuple[str, int]]:
        """Return each folder with the number of photographs in it, not counting folders inside it."""
        numbers = np.bincount(self._folder, minlength=len(self.folders))
        return list(zip(self.folders, map(int, numbers), strict=True))

    def cuts(self, where: Where) -> Cuts:
        """Return what is left of the fitting tags and photographs at each cut of the scores."""
        rows = np.flatnonzero(self._fitting_tags(where, self._fitting_photos(where)))
        if len(rows) == 0:
            return Cuts([], [], [])
        scores = self._score[rows]
        best = np.full(len(self), -np.inf, np.float32)
        np.maximum.at(best, self._photo[rows], scores)
        cuts = _even_steps(float(self._score.min()), float(self._score.max()))

        def left(values: NDArray[np.float32]) -> list[int]:
            return [
                int(one) for one in len(values) - np.searchsorted(np.sort(values), cuts.astype(np.float32))
            ]

        return Cuts([float(cut) for cut in cuts], left(scores), left(best[np.isfinite(best)]))

    def edit(self, decision: Decision) -> Edit:
        """Return what a decision would change; nothing changes yet.

        Raises:
            KeyError: no photograph has one of its ids.
        """
        photos = self._fitting_photos(decision.where)
        if decision.photos is not None:
            chosen = np.zeros(len(self), np.bool_)
            chosen[[self._index[key] for key in decision.photos]] = True
            photos &= chosen
        if decision.action == "add":
            return self._addition(str(decision.tag), photos)
        fitting = self._fitting_tags(decision.where, photos)
        if decision.tag is not None:
            fitting &= self._word == self._word_ids.get(decision.tag, -1)
        if decision.action == "rename":
            return self._renaming(np.flatnonzero(fitting), str(decision.to))
        new = _NEW_STATE[decision.action]
        rows = np.flatnonzero(fitting & (self._state != new))
        state = np.full(len(rows), new, np.int8)
        given = self._given[rows] & (new != _UNDECIDED)
        return Edit(rows, self._word[rows], state, self._merged[rows], given, np.unique(self._photo[rows]))

    def apply(self, edit: Edit) -> Edit:
        """Make a change; return the one that takes it back."""
        if edit.added:
            self._append(edit.photos[-edit.added :], int(edit.word[-1]))
        rows = edit.rows
        before = (self._word[rows], self._state[rows], self._merged[rows], self._given[rows])
        back = Edit(rows, *before, edit.photos)
        self._word[rows], self._state[rows], self._merged[rows] = edit.word, edit.state, edit.merged
        self._given[rows] = edit.given
        return back

    def _append(self, photos: Rows, word: int) -> None:
        """Add a row for each photograph, hidden until the change that made it says what it is."""
        for row, photo in enumerate(photos, len(self._word)):
            self._added.setdefault(int(photo), []).append(row)
        words = np.full(len(photos), word, np.int32)
        self._photo = np.concatenate([self._photo, photos])
        self._word = np.concatenate([self._word, words])
        self._was = np.concatenate([self._was, words])
        self._score = np.concatenate([self._score, np.ones(len(photos), np.float32)])
        self._state = np.concatenate([self._state, np.zeros(len(photos), np.int8)])
        self._merged = np.concatenate([self._merged, np.ones(len(photos), np.bool_)])
        self._given = np.concatenate([self._given, np.zeros(len(photos), np.bool_)])

    def _renaming(self, rows: Rows, to: str) -> Edit:
        """Give tags another word; where a photograph has that already, the better one of the two stays."""
        word = self._word_id(to)
        has = np.full(len(self), -1, np.int64)
        there = np.flatnonzero(~self._merged & (self._word == word))
        has[self._photo[there]] = there
        other = has[self._photo[rows]]
        other = np.where(other == rows, -1, other)
        state, merged = self._state[rows].copy(), self._merged[rows].copy()
        merged |= other >= 0
        twins = other[other >= 0]
        # A word that somebody rejected here was another word: what is decided about the new one counts.
        kept = np.where(self._state[twins] == _UNDECIDED, state[other >= 0], self._state[twins]).astype(
            np.int8
        )
        return Edit(
            np.concatenate([rows, twins]),
            np.concatenate([np.full(len(rows), word, np.int32), self._word[twins]]),
            np.concatenate([state, kept]),
            np.concatenate([merged, self._merged[twins]]),
            np.concatenate([self._given[rows], np.ones(len(twins), np.bool_)]),
            np.unique(self._photo[rows]),
        )

    def _addition(self, tag: str, photos: Mask) -> Edit:
        """Confirm a tag where it is, and add it where it is not."""
        word = self._word_id(tag)
        there = np.flatnonzero(~self._merged & (self._word == word) & photos[self._photo])
        without = photos.copy()
        without[self._photo[there]] = False
        new = np.flatnonzero(without)
        rows = np.concatenate([there, len(self._word) + np.arange(len(new))]).astype(np.int64)
        return Edit(
            rows,
            np.full(len(rows), word, np.int32),
            np.full(len(rows), _CONFIRMED, np.int8),
            np.zeros(len(rows), np.bool_),
            np.ones(len(rows), np.bool_),
            np.concatenate([self._photo[there], new]),
            added=len(new),
        )

    def _word_id(self, word: str) -> int:
        number = self._word_ids.setdefault(word, len(self._words))
        if number == len(self._words):
            self._words.append(word)
        return number

    def _fitting_photos(self, where: Where) -> Mask:
        fit = np.ones(len(self), np.bool_)
        if where.folder is not None:
            inside = f"{where.folder}/"
            chosen = [
                folder == where.folder or not where.folder or folder.startswith(inside)
                for folder in self.folders
            ]
            fit &= np.array(chosen, np.bool_)[self._folder]
        if where.text:
            part = where.text.casefold()
            fit_text = np.fromiter((part in text for text in self._haystacks), np.bool_, len(self))
            words = [number for number, word in enumerate(self._words) if part in word.casefold()]
            rows = ~self._merged & np.isin(self._word, words)
            fit_text[self._photo[rows]] = True
            fit &= fit_text
        return fit

    def _fitting_tags(self, where: Where, photos: Mask) -> Mask:
        fit: Mask = ~self._merged & photos[self._photo]
        if where.tag is not None:
            fit &= self._word == self._word_ids.get(where.tag, -1)
        if where.state is not None:
            fit &= self._state == STATES.index(where.state)
        if where.min_score is not None:
            fit &= self._score >= np.float32(where.min_score)
        if where.max_score is not None:
            fit &= self._score < np.float32(where.max_score)
        return fit


def _even_steps(low: float, high: float) -> NDArray[np.float64]:
    """Return at most 101 cuts of round numbers; the first is not above the lowest score."""
    rough = max((high - low) / _STEPS, 1e-4)
    size = 10.0 ** np.floor(np.log10(rough))
    step = size * next(factor for factor in (1, 2, 5, 10) if size * factor >= rough * (1 - 1e-9))
    cuts: NDArray[np.float64] = np.round(np.arange(np.floor(low / step + 1e-9), high / step + 1e-9) * step, 6)
    return cuts


def _id_of(file: str) -> str:
    return hashlib.sha256(file.encode("utf-8", "surrogateescape")).hexdigest()[:16]
