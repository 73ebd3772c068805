"""Brings an index up to date with folders: what is new, changed, moved, gone or out of reach."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from autotag.errors import ConfigError, ImageReadError
from autotag.images.reading import is_url
from autotag.metadata import sidecar_stamp
from autotag.relevance.embeddings import EMBEDDING, read_embedding
from autotag.search.incoming import stored_path
from autotag.search.photo_facts import read_facts, stored_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result
    from autotag.search.known import Known, Updatable
    from autotag.search.photo_facts import PhotoFacts

_TOGETHER = 64  # earlier results that are added together


@dataclass(slots=True)
class Plan:
    """The work of a run over some photographs.

    Attributes:
        due: photographs to tag and embed, in the order in which they were found.
        touched: photographs whose metadata or sidecars alone changed: id, path and new facts.
        moved: id, new path and facts of photographs that lie elsewhere now.
        unchanged: how many are as they were.
        gone: ids of photographs that were deleted from folders that are there.
        offline: ids of photographs whose whole folder is not there, or empty.
        back: ids of photographs that were offline and are there.
    """

    due: list[str] = field(default_factory=list)
    touched: list[tuple[int, str, PhotoFacts]] = field(default_factory=list)
    moved: list[tuple[int, str, PhotoFacts]] = field(default_factory=list)
    unchanged: int = 0
    gone: list[int] = field(default_factory=list)
    offline: list[int] = field(default_factory=list)
    back: list[int] = field(default_factory=list)


def make_plan(
    index: Updatable,
    images: Sequence[str],
    roots: Sequence[Path],
    *,
    retry_errors: bool = False,
    just_added: Collection[bytes] = (),
) -> Plan:
    """Return the work that brings the index up to date with the folders. Nothing is written.

    A photograph is taken for unchanged by size and time of change, its own and its sidecars'; where they
    differ, its pixels decide. A new one with the pixels of one that is gone is the same photograph, moved.
    One whose folder vanished from a root that is there is gone if its pixels were indexed elsewhere, too.

    Args:
        index: the index.
        images: what was found, files and URLs.
        roots: the folders, or single paths, that were searched; indexed photographs there or below that were
            not found are gone.
        retry_errors: whether to try those again that failed in a former run.
        just_added: paths that were put into the index a moment ago: a photograph that is not there and has
            the pixels of one of them was moved, so that its old path is gone.
    """
    known = index.known([*images, *map(str, roots)], roots)
    plan = Plan()
    found: set[bytes] = set()
    as_they_were: set[str] = set()  # digests
    new: list[str] = []
    for image in images:
        path = stored_path(image)
        if path in found:
            continue
        found.add(path)
        before = known.get(path)
        if before is None:
            new.append(image)
        elif _is_unchanged(image, before, retry_errors=retry_errors):
            plan.unchanged += 1
            as_they_were.add(before.digest or "")
            if before.offline:
                plan.back.append(before.id)
        else:
            _sort_changed(plan, image, before, retry_errors=retry_errors)
    missing = _missing(known, found, roots)
    _sort_new(plan, new, missing, known)
    moved = {photo for photo, _, _ in plan.moved}
    elsewhere = {known[path].digest for path in just_added if path in known} - {None, ""}
    for path in missing:
        photo, digest = known[path].id, known[path].digest
        if photo not in moved:
            is_gone = digest in elsewhere or _was_deleted(path)
            is_gone = is_gone or (bool(digest) and digest in as_they_were and _lost_its_folder(path, roots))
            (plan.gone if is_gone else plan.offline).append(photo)
    return plan


def carry_out(index: Updatable, plan: Plan, *, prune: bool = False) -> None:
    """Write the changes that need no model: moves, new facts, deletions, folders offline or back.

    Args:
        index: the index.
        plan: made by ``make_plan``.
        prune: whether to forget photographs that are offline, too.

    Raises:
        SearchIndexError: it cannot be written.
    """
    gone = [*plan.gone, *(plan.offline if prune else ())]
    offline = [] if prune else plan.offline
    if not (gone or offline or plan.back or plan.moved or plan.touched):
        return
    index.change(gone=gone, offline=offline, back=plan.back, facts=[*plan.touched, *plan.moved])


def tag_due(
    index: Updatable,
    plan: Plan,
    pipeline: Pipeline,
    *,
    encoder_name: str | None,
    done: Callable[[Result], None] = lambda _result: None,
) -> tuple[int, int]:
    """Tag and embed the due photographs, add them in groups, and return the counts of successes and failures.

    Each file's facts are read before the models see it, so that a file that changes meanwhile is due again.

    Args:
        index: the index.
        plan: made by ``make_plan``.
        pipeline: ends with the stage ``embed_images``.
        encoder_name: by which the encoder can be loaded for queries.
        done: told each result.

    Raises:
        SearchIndexError: the encoder is not the index's, or writing fails.
    """
    facts: dict[str, PhotoFacts] = {}
    counts = [0, 0]

    def images() -> Iterator[str]:
        for image in plan.due:
            if not is_url(image):
                with suppress(ImageReadError):  # the pipeline's result will say why
                    facts[image] = read_facts(Path(image))
            yield image

    def counted(results: Iterable[Result]) -> Iterator[Result]:
        for result in results:
            counts[result.error is not None] += 1
            done(result)
            yield result

    index.add(counted(pipeline.stream(images(), on_error="record")), facts=facts, encoder_name=encoder_name)
    return counts[0], counts[1]


def take_over(
    index: Updatable,
    earlier: Iterable[Result],
    pipeline: Pipeline,
    *,
    encoder_name: str | None,
    done: Callable[[Result], None] = lambda _result: None,
) -> tuple[int, int]:
    """Add results of earlier runs, embed those without a vector, and return counts as ``tag_due`` does.

    Tags and captions stay as they are. Vectors that the results hold are taken over if they are of the
    pipeline's encoder. A photograph that cannot be read now is added without a vector; it is found by its
    words, counts as failed, and is due again.

    Args:
        index: the index.
        earlier: the results; each source once.
        pipeline: made by ``embedding_only``.
        encoder_name: by which the encoder can be loaded for queries.
        done: told each result that was added; of one that could not be read it gets the error.

    Raises:
        SearchIndexError: the encoder is not the index's, or writing fails.
        ModelError: the encoder cannot be loaded.
    """
    return _TakingOver(index, pipeline, encoder_name, done).run(earlier)


class _TakingOver:
    """Pairs earlier results with their new vectors."""

    def __init__(
        self, index: Updatable, pipeline: Pipeline, encoder_name: str | None, done: Callable[[Result], None]
    ) -> None:
        self._index = index
        self._pipeline = pipeline
        self._encoder_name = encoder_name
        self._done = done
        self._facts: dict[str, PhotoFacts] = {}
        self._waiting: deque[Result] = deque()
        self._whole: list[Result] = []
        self._counts = [0, 0]

    def run(self, earlier: Iterable[Result]) -> tuple[int, int]:
        encoder = _encoder_of(self._pipeline(Image.new("RGB", (64, 64))))
        try:
            self._add(
                self._embedded(self._pipeline.stream(self._without(earlier, encoder), on_error="record"))
            )
        finally:
            self._add_whole()
        return self._counts[0], self._counts[1]

    def _add(self, results: Iterable[Result]) -> None:
        self._index.add(results, facts=self._facts, encoder_name=self._encoder_name)

    def _add_whole(self) -> None:
        whole, self._whole = self._whole, []
        for result in whole:
            self._counts[0] += 1
            self._done(result)
        self._add(whole)

    def _without(self, earlier: Iterable[Result], encoder: str | None) -> Iterator[str]:
        """Yield the photographs that need a vector; the other results are added by the dozen."""
        for result in earlier:
            if not is_url(result.source):
                with suppress(ImageReadError):  # the pipeline's result will say why
                    self._facts[result.source] = read_facts(Path(result.source))
            is_there = is_url(result.source) or result.source in self._facts
            if is_there and _encoder_of(result) == encoder:
                self._whole.append(result)
                if len(self._whole) == _TOGETHER:
                    self._add_whole()
                continue
            self._waiting.append(result)
            yield result.source

    def _embedded(self, found: Iterable[Result]) -> Iterator[Result]:
        for new in found:
            before = self._waiting.popleft()
            self._counts[new.error is not None] += 1
            self._done(new)
            vector = {} if new.error else {EMBEDDING: new.extras[EMBEDDING]}
            extras = {name: value for name, value in before.extras.items() if name != EMBEDDING}
            size = before.size if new.error else new.size
            yield replace(before, size=size, extras={**extras, **vector}, error=None)


def _encoder_of(result: Result) -> str | None:
    """Return the id of the encoder of a result's vector; None without a usable one."""
    try:
        found = read_embedding(result.extras)
    except ValueError:
        return None
    return found[0] if found else None


