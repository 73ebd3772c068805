"""Captioners made of an image encoder and a text decoder of transformers, such as ViT and GPT-2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import transformers

from autotag.errors import ModelLoadError
from autotag.models.captioners.generate_options import (
    captions_of,
    check_beams,
    check_length,
    generation_options,
    placed,
)
from autotag.models.fast.packed_linears import prepare_linears
from autotag.models.loading.transformers_loading import load_pretrained, square_side

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    from autotag.protocols import CaptionOptions, ModelRequest
    from autotag.records import Caption

CLASSES = {"vision-encoder-decoder": "VisionEncoderDecoderModel"}
_NEVER_USED = ("encoder.pooler.",)  # the decoder looks at the last hidden state; many checkpoints lack it


@dataclass(frozen=True, slots=True)
class ImageAndText:
    """The image processor and tokenizer of such a model; transformers has no joint class for them."""

    image_processor: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path) -> ImageAndText:
        """Load both from the model's folder.

        Raises:
            OSError, ValueError: one of them does not load.
        """
        image_processor: Any = transformers.AutoImageProcessor
        tokenizer: Any = transformers.AutoTokenizer
        return cls(
            image_processor.from_pretrained(folder, local_files_only=True),
            tokenizer.from_pretrained(folder, local_files_only=True),
        )


class EncoderDecoderCaptioner:
    """Caption images with a VisionEncoderDecoderModel. It continues a prompt, which is part of the caption.

    Every sequence begins with the same tokens (the start token, then the prompt's), so inputs need no
    padding, and a pad token that equals the end token, as in GPT-2, masks nothing.

    Args:
        model: a VisionEncoderDecoderModel, in eval mode, on its device.
        processor: its image processor and tokenizer.
        name: the source named in captions.

    Raises:
        ModelLoadError: the model does not name its start token or its end token.
    """

    extra_options: ClassVar[frozenset[str]] = frozenset({"min_new_tokens"})

    def __init__(self, model: Any, processor: ImageAndText, name: str) -> None:
        self.model = model
        self.processor = processor
        self.name = name
        self._start, self._end, self._pad = _special_tokens(model, processor.tokenizer, name)

    @classmethod
    def load(cls, request: ModelRequest) -> EncoderDecoderCaptioner:
        """Load the captioner from a folder or hub repository.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged, incomplete, or of another class.
        """
        model, processor, _ = load_pretrained(
            request, "captioner", CLASSES, load_processor=ImageAndText.load, never_used=_NEVER_USED
        )
        prepare_linears(model, request)
        return cls(model, processor, request.name)

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
        most = getattr(self.model.config.decoder, "max_position_embeddings", None)
        if most is not None:
            check_length(self.name, most, len(self._prompt_tokens(options.prompt)), options)

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        """Return the captions of each image (upright RGB), best first.

        With beam search, a score is the mean log-probability of the caption's tokens; with one beam, None.

        Raises:
            ConfigError: more captions than beams are asked for, or more tokens than the model reads.
        """
        self.check_options(options)
        if not images:
            return []
        inputs = placed(self._inputs(images, options.prompt), self.model)
        with torch.inference_mode():
            written = self.model.generate(
                **inputs,
                **generation_options(options),
                decoder_start_token_id=self._start,
                eos_token_id=self._end,
                pad_token_id=self._pad,
            )
        texts = self.processor.tokenizer.batch_decode(written.sequences, skip_special_tokens=True)
        return captions_of(texts, written, options, self.name)

    def _inputs(self, images: Sequence[Image.Image], prompt: str | None) -> dict[str, torch.Tensor]:
        pixels = self.processor.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        tokens = torch.tensor([[self._start, *self._prompt_tokens(prompt)]] * len(images))
        return {
            "pixel_values": pixels,
            "decoder_input_ids": tokens,
            "decoder_attention_mask": torch.ones_like(tokens),
        }

    def _prompt_tokens(self, prompt: str | None) -> list[int]:
        tokens: list[int] = self.processor.tokenizer(prompt or "", add_special_tokens=False)["input_ids"]
        return tokens


def _special_tokens(model: Any, tokenizer: Any, name: str) -> tuple[int, int | list[int], int]:
    """Return start, end and pad token from the checkpoint, else from its tokenizer."""
    said = model.generation_config
    start = _first(said.decoder_start_token_id, said.bos_token_id, tokenizer.bos_token_id)
    end = _first(said.eos_token_id, tokenizer.eos_token_id)
    if start is None or end is None:
        raise ModelLoadError(
            name,
            f"model {name!r}: neither its configuration nor its tokenizer names a start and an end token",
        )
    pad = _first(said.pad_token_id, tokenizer.pad_token_id, end if isinstance(end, int) else end[0])
    return start, end, pad


def _first(*tokens: Any) -> Any:
    return next((token for token in tokens if token is not None), None)
