"""Tag the photographs of an Immich server, and undo it.

Tags are written as ``auto/<tag>``, photograph by photograph. Only tags that a photograph has not are given,
so that ``undo`` takes exactly what was added and a person's tags are neither changed nor removed.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from autotag.errors import PhotoServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from autotag.photo_servers.immich_client import ImmichClient, Photo, ServerTag
    from autotag.photo_servers.immich_state import ImmichState
    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result

PARENT = "auto"
"""What all tags that autotag writes belong to."""

_DOWNLOADS = 4
_AHEAD = 16
_MISSING = frozenset({400, 404})


class Listener(Protocol):
    """Hears how a run goes."""

    def tagged(self, photo: Photo, values: Sequence[str]) -> None:
        """Hear which tags a photograph gets, or would get; those it has already are left out."""

    def failed(self, photo: Photo, reason: str) -> None:
        """Hear that a photograph gets none; the next run tries again."""


@dataclass(slots=True)
class ImmichSummary:
    """What a run did.

    Attributes:
        photos: that were to be tagged.
        done_before: photographs that an earlier run had tagged.
        failed: photographs that got no tags; the next run tries again.
        tags: given to photographs, each counted.
    """

    photos: int = 0
    done_before: int = 0
    failed: int = 0
    tags: int = 0


@dataclass(slots=True)
class UndoSummary:
    """What an undo did.

    Attributes:
        removed: tags taken from photographs, each counted.
        gone: tags that were not there any more.
        errors: what the server refused, as sentences; the next undo tries again.
    """

    removed: int = 0
    gone: int = 0
    errors: list[str] = field(default_factory=list)


def tag_photos(
    client: ImmichClient,
    pipeline: Pipeline,
    state: ImmichState,
    photos: Iterable[Photo],
    *,
    listener: Listener,
    dry_run: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> ImmichSummary:
    """Give every photograph that is not done its tags.

    Args:
        client: asks the server.
        pipeline: tags.
        state: remembers; unchanged in a dry run.
        photos: to be tagged.
        listener: hears how it goes.
        dry_run: find the tags and write none.
        stop: asked before each photograph; True ends the run.

    Raises:
        PhotoServerError: the server fails or refuses the run as a whole. What was written is recorded.
        StageBrokenError: a stage fails on every photograph.
    """
    if not dry_run:
        _look_up_planned(client, state)
    run = _Run(client, state, listener, dry_run)
    due = run.due(photos)
    waiting: deque[Photo] = deque()

    def previews() -> Iterator[bytes]:
        """Yield the previews that the server has; each photograph then waits for its result."""
        for photo, content in _fetched(client, due):
            if stop():
                return
            if isinstance(content, PhotoServerError):
                run.fail(photo, f"no preview: {content.reason}")
                continue
            waiting.append(photo)
            yield content

    for result in pipeline.stream(previews(), on_error="record"):
        run.write(waiting.popleft(), result)
        if stop():
            break
    return run.summary


def undo(client: ImmichClient, state: ImmichState, *, dry_run: bool = False) -> UndoSummary:
    """Take every tag that autotag gave from the photograph that it gave it to.

    The tags themselves stay; Immich deletes those without photographs in its nightly clean-up.

    Args:
        client: asks the server.
        state: says what to take; afterwards holds what could not be taken.
        dry_run: count, and take nothing.

    Raises:
        PhotoServerError: the server fails or refuses. What was taken is recorded.
    """
    summary = UndoSummary()
    known = {tag.id: tag.value for tag in client.tags()}
    for tag, assets in state.given().items():
        if tag not in known:
            reasons = dict.fromkeys(assets, "not_found")
        elif dry_run:
            reasons = dict.fromkeys(assets, "")
        else:
            reasons = client.untag_assets(tag, assets)
        done = [asset for asset, reason in reasons.items() if reason in {"", "not_found"}]
        summary.removed += sum(not reason for reason in reasons.values())
        summary.gone += sum(reason == "not_found" for reason in reasons.values())
        summary.errors += [
            f"{known[tag]}: photograph {asset}: {reason}"
            for asset, reason in reasons.items()
            if asset not in done
        ]
        if not dry_run:
            state.forget(tag, done)
    if not dry_run:
        state.forget_photos()
    return summary


def _look_up_planned(client: ImmichClient, state: ImmichState) -> None:
    """Settle what a run that was killed may or may not have written."""
    for asset, tags in state.planned().items():
        there = {tag.id for tag in _tags_of(client, asset) or ()}
        for tag in tags - there:
            state.forget(tag, [asset])
        if tags & there:
            state.finish(asset)


def _tags_of(client: ImmichClient, asset: str) -> list[ServerTag] | None:
    """Return the tags of a photograph; None if it was deleted."""
    try:
        return client.tags_of(asset)
    except PhotoServerError as error:
        if error.status in _MISSING:
            return None
        raise


class _Run:
    """One run: what is due, and what becomes of each photograph."""

    def __init__(self, client: ImmichClient, state: ImmichState, listener: Listener, dry_run: bool) -> None:
        self.summary = ImmichSummary()
        self._client, self._state, self._listener, self._dry_run = client, state, listener, dry_run
        self._tags: dict[str, str] = {}  # value -> id

    def due(self, photos: Iterable[Photo]) -> list[Photo]:
        """Return the photographs that no run has done."""
        given = list(photos)
        due = [photo for photo in given if not self._state.is_done(photo.id)]
        self.summary.photos, self.summary.done_before = len(due), len(given) - len(due)
        return due

    def fail(self, photo: Photo, reason: str) -> None:
        self.summary.failed += 1
        self._listener.failed(photo, reason)

    def write(self, photo: Photo, result: Result) -> None:
        """Give a photograph the tags of its result that it has not."""
        if result.error is not None:
            self.fail(photo, result.error)
            return
        there = _tags_of(self._client, photo.id)
        if there is None:
            self.fail(photo, "it was deleted meanwhile")
            return
        has = {tag.value for tag in there}
        values = [value for value in values_of(result) if value not in has]
        if not self._dry_run and not self._give(photo, values):
            self.fail(photo, "the server does not let this user tag it")
            return
        self.summary.tags += len(values)
        self._listener.tagged(photo, values)

    def _give(self, photo: Photo, values: Sequence[str]) -> bool:
        """Return whether the photograph now has these tags; what it has got is recorded."""
        if values:
            tags = self._ids(values)
            self._state.plan(photo.id, tags)
            self._client.tag_assets(photo.id, tags)
            got = {tag.id for tag in _tags_of(self._client, photo.id) or ()}
            for tag in set(tags) - got:
                self._state.forget(tag, [photo.id])
            if not got.issuperset(tags):
                return False
        self._state.finish(photo.id)
        return True

    def _ids(self, values: Sequence[str]) -> list[str]:
        new = [value for value in values if value not in self._tags]
        if new:
            self._tags |= {tag.value: tag.id for tag in self._client.upsert_tags(new)}
        return [self._tags[value] for value in values]


def values_of(result: Result) -> list[str]:
    """Return the tags of a result as Immich writes them, best first, each once: ``"auto/dog"``.

    A slash in a tag would make a level of its own and becomes a space.
    """
    words = (" ".join(tag.text.replace("/", " ").split()) for tag in result.tags)
    return list(dict.fromkeys(f"{PARENT}/{word}" for word in words if word))


def _fetched(
    client: ImmichClient, photos: Sequence[Photo]
) -> Iterator[tuple[Photo, bytes | PhotoServerError]]:
    """Yield each photograph with its preview, or why it has none; a few are fetched ahead.

    Raises:
        PhotoServerError: the server fails or refuses, and not only for one photograph.
    """
    ahead: deque[tuple[Photo, Future[bytes]]] = deque()
    with ThreadPoolExecutor(_DOWNLOADS, "autotag-immich") as threads:
        try:
            for photo in photos:
                ahead.append((photo, threads.submit(client.preview, photo)))
                if len(ahead) >= _AHEAD:
                    yield _outcome(*ahead.popleft())
            while ahead:
                yield _outcome(*ahead.popleft())
        finally:
            threads.shutdown(cancel_futures=True)


def _outcome(photo: Photo, preview: Future[bytes]) -> tuple[Photo, bytes | PhotoServerError]:
    try:
        return photo, preview.result()
    except PhotoServerError as error:
        if error.status in _MISSING:
            return photo, error
        raise
