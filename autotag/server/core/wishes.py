"""The options of a request, and the pipelines that serve them, which share their models."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from autotag.errors import ConfigError, ModelUnavailableError, RequestRefusedError
from autotag.pipeline.stage_tables import changed_stage
from autotag.pipeline.wiring import needed_for
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
    from collections.abc import Mapping, Sequence

    from autotag.pipeline.pipeline import Pipeline
    from autotag.protocols import Stage
    from autotag.relevance.scores import Score

Task = Literal["tag", "caption", "prompt", "embedding", "analyze"]

MOST_TAGS = 100
MOST_LABELS = 1000
MOST_LABEL_CHARACTERS = 200
_MOST_PIPELINES = 64


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
        self._lock = Lock()
        self._made: OrderedDict[Wish, Pipeline] = OrderedDict()

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

    def of(self, wish: Wish) -> Pipeline:
        """Return the pipeline for a wish, with loaded models; equal wishes get the same pipeline.

        May take a while: call it in a thread.

        Raises:
            RequestRefusedError: the server has no such preset, or the preset cannot do it.
        """
        with self._lock:
            made = self._made.pop(wish, None) or self._make(wish)
            self._made[wish] = made
            while len(self._made) > _MOST_PIPELINES:
                self._made.popitem(last=False)
        return made

    def made(self, wish: Wish) -> Pipeline | None:
        """Return the pipeline for a wish if ``of`` made it before and none is being made; never waits."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            made = self._made.get(wish)
            if made is not None:
                self._made.move_to_end(wish)
            return made
        finally:
            self._lock.release()

    def _make(self, wish: Wish) -> Pipeline:
        pipeline = self.preset(wish.preset)
        pipeline.load()
        if wish == Wish(preset=wish.preset):
            return pipeline
        try:
            stages = _uncut(pipeline) if wish.every_score else _stages(pipeline.stages, wish)
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
        changed.append(
            MatchVocabulary(
                wish.compared,
                top_k=len(wish.compared),
                score="standardised",
                threshold=LOWEST["standardised"],
                name=COMPARED,
            )
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
