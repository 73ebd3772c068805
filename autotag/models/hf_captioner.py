"""BLIP, BLIP-2 and GIT by their transformers classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from autotag.errors import ConfigError
from autotag.models.transformers_loading import load_pretrained, square_side
from autotag.records import Caption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from autotag.protocols import CaptionOptions, ModelRequest

CLASSES = {
    "blip": "BlipForConditionalGeneration",
    "blip-2": "Blip2ForConditionalGeneration",
    "git": "GitForCausalLM",
}
T5_PROMPT = "a photo of"
_INPUTS = ("pixel_values", "input_ids", "attention_mask")


class HfCaptioner:
    """Captions by a transformers model.

    With a prompt, BLIP, GIT and BLIP-2 OPT continue it, and the caption is the whole sentence, prompt
    included. BLIP-2 with a T5 answers it, and the caption is the answer; a T5 cannot do without a prompt
    and is given ``"a photo of"``, as upstream does, when there is none.

    Args:
        model: a model of one of the classes in ``CLASSES``, evaluating, on its device.
        processor: its processor.
        name: what captions call their source.
    """

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        self.model = model
        self.processor = processor
        self.name = name

    @classmethod
    def load(cls, request: ModelRequest) -> HfCaptioner:
        """The captioner in a folder or hub repository.

        Raises:
            ModelUnavailableError: the weights are not to be had.
            ModelLoadError: they are there but damaged, incomplete, or of another class.
        """
        model, processor, _ = load_pretrained(request, "captioner", CLASSES)
        return cls(model, processor, request.name)

    @property
    def image_size(self) -> int | None:
        """The side in pixels of the square that the model looks at."""
        return square_side(self.processor.image_processor)

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        """Per image (upright RGB) its captions, best first.

        A score is the mean log-probability of the caption's tokens by beam search, None for one beam.

        Raises:
            ConfigError: more captions than beams.
        """
        if options.num_captions > options.num_beams:
            raise ConfigError(
                f"num_captions={options.num_captions} needs as many beams, but num_beams={options.num_beams}"
            )
        if not images:
            return []
        with torch.inference_mode():
            written = self.model.generate(**self._inputs(images, options.prompt), **_generation(options))
        captions = [
            Caption(_normalised(text), self.name, score)
            for text, score in zip(self._texts(written.sequences), _scores(written), strict=True)
        ]
        step = options.num_captions
        return [captions[start : start + step] for start in range(0, len(captions), step)]

    def _inputs(self, images: Sequence[Image.Image], prompt: str | None) -> dict[str, torch.Tensor]:
        """What ``generate`` wants besides options, on the model's device and in its dtype."""
        text = T5_PROMPT if prompt is None and self._answers else prompt
        given: dict[str, Any] = {"images": list(images), "return_tensors": "pt"}
        if text is not None:
            given["text"] = [text] * len(images)
        inputs = {key: values for key, values in self.processor(**given).items() if key in _INPUTS}
        if text is not None and self._closes_prompts:
            inputs |= {key: inputs[key][:, :-1] for key in ("input_ids", "attention_mask")}
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        return {key: values.to(self.model.device) for key, values in inputs.items()}

    @property
    def _answers(self) -> bool:
        """Whether captions come without their prompt: the language model is an encoder-decoder."""
        return (
            self.model.config.model_type == "blip-2" and not self.model.config.use_decoder_only_language_model
        )

    @property
    def _closes_prompts(self) -> bool:
        """Whether the tokenizer ends a prompt with [SEP], which ends GIT's caption; BLIP drops it itself."""
        return bool(self.model.config.model_type == "git")

    def _texts(self, sequences: torch.Tensor) -> list[str]:
        """The sentences without special tokens; BLIP's [DEC], perhaps unknown to its tokenizer, is cut."""
        if self.model.config.model_type == "blip":
            sequences = sequences[:, 1:]
        texts: list[str] = self.processor.batch_decode(sequences, skip_special_tokens=True)
        return texts


def _generation(options: CaptionOptions) -> dict[str, Any]:
    """The options as ``generate`` knows them; only those that differ from its own defaults."""
    given: dict[str, Any] = {
        "max_new_tokens": options.max_new_tokens,
        "num_beams": options.num_beams,
        "do_sample": False,
        "return_dict_in_generate": True,
    }
    if options.num_beams > 1:
        given |= {"num_return_sequences": options.num_captions, "output_scores": True}
    if options.repetition_penalty != 1.0:
        given["repetition_penalty"] = options.repetition_penalty
    return given


def _scores(written: Any) -> list[float | None]:
    scores = getattr(written, "sequences_scores", None)
    return [None] * len(written.sequences) if scores is None else [float(score) for score in scores]


def _normalised(text: str) -> str:
    return " ".join(text.split())
