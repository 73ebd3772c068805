"""The options of a request, and the pipelines that serve them, which share their models."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from autotag.errors import ConfigError, ModelUnavailableError, RequestRefusedError
from autotag.pipeline.stage_tables import changed_stage
from autotag.pipeline.wiring import needed_for
from autotag.protocols import dtype_of
from autotag.relevance.scores import LOWEST, STANDARDISED_CUT
from autotag.server.core.answers import COMPARED
from autotag.server.core.keep_embedding import KeepEmbedding
from autotag.stages.assemble_prompt import AssemblePrompt
from autotag.stages.filter_tags import FilterTags
from autotag.stages.match_vocabulary import MatchVocabulary
from autotag.stages.moderate_images import ModerateImages
from autotag.stages.rank_labels import RankLabels
from autotag.vocabularies.vocabulary import BUNDLED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    from autotag.pipeline.pipeline import Pipeline
    from autotag.protocols import Stage
    from autotag.relevance.scores import Score

Task = Literal["tag", "caption", "prompt", "embedding", "analyze"]

MOST_TAGS = 100
MOST_LABELS = 1000
MOST_LABEL_CHARACTERS = 200
_MOST_PIPELINES = 64
_TEXTS_AT_ONCE = 32
_TURN = 0.001
"""Seconds after which a thread that waits for a lock has got it: Python's locks are not fair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The options of one request; images with equal options share a batch.

    Attributes:
        task: what to return.
        preset: one of the server's presets; empty for the first.
        top_k: the largest number of tags; None for the preset's own.
        vocabulary: the bundled vocabulary to choose tags from; None for the preset's own.
        labels: if any, the only allowed tags; they are compared with the image.
        compared: labels that are compared with the image, too; all of them, with their scores, come after the
            preset's tags, from the source ``answers.COMPARED``.
        mode: the mode of the prompt; None for the preset's own.
        every_score: keep the tags below the preset's cut and beyond its ``top_k``, too; no prompt is made.
            Other options are not combined with it.
        moderate: also say how safe the image is to show.
    """

    task: Task = "tag"
    preset: str = ""
    top_k: int | None = None
    vocabulary: str | None = None
    labels: tuple[str, ...] = ()
    compared: tuple[str, ...] = ()
    mode: str | None = None
    every_score: bool = False
    moderate: bool = False


@dataclass(slots=True)
class _Making:
    """A pipeline that is being made, and how many requests wait for it."""

    work: Future[Pipeline]
    done: asyncio.Future[Pipeline]
    waiting: int = 0


class Pipelines:
    """Keep the pipelines of a server: one per preset, and variants of it for the options of requests.

    Args:
        presets: name -> pipeline, the default first. The caller closes them.
        moderator: the model of requests that ask for moderation, where the preset has no such stage; see
            ``ModerateImages``. None for ``opennsfw``, which is loaded by the first such request.

    Raises:
        ConfigError: there is no preset, the moderator's name is unknown, or the meaning of a label of its
            folder is not known.
    """

    def __init__(self, presets: Mapping[str, Pipeline], *, moderator: str | None = None) -> None:
        if not presets:
            raise ConfigError("a server needs a preset.")
        self._moderator = ModerateImages(moderator or "opennsfw")
        self._moderator_was_named = moderator is not None
        self.presets = dict(presets)
        self.default = next(iter(self.presets))
        self._made: OrderedDict[Wish, Pipeline] = OrderedDict()
        self._making: dict[Wish, _Making] = {}
        self._closed = False
        self._makers = {
            has_labels: ThreadPoolExecutor(1, thread_name_prefix="autotag-make")
            for has_labels in (False, True)
        }

    def load(self) -> None:
        """Load the models of every preset, and the moderator if it was named.

        Raises:
            ConfigError: it is not known what a label of the moderator means.
            ModelError: a model is not available or does not load.
        """
        for pipeline in self.presets.values():
            pipeline.load()
            if self._moderator_was_named and not _moderates(pipeline.stages):
                pipeline.sharing_models([self._moderator]).load()

    def preset(self, name: str) -> Pipeline:
        """Return the pipeline of a preset; an empty name means the default.

        Raises:
            RequestRefusedError: the server has no such preset.
        """
        found = self.presets.get(name or self.default)
        if found is None:
            raise RequestRefusedError(
                "not_found", f"this server has no preset {name[:80]!r}; it has: {', '.join(self.presets)}."
            )
        return found

    async def of(self, wish: Wish) -> Pipeline:
        """Return the pipeline for a wish, with loaded models; equal wishes get the same pipeline.

        It is made in a thread. Wishes with labels wait for each other only, and one that nobody waits for any
        more is not begun. Call it from one event loop.

        Raises:
            RequestRefusedError: the server has no such preset, or the preset cannot do it.
        """
        made = self._made.get(wish)
        if made is not None:
            self._made.move_to_end(wish)
            return made
        making = self._making.get(wish) or self._begin(wish)
        making.waiting += 1
        try:
            return await asyncio.shield(making.done)
        finally:
            making.waiting -= 1
            if not making.waiting and making.work.cancel():
                del self._making[wish]

    def close(self) -> None:
        """Make no more pipelines; wait for one that is being made, but not for all of its labels."""
        self._closed = True
        for maker in self._makers.values():
            maker.shutdown(wait=True, cancel_futures=True)

    def _begin(self, wish: Wish) -> _Making:
        maker = self._makers[bool(wish.labels or wish.compared)]
        work = maker.submit(self._make, wish)
        making = self._making[wish] = _Making(work, asyncio.wrap_future(work))

        def ended(done: asyncio.Future[Pipeline]) -> None:
            if self._making.get(wish) is making:
                del self._making[wish]
            if not done.cancelled() and done.exception() is None:
                self._made[wish] = done.result()
                while len(self._made) > _MOST_PIPELINES:
                    self._made.popitem(last=False)

        making.done.add_done_callback(ended)
        return making

    def _check_open(self) -> None:
        if self._closed:
            raise RequestRefusedError("not_ready", "the server is shutting down.", 1)

    def _make(self, wish: Wish) -> Pipeline:
        pipeline = self.preset(wish.preset)
        pipeline.load()
        if wish == Wish(preset=wish.preset):
            return pipeline
        try:
            stages = _uncut(pipeline) if wish.every_score else _stages(pipeline.stages, wish)
            if (wish.labels or wish.compared) and isinstance(stages[-1], MatchVocabulary):
                pipeline = pipeline.sharing_models([KeepEmbedding()])  # which has the encoder in any case
                stages[-1].embed(_InTurns(pipeline, self._check_open))
            adds_moderator = wish.moderate and not _moderates(stages)
            if adds_moderator:
                stages.append(self._moderator)
            made = pipeline.sharing_models(stages)
        except ConfigError as error:
            raise RequestRefusedError("wrong_option", str(error)) from error
        try:
            made.load()
        except (ConfigError, ModelUnavailableError) as error:
            if isinstance(error, ModelUnavailableError) and not adds_moderator:
                raise  # the server's own fault
            raise RequestRefusedError("wrong_option", str(error)) from error
        return made


class _InTurns:
    """Embed texts by a pipeline's encoder, a few at a time, so that batches of images come between.

    Args:
        pipeline: has the encoder.
        go_on: called before each of these; it may raise.
    """

    def __init__(self, pipeline: Pipeline, go_on: Callable[[], None]) -> None:
        self._pipeline = pipeline
        self._go_on = go_on
        with pipeline.exclusive_encoder() as encoder:
            self.id, self.dtype = encoder.id, dtype_of(encoder)
            self.default_thresholds = encoder.default_thresholds

    def embed_images(self, images: Sequence[Image], /) -> NDArray[np.float32]:
        with self._pipeline.exclusive_encoder() as encoder:
            return encoder.embed_images(images)

    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        rows = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            self._go_on()
            with self._pipeline.exclusive_encoder() as encoder:
                rows.append(encoder.embed_texts(texts[start : start + _TEXTS_AT_ONCE]))
            time.sleep(_TURN)
        return np.concatenate(rows)


def _moderates(stages: Sequence[Stage]) -> bool:
    return any("moderation" in stage.provides for stage in stages)


def _stages(stages: Sequence[Stage], wish: Wish) -> list[Stage]:
    """Return the stages of a preset that a wish needs, with the options that it changes.

    Raises:
        RequestRefusedError: the preset has no stage for it.
        ConfigError: an option of a stage is wrong.
    """
    if wish.task == "embedding":
        return [KeepEmbedding()]
    if wish.task == "caption":
        return _needed("captions", stages)
    if wish.task == "analyze":
        ranking = [stage for stage in stages if isinstance(stage, RankLabels)]
        return list(ranking or [RankLabels()])
    if wish.labels:
        chosen = MatchVocabulary(
            wish.labels, top_k=wish.top_k or 10, score="standardised", threshold=STANDARDISED_CUT
        )
        return [*needed_for("captions", stages), chosen]
    changed = list(stages)
    if wish.vocabulary is not None:
        if wish.vocabulary not in BUNDLED:
            known = ", ".join(BUNDLED)
            raise RequestRefusedError(
                "wrong_option", f"there is no vocabulary {wish.vocabulary!r}; known: {known}."
            )
        changed = [
            changed_stage(stage, {"vocabulary": wish.vocabulary}) if is_one else stage
            for stage, is_one in _marked(changed, MatchVocabulary, "vocabulary")
        ]
    if wish.top_k is not None:
        if not 1 <= wish.top_k <= MOST_TAGS:
            raise RequestRefusedError("wrong_option", f"top_k = {wish.top_k} is not from 1 to {MOST_TAGS}.")
        changed = [
            replace(stage, top_k=wish.top_k) if is_one else stage
            for stage, is_one in _marked(changed, FilterTags, "top_k")
        ]
    if wish.mode is not None:
        changed = [
            replace(stage, mode=wish.mode) if is_one else stage
            for stage, is_one in _marked(changed, AssemblePrompt, "mode")
        ]
    if wish.compared:
        most, lowest = len(wish.compared), LOWEST["standardised"]
        changed.append(
            MatchVocabulary(wish.compared, top_k=most, score="standardised", threshold=lowest, name=COMPARED)
        )
    return _needed("prompt", changed) if wish.task == "prompt" else changed


def filter_of(pipeline: Pipeline) -> tuple[FilterTags, Score, float] | None:
    """Return a loaded pipeline's ``filter_tags``, the score it compares, and its cut; or None."""
    stage = next((stage for stage in pipeline.stages if isinstance(stage, FilterTags)), None)
    if stage is None:
        return None
    with pipeline.exclusive_encoder() as encoder:
        return (stage, *stage.cut_for(encoder))


def _uncut(pipeline: Pipeline) -> list[Stage]:
    """Return the stages that make tags, with a ``filter_tags`` that scores as before and keeps every tag."""
    stages = _needed("tags", pipeline.stages)
    found = filter_of(pipeline)
    if found is None:
        return stages
    _, score, _ = found
    return [
        replace(stage, score=score, threshold=LOWEST[score], top_k=None)
        if isinstance(stage, FilterTags)
        else stage
        for stage in stages
    ]


def _needed(field: str, stages: Sequence[Stage]) -> list[Stage]:
    needed = needed_for(field, stages)
    if not needed:
        raise RequestRefusedError("wrong_option", f"no stage of this preset makes {field}.")
    return needed


def _marked(stages: Sequence[Stage], kind: type, option: str) -> list[tuple[Any, bool]]:
    """Return each stage, and whether it is of the kind whose option is changed."""
    marked = [(stage, isinstance(stage, kind)) for stage in stages]
    if not any(is_one for _, is_one in marked):
        raise RequestRefusedError("wrong_option", f"no stage of this preset has the option {option}.")
    return marked
