"""Vision-language chat models as captioners: SmolVLM, Qwen2-VL, Qwen2.5-VL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from autotag.errors import ConfigError, ModelLoadError
from autotag.models.captioners.generate_options import captions_of, check_beams, generation_options, placed
from autotag.models.fast.packed_linears import prepare_linears
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
    """Caption images with a model that answers questions about an image; the caption is the answer.

    ``options.prompt`` is the question, by default ``DEFAULT_PROMPT``. These models keep an image's aspect
    ratio and cut large images into tiles, so files are decoded in full.

    Args:
        model: a model of one of the classes in ``CLASSES``, in eval mode, on its device.
        processor: its processor, with a chat template.
        name: the source named in captions.

    Raises:
        ModelLoadError: the processor has no chat template, so the model is not a chat model.
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
        """Load the captioner from a folder or hub repository.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged, incomplete, of another class, or not of a chat model.
        """
        model, processor, _ = load_pretrained(request, "captioner", CLASSES)
        prepare_linears(model, request)
        return cls(model, processor, request.name)

    def check_options(self, options: CaptionOptions) -> None:
        """Refuse invalid options before any image is read.

        Raises:
            ConfigError: more captions than beams are asked for, or the prompt is empty.
        """
        check_beams(options)
        if options.prompt is not None and not options.prompt.strip():
            raise ConfigError(
                f"the prompt of {self.name!r} is empty; give a question, or None for {DEFAULT_PROMPT!r}"
            )

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        """Return the captions of each image (upright RGB), best first.

        With beam search, a score is the mean log-probability of the caption's tokens; with one beam, None.

        Raises:
            ConfigError: more captions than beams are asked for, or the prompt is empty.
        """
        self.check_options(options)
        if not images:
            return []
        question = self._question(options.prompt)
        inputs = self.processor(  # padded on the left, because the answer is written on the right
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
        """Return the prompt in the model's chat template."""
        prompt = DEFAULT_PROMPT if prompt is None else prompt
        message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
        question: str = self.processor.apply_chat_template(
            [message], add_generation_prompt=True, tokenize=False
        )
        return question
