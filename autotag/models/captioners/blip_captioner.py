"""BLIP, BLIP-2 and GIT, with their transformers classes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image

from autotag.models.captioners.generate_options import (
    captions_of,
    check_beams,
    check_length,
    generation_options,
)
from autotag.models.captioners.hybrid_blip import HybridBlip
from autotag.models.fast.blip_attention import fuse_attention
from autotag.models.fast.blip_generation import BlipGenerator, blip_generator
from autotag.models.fast.folded_norms import fold_norms
from autotag.models.fast.packed_linears import prepare_linears
from autotag.models.fast.shared_backbone import SharedBackbone, shared_backbone
from autotag.models.fast.views import MakesViews, SquareView, view_of
from autotag.models.loading.transformers_loading import load_pretrained, square_side

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from autotag.config.fast_paths import FastPaths
    from autotag.protocols import CaptionOptions, ModelRequest
    from autotag.records import Caption

CLASSES = {
    "blip": "BlipForConditionalGeneration",
    "blip-2": "Blip2ForConditionalGeneration",
    "git": "GitForCausalLM",
}
T5_PROMPT = "a photo of"
_BLANK = Image.new("RGB", (32, 32))
_INPUTS = ("pixel_values", "input_ids", "attention_mask")


class HfCaptioner(MakesViews):
    """Caption images with a transformers model.

    BLIP, GIT and BLIP-2 OPT continue a prompt, and the caption is the whole sentence, prompt included.
    BLIP-2 with a T5 answers a prompt, and the caption is the answer; a T5 needs a prompt, so without one it
    gets ``"a photo of"``, as upstream does.

    Args:
        model: a model of one of the classes in ``CLASSES``, in eval mode, on its device.
        processor: its processor.
        name: the source named in captions.
        generator: writes a BLIP's captions where it ``fits``; None to always use the model's ``generate``.
        square_view: replaces the image processor; None to use the processor itself.
        backbone: computes the feature maps of views for a ``HybridBlip``; None for the model's own.
    """

    extra_options: ClassVar[frozenset[str]] = frozenset({"min_new_tokens"})

    def __init__(
        self,
        model: Any,
        processor: Any,
        name: str,
        *,
        generator: BlipGenerator | None = None,
        square_view: SquareView | None = None,
        backbone: SharedBackbone | None = None,
    ) -> None:
        self.model = model
        self.processor = processor
        self.name = name
        self._generator = generator
        self._view = square_view
        self._backbone = backbone

    @classmethod
    def load(cls, request: ModelRequest) -> HfCaptioner:
        """Load the captioner from a folder or hub repository, with the fast paths of ``request``.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged, incomplete, or of another class.
        """
        own = {"HybridBlip": HybridBlip}
        model, processor, _ = load_pretrained(request, "captioner", CLASSES, own_classes=own)
        paths = request.fast_paths
        generator = None
        if model.config.model_type == "blip":
            generator = _hastened(model, paths)
        prepare_linears(torch.nn.ModuleList([model] if generator is None else [model, generator]), request)
        square_view = view_of(processor.image_processor) if paths.views else None
        backbone = None
        if isinstance(model, HybridBlip) and paths.shared_backbone:
            backbone = shared_backbone(model.vision_model.embeddings.patch_embedding.trunk)
        return cls(
            model, processor, request.name, generator=generator, square_view=square_view, backbone=backbone
        )

    @property
    def image_size(self) -> int | None:
        """Return the side in pixels of the model's square input."""
        return square_side(self.processor.image_processor)

    def check_options(self, options: CaptionOptions) -> None:
        """Refuse invalid options before any image is read.

        Raises:
            ConfigError: more captions than beams are asked for, or more tokens than the model reads.
        """
        check_beams(options)
        self._check_length({} if options.prompt is None else self._inputs([_BLANK], options.prompt), options)

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        """Return the captions of each image (upright RGB), best first.

        With beam search, a score is the mean log-probability of the caption's tokens; with one beam, None.

        Raises:
            ConfigError: more captions than beams are asked for, or more tokens than the model reads.
        """
        return self._captions(len(images), options, lambda: self._inputs(images, options.prompt))

    def caption_views(
        self, views: Sequence[NDArray[np.uint8]], /, options: CaptionOptions
    ) -> list[list[Caption]]:
        """Return the same as ``caption``, for images that ``view`` has prepared.

        Raises:
            ConfigError: more captions than beams are asked for, or more tokens than the model reads.
            RuntimeError: ``view_id`` is None.
        """
        return self._captions(len(views), options, lambda: self._inputs_of_views(views, options.prompt))

    def _captions(
        self, count: int, options: CaptionOptions, inputs: Callable[[], dict[str, torch.Tensor]]
    ) -> list[list[Caption]]:
        check_beams(options)
        if not count:
            return []
        with torch.inference_mode():
            given = inputs()
            self._check_length(given, options)
            written = self._written(given, options)
        return captions_of(self._texts(written.sequences), written, options, self.name)

    def _check_length(self, inputs: Mapping[str, torch.Tensor], options: CaptionOptions) -> None:
        """Refuse a prompt and a caption that need more positions than the language model has."""
        if self._answers:  # a T5 has relative positions
            return
        config, before = self.model.config, 1  # the token that begins a caption
        if config.model_type == "blip-2":
            before += config.num_query_tokens
        most = getattr(config, "text_config", config).max_position_embeddings - before + 1
        prompt = inputs["input_ids"].shape[1] - before if "input_ids" in inputs else 0
        if prompt and config.model_type == "blip":
            prompt -= 1  # the token that closes it, which BLIP leaves out
        check_length(self.name, most, prompt, options)

    def _written(self, inputs: dict[str, torch.Tensor], options: CaptionOptions) -> Any:
        """Return ``sequences`` and, with beam search, ``sequences_scores``, as ``generate`` does."""
        if self._generator is not None and self._generator.fits(inputs, options):
            return self._generator.write(inputs, options)
        return self.model.generate(**inputs, **generation_options(options))

    def _inputs(self, images: Sequence[Image.Image], prompt: str | None) -> dict[str, torch.Tensor]:
        """Return the inputs of ``generate``, on the model's device and in its dtype."""
        text = T5_PROMPT if prompt is None and self._answers else prompt
        given: dict[str, Any] = {"images": list(images), "return_tensors": "pt"}
        if text is not None:
            given["text"] = [text] * len(images)
        inputs = {key: values for key, values in self.processor(**given).items() if key in _INPUTS}
        if text is not None and self._closes_prompts:
            inputs |= {key: inputs[key][:, :-1] for key in ("input_ids", "attention_mask")}
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        return {key: values.to(self.model.device) for key, values in inputs.items()}

    def _inputs_of_views(
        self, views: Sequence[NDArray[np.uint8]], prompt: str | None
    ) -> dict[str, torch.Tensor]:
        """Return the same for views; the processor gets one blank image to prepare the text."""
        view = self._own_view
        normalised = partial(view.normalised, device=self.model.device, dtype=self.model.dtype)
        pixels = normalised(views) if self._backbone is None else self._backbone.maps(views, normalised)
        if prompt is None and not self._answers:
            return {"pixel_values": pixels}
        inputs = self._inputs([_BLANK], prompt)
        inputs = {
            key: values.repeat(len(views), 1) for key, values in inputs.items() if key != "pixel_values"
        }
        return {"pixel_values": pixels, **inputs}

    @property
    def _answers(self) -> bool:
        """Return whether captions leave out the prompt: the language model is an encoder-decoder."""
        return (
            self.model.config.model_type == "blip-2" and not self.model.config.use_decoder_only_language_model
        )

    @property
    def _closes_prompts(self) -> bool:
        """Return whether the tokenizer ends a prompt with [SEP], which would end GIT's caption.

        BLIP removes it itself.
        """
        return bool(self.model.config.model_type == "git")

    def _texts(self, sequences: torch.Tensor) -> list[str]:
        """Return the sentences without special tokens; BLIP's [DEC] is cut, as its tokenizer may lack it."""
        if self.model.config.model_type == "blip":
            sequences = sequences[:, 1:]
        texts: list[str] = self.processor.batch_decode(sequences, skip_special_tokens=True)
        return texts


def _hastened(model: Any, paths: FastPaths) -> BlipGenerator | None:
    """Switch on these fast paths in a BLIP; return its generator, or None if that path is off."""
    if paths.folded_norms and isinstance(model, HybridBlip):
        fold_norms(model.vision_model.embeddings.patch_embedding)
    if paths.blip_attention:
        fuse_attention(model.vision_model, packed=paths.packed_attention)
    return blip_generator(model, packed=paths.packed_attention) if paths.blip_generation else None
