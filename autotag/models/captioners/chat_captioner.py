"""Chat models that see, asked to describe an image: SmolVLM, Qwen2-VL, Qwen2.5-VL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from autotag.errors import ConfigError, ModelLoadError
from autotag.models.captioners.generate_options import captions_of, check_beams, generation_options, placed
from autotag.models.loading.transformers_loading import load_pretrained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from autotag.protocols import CaptionOptions, ModelRequest
    from autotag.records import Caption

CLASSES = {
    "idefics3": "Idefics3ForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
}
DEFAULT_PROMPT = "Describe this image in one sentence."


class ChatCaptioner:
    """Captions by a model that answers questions about an image; the caption is the answer.

    ``options.prompt`` is what it is asked, ``DEFAULT_PROMPT`` without one. These models look at images in
    their own shape, cut into tiles where they are large, so files are decoded in full.

    Args:
        model: a model of one of the classes in ``CLASSES``, evaluating, on its device.
        processor: its processor, with a chat template.
        name: what captions call their source.

    Raises:
        ModelLoadError: there is no chat template, so it is no chat model.
    """

    extra_options: ClassVar[frozenset[str]] = frozenset({"min_new_tokens"})

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        if processor.chat_template is None:
            raise ModelLoadError(
                name,
                f"model {name!r} has no chat template: it was not trained to answer (take an Instruct model)",
            )
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        self.model = model
        self.processor = processor
        self.name = name

    @classmethod
    def load(cls, request: ModelRequest) -> ChatCaptioner:
        """The captioner in a folder or hub repository.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: they are there but damaged, incomplete, of another class, or no chat model.
        """
        model, processor, _ = load_pretrained(request, "captioner", CLASSES)
        return cls(model, processor, request.name)

    def check_options(self, options: CaptionOptions) -> None:
        """Refuses options before any image.

        Raises:
            ConfigError: more captions than beams, or an empty prompt.
        """
        check_beams(options)
        if options.prompt is not None and not options.prompt.strip():
            raise ConfigError(
                f"{self.name!r} is asked nothing: the prompt is empty; None asks {DEFAULT_PROMPT!r}"
            )

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        """Per image (upright RGB) its captions, best first.

        A score is the mean log-probability of the caption's tokens by beam search, None for one beam.

        Raises:
            ConfigError: more captions than beams, or an empty prompt.
        """
        self.check_options(options)
        if not images:
            return []
        question = self._question(options.prompt)
        inputs = self.processor(  # padded at the left, because what is written goes on at the right
            text=[question] * len(images),
            images=[[image] for image in images],
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        with torch.inference_mode():
            written = self.model.generate(
                **placed(inputs, self.model),
                **generation_options(options),
                pad_token_id=self.processor.tokenizer.pad_token_id,
            )
        answers = written.sequences[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.batch_decode(answers, skip_special_tokens=True)
        return captions_of(texts, written, options, self.name)

    def _question(self, prompt: str | None) -> str:
        """The prompt in the model's own form of a conversation."""
        prompt = DEFAULT_PROMPT if prompt is None else prompt
        message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
        question: str = self.processor.apply_chat_template(
            [message], add_generation_prompt=True, tokenize=False
        )
        return question
