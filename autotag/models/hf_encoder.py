"""CLIP, SigLIP and SigLIP 2 by their transformers classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from autotag.models import folders
from autotag.models.transformers_loading import load_pretrained, square_side

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from autotag.protocols import ModelRequest

CLASSES = {"clip": "CLIPModel", "siglip": "SiglipModel", "siglip2": "Siglip2Model"}
_CHUNK = 256


class HfEncoder:
    """Embeds images and texts by a transformers model.

    Args:
        model: a model of one of the classes in ``CLASSES``, evaluating, on its device.
        processor: its processor.
        id: names the weights.
        default_thresholds: score name -> cut.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        id: str,  # noqa: A002  the protocol's own name
        default_thresholds: Mapping[str, float],
    ) -> None:
        self.model = model
        self.processor = processor
        self.id = id
        self.default_thresholds = default_thresholds

    @classmethod
    def load(cls, request: ModelRequest) -> HfEncoder:
        """The encoder in a folder or hub repository.

        Raises:
            ModelUnavailableError: the weights are not to be had.
            ModelLoadError: they are there but damaged, incomplete, or of another class.
        """
        model, processor, folder = load_pretrained(request, "encoder", CLASSES)
        return cls(
            model, processor, id=_id(request, folder), default_thresholds=dict(request.default_thresholds)
        )

    @property
    def image_size(self) -> int | None:
        """The side in pixels of the square that the model looks at; None for SigLIP 2 of any aspect ratio."""
        return square_side(self.processor.image_processor)

    def embed_images(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """(B, D) float32, unit rows."""
        rows = [
            self._unit_rows(self.model.get_image_features, self._image_inputs(images[start : start + _CHUNK]))
            for start in range(0, len(images), _CHUNK)
        ]
        return np.concatenate(rows) if rows else np.zeros((0, self._width), dtype=np.float32)

    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """(T, D) float32, unit rows; texts are cut at what the model can read."""
        rows = [
            self._unit_rows(self.model.get_text_features, self._text_inputs(texts[start : start + _CHUNK]))
            for start in range(0, len(texts), _CHUNK)
        ]
        return np.concatenate(rows) if rows else np.zeros((0, self._width), dtype=np.float32)

    @property
    def _width(self) -> int:
        config = self.model.config
        return int(getattr(config, "projection_dim", None) or config.text_config.projection_size)

    def _image_inputs(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        inputs = dict(self.processor.image_processor(images=list(images), return_tensors="pt"))
        return {**inputs, "pixel_values": inputs["pixel_values"].to(self.model.dtype)}

    def _text_inputs(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Tokens. SigLIP was trained on lower-case text padded to full length, without an attention mask."""
        length = self.model.config.text_config.max_position_embeddings
        options: dict[str, Any] = {"truncation": True, "max_length": length, "return_tensors": "pt"}
        if self.model.config.model_type == "clip":
            return dict(self.processor.tokenizer(list(texts), padding=True, **options))
        lowered = [text.lower() for text in texts]
        tokens = self.processor.tokenizer(lowered, padding="max_length", **options)
        return {"input_ids": tokens["input_ids"]}

    def _unit_rows(self, features: Any, inputs: dict[str, torch.Tensor]) -> NDArray[np.float32]:
        placed = {key: values.to(self.model.device) for key, values in inputs.items()}
        with torch.inference_mode():
            vectors = features(**placed).pooler_output
        unit: NDArray[np.float32] = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
        return unit


def _id(request: ModelRequest, folder: Path) -> str:
    """Hub id and commit, or for a folder what is in it."""
    if Path(request.location).is_dir():
        return f"hf:{folders.fingerprint(folder)}"
    return f"hf:{request.location}@{folder.name}"
