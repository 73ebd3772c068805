"""A review at work: the plan, the table of its tags, and every decision so far."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import threading
from collections import OrderedDict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from autotag.albums.plan_reader import read_plan
from autotag.errors import ConfigError, FileChangedError, RequestRefusedError
from autotag.files.file_states import state_of
from autotag.files.hidden_files import numbered
from autotag.files.replacing import PartFile
from autotag.review.decisions import Decision, DecisionFile
from autotag.review.photographs import Photographs
from autotag.review.table import ReviewTable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from autotag.review.decisions import Order, Where
    from autotag.review.table import Edit, TagOfPhoto

Undecided = Literal["write", "leave out"]
_VIEWS = 16
_MOST_NAMED = 2000  # photographs of a change; of more, it is said that everything may have changed


@dataclass(frozen=True, slots=True)
class Step:
    """A revision of the review.

    Attributes:
        decision: what was decided; None for an undo, which ``undone`` names.
        undone: the revision that was taken back.
        back: takes it back.
    """

    decision: Decision | None
    undone: int | None
    back: Edit


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision did.

    Attributes:
        revision: of the review now.
        tags: how many tags changed.
        photos: ids of the photographs with a change since the revision that the asker knew; None when they
            are more than 2,000.
        words: the decision in words.
    """

    revision: int
    tags: int
    photos: list[str] | None
    words: str


@dataclass(frozen=True, slots=True)
class View:
    """The photographs that fitted a selection when it was asked for, in order.

    Attributes:
        key: names it.
        photos: their places in the table.
    """

    key: str
    photos: NDArray[np.int64]


