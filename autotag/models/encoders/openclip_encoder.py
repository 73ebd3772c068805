"""CLIP models, with open_clip."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from open_clip.model import CLIP
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import TextTransformer, VisionTransformer
from timm.models.eva import EvaAttention

from autotag.config.fast_paths import AUTO, FastPaths
from autotag.models.encoders import text_maps
from autotag.models.fast import causal_text
from autotag.models.fast.causal_tower import CausalTower, open_clip_tower
from autotag.models.fast.folded_norms import fold_norms
from autotag.models.fast.packed_linears import prepare_linears
from autotag.models.fast.shared_backbone import SharedBackbone, has_backbone, shared_backbone
from autotag.models.fast.text_reader import TextReader, open_clip_reader
from autotag.models.fast.views import MakesViews, SquareView, view_of_open_clip
from autotag.models.loading.device import torch_dtype
from autotag.models.loading.openclip_loading import load_open_clip
from autotag.records import TextMaps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from autotag.models.encoders.text_maps import AttentionMethod
    from autotag.protocols import ModelRequest, ScoreName

_CHUNK = 256
_READ_WEIGHTS = (AttentionPool2d, CLIP, EvaAttention, TextTransformer)
"""Modules that read the weights of their layers, or check that a layer is an ``nn.Linear``."""


class OpenClipEncoder(MakesViews):
    """Embed images and texts with an open_clip model.

    Args:
        model: a model of open_clip with its preprocessing attached, in eval mode, on its device.
        tokenizer: texts -> (T, L) token ids, cut at the model's limit.
        id: identifies the weights.
        dtype: the model's dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        default_thresholds: score name -> threshold.
        default_score: the score that ``FilterTags`` uses when nothing else is set.
        fast_paths: the fast paths to use. Only ``load`` applies paths that change a model (packed layers); a
            model passed here is not changed.
        backbone: computes the feature maps of views, shared with other models; None for the model's own.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Callable[[list[str]], torch.Tensor],
        *,
        id: str,  # noqa: A002  the protocol's own name
        dtype: str,
        default_thresholds: Mapping[str, float],
        default_score: ScoreName = "standardised",
        fast_paths: FastPaths = AUTO,
        backbone: SharedBackbone | None = None,
    ) -> None:
        self.model = model
        self._backbone = backbone
        self._cfg = cfg = PreprocessCfg(**model.visual.preprocess_cfg)
        self.preprocess = image_transform_v2(cfg, is_train=False)
        self.tokenizer = tokenizer
        self.id = id
        self.default_thresholds = default_thresholds
        self.default_score = default_score
        self._fast_paths = fast_paths
        self.dtype = dtype
        self._dtype = torch_dtype(dtype)
        self._device = next(model.parameters()).device
        self._view = view_of_open_clip(self.preprocess, cfg) if fast_paths.views else None
        self._encode_text: Callable[[torch.Tensor], torch.Tensor] = model.encode_text
        if fast_paths.causal_text:
            probe = tokenizer(list(causal_text.PROBE))
            text = causal_text.causal_text_of_open_clip(model, probe)
            if text is not None:
                self._encode_text = causal_text.with_shared_starts(text, open_clip_tower(model), probe)

    @classmethod
    def load(cls, request: ModelRequest) -> OpenClipEncoder:
        """Load the encoder named ``"ViT-B-32/laion2b_s34b_b79k"``, ``"hf-hub:<id>"``, or in a folder.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged, incomplete, or of another class.
            ConfigError: open_clip does not know the model or pretrained tag.
        """
        loaded = load_open_clip(request, "encoder")
        paths = request.fast_paths
        if paths.folded_norms and isinstance(loaded.model.visual, TimmModel):
            fold_norms(loaded.model.visual.trunk)
        prepare_linears(loaded.model, request, besides=_READ_WEIGHTS)
        backbone = None
        if paths.shared_backbone and has_backbone(loaded.model.visual):
            backbone = shared_backbone(loaded.model.visual.trunk)
        return cls(
            loaded.model,
            loaded.tokenizer,
            id=loaded.id,
            dtype=request.dtype,
            default_thresholds=dict(request.default_thresholds),
            default_score=request.default_score,
            fast_paths=paths,
            backbone=backbone,
        )

    @property
    def image_size(self) -> int:
        """Return the side in pixels of the model's square input."""
        size = self.model.visual.preprocess_cfg["size"]
        return int(size if isinstance(size, int) else max(size))

    @property
    def logit_scale(self) -> float:
        """Return the factor of cosines before a softmax over texts, as it was trained."""
        return float(self.model.logit_scale.detach().exp())

    @property
    def text_reader(self) -> TextReader:
        """Return the reader that tells how much of a text the model reads."""
        return open_clip_reader(self.tokenizer)

    @property
    def causal_tower(self) -> CausalTower | str:
        """Return the parts of the text tower for ``prompt_chain``, or the reason why it is not used."""
        return (
            open_clip_tower(self.model) if self._fast_paths.prompt_chain else "prompt_chain is switched off"
        )

    def embed_images(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """Return (B, D) float32 vectors of images, of length 1."""
        if self._view is not None:
            return self.embed_views([self._view.make(image) for image in images])
        rows = []
        for start in range(0, len(images), _CHUNK):
            pixels = torch.stack([self.preprocess(image) for image in images[start : start + _CHUNK]])
            rows.append(self._unit_rows(self.model.encode_image, pixels.to(self._device, self._dtype)))
        return np.concatenate(rows) if rows else self._none()

    def embed_views(self, views: Sequence[NDArray[np.uint8]], /) -> NDArray[np.float32]:
        """Return (B, D) float32 vectors, of length 1, of images prepared by ``view``."""
        rows = []
        for start in range(0, len(views), _CHUNK):
            some = views[start : start + _CHUNK]
            if self._backbone is None:
                rows.append(self._unit_rows(self.model.encode_image, self._normalised(some)))
            else:
                maps = self._backbone.maps(some, self._normalised)
                rows.append(self._unit_rows(self._embed_maps, maps))
        return np.concatenate(rows) if rows else self._none()

    def _normalised(self, views: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        return self._own_view.normalised(views, self._device, self._dtype)

    def _embed_maps(self, maps: torch.Tensor) -> torch.Tensor:
        """Return (B, D) vectors of the image tower, from (B, C, H, W) maps of its backbone."""
        visual = self.model.visual
        vectors: torch.Tensor = visual.head(visual.trunk.forward_head(maps, pre_logits=True))
        return vectors

    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Return (T, D) float32 vectors of texts, of length 1; long texts are cut at the model's limit."""
        rows = []
        is_causal = isinstance(self._encode_text, causal_text.CausalText)  # it moves tokens itself
        size = causal_text.TEXTS_AT_ONCE if is_causal else _CHUNK
        for start in range(0, len(texts), size):
            tokens = self.tokenizer(list(texts[start : start + size]))
            placed = tokens if is_causal else tokens.to(self._device)
            rows.append(self._unit_rows(self._encode_text, placed))
        return np.concatenate(rows) if rows else self._none()

    def text_maps(
        self, image: Image.Image, texts: Sequence[str], /, *, method: AttentionMethod = "relevance"
    ) -> TextMaps:
        """Return where the model sees texts in an image: see ``text_maps``, the module.

        A convolutional tower looks at the image with twice as many pixels a side, so its maps are finer.

        Args:
            image: upright RGB.
            texts: at least one.
            method: for vision transformers.

        Raises:
            ConfigError: the image tower is of another kind, or prepares images in a way of its own.
        """
        visual, view = self.model.visual, self._map_view
        vectors = torch.from_numpy(self.embed_texts(texts)).to(self._device)
        if view is None:
            raise text_maps.not_known(self.id, "it prepares images in a way of its own")
        if isinstance(visual, TimmModel) and not hasattr(visual.trunk, "patch_embed"):
            view = view.larger(2)
            cells = self.cells([image], view)[0]
            values = (cells @ vectors.T).permute(2, 0, 1)
        elif isinstance(visual, ModifiedResNet):
            with torch.no_grad():
                pixels = visual.stem(self._pixels(view, image))
                features = visual.layer4(visual.layer3(visual.layer2(visual.layer1(pixels))))
            values = text_maps.grad_cam(features, visual.attnpool, vectors)
        elif isinstance(visual, VisionTransformer | TimmModel):
            trunk = getattr(visual, "trunk", None)
            grid = visual.grid_size if trunk is None else trunk.patch_embed.grid_size
            pools_token = visual.pool_type == "tok" if trunk is None else trunk.global_pool == "token"
            with torch.enable_grad(), text_maps.AttentionRecord() as record:
                found = self.model.encode_image(self._pixels(view, image).requires_grad_())
            values = text_maps.attention_maps(
                record.probabilities,
                found,
                vectors,
                (int(grid[0]), int(grid[1])),
                has_class_token=pools_token,
                method=method,
            )
        else:
            raise text_maps.not_known(self.id, f"its image tower is a {type(visual).__name__}")
        return TextMaps(values.float().cpu().numpy(), view.region(*image.size))

    def cells(self, images: Sequence[Image.Image], view: SquareView, **window: int) -> torch.Tensor:
        """Return (B, H, W, D) unit vectors of places in images, by a convolutional tower of timm.

        Args:
            images: upright RGB, at least one.
            view: gives the tower its pixels, as many as there shall be places for.
            window: see ``text_maps.cell_vectors``.
        """
        pixels = view.normalised([view.make(image) for image in images], self._device, self._dtype)
        with torch.no_grad():
            features = self.model.visual.trunk.forward_features(pixels)
        return text_maps.cell_vectors(features, self._embed_maps, **window)

    @cached_property
    def _map_view(self) -> SquareView | None:
        """The view of images, also where the fast path is off; comparing it with the model's takes 0.1 s."""
        return self._view or view_of_open_clip(self.preprocess, self._cfg)

    def _pixels(self, view: SquareView, image: Image.Image) -> torch.Tensor:
        """Return the (1, 3, H, W) input of one image."""
        return view.normalised([view.make(image)], self._device, self._dtype)

    def _unit_rows(
        self, encode: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor
    ) -> NDArray[np.float32]:
        with torch.inference_mode():
            vectors = encode(inputs)
        unit: NDArray[np.float32] = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
        return unit

    def _none(self) -> NDArray[np.float32]:
        """Return (0, D), the result for an empty input."""
        return self.embed_texts([""])[:0]
