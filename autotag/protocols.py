"""The interfaces of stages, models and writers, as protocols.

No base class is needed: any object with these attributes fits. ``autotag.testing`` checks an object.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - a config is converted by the annotations
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from autotag.config.fast_paths import AUTO, FastPaths
from autotag.config.options import convert_options
from autotag.files.bounded_files import is_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from collections.abc import Set as AbstractSet

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from autotag.records import Caption, Detection, Result, Sample, Tag, TextMaps

ScoreName = Literal["cosine", "standardised"]
"""The score that tags are filtered by; see ``autotag.relevance.scores``."""

ModelKind = Literal["captioner", "extractor", "encoder", "detector", "classifier", "translator"]

Head = Literal["softmax", "sigmoid"]
"""How a classifier makes probabilities: labels that exclude each other, or each label on its own."""


@runtime_checkable
class Stage(Protocol):
    """Read some fields of each sample and write others, in place.

    ``requires`` and ``provides`` name fields of ``Sample`` (``"captions"``, ``"tags"``, ...) or
    ``"extras.<key>"``. ``source``, ``image`` and ``size`` are always set.
    """

    @property
    def name(self) -> str:
        """The name of the stage in configs, scores and errors."""
        ...

    @property
    def requires(self) -> AbstractSet[str]:
        """The fields that the stage reads; an earlier stage must provide them."""
        ...

    @property
    def provides(self) -> AbstractSet[str]:
        """The fields that the stage writes."""
        ...

    def __call__(self, samples: Sequence[Sample], /) -> None:
        """Change the samples of one batch in place."""
        ...


@runtime_checkable
class NeedsModels(Protocol):
    """Get models in ``setup``, which the pipeline calls once, before the first batch.

    A field of a stage that names a model says which kind: ``field(metadata={"model": "encoder"})``. A stage
    that uses only some of these models is ``BorrowsSome`` too.

    A pipeline calls ``setup`` on its own shallow copy of the stage. So one stage object may be in two
    pipelines, and its models are freed when the pipeline is closed.
    """

    def setup(self, models: Models, /) -> None:
        """Get the models of this stage from ``models`` and keep them."""
        ...


class Models(Protocol):
    """Give models to stages: the pipeline's ``ModelPool``, or a fake in tests.

    Each method takes a model's name (see ``autotag.models.names``) or a model object, which it returns
    unchanged. Two stages that name the same model get the same object.
    """

    def captioner(self, model: str | Captioner, /) -> Captioner:
        """Return a captioner."""
        ...

    def extractor(self, model: str | KeyphraseExtractor, /) -> KeyphraseExtractor:
        """Return a keyphrase extractor."""
        ...

    def encoder(self, model: str | ImageTextEncoder | None = None, /) -> ImageTextEncoder:
        """Return the named encoder, or the pipeline's own for None."""
        ...

    def detector(self, model: str | Detector, /) -> Detector:
        """Return a detector."""
        ...

    def classifier(self, model: str | Classifier, /) -> Classifier:
        """Return a classifier."""
        ...

    def translator(self, model: str | Translator, /) -> Translator:
        """Return a translator."""
        ...


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """The options of a captioner.

    Attributes:
        prompt: text that the caption continues or answers; None for the model's own default.
        max_new_tokens: upper bound on generated tokens, at least 1.
        num_beams: beams of the beam search; 1 is greedy.
        num_captions: captions per image, at most ``num_beams`` unless they are sampled.
        repetition_penalty: above 1.0 discourages repeated tokens; 1.0 is off.
        min_new_tokens: lower bound on generated tokens; 0 is off.
        do_sample: draw tokens by their probability; only with one beam.
        temperature: of sampling, above 0: below 1.0 likely tokens become likelier; 1.0 is off.
        top_k: draw from this number of the likeliest tokens; None from all.
        top_p: draw from the likeliest tokens that together have this probability; None from all.
        seed: of sampling; the same image with the same seed gets the same captions in any batch.
        beam_scores: what a beam search sums: log-probabilities, or logits as in open_clip's beam search.

    A captioner supports the fields from ``min_new_tokens`` on only if its ``extra_options`` name them
    (see ``Captioner``).
    """

    prompt: str | None = None
    max_new_tokens: int = 30
    num_beams: int = 1
    num_captions: int = 1
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    beam_scores: Literal["log_probabilities", "logits"] = "log_probabilities"

    def __post_init__(self) -> None:
        convert_options(self, where="CaptionOptions")


