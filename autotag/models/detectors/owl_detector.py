"""OWL-ViT and OWLv2, which find what they are asked for, with their transformers classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

CLASSES = {"owlv2": "Owlv2ForObjectDetection", "owlvit": "OwlViTForObjectDetection"}
_TEMPLATE = "a photo of a {}"
_LABELS_AT_ONCE = 512
_OVERLAP = 0.5


class OwlDetector:
    """Find objects by their names (Minderer et al. 2022, arXiv:2205.06230; 2023, arXiv:2306.09683).

    A label is read as "a photo of a {label}". A score is the sigmoid of the label's similarity with a part of
    the image; each part has one box and one label. Of boxes of one label that overlap by more than half, the
    best stays. The vectors of the labels last asked for are kept.

    Args:
        model: a model of one of the classes in ``CLASSES``, in eval mode, on its device.
        processor: its processor.
        name: the model's name, for messages.
        overlap: intersection over union above which the lower of two boxes of one label goes.
    """

    default_threshold = 0.1  # as in the papers' own demonstration

    def __init__(self, model: Any, processor: Any, *, name: str, overlap: float = _OVERLAP) -> None:
        self.model = model
        self.processor = processor
        self.name = name
        self.overlap = overlap
        self._last: tuple[tuple[str, ...], torch.Tensor] | None = None

    @classmethod
    def load(cls, request: ModelRequest) -> OwlDetector:
        """Load the detector from a folder or hub repository.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged, incomplete, or of another class.
        """
        model, processor, _ = load_pretrained(request, "detector", CLASSES)
        return cls(model, processor, name=request.name)

    @property
    def image_size(self) -> int | None:
        """Return the side in pixels of the model's square input."""
        return square_side(self.processor.image_processor)

    def check_labels(self, labels: Sequence[str], /) -> None:
        """Refuse labels that are longer than the model reads.

        Raises:
            ConfigError: naming the first such label.
        """
        most = self.model.config.text_config.max_position_embeddings
        texts = [_TEMPLATE.format(label) for label in labels]
        for label, tokens in zip(labels, self.processor.tokenizer(texts)["input_ids"], strict=True):
            if len(tokens) > most:
                raise ConfigError(
                    f"label {label!r} has {len(tokens)} tokens; detector {self.name!r} reads {most}, and the "
                    "rest would be ignored; shorten it"
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
        with torch.inference_mode():
            queries = self._queries(wanted)
            return by_shape(
                frames, self._inputs, lambda inputs, some: self._found(inputs, some, wanted, queries)
            )

    def _queries(self, labels: tuple[str, ...]) -> torch.Tensor:
        """Return the (L, D) vectors of the labels."""
        if self._last is None or self._last[0] != labels:
            core = self.model.owlv2 if self.model.config.model_type == "owlv2" else self.model.owlvit
            length = self.model.config.text_config.max_position_embeddings
            parts = []
            for start in range(0, len(labels), _LABELS_AT_ONCE):
                texts = [_TEMPLATE.format(label) for label in labels[start : start + _LABELS_AT_ONCE]]
                tokens = self.processor.tokenizer(
                    texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
                ).to(self.model.device)
                vectors = core.get_text_features(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
                ).pooler_output
                parts.append(torch.nn.functional.normalize(vectors, dim=-1))
            self._last = labels, torch.cat(parts)
        return self._last[1]

    def _inputs(self, image: Image.Image) -> dict[str, torch.Tensor]:
        pixels = self.processor.image_processor(images=[image], return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels.to(self.model.dtype)}

    def _found(
        self,
        inputs: dict[str, torch.Tensor],
        frames: Sequence[Frame],
        labels: tuple[str, ...],
        queries: torch.Tensor,
    ) -> list[list[Detection]]:
        maps = self.model.image_embedder(inputs["pixel_values"].to(self.model.device))[0]
        parts = maps.flatten(1, 2)
        boxes = corners(self.model.box_predictor(parts, maps).float()).cpu()
        best, number = self._best_labels(parts, queries)
        scores, numbers = best.float().sigmoid().cpu().numpy(), number.cpu().numpy()
        return [
            best_detections(
                boxes[place].numpy() * self._scale(*frame.span),
                scores[place],
                numbers[place],
                labels,
                overlap=self.overlap,
                size=frame.size,
            )
            for place, frame in enumerate(frames)
        ]

    def _scale(self, width: float, height: float) -> list[float]:
        """Return what to multiply boxes with: OWLv2 pads right or bottom to a square, OWL-ViT squashes."""
        if self.model.config.model_type == "owlv2":
            return [max(width, height)] * 4
        return [width, height, width, height]

    def _best_labels(self, parts: torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each part's best label: its logit and number, (B, P) each. Labels in chunks, for memory."""
        best = number = None
        for start in range(0, len(queries), _LABELS_AT_ONCE):
            some = queries[start : start + _LABELS_AT_ONCE].expand(len(parts), -1, -1)
            logits, _ = self.model.class_predictor(parts, some)
            own, place = logits.max(dim=-1)
            if best is None or number is None:
                best, number = own, place + start
            else:
                better = own > best
                best, number = torch.where(better, own, best), torch.where(better, place + start, number)
        assert best is not None  # noqa: S101 - there is at least one label
        assert number is not None  # noqa: S101 - likewise
        return best, number
