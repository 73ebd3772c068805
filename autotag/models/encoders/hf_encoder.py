"""CLIP, SigLIP and SigLIP 2, with their transformers classes."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from transformers.models.siglip2.modeling_siglip2 import Siglip2VisionEmbeddings

from autotag.config.fast_paths import AUTO, FastPaths
from autotag.models.encoders import text_maps
from autotag.models.fast.causal_text import (
    PROBE,
    TEXTS_AT_ONCE,
    CausalText,
    causal_text_of_clip,
    with_shared_starts,
)
from autotag.models.fast.causal_tower import CausalTower, clip_tower
from autotag.models.fast.packed_linears import prepare_linears
from autotag.models.fast.text_reader import TextReader, transformers_reader
from autotag.models.fast.views import MakesViews, SquareView, view_of
from autotag.models.loading import model_folders
from autotag.models.loading.transformers_loading import load_pretrained, square_side
from autotag.records import TextMaps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from autotag.models.encoders.text_maps import AttentionMethod
    from autotag.protocols import ModelRequest, ScoreName

CLASSES = {"clip": "CLIPModel", "siglip": "SiglipModel", "siglip2": "Siglip2Model"}
_CHUNK = 256
_Item = TypeVar("_Item")


class HfEncoder(MakesViews):
    """Embed images and texts with a transformers model.

    Args:
        model: a model of one of the classes in ``CLASSES``, in eval mode, on its device.
        processor: its processor.
        id: identifies the weights.
        default_thresholds: score name -> threshold.
        default_score: the score that ``FilterTags`` uses when nothing else is set.
        fast_paths: the fast paths to use. Only ``load`` applies paths that change a model (packed layers); a
            model passed here is not changed.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        id: str,  # noqa: A002  the protocol's own name
        default_thresholds: Mapping[str, float],
        default_score: ScoreName = "standardised",
        fast_paths: FastPaths = AUTO,
        dtype: str = "",
    ) -> None:
        self.model = model
        self.processor = processor
        self.id = id
        self.default_thresholds = default_thresholds
        self.default_score = default_score
        self._fast_paths = fast_paths
        self.dtype = dtype or str(model.dtype).removeprefix("torch.")
        self._view = view_of(processor.image_processor) if fast_paths.views else None
        self._causal_text: CausalText | None = None
        if fast_paths.causal_text and model.config.model_type == "clip":
            probe = self.text_inputs(PROBE)["input_ids"]
            text = causal_text_of_clip(model, probe)
            self._causal_text = text and with_shared_starts(text, clip_tower(model), probe)

    @classmethod
    def load(cls, request: ModelRequest) -> HfEncoder:
        """Load the encoder from a folder or hub repository.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged, incomplete, or of another class.
        """
        model, processor, folder = load_pretrained(request, "encoder", CLASSES)
        prepare_linears(model, request, besides=(Siglip2VisionEmbeddings,))  # it reads the dtype of a weight
        return cls(
            model,
            processor,
            id=_id(request, folder),
            default_thresholds=dict(request.default_thresholds),
            default_score=request.default_score,
            fast_paths=request.fast_paths,
            dtype=request.dtype,
        )

    @property
    def image_size(self) -> int | None:
        """Return the side in pixels of the square input; None for SigLIP 2 with any aspect ratio."""
        return square_side(self.processor.image_processor)

    @property
    def logit_scale(self) -> float:
        """Return the factor of cosines before a softmax over texts, as it was trained."""
        return float(self.model.logit_scale.detach().exp())

    @property
    def text_reader(self) -> TextReader:
        """Return the reader that tells how much of a text the model reads."""
        return transformers_reader(self.model.config, self.processor.tokenizer)

    @property
    def causal_tower(self) -> CausalTower | str:
        """Return the parts of the text tower for ``prompt_chain``, or the reason why it is not used."""
        return clip_tower(self.model) if self._fast_paths.prompt_chain else "prompt_chain is switched off"

    def embed_images(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """Return (B, D) float32 vectors of images, of length 1."""
        if self._view is not None:
            return self.embed_views([self._view.make(image) for image in images])
        return self._in_chunks(images, lambda chunk: self._image_vectors(self._image_inputs(chunk)))

    def embed_views(self, views: Sequence[NDArray[np.uint8]], /) -> NDArray[np.float32]:
        """Return (B, D) float32 vectors, of length 1, of images prepared by ``view``."""
        view = self._own_view
        device, dtype = self.model.device, self.model.dtype
        return self._in_chunks(
            views,
            lambda chunk: self._image_vectors({"pixel_values": view.normalised(chunk, device, dtype)}),
        )

    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Return (T, D) float32 vectors of texts, of length 1; long texts are cut at the model's limit."""
        size = _CHUNK if self._causal_text is None else TEXTS_AT_ONCE
        return self._in_chunks(texts, lambda chunk: self._text_vectors(self.text_inputs(chunk)), size)

    def text_maps(
        self, image: Image.Image, texts: Sequence[str], /, *, method: AttentionMethod = "relevance"
    ) -> TextMaps:
        """Return where the model sees texts in an image: see ``text_maps``, the module.

        Args:
            image: upright RGB.
            texts: at least one.
            method: how attention is weighted.

        Raises:
            ConfigError: the model looks at images of any aspect ratio (SigLIP 2 NaFlex), or its processor
                prepares images in a way of its own.
        """
        view = None if self.image_size is None else self._map_view
        if view is None:
            raise text_maps.not_known(self.id, "it prepares images in a way of its own")
        vectors = torch.from_numpy(self.embed_texts(texts)).to(self.model.device)
        config = self.model.config.vision_config
        pixels = view.normalised([view.make(image)], self.model.device, self.model.dtype).requires_grad_()
        with torch.enable_grad(), text_maps.AttentionRecord() as record:
            found = self._image_vectors({"pixel_values": pixels})
        values = text_maps.attention_maps(
            record.probabilities,
            found,
            vectors,
            (view.height // config.patch_size, view.width // config.patch_size),
            has_class_token=self.model.config.model_type == "clip",
            method=method,
        )
        return TextMaps(values.cpu().numpy(), view.region(*image.size))

    @cached_property
    def _map_view(self) -> SquareView | None:
        """The view of images, also where the fast path is off; comparing it with the model's takes 0.1 s."""
        return self._view or view_of(self.processor.image_processor)

    def _in_chunks(
        self, items: Sequence[_Item], vectors: Callable[[Sequence[_Item]], torch.Tensor], size: int = _CHUNK
    ) -> NDArray[np.float32]:
        """Return (len(items), D) float32 vectors, of length 1."""
        rows = [np.zeros((0, self._width), dtype=np.float32)]
        for start in range(0, len(items), size):
            with torch.inference_mode():
                chunk = vectors(items[start : start + size])
            rows.append(torch.nn.functional.normalize(chunk.float(), dim=-1).cpu().numpy())
        return np.concatenate(rows)

    def _image_vectors(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        vectors: torch.Tensor = self.model.get_image_features(**self._placed(inputs)).pooler_output
        return vectors

    def _text_vectors(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if self._causal_text is not None:
            return self._causal_text(inputs["input_ids"])
        vectors: torch.Tensor = self.model.get_text_features(**self._placed(inputs)).pooler_output
        return vectors

    def _placed(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {key: values.to(self.model.device) for key, values in inputs.items()}

    @property
    def _width(self) -> int:
        config = self.model.config
        return int(getattr(config, "projection_dim", None) or config.text_config.projection_size)

    def _image_inputs(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        inputs = dict(self.processor.image_processor(images=list(images), return_tensors="pt"))
        return {**inputs, "pixel_values": inputs["pixel_values"].to(self.model.dtype)}

    def text_inputs(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the tokens of texts, as the model was trained.

        SigLIP was trained on lower-case text padded to full length, without an attention mask.
        """
        length = self.model.config.text_config.max_position_embeddings
        options: dict[str, Any] = {"truncation": True, "max_length": length, "return_tensors": "pt"}
        if self.model.config.model_type == "clip":
            return dict(self.processor.tokenizer(list(texts), padding=True, **options))
        lowered = [text.lower() for text in texts]
        tokens = self.processor.tokenizer(lowered, padding="max_length", **options)
        return {"input_ids": tokens["input_ids"]}


def _id(request: ModelRequest, folder: Path) -> str:
    """Return an id from the hub id and commit, or from the contents of a folder."""
    if request.folder is not None:
        return f"hf:{model_folders.fingerprint(folder)}"
    return f"hf:{request.location}@{folder.name}"
