"""CoCa (Yu et al. 2022, arXiv:2205.01917), with open_clip."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import AttentionalPooler

from autotag.config.fast_paths import AUTO, FastPaths
from autotag.errors import ConfigError, ModelLoadError
from autotag.models.captioners.generate_options import check_length
from autotag.models.fast.coca_decoder import CachedDecoder, PlainDecoder, cached_decoder
from autotag.models.fast.coca_generation import Written, write
from autotag.models.fast.packed_linears import prepare_linears
from autotag.models.fast.views import MakesViews, view_of_open_clip
from autotag.models.loading.device import torch_dtype
from autotag.models.loading.openclip_loading import LoadedOpenClip, load_open_clip
from autotag.protocols import CaptionOptions
from autotag.records import Caption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from autotag.protocols import ModelRequest

_EVERY_CAPTIONER = frozenset({"prompt", "max_new_tokens", "num_beams", "num_captions", "repetition_penalty"})


class CocaCaptioner(MakesViews):
    """Caption images with a CoCa of open_clip. The model continues a prompt, which is part of the caption.

    Args:
        model: an ``open_clip.CoCa`` with its preprocessing attached, in eval mode, on its device.
        tokenizer: open_clip's own tokenizer, with the model's vocabulary.
        name: the source named in captions.
        dtype: the model's dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        fast_paths: the fast paths to use. Only ``load`` applies paths that change a model (packed layers); a
            model passed here is not changed.
    """

    extra_options: ClassVar[frozenset[str]] = (
        frozenset(option.name for option in fields(CaptionOptions)) - _EVERY_CAPTIONER
    )

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        *,
        dtype: str = "float32",
        fast_paths: FastPaths = AUTO,
    ) -> None:
        self.visual = model.visual
        cached = (
            cached_decoder(model, packed=fast_paths.packed_attention) if fast_paths.coca_decoder else None
        )
        self.decoder: CachedDecoder | PlainDecoder = PlainDecoder(model) if cached is None else cached
        self.tokenizer = tokenizer
        self.name = name
        cfg = PreprocessCfg(**model.visual.preprocess_cfg)
        self.preprocess = image_transform_v2(cfg, is_train=False)
        self._view = view_of_open_clip(self.preprocess, cfg) if fast_paths.views else None
        self._dtype = torch_dtype(dtype)
        self._device = next(model.parameters()).device

    @classmethod
    def load(cls, request: ModelRequest) -> CocaCaptioner:
        """Load the captioner named ``"coca_ViT-L-14/laion2b_s13b_b90k"``, ``"hf-hub:<id>"``, or in a folder.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged, incomplete, or not of a CoCa.
            ConfigError: open_clip does not know the architecture or pretrained tag.
        """
        loaded = load_open_clip(request, "captioner", _check_coca)
        _check_parts(request, loaded)
        _finish_conversion(loaded.model, torch_dtype(request.dtype))
        paths = request.fast_paths
        captioner = cls(loaded.model, loaded.tokenizer, request.name, dtype=request.dtype, fast_paths=paths)
        prepare_linears(torch.nn.ModuleList([captioner.visual, captioner.decoder]), request)
        return captioner

    @property
    def image_size(self) -> int:
        """Return the side in pixels of the model's square input."""
        size = self.visual.preprocess_cfg["size"]
        return int(size if isinstance(size, int) else max(size))

    def check_options(self, options: CaptionOptions) -> None:
        """Refuse invalid options before any image is read.

        Raises:
            ConfigError: the options contradict each other, or need more tokens than the model reads.
        """
        self._prefix(options)

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        """Return the captions of each image (upright RGB), best first; a caption may be empty.

        With beam search and sampling, a score is the mean log-probability of the caption's tokens (with
        ``beam_scores="logits"`` the mean logit); with greedy search, None.

        Raises:
            ConfigError: the options contradict each other, or need more tokens than the model reads.
        """
        if self._view is not None:
            return self.caption_views([self._view.make(image) for image in images], options)
        prefix = self._prefix(options)
        if not images:
            return []
        pixels = torch.stack([self.preprocess(image) for image in images]).to(self._device, self._dtype)
        return self._captions(pixels, prefix, [np.asarray(image) for image in images], options)

    def caption_views(
        self, views: Sequence[NDArray[np.uint8]], /, options: CaptionOptions
    ) -> list[list[Caption]]:
        """Return the same as ``caption``, for images that ``view`` has prepared.

        Raises:
            ConfigError: the options contradict each other, or need more tokens than the model reads.
            RuntimeError: ``view_id`` is None.
        """
        view = self._own_view
        prefix = self._prefix(options)
        if not views:
            return []
        pixels = view.normalised(views, self._device, self._dtype)
        return self._captions(pixels, prefix, views, options)

    @torch.inference_mode()
    def _captions(
        self,
        pixels: torch.Tensor,
        prefix: list[int],
        looks: Sequence[NDArray[np.uint8]],
        options: CaptionOptions,
    ) -> list[list[Caption]]:
        """Return the captions of (B, 3, H, W) pixels; ``looks``, one per image, seed the sampling."""
        seeds = [_seed(look) for look in looks] if options.do_sample else []
        _, states = self.visual(pixels)
        written = write(self.decoder, states, prefix, self.tokenizer.eot_token_id, options, seeds=seeds)
        return [[self._caption(caption, prefix) for caption in captions] for captions in written]

    def _caption(self, written: Written, prefix: list[int]) -> Caption:
        special = set(self.tokenizer.all_special_ids)
        tokens = [token for token in (*prefix, *written.tokens) if token not in special]
        return Caption(" ".join(self.tokenizer.decode(tokens).split()), self.name, written.score)

    def _prefix(self, options: CaptionOptions) -> list[int]:
        """Return the tokens that each caption begins with.

        Raises:
            ConfigError: the options contradict each other, or do not fit the model.
        """
        _check_options(options, self.decoder.vocabulary_size)
        prompt = self.tokenizer.encode(options.prompt) if options.prompt else []
        check_length(self.name, self.decoder.context_length, len(prompt), options)
        return [self.tokenizer.sot_token_id, *prompt]