@dataclass(frozen=True, slots=True)
class KeyphraseOptions:
    """The options of a keyphrase extractor.

    Attributes:
        candidates: ``"phrases"`` proposes only noun phrases and activities ("playing guitar");
            ``"ngrams"`` proposes every n-gram left after stop words are removed, as KeyBERT does.
        ngram_range: shortest and longest candidate in words.
        top_n: keyphrases per text.
        diversity: None ranks by similarity alone; a value in [0, 1] uses maximal marginal relevance.
        stop_words: ``"english"``, the code of another language, a tuple of words, or None for none.
    """

    candidates: Literal["phrases", "ngrams"] = "phrases"
    ngram_range: tuple[int, int] = (1, 2)
    top_n: int = 5
    diversity: float | None = None
    stop_words: str | Sequence[str] | None = "english"

    def __post_init__(self) -> None:
        convert_options(self, where="KeyphraseOptions")


@dataclass(frozen=True, slots=True)
class TranslationOptions:
    """The options of a translator.

    Attributes:
        source: the language of the texts, by the model's own code, such as ``"en"``.
        target: the language to translate them to, likewise.
        num_beams: beams of the beam search; 1 is greedy.
        max_new_tokens: upper bound on generated tokens, at least 1.
    """

    source: str
    target: str
    num_beams: int = 4
    max_new_tokens: int = 128


@runtime_checkable
class HasImageSize(Protocol):
    """A model that says how large it needs images to be."""

    @property
    def image_size(self) -> int | None:
        """Side in pixels of the square that the model looks at; None when it needs images in full."""
        ...


def image_size_of(model: object) -> int | None:
    """Return the side in pixels that a model looks at; None for one that does not say."""
    return model.image_size if isinstance(model, HasImageSize) else None


@runtime_checkable
class HasDtype(Protocol):
    """A model that does not calculate in float32."""

    @property
    def dtype(self) -> str:
        """``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"int8"``."""
        ...


def dtype_of(model: object) -> str:
    """Return what a model calculates in; ``"float32"`` for one that does not say."""
    return model.dtype if isinstance(model, HasDtype) else "float32"


@runtime_checkable
class TakesExtraOptions(Protocol):
    """A captioner that supports some of the fields of ``CaptionOptions`` from ``min_new_tokens`` on."""

    @property
    def extra_options(self) -> frozenset[str]:
        """The names of these fields. ``CaptionImages`` refuses the others."""
        ...


def extra_options_of(captioner: object) -> frozenset[str]:
    """Return the extra options that a captioner supports; none for one that does not say."""
    return captioner.extra_options if isinstance(captioner, TakesExtraOptions) else frozenset()


@runtime_checkable
class ChecksOptions(Protocol):
    """A captioner that refuses options which it cannot follow, such as a prompt that it does not know."""

    def check_options(self, options: CaptionOptions, /) -> None:
        """Refuse options; called once, before the first image.

        Raises:
            ConfigError: naming the option.
        """
        ...


@runtime_checkable
class HasDefaultScore(Protocol):
    """An encoder with a score of its own choice to filter tags by."""

    @property
    def default_score(self) -> ScoreName:
        """The score that ``FilterTags`` uses when neither score nor threshold is set."""
        ...


def default_score_of(encoder: object) -> ScoreName:
    """Return an encoder's default score; ``"standardised"`` for one that does not say."""
    return encoder.default_score if isinstance(encoder, HasDefaultScore) else "standardised"


@runtime_checkable
class HasLogitScale(Protocol):
    """An encoder that says how it was trained to weigh cosines against each other."""

    @property
    def logit_scale(self) -> float:
        """The factor of cosines before a softmax over texts, above 0."""
        ...


def logit_scale_of(encoder: object) -> float:
    """Return an encoder's logit scale; 100, that of CLIP, for one that does not say."""
    return encoder.logit_scale if isinstance(encoder, HasLogitScale) else 100.0


@runtime_checkable
class BorrowsSome(Protocol):
    """A stage that uses only some of the models that its fields name."""

    @property
    def borrows(self) -> frozenset[str]:
        """The names of the fields in use."""
        ...


def fields_in_use(stage: object, fields: Collection[str]) -> list[str]:
    """Return which of the fields that name a model a stage uses; all for one that does not say."""
    return [name for name in fields if not isinstance(stage, BorrowsSome) or name in stage.borrows]


@runtime_checkable
class WritesBinary(Protocol):
    """A writer factory that says whether it takes a binary stream, which may not seek."""

    binary: bool


@runtime_checkable
class WritesLines(Protocol):
    """A writer factory that says whether what it wrote so far is complete at any time, as lines are.

    If so, the command line writes straight to the output file; otherwise to a hidden file that takes its
    place at the end.
    """

    streams: bool


