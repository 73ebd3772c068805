"""Florence-2, with its transformers class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from autotag.errors import UnknownNameError
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

    from PIL import Image

    from autotag.protocols import CaptionOptions, ModelRequest
    from autotag.records import Caption

CLASSES = {"florence2": "Florence2ForConditionalGeneration"}
TASKS = {
    "caption": "<CAPTION>",
    "detailed caption": "<DETAILED_CAPTION>",
    "more detailed caption": "<MORE_DETAILED_CAPTION>",
}
"""Allowed ``prompt`` -> the model's task token (Xiao et al. 2023, arXiv:2311.06242)."""


class FlorenceCaptioner:
    """Caption images with Florence-2, which takes tasks instead of free prompts.

    ``options.prompt`` is a task, given by its name in ``TASKS`` or by its token: ``"caption"`` (the default)
    writes a sentence, ``"detailed caption"`` more, ``"more detailed caption"`` a paragraph, which needs a
    larger ``max_new_tokens``.

    Args:
        model: a Florence2ForConditionalGeneration, in eval mode, on its device.
        processor: its processor.
        name: the source named in captions.
    """

    extra_options: ClassVar[frozenset[str]] = frozenset({"min_new_tokens"})

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        self.model = model
        self.processor = processor
        self.name = name

    @classmethod
    def load(cls, request: ModelRequest) -> FlorenceCaptioner:
        """Load the captioner from a folder or hub repository.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged, incomplete, or of another class.
        """
        model, processor, _ = load_pretrained(request, "captioner", CLASSES)
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
            UnknownNameError: the prompt is not a task.
        """
        check_beams(options)
        check_length(self.name, self.model.config.text_config.max_position_embeddings, 0, options)
        _task(options.prompt)

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        """Return the captions of each image (upright RGB), best first.

        With beam search, a score is the mean log-probability of the caption's tokens; with one beam, None.

        Raises:
            ConfigError: more captions than beams are asked for, or more tokens than the model reads.
            UnknownNameError: the prompt is not a task.
        """
        self.check_options(options)
        if not images:
            return []
        task = _task(options.prompt)
        inputs = self.processor(images=list(images), text=[task] * len(images), return_tensors="pt")
        with torch.inference_mode():
            written = self.model.generate(**placed(inputs, self.model), **generation_options(options))
        texts = self.processor.batch_decode(written.sequences, skip_special_tokens=True)
        return captions_of(texts, written, options, self.name)


def _task(prompt: str | None) -> str:
    if prompt is None:
        return TASKS["caption"]
    if prompt in TASKS.values():
        return prompt
    if prompt not in TASKS:
        raise UnknownNameError("task of Florence-2 as a prompt", prompt, TASKS)
    return TASKS[prompt]