def embedding_only(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline that only makes vectors, with the encoder and settings of one that does more.

    Raises:
        ConfigError: it makes none.
    """
    check_embeds(pipeline)
    stage = next(stage for stage in pipeline.stages if f"extras.{EMBEDDING}" in stage.provides)
    return replace(pipeline, stages=[copy(stage)], stage_batch_sizes={})


def check_embeds(pipeline: Pipeline) -> None:
    """Refuse a pipeline whose results hold no vectors.

    Raises:
        ConfigError: naming the way out.
    """
    if not any(f"extras.{EMBEDDING}" in stage.provides for stage in pipeline.stages):
        raise ConfigError("the pipeline has no stage embed_images; an index needs the images' vectors.")


def _is_unchanged(image: str, before: Known, *, retry_errors: bool) -> bool:
    if before.error is not None:
        if retry_errors:
            return False
    elif not before.has_vector:
        return False
    if is_url(image):
        return True
    try:
        now = os.stat(image)  # noqa: PTH116 - a Path for each of many is slow
    except OSError:
        return False
    is_same = (now.st_size, stored_time(now.st_mtime_ns)) == (before.bytes, before.mtime_ns)
    return is_same and sidecar_stamp(image) == before.sidecars


def _sort_changed(plan: Plan, image: str, before: Known, *, retry_errors: bool) -> None:
    """Sort a known photograph whose file or sidecar changed by whether its pixels changed."""
    is_whole = before.has_vector or (before.error is not None and not retry_errors)
    if is_whole and before.digest and not is_url(image):
        try:
            facts = read_facts(Path(image))
        except ImageReadError:
            plan.due.append(image)
            return
        if facts.digest == before.digest:
            plan.touched.append((before.id, image, facts))
            return
    plan.due.append(image)


def _sort_new(plan: Plan, new: Sequence[str], missing: Iterable[bytes], known: dict[bytes, Known]) -> None:
    """Tell new photographs from moved ones, which have the pixels of a missing one.

    Of several copies that are missing, one is followed for each new file, preferably that of its name.
    """
    lost: dict[str, list[bytes]] = {}
    for path in missing:
        if digest := known[path].digest:
            lost.setdefault(digest, []).append(path)
    for image in new:
        if lost and not is_url(image):
            try:
                facts = read_facts(Path(image))
            except ImageReadError:
                plan.due.append(image)
                continue
            before = _taken(lost, facts.digest, os.path.basename(os.fsencode(image)))  # noqa: PTH119 - bytes
            if before is not None and known[before].has_vector:
                plan.moved.append((known[before].id, image, facts))
                continue
        plan.due.append(image)


def _taken(lost: dict[str, list[bytes]], digest: str, name: bytes) -> bytes | None:
    """Take one of the paths of a digest out, that of a name if there is one; None without any."""
    paths = lost.pop(digest, [])
    paths.sort(key=lambda path: os.path.basename(path) == name)  # noqa: PTH119 - bytes
    before = paths.pop() if paths else None
    if paths:
        lost[digest] = paths
    return before


def _missing(known: dict[bytes, Known], found: set[bytes], roots: Sequence[Path]) -> list[bytes]:
    """Return the indexed paths at or below the roots that were not found and are not there."""
    single = set(map(stored_path, roots))
    beginnings = tuple(root.rstrip(os.fsencode(os.sep)) + os.fsencode(os.sep) for root in single)
    below = (path for path in known if path not in found and (path in single or path.startswith(beginnings)))
    return [path for path in below if not os.path.exists(path)]  # noqa: PTH110 - bytes


def _lost_its_folder(path: bytes, roots: Sequence[Path]) -> bool:
    """Return whether the folder of a missing photograph is not there, but a root above it is."""
    above = Path(os.fsdecode(path)).parent
    if above.exists():
        return False
    return any(root.is_dir() and Path(os.fsdecode(stored_path(root))) in above.parents for root in roots)


def _was_deleted(path: bytes) -> bool:
    """Return whether the folder of a missing photograph is there and holds something.

    One that is not there or empty may be a disk that is not mounted.
    """
    try:
        with os.scandir(os.path.dirname(path)) as entries:  # noqa: PTH120 - bytes
            return next(entries, None) is not None
    except OSError:
        return False