def is_binary(factory: object) -> bool:
    """Return whether a writer factory takes a binary stream; text for one that does not say."""
    return isinstance(factory, WritesBinary) and factory.binary


def is_streaming(factory: object) -> bool:
    """Return whether a writer's output is of use while it is written; not for one that does not say."""
    return isinstance(factory, WritesLines) and factory.streams


@runtime_checkable
class Captioner(Protocol):
    """Write captions for images.

    A captioner may also be ``HasImageSize``, ``TakesExtraOptions``, ``ChecksOptions`` and ``ViewsImages``.
    """

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        """Return one non-empty list per upright RGB image: ``options.num_captions`` captions, best first."""
        ...


@runtime_checkable
class KeyphraseExtractor(Protocol):
    """Find the keyphrases of texts."""

    def extract(self, texts: Sequence[str], /, options: KeyphraseOptions) -> list[list[tuple[str, float]]]:
        """Return each text's keyphrases with their cosine similarity to the text, best first; [] for none."""
        ...


@runtime_checkable
class Translator(Protocol):
    """Translate texts."""

    def check_languages(self, options: TranslationOptions, /) -> None:
        """Refuse languages that the model does not translate; called once, before the first text.

        Raises:
            ConfigError: naming the language, and the languages that the model knows.
        """
        ...

    def translate(self, texts: Sequence[str], /, options: TranslationOptions) -> list[str]:
        """Return each text in the target language."""
        ...