def _check_coca(request: ModelRequest, config: dict[str, Any], place: str) -> None:
    """Refuse a model that is not a CoCa before its weights are downloaded; a ``Check``."""
    if "multimodal_cfg" not in config:
        raise ModelLoadError(
            request.name,
            f"model {request.name!r} is not a CoCa: {place} has no text decoder (multimodal_cfg), so it "
            "cannot write captions; use it as an encoder",
        )


def _check_parts(request: ModelRequest, loaded: LoadedOpenClip) -> None:
    """Refuse a CoCa whose tokenizer or image tower does not fit a captioner."""
    lacking = None
    if not hasattr(loaded.tokenizer, "sot_token_id"):
        lacking = f"its tokenizer is a {type(loaded.tokenizer).__name__}, but must be open_clip's own"
    elif not getattr(loaded.model.visual, "output_tokens", False):
        lacking = "its image tower does not return tokens (vision_cfg.output_tokens)"
    if lacking:
        raise ModelLoadError(request.name, f"model {request.name!r} cannot write captions: {lacking}")


def _finish_conversion(model: Any, dtype: torch.dtype) -> None:
    """Convert to ``dtype`` the weights that open_clip leaves in float32 in half precision."""
    poolers = [module for module in model.visual.modules() if isinstance(module, AttentionalPooler)]
    left = [model.text_decoder.text_projection, *(pooler.query for pooler in poolers)]
    class_token = getattr(model.text, "cls_emb", None)
    for parameter in left if class_token is None else [*left, class_token]:
        parameter.data = parameter.data.to(dtype)


def _check_options(options: CaptionOptions, vocabulary_size: int) -> None:
    if options.do_sample and options.num_beams > 1:
        raise ConfigError(f"do_sample needs num_beams=1, but num_beams={options.num_beams}")
    if not options.do_sample and options.num_captions > options.num_beams:
        raise ConfigError(
            f"num_captions={options.num_captions} needs as many beams, but num_beams={options.num_beams}, "
            "or do_sample"
        )
    if 2 * options.num_beams > vocabulary_size:
        raise ConfigError(
            f"num_beams={options.num_beams} is too many for a vocabulary of {vocabulary_size} tokens"
        )


def _seed(pixels: NDArray[np.uint8]) -> int:
    """Return a seed that depends on the image alone, not on its batch."""
    return int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:8], "big")
