"""Grounding DINO, which finds what it is asked for, with its transformers classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from autotag.errors import ConfigError
from autotag.models.detectors.found import (
    Frame,
    best_detections,
    by_shape,
    corners,
    framed,
    refuse_without_labels,
)
from autotag.models.loading.transformers_loading import load_pretrained, square_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from autotag.protocols import ModelRequest
    from autotag.records import Detection

CLASSES = {
    "grounding-dino": "GroundingDinoForObjectDetection",
    "mm-grounding-dino": "MMGroundingDinoForObjectDetection",
}
_MOST_PASSES = 20
_ENDS = str.maketrans(".?", "  ")
"""Characters that end a phrase in the prompt."""
_OVERLAP = 0.7


class _Prompt(NamedTuple):
    """A text that asks for some labels: their numbers, tokens and the tokens' places, (L, T) 0 or 1."""

    numbers: list[int]
    tokens: dict[str, torch.Tensor]
    places: torch.Tensor


class GroundingDinoDetector:
    """Find objects by their names (Liu et al. 2023, arXiv:2303.05499).

    The labels are read as one text, "dog. traffic light.", in several passes if it is longer than the model
    reads. A label's score is the mean over its tokens, as in GLIP (Li et al. 2022, arXiv:2112.03857), so that
    "red car" is not every car; each box has its best label. Of boxes of one label that overlap by more than
    0.7, the best stays.

    Args:
        model: a model of one of the classes in ``CLASSES``, in eval mode, on its device.
        processor: its processor.
        name: the model's name, for messages.
    """

    default_threshold = 0.3

    def __init__(self, model: Any, processor: Any, *, name: str) -> None:
        self.model = model
        self.processor = processor
        self.name = name

    @classmethod
    def load(cls, request: ModelRequest) -> GroundingDinoDetector:
        """Load the detector from a folder or hub repository.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged, incomplete, or of another class.
        """
        model, processor, _ = load_pretrained(request, "detector", CLASSES)
        return cls(model, processor, name=request.name)

    @property
    def image_size(self) -> int | None:
        """Return the length in pixels of the shorter side of the model's input."""
        return square_side(self.processor.image_processor)

    def check_labels(self, labels: Sequence[str], /) -> None:
        """Refuse labels that the model cannot read.

        Raises:
            ConfigError: a label is longer than the model's text, has no letter or digit that it knows, or all
                of them take more than 20 passes per image.
        """
        passes = len(self._prompts(tuple(labels)))
        if passes > _MOST_PASSES:
            raise ConfigError(
                f"{len(labels):,} labels take {passes} passes of detector {self.name!r} per image; at most "
                f"{_MOST_PASSES} are allowed. Name fewer, or use 'owlv2-base', which reads them once"
            )

    def detect(self, images: Sequence[Image.Image], /) -> list[list[Detection]]:
        """Return [] for no images.

        Raises:
            ConfigError: there are images; this detector needs labels (``detect_labels``).
        """
        if images:
            raise refuse_without_labels(self.name)
        return []

    def detect_labels(self, images: Sequence[Image.Image], labels: Sequence[str], /) -> list[list[Detection]]:
        """Return each upright RGB image's objects with these labels, best first, in pixels of that image."""
        wanted = tuple(labels)
        frames = [framed(image, self.image_size) for image in images]
        prompts = self._prompts(wanted)
        with torch.inference_mode():
            return by_shape(
                frames, self._inputs, lambda inputs, some: self._found(inputs, some, wanted, prompts)
            )

    def _inputs(self, image: Image.Image) -> dict[str, torch.Tensor]:
        inputs = dict(self.processor.image_processor(images=[image], return_tensors="pt"))
        return {**inputs, "pixel_values": inputs["pixel_values"].to(self.model.dtype)}

    def _prompts(self, labels: tuple[str, ...]) -> list[_Prompt]:
        """Share the labels out to as few texts as the model needs to read them all."""
        phrases = [" ".join(label.lower().translate(_ENDS).split()) for label in labels]
        tokenizer = self.processor.tokenizer
        most = self.model.config.max_text_len - 2  # for the tokens at start and end
        groups: list[list[int]] = [[]]
        filled = 0
        for number, phrase in enumerate(phrases):
            length = len(tokenizer(phrase, add_special_tokens=False)["input_ids"]) + 1
            if length == 1 or length > most:
                wrong = "has nothing that can be read" if length == 1 else f"has {length - 1} tokens"
                raise ConfigError(
                    f"label {labels[number]!r} {wrong}; detector {self.name!r} takes 1 to {most - 1} tokens"
                )
            if filled + length > most:
                groups.append([])
                filled = 0
            groups[-1].append(number)
            filled += length
        return [self._prompt(group, [phrases[number] for number in group]) for group in groups]

    def _prompt(self, numbers: list[int], phrases: list[str]) -> _Prompt:
        text, spans = "", []
        for phrase in phrases:
            spans.append((len(text), len(text) + len(phrase)))
            text += f"{phrase}. "
        tokens = self.processor.tokenizer(
            text.rstrip(), return_tensors="pt", return_offsets_mapping=True, return_token_type_ids=True
        )
        first, last = tokens.pop("offset_mapping")[0].T
        places = torch.stack([(first >= start) & (last <= end) & (last > first) for start, end in spans])
        return _Prompt(numbers, dict(tokens), places.float())

    def _found(
        self,
        inputs: dict[str, torch.Tensor],
        frames: Sequence[Frame],
        labels: tuple[str, ...],
        prompts: Sequence[_Prompt],
    ) -> list[list[Detection]]:
        placed = {name: values.to(self.model.device) for name, values in inputs.items()}
        passes = [self._pass(placed, prompt) for prompt in prompts]
        scores, numbers, boxes = (torch.cat(parts, dim=1).numpy() for parts in zip(*passes, strict=True))
        return [
            best_detections(
                boxes[place] * [*frame.span, *frame.span],
                scores[place],
                numbers[place],
                labels,
                overlap=_OVERLAP,
                size=frame.size,
            )
            for place, frame in enumerate(frames)
        ]

    def _pass(
        self, inputs: dict[str, torch.Tensor], prompt: _Prompt
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the score and number of each box's best label, (B, Q) each, and the boxes, (B, Q, 4)."""
        count = len(inputs["pixel_values"])
        device = self.model.device
        tokens = {name: values.expand(count, -1).to(device) for name, values in prompt.tokens.items()}
        outputs = self.model(**inputs, **tokens)
        chances = outputs.logits.float().sigmoid()[..., : prompt.places.shape[1]].cpu()
        of_labels = chances @ prompt.places.T / prompt.places.sum(dim=1)
        best, place = of_labels.max(dim=-1)
        return best, torch.tensor(prompt.numbers)[place], corners(outputs.pred_boxes.float().cpu())