class Review:
    """Hold one plan under review. Thread-safe; one process at a time reviews a plan.

    Args:
        plan: the file that ``tag_folder(plan_file=...)`` wrote.
        decisions: the file to keep decisions in.
        is_of_album: whether the plan was made from the state of an album (``plan_of_album``), whose tags are
            written already: then the edited plan holds only photographs whose tags were changed, and takes
            the place of the last one.

    Attributes:
        album: the album's folder.
        key: names the plan: 16 hexadecimal digits of its path and content. A review of the same plan that
            begins again has the same key.
        table: the photographs and their tags.
        photographs: their files.

    Raises:
        ConfigError: the plan or the decisions cannot be read, or another review of them is open.
    """

    def __init__(self, plan: Path, decisions: Path, *, is_of_album: bool = False) -> None:
        self.plan, self.is_of_album = plan, is_of_album
        self._state = state_of(plan)
        with _without_collector():
            checked = read_plan(plan)
            self.album = checked.album
            self.table = ReviewTable(checked.photos)
            self.photographs = Photographs(checked.album, list(checked.photos))
            self._numbers = [photo.number for photo in checked.photos]
            del checked
        self.key = _key_of(plan)
        self._lock = threading.RLock()
        self._views: OrderedDict[str, View] = OrderedDict()
        self._next_view = 0
        self._steps: list[Step] = []
        self._applied = 0  # revision
        try:
            self._file = DecisionFile(decisions)
        except OSError as error:
            raise ConfigError(f"cannot keep decisions in {str(decisions)!r}: {error.strerror}.") from error
        try:
            self._applied = max((_applied_in(row) for row in self._file.rows), default=0)
            for number, row in enumerate(self._file.rows, 2):
                self._replay(number, row)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Let go of the file of decisions."""
        self._file.close()

    @property
    def revision(self) -> int:
        """How many decisions and undos there were."""
        return len(self._steps)

    def decide(self, decision: Decision, revision: int) -> Outcome:
        """Make a decision, and keep it.

        Args:
            decision: what is decided.
            revision: the last one that the person had seen.

        Raises:
            RequestRefusedError: a photograph is not known (``"not_found"``), or was changed since that
                revision (``"conflict"``): look again.
            OSError: the decision cannot be kept, and is not made.
        """
        with self._lock:
            self._check_revision(revision)
            edit = self._edit(decision)
            if len(edit.rows):
                self._check_conflict(edit, revision)
                self._file.append({"decision": decision.to_dict()})
                self._steps.append(Step(decision, None, self.table.apply(edit)))
            return self._outcome(len(edit.rows), revision, decision.describe())

    def undo(self, revision: int) -> Outcome:
        """Take the last decision back that still stands.

        Raises:
            RequestRefusedError: there is none (``"not_found"``), or somebody decided something since that
                revision (``"conflict"``).
            OSError: the undo cannot be kept, and is not made.
        """
        with self._lock:
            self._check_revision(revision)
            number = self.last_standing()
            if number is None:
                raise RequestRefusedError("not_found", "there is nothing to undo.")
            if revision != self.revision:
                raise RequestRefusedError(
                    "conflict", "something was decided in another window meanwhile; look again, then undo."
                )
            self._file.append({"undo": number})
            return self._undo(number, revision)

    def last_standing(self) -> int | None:
        """Return the revision that an undo would take back."""
        with self._lock:
            undone = {step.undone for step in self._steps}
            standing = (
                number
                for number, step in reversed(list(enumerate(self._steps, 1)))
                if step.decision is not None and number not in undone and not self._is_over(number)
            )
            return next(standing, None)

    def mark_applied(self, revision: int) -> None:
        """Note that all decisions up to a revision were carried out.

        Raises:
            OSError: it cannot be kept.
        """
        with self._lock:
            self._file.append({"applied": revision})
            self._applied = max(self._applied, revision)

    def _is_over(self, number: int) -> bool:
        """Return whether a decision about an album was carried out, so that its files have it now."""
        return self.is_of_album and number <= self._applied

    def words_of(self, number: int) -> str:
        """Return the decision of a revision in words."""
        decision = self._steps[number - 1].decision
        return "" if decision is None else decision.describe()

    def changed_since(self, revision: int) -> list[str] | None:
        """Return the ids of photographs with a change since a revision; None when they are more than 2,000.

        Raises:
            RequestRefusedError: the review has not come to that revision (``"wrong_option"``).
        """
        with self._lock:
            self._check_revision(revision)
            photos = self._touched_since(revision)
            return None if len(photos) > _MOST_NAMED else [self.table.ids[photo] for photo in photos]

    def view(self, where: Where, order: Order) -> View:
        """Return the photographs that fit now; the last sixteen views can be asked for again."""
        with self._lock:
            self._next_view += 1
            view = View(f"{self._next_view:x}", self.table.found(where, order))
            self._views[view.key] = view
            while len(self._views) > _VIEWS:
                self._views.popitem(last=False)
            return view

    def known_view(self, key: str) -> View:
        """Return a view that was made before.

        Raises:
            RequestRefusedError: it is not kept any more (``"gone"``).
        """
        with self._lock:
            if key not in self._views:
                raise RequestRefusedError("gone", "this list is not kept any more; ask for it again.")
            self._views.move_to_end(key)
            return self._views[key]

    @contextmanager
    def reading(self) -> Iterator[ReviewTable]:
        """Hold the table still while it is read."""
        with self._lock:
            yield self.table

    def write_edited_plan(self, undecided: Undecided) -> tuple[Path, int]:
        """Write the plan with what was decided beside it; return its path and how many photographs it has.

        Args:
            undecided: what becomes of tags that nobody decided about.

        Raises:
            ConfigError: the plan itself was changed since the review began.
            OSError: it cannot be written.
        """
        with self._lock:
            if state_of(self.plan) != self._state:
                raise ConfigError(
                    f"the plan {str(self.plan)!r} was changed since the review began; start the review again."
                )
            target = self.plan.with_name(f"{self.plan.stem}.reviewed{self.plan.suffix or '.jsonl'}")
            with PartFile(target.resolve()) as part:
                with part.stream(binary=False, errors="surrogateescape") as stream:
                    count = 0
                    for row in self._edited_rows(undecided):
                        stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                        count += 1
                    stream.flush()
                    part.sync()
                if not self.is_of_album:
                    return _place(part, target), count - 1
                part.replace()
                return target, count - 1

    def _edited_rows(self, undecided: Undecided) -> Iterator[dict[str, Any]]:
        """Yield the rows of the edited plan, the heading first."""
        photos = {number: photo for photo, number in enumerate(self._numbers)}
        with self.plan.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape"))
                if number not in photos:
                    yield row
                    continue
                tags = self._edited_tags(row["tags"], self.table.tags(photos[number]), undecided)
                edited = row | {"tags": tags}
                if "was" in row:
                    left = _left_out(self.table.tags(photos[number]), undecided)
                    edited["was"] = [text for text in row["was"] if text not in left]
                if edited != row or not self.is_of_album:
                    yield edited

    def _edited_tags(self, planned: list[Any], tags: list[TagOfPhoto], undecided: Undecided) -> list[Any]:
        written = ("confirmed", "undecided") if undecided == "write" else ("confirmed",)
        found: list[Any] = []
        for tag in tags:
            if tag.state not in written:
                continue
            item = tag.text if tag.place is None else planned[tag.place]
            found.append(item if tag.text == tag.was or tag.place is None else _renamed(item, tag.text))
        return found

    def _replay(self, number: int, row: dict[str, Any]) -> None:
        """Make a decision of an earlier session again."""
        where = f"{self._file.path}, line {number}"
        if _applied_in(row):
            return
        undone = row.get("undo")
        if isinstance(undone, int) and undone == self.last_standing():
            self._undo(undone, self.revision)
            return
        try:
            decision = Decision.from_dict(row["decision"])
        except (ConfigError, KeyError) as error:
            raise ConfigError(f"{where}: it is neither a decision nor an undo: {error}") from error
        known = decision.photos and tuple(key for key in decision.photos if self._is_known(key))
        if decision.photos is not None:  # a plan that was made again may have lost some
            decision = Decision(decision.action, decision.tag, decision.to, known or (), decision.where)
        if decision.action == "add" and self._is_over(len(self._steps) + 1):
            decision = replace(decision, photos=())  # who deleted the keyword since does not want it again
        self._steps.append(Step(decision, None, self.table.apply(self.table.edit(decision))))

    def _is_known(self, key: str) -> bool:
        try:
            self.table.index(key)
        except KeyError:
            return False
        return True

    def _undo(self, number: int, revision: int) -> Outcome:
        step = self._steps[number - 1]
        self._steps.append(Step(None, number, self.table.apply(step.back)))
        assert step.decision is not None  # noqa: S101 - only decisions stand
        return self._outcome(len(step.back.rows), revision, f"took back: {step.decision.describe()}")

    def _edit(self, decision: Decision) -> Edit:
        try:
            return self.table.edit(decision)
        except KeyError as error:
            raise RequestRefusedError("not_found", f"no photograph has the id {error}.") from error

    def _check_revision(self, revision: int) -> None:
        if not 0 <= revision <= self.revision:
            raise RequestRefusedError(
                "wrong_option", f"the revision is {revision}, and the review is at {self.revision}."
            )

    def _check_conflict(self, edit: Edit, revision: int) -> None:
        if len(np.intersect1d(edit.photos, self._touched_since(revision))):
            raise RequestRefusedError(
                "conflict", "these photographs were decided about in another window meanwhile; look again."
            )

    def _touched_since(self, revision: int) -> NDArray[np.int64]:
        touched = [step.back.photos for step in islice(self._steps, revision, None)]
        return np.unique(np.concatenate(touched)) if touched else np.zeros(0, np.int64)

    def _outcome(self, tags: int, revision: int, words: str) -> Outcome:
        return Outcome(self.revision, tags, self.changed_since(revision), words)


def _key_of(plan: Path) -> str:
    with plan.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").digest()
    return hashlib.sha256(content + os.fsencode(plan.resolve())).hexdigest()[:16]


def _applied_in(row: dict[str, Any]) -> int:
    """Return the revision that a line of the decisions says was applied; 0 in other lines."""
    revision = row.get("applied")
    return revision if isinstance(revision, int) else 0


def _left_out(tags: list[TagOfPhoto], undecided: Undecided) -> set[str]:
    """Return the texts of tags that do not count as the plan's.

    A tag that a person gave is theirs. About a tag that is left out and not rejected, nobody decided.
    """
    planned = [tag for tag in tags if tag.text == tag.was]
    given = {tag.text for tag in planned if tag.is_given and tag.state != "rejected"}
    if undecided == "write":
        return given
    return given | {tag.text for tag in planned if tag.state == "undecided"}


def _renamed(item: Any, text: str) -> dict[str, Any]:
    """Return a tag of a plan under a new name, at its old place in the hierarchy."""
    row = {"text": item} if isinstance(item, str) else dict(item)
    if "path" in row:
        row["path"] = f"{row['path'].rpartition('|')[0]}|{text}".lstrip("|")
    return row | {"text": text}


def _place(part: PartFile, target: Path) -> Path:
    """Move a file to its name, or to a numbered one where that is taken; return the name."""
    for path in chain([target], numbered(target)):
        with suppress(FileChangedError):
            part.place(None, path)
            return path
    raise AssertionError  # numbers do not end


@contextmanager
def _without_collector() -> Iterator[None]:
    """Read many small objects without the collector, which would look at all of them again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