@runtime_checkable
class ImageTextEncoder(Protocol):
    """Embed images and texts in one vector space.

    An encoder may also be ``HasImageSize``, ``HasDtype``, ``HasDefaultScore``, ``HasLogitScale`` and
    ``ViewsImages``.
    """

    @property
    def id(self) -> str:
        """The name of the weights, so that vectors of two encoders are never mixed."""
        ...

    @property
    def default_thresholds(self) -> Mapping[str, float]:
        """Score name (``"cosine"``) -> the threshold for this encoder; empty when none is known."""
        ...

    def embed_images(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """Return the vectors of B images: (B, D) float32, rows of length 1."""
        ...

    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Return the vectors of T texts: (T, D) float32, rows of length 1."""
        ...


@runtime_checkable
class ViewsImages(Protocol):
    """Accept resized pixels (views) instead of images; for captioners, encoders, detectors and classifiers.

    The reading threads make each view once, for all models with the same ``view_id``, so the thread that
    runs the models neither decodes nor resizes. Such a captioner also has
    ``caption_views(views, /, options)``, such an encoder ``embed_views(views, /)``, such a classifier
    ``classify_views(views, /)``. ``views`` is a list of
    arrays that ``view`` returned; the result is the same as that of the method that takes images.
    """

    @property
    def view_id(self) -> str | None:
        """The name of the view: two models with the same id make the same pixels.

        None when this model does not make views (its fast path is switched off or does not fit).
        """
        ...

    def view(self, image: Image.Image, /) -> NDArray[np.uint8]:
        """Return an upright RGB image at the model's input size: (3, H, W) uint8, not normalised.

        Called from several threads at once.
        """
        ...


@runtime_checkable
class MapsTexts(Protocol):
    """An encoder that can say where in an image it sees a text."""

    def text_maps(self, image: Image.Image, texts: Sequence[str], /) -> TextMaps:
        """Return one map for each text.

        Args:
            image: upright RGB.
            texts: at least one, in their templates.

        Raises:
            ConfigError: maps are not known for the image tower of this model.
        """
        ...


@runtime_checkable
class NamesTags(Protocol):
    """Name tags in other languages, as the stage ``name_tags`` does."""

    def named(self, tag: Tag) -> list[Tag]:
        """Return the tags that stand for a tag after the stage; an empty list if it is dropped."""
        ...

    def known_as(self, name: str) -> str | None:
        """Return the text, as the models know it, that the stage gives this name; None if there is none."""
        ...


@runtime_checkable
class WritesRankings(Protocol):
    """A stage that says which keys of ``rankings`` it writes; two stages of a pipeline cannot share a key."""

    @property
    def ranking_names(self) -> Collection[str]:
        """The keys: names of vocabularies."""
        ...


@runtime_checkable
class JudgesTags(Protocol):
    """A stage that scores tags and keeps the best, and can show what it did not keep.

    Attributes:
        cut: the lowest score that is kept.
        template: sentence around a tag, with one ``{}``.
    """

    cut: float
    template: str

    def judged(self, samples: Sequence[Sample], /) -> list[list[Tag]]:
        """Return all tags of each sample with their scores, best first; the samples are not changed."""
        ...


@runtime_checkable
class UsesImageVectors(Protocol):
    """A stage that reads vectors of images with ``autotag.relevance.embeddings.image_vectors``.

    The engine computes the vectors of the next batch while later stages still work on the texts of this one.
    A stage that is called without them gets them from ``image_vectors`` all the same.
    """

    @property
    def image_encoder(self) -> ImageTextEncoder | None:
        """The encoder that the stage borrowed in ``setup``; None where it needs no vectors of images."""
        ...


@runtime_checkable
class Detector(Protocol):
    """Find objects.

    A detector may also be ``HasImageSize``, ``HasLabels``, ``FindsLabels``, ``HasDefaultThreshold``,
    ``SaysWhetherItCounts`` and ``ViewsImages``; the last has ``detect_views(views, sizes, /)``, where
    ``sizes`` are the (width, height) in whose pixels the boxes are.
    """

    def detect(self, images: Sequence[Image.Image], /) -> list[list[Detection]]:
        """Return each image's objects, best first, with boxes in pixels of that image.

        Raises:
            ConfigError: this detector finds only labels that it is asked for (``FindsLabels``).
        """
        ...


@runtime_checkable
class HasLabels(Protocol):
    """A detector that says which labels it knows."""

    @property
    def labels(self) -> Sequence[str]:
        """Every label that ``detect`` may return."""
        ...


@runtime_checkable
class FindsLabels(Protocol):
    """A detector with an open vocabulary: it finds the labels that it is asked for."""

    def check_labels(self, labels: Sequence[str], /) -> None:
        """Refuse labels that the detector cannot read; called once, before the first image.

        Raises:
            ConfigError: naming the label.
        """
        ...

    def detect_labels(self, images: Sequence[Image.Image], labels: Sequence[str], /) -> list[list[Detection]]:
        """Return each image's objects with these labels only, best first, in pixels of that image."""
        ...


@runtime_checkable
class HasDefaultThreshold(Protocol):
    """A detector with a threshold of its own, below which most of its boxes are wrong; or a classifier."""

    @property
    def default_threshold(self) -> float:
        """The lowest score, in [0, 1], that counts when no threshold is set.

        ``DetectObjects`` keeps boxes from it on, and ``ModerateImages`` flags from it on.
        """
        ...


@runtime_checkable
class SaysWhetherItCounts(Protocol):
    """A detector that says whether three dogs have three boxes."""

    @property
    def counts(self) -> bool:
        """False for one that finds where a label is, but not how often."""
        ...


def can_count(detector: object) -> bool:
    """Return whether a detector has one box per object; true for one that does not say."""
    return detector.counts if isinstance(detector, SaysWhetherItCounts) else True


def default_threshold_of(model: object) -> float:
    """Return the default threshold of a detector or classifier; 0.5 for one that does not say."""
    return model.default_threshold if isinstance(model, HasDefaultThreshold) else 0.5


@runtime_checkable
class Classifier(Protocol):
    """Say how probable each label of a fixed list is.

    A classifier may also be ``HasImageSize``, ``HasExclusiveLabels``, ``HasCategories``,
    ``HasLabelThresholds`` and ``ViewsImages``.
    """

    @property
    def labels(self) -> Sequence[str]:
        """The L labels, in the order of the probabilities; a label may be there twice."""
        ...

    def classify(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """Return the probability of each label in B upright RGB images: (B, L) float32 in [0, 1]."""
        ...


@runtime_checkable
class HasExclusiveLabels(Protocol):
    """A classifier that says whether an image has exactly one of its labels."""

    @property
    def exclusive(self) -> bool:
        """True if the probabilities of an image add up to 1 (softmax); False if each stands on its own."""
        ...


@runtime_checkable
class HasCategories(Protocol):
    """A classifier whose labels are of several kinds, such as a tagger's general tags and ratings."""

    @property
    def categories(self) -> Sequence[str]:
        """The category of each of the L labels; empty when the labels have none."""
        ...


@runtime_checkable
class HasLabelThresholds(Protocol):
    """A classifier with a threshold for each label."""

    @property
    def thresholds(self) -> Sequence[float]:
        """The lowest probability, in [0, 1], at which each of the L labels counts; empty for none."""
        ...


def are_exclusive(classifier: object) -> bool:
    """Return whether a classifier's labels exclude each other; not for one that does not say."""
    return isinstance(classifier, HasExclusiveLabels) and classifier.exclusive


def categories_of(classifier: object) -> Sequence[str]:
    """Return the category of each label of a classifier; empty for one without."""
    return classifier.categories if isinstance(classifier, HasCategories) else ()


def thresholds_of(classifier: object) -> Sequence[float]:
    """Return the threshold of each label of a classifier; empty for one without."""
    return classifier.thresholds if isinstance(classifier, HasLabelThresholds) else ()


@runtime_checkable
class Writer(Protocol):
    """Write results one by one. A writer factory is called with the text stream to write to.

    A factory may also be ``WritesBinary`` and ``WritesLines``.
    """

    def write(self, result: Result, /) -> None:
        """Write one result."""
        ...

    def close(self) -> None:
        """Write everything that is still buffered. Do not close the stream."""
        ...


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """The argument of a model factory; a factory registered as ``"mine"`` serves ``"mine:<location>"``.

    Attributes:
        name: the catalog's name if the catalog has the model, the folder's name if it was saved with a
            pipeline, else the whole name as the user wrote it.
        location: hub id, open_clip name or folder; empty for a bare ``"mine"``.
        revision: commit, tag or branch on the hub, or None for its default.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"int8"``; a model that has no int8 calculates
            in float32 then.
        default_thresholds: for encoders, from the model's card; empty when none is known.
        default_score: for encoders, from the model's card.
        download_size: bytes, from the model's card; None when unknown.
        fast_paths: those to use.
        head: for classifiers, from the model's card; None when it does not say.
    """

    name: str
    location: str
    revision: str | None
    device: str
    dtype: str
    default_thresholds: Mapping[str, float]
    download_size: int | None

    default_score: ScoreName = "standardised"
    fast_paths: FastPaths = AUTO
    head: Head | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder of the model; None for a model with a revision, which is one of the hub."""
        folder = Path(self.location)
        return folder if self.location and self.revision is None and is_folder(folder) else None


class FileChange(Protocol):
    """Hold one planned change to files of an album.

    Each change is written to the journal before it is applied. So ``to_dict`` must hold everything that
    ``undo`` needs after a crash, with files under the keys ``path`` and ``moves``, which are updated when the
    album is moved. The class has a ``from_dict`` and is registered by its kind under ``autotag.changes``.
    ``apply`` and ``undo`` leave every file whole wherever they are interrupted, and may then be called again.
    """

    @property
    def kind(self) -> str:
        """The name of the class in a journal."""
        ...

    @property
    def paths(self) -> Sequence[Path]:
        """The files that it writes, creates or moves."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the change in JSON types."""
        ...

    def describe(self) -> str:
        """Return what ``apply`` would do, on one line."""
        ...

    def apply(self) -> Sequence[str]:
        """Apply the change and return warnings.

        Raises:
            FileChangedError: a file changed since the change was planned; nothing is done.
            MetadataError, OSError: the change cannot be applied; every file is unchanged.
        """
        ...

    def undo(self) -> Sequence[str]:
        """Undo the change, as far as it was applied, and return messages for the user.

        Raises:
            FileChangedError: another program changed a file since; the file stays unchanged.
            MetadataError, OSError: the change cannot be undone; every file is unchanged.
        """
        ...


@runtime_checkable
class KnowsContents(Protocol):
    """Tell the digests of a change's files before and after; after a kill, copies of these may be deleted."""

    @property
    def digests(self) -> Mapping[Path, Collection[str]]:
        """The SHA-256 (hexadecimal) of each file's contents before and after."""
        ...


@runtime_checkable
class NeedsFiles(Protocol):
    """Tell whether a change waits for a file: one that was renamed, moved or deleted since.

    ``undo`` then does what can be done without it, and the step stays in the journal.
    """

    def missing(self) -> Path | None:
        """Return a file that is not there and without which the change cannot be undone; else None."""
        ...


@runtime_checkable
class WritesSometimes(Protocol):
    """Tell before tagging that an album writer will not write anything."""

    def would_write(self, photo: Path, /) -> bool:
        """Return False if nothing will be written for this photograph, whatever its tags."""
        ...


@runtime_checkable
class HasClose(Protocol):
    """An album writer that holds something open, such as a process."""

    def close(self) -> None:
        """End it; called once, at the end of the run."""
        ...


@runtime_checkable
class AlbumWriter(Protocol):
    """Write a photograph's result beside it, into it, or into its name.

    A factory registered under ``autotag.album_writers`` is a dataclass; its fields are the writer's options.
    A writer may also be ``WritesSometimes`` and ``HasClose``.
    """

    def changes(self, photo: Path, result: Result, /) -> Sequence[FileChange]:
        """Return the changes that this photograph needs; [] when it is up to date.

        Raises:
            MetadataError, OSError: the change is not possible; the user sees the reason.
        """
        ...
