"""The seams: what a stage, a model and a writer must look like.

Nothing here is a base class. An object with these attributes fits; ``autotag.testing`` checks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from autotag.fast_paths import AUTO, FastPaths
from autotag.options import convert_options

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from autotag.records import Caption, Detection, Result, Sample

ScoreName = Literal["cosine", "standardised"]
"""The score that tags are filtered by; see ``autotag.relevance.scores``."""

ModelKind = Literal["captioner", "extractor", "encoder", "detector"]


@runtime_checkable
class Stage(Protocol):
    """Reads some fields of each sample and writes others, in place.

    ``requires`` and ``provides`` name fields of ``Sample`` (``"captions"``, ``"tags"``, ...) or
    ``"extras.<key>"``. ``source``, ``image`` and ``size`` are always there.
    """

    @property
    def name(self) -> str: ...
    @property
    def requires(self) -> AbstractSet[str]: ...
    @property
    def provides(self) -> AbstractSet[str]: ...
    def __call__(self, samples: Sequence[Sample], /) -> None: ...


@runtime_checkable
class NeedsModels(Protocol):
    """A stage that borrows models: ``setup`` is called once, before the first batch.

    A field of a stage that names a model says which kind: ``field(metadata={"model": "encoder"})``. A stage
    that uses only some of these models is ``BorrowsSome`` too.

    A pipeline calls it on its own shallow copy of the stage, so one stage object may be in two pipelines,
    and what it borrowed goes when the pipeline is closed.
    """

    def setup(self, models: Models, /) -> None: ...


class Models(Protocol):
    """What lends models to stages: the pipeline's ``ModelPool``, or a fake in tests.

    Each method takes a name (see ``autotag.models.names``) or an object, which it hands back.
    Two stages that name the same model get the same object.
    """

    def captioner(self, model: str | Captioner, /) -> Captioner: ...
    def extractor(self, model: str | KeyphraseExtractor, /) -> KeyphraseExtractor: ...
    def encoder(self, model: str | ImageTextEncoder | None = None, /) -> ImageTextEncoder:
        """The named encoder, or the pipeline's own for None."""
        ...

    def detector(self, model: str | Detector, /) -> Detector: ...


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """How to caption.

    Attributes:
        prompt: text that the caption continues or answers; None for the model's own default.
        max_new_tokens: upper bound on generated tokens, at least 1.
        num_beams: beams of the beam search; 1 is greedy.
        num_captions: captions per image, at most ``num_beams`` unless they are sampled.
        repetition_penalty: above 1.0 discourages repeated tokens; 1.0 is off.
        min_new_tokens: a caption does not end before so many tokens; 0 is off.
        do_sample: tokens are drawn by their probability; only with one beam.
        temperature: of sampling, above 0: below 1.0 likely tokens become likelier; 1.0 is off.
        top_k: tokens are drawn from so many of the likeliest; None from all.
        top_p: tokens are drawn from the likeliest that together have this probability; None from all.
        seed: of sampling; the same image with the same seed gets the same captions in any batch.
        beam_scores: what a beam search adds up: log-probabilities, or logits as open_clip's own does.

    Those from ``min_new_tokens`` on are heeded only by captioners that say so (``Captioner``).
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
    """How to extract keyphrases.

    Attributes:
        candidates: ``"phrases"`` proposes only word sequences that are real phrases;
            ``"ngrams"`` proposes every n-gram left after stop words are removed, as KeyBERT does.
        ngram_range: shortest and longest candidate in words.
        top_n: keyphrases per text.
        diversity: None ranks by similarity alone; a value in [0, 1] uses maximal marginal relevance.
        stop_words: ``"english"``, a tuple of words, or None for none.
    """

    candidates: Literal["phrases", "ngrams"] = "phrases"
    ngram_range: tuple[int, int] = (1, 2)
    top_n: int = 5
    diversity: float | None = None
    stop_words: str | tuple[str, ...] | None = "english"

    def __post_init__(self) -> None:
        convert_options(self, where="KeyphraseOptions")


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
        """``"float32"``, ``"bfloat16"`` or ``"float16"``."""
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
    """Writes captions for images.

    A captioner may also be ``HasImageSize``, ``TakesExtraOptions``, ``ChecksOptions`` and ``ViewsImages``.
    """

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        """One non-empty list per image (upright RGB), best caption first, ``options.num_captions`` long."""
        ...


@runtime_checkable
class KeyphraseExtractor(Protocol):
    """Finds the keyphrases of texts."""

    def extract(self, texts: Sequence[str], /, options: KeyphraseOptions) -> list[list[tuple[str, float]]]:
        """Per text its keyphrases with cosine similarity to the text, best first; [] if there is none."""
        ...


@runtime_checkable
class ImageTextEncoder(Protocol):
    """Embeds images and texts in one space.

    An encoder may also be ``HasImageSize``, ``HasDtype``, ``HasDefaultScore`` and ``ViewsImages``.
    """

    @property
    def id(self) -> str:
        """Names the weights, so that vectors of two encoders are never mixed."""
        ...

    @property
    def default_thresholds(self) -> Mapping[str, float]:
        """Score name (``"cosine"``) -> the cut that suits this encoder; empty when none is known."""
        ...

    def embed_images(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """(B, D) float32, unit rows."""
        ...

    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """(T, D) float32, unit rows."""
        ...


@runtime_checkable
class ViewsImages(Protocol):
    """A captioner, encoder or detector that can be handed pixels that were made ready beforehand.

    What is made ready once, in the reading threads, serves every model with the same ``view_id``, and
    the thread that runs the models neither decodes nor resizes. A captioner of this kind also has
    ``caption_views(views, /, options)``, an encoder ``embed_views(views, /)``; each gives for
    ``views``, a list of what ``view`` returns, what its sister gives for the images.
    """

    @property
    def view_id(self) -> str | None:
        """Names the view: where two models give the same id, their views are the same pixels.

        None when this model makes no views (because its fast path is switched off or does not fit).
        """
        ...

    def view(self, image: Image.Image, /) -> NDArray[np.uint8]:
        """(3, H, W) uint8 of an upright RGB image, as large as the model looks at, not normalised.

        Called from several threads at once.
        """
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
    """Finds objects. May also be ``HasImageSize``."""

    def detect(self, images: Sequence[Image.Image], /) -> list[list[Detection]]:
        """Per image its objects, best first, boxes in pixels of the image handed in."""
        ...


@runtime_checkable
class Writer(Protocol):
    """Receives results one by one. A writer factory is called with the text stream to write to.

    A factory may also be ``WritesBinary`` and ``WritesLines``.
    """

    def write(self, result: Result, /) -> None: ...
    def close(self) -> None:
        """Writes what is still held back. Does not close the stream."""
        ...


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a model factory is called with; one registered as ``"mine"`` serves ``"mine:<location>"``.

    Attributes:
        name: the catalog's name where it knows the model, else the whole name as the user wrote it.
        location: hub id, open_clip name or folder; empty for a bare ``"mine"``.
        revision: commit, tag or branch on the hub, or None for its default.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        default_thresholds: for encoders, from the model's card; empty when none is known.
        default_score: for encoders, from the model's card.
        download_size: bytes, from the model's card; None when unknown.
        fast_paths: those to use.
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


class FileChange(Protocol):
    """One change to files of an album, planned and not carried out yet.

    What happens to an album is written down before it happens: ``to_dict`` has to say all that ``undo`` needs
    after a crash, with files under the keys ``path`` and ``moves``, so that they follow an album that moves.
    Its class has a ``from_dict`` and is registered by its kind under ``autotag.changes``. ``apply`` and
    ``undo`` leave every file whole wherever they are stopped, and may be called again then.
    """

    @property
    def kind(self) -> str:
        """Names the class in a journal."""
        ...

    @property
    def paths(self) -> Sequence[Path]:
        """The files that it writes, makes or moves."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        ...

    def describe(self) -> str:
        """What would happen, on one line."""
        ...

    def apply(self) -> Sequence[str]:
        """Carries it out, and answers with warnings.

        Raises:
            FileChangedError: a file is not as it was when this was planned; nothing is done.
            MetadataError, OSError: it cannot be done; every file is as it was.
        """
        ...

    def undo(self) -> Sequence[str]:
        """Takes it back, as far as it was carried out, and answers with what the user should know.

        Raises:
            FileChangedError: a file was changed since by somebody else, and is left as it is.
            MetadataError, OSError: it cannot be done; every file is as it was.
        """
        ...


@runtime_checkable
class KnowsContents(Protocol):
    """A change that knows what its files held and are to hold: after a kill, copies of that may go."""

    @property
    def digests(self) -> Mapping[Path, Collection[str]]:
        """SHA-256, in hexadecimal digits, of each file's contents before and after."""
        ...


@runtime_checkable
class WritesSometimes(Protocol):
    """An album writer that can tell, before anything was found, that it will write nothing."""

    def would_write(self, photo: Path, /) -> bool:
        """Whether it may write for this photograph, whatever is found in it."""
        ...


@runtime_checkable
class AlbumWriter(Protocol):
    """Writes what was found in a photograph beside it, into it, or into its name.

    A factory registered under ``autotag.album_writers`` is a dataclass; its fields are the writer's options.
    """

    def changes(self, photo: Path, result: Result, /) -> Sequence[FileChange]:
        """What is to be done for this photograph; [] when all is as it should be.

        Raises:
            MetadataError, OSError: it cannot be done; the reason goes to the user.
        """
        ...
