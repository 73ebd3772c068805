"""CLIP models by open_clip."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from open_clip.modified_resnet import AttentionPool2d
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2

from autotag.errors import ConfigError, ModelLoadError, UnknownNameError
from autotag.models import causal_text, folders, hub
from autotag.models.catalog import HUB_BRANCH
from autotag.models.device import torch_dtype
from autotag.models.packed_linears import pack_linears
from autotag.models.quiet import no_chatter
from autotag.models.views import view_of_open_clip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray
    from PIL import Image

    from autotag.protocols import ModelRequest

_CHUNK = 256
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


class OpenClipEncoder:
    """Embeds images and texts by an open_clip model.

    Args:
        model: made by open_clip, which leaves its preprocessing on it; evaluating, on its device.
        tokenizer: texts -> (T, L) token ids, cut at what the model can read.
        id: names the weights.
        dtype: what the model calculates in: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        default_thresholds: score name -> cut.
        plain: fast paths that are switched off, see ``autotag.fast_paths``. Linear layers are packed by
            ``load`` only: a model that is handed in keeps its weights.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Callable[[list[str]], torch.Tensor],
        *,
        id: str,  # noqa: A002  the protocol's own name
        dtype: str,
        default_thresholds: Mapping[str, float],
        plain: AbstractSet[str] = frozenset(),
    ) -> None:
        self.model = model
        cfg = PreprocessCfg(**model.visual.preprocess_cfg)
        self.preprocess = image_transform_v2(cfg, is_train=False)
        self.tokenizer = tokenizer
        self.id = id
        self.default_thresholds = default_thresholds
        self.plain = frozenset(plain)
        self.dtype = dtype
        self._dtype = torch_dtype(dtype)
        self._device = next(model.parameters()).device
        self._view = None if "views" in plain else view_of_open_clip(self.preprocess, cfg)
        self._encode_text: Callable[[torch.Tensor], torch.Tensor] = model.encode_text
        if "causal_text" not in plain:
            probe = tokenizer(list(causal_text.PROBE)).to(self._device)
            self._encode_text = causal_text.causal_text_of_open_clip(model, probe) or model.encode_text

    @classmethod
    def load(cls, request: ModelRequest) -> OpenClipEncoder:
        """The encoder named ``"ViT-B-32/laion2b_s34b_b79k"``, ``"hf-hub:<id>"``, or in a folder.

        Raises:
            ModelUnavailableError: the weights are not to be had.
            ModelLoadError: they are there but damaged, incomplete, or of another class.
            ConfigError: open_clip knows no such model or pretrained tag.
        """
        if Path(request.location).is_dir() or request.location.startswith("hf-hub:"):
            return _from_folder(request)
        return _from_tag(request)

    @property
    def image_size(self) -> int:
        """The side in pixels of the square that the model looks at."""
        size = self.model.visual.preprocess_cfg["size"]
        return int(size if isinstance(size, int) else max(size))

    def embed_images(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """(B, D) float32, unit rows."""
        if self._view is not None:
            return self.embed_views([self._view.make(image) for image in images])
        rows = []
        for start in range(0, len(images), _CHUNK):
            pixels = torch.stack([self.preprocess(image) for image in images[start : start + _CHUNK]])
            rows.append(self._unit_rows(self.model.encode_image, pixels.to(self._device, self._dtype)))
        return np.concatenate(rows) if rows else self._none()

    @property
    def view_id(self) -> str | None:
        """Names the view; None where this model makes none."""
        return self._view.id if self._view else None

    def view(self, image: Image.Image, /) -> NDArray[np.uint8]:
        """(3, H, W) uint8, as ``embed_views`` takes it. Only where ``view_id`` is not None."""
        assert self._view is not None  # noqa: S101 - the protocol's own condition
        return self._view.make(image)

    def embed_views(self, views: Sequence[NDArray[np.uint8]], /) -> NDArray[np.float32]:
        """(B, D) float32, unit rows, of what ``view`` made of the images."""
        assert self._view is not None  # noqa: S101 - the protocol's own condition
        rows = []
        for start in range(0, len(views), _CHUNK):
            pixels = self._view.normalised(views[start : start + _CHUNK], self._device, self._dtype)
            rows.append(self._unit_rows(self.model.encode_image, pixels))
        return np.concatenate(rows) if rows else self._none()

    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """(T, D) float32, unit rows; texts are cut at what the model can read."""
        rows = []
        for start in range(0, len(texts), _CHUNK):
            tokens = self.tokenizer(list(texts[start : start + _CHUNK]))
            rows.append(self._unit_rows(self._encode_text, tokens.to(self._device)))
        return np.concatenate(rows) if rows else self._none()

    def _unit_rows(
        self, encode: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor
    ) -> NDArray[np.float32]:
        with torch.inference_mode():
            vectors = encode(inputs)
        unit: NDArray[np.float32] = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
        return unit

    def _none(self) -> NDArray[np.float32]:
        """No rows, of the right width."""
        return self.embed_texts([""])[:0]


def _from_folder(request: ModelRequest) -> OpenClipEncoder:
    """From a folder, or a hub repository, that holds ``open_clip_config.json``."""
    if Path(request.location).is_dir():
        folder = Path(request.location)
        folders.check_folder(request.name, folder, folders.OPEN_CLIP)
        identity = f"open_clip:{folders.fingerprint(folder)}"
    else:
        hub_id = request.location.removeprefix("hf-hub:")
        folder = hub.fetch(request.name, "encoder", hub_id, request.revision, folders.OPEN_CLIP)
        folders.check_folder(request.name, folder, folders.OPEN_CLIP)
        identity = f"open_clip:{hub_id}@{folder.name}"
    config = folders.read_json(request.name, folder / "open_clip_config.json").get("model_cfg", {})
    architecture = f"local-dir:{folder}"
    return _built(
        request,
        folder,
        identity,
        architecture=architecture,
        options=_text_tower(request, config.get("text_cfg", {}), folder),
        tokenizer=partial(open_clip.get_tokenizer, architecture),
    )


def _from_tag(request: ModelRequest) -> OpenClipEncoder:
    """From open_clip's own table of architectures and pretrained tags.

    The weights are handed over as a file, because open_clip would ask the hub each time. What a tag
    changes about the model besides (its preprocessing and QuickGELU) is therefore handed over too.
    """
    architecture, tag = _known_names(request)
    pretrained = open_clip.get_pretrained_cfg(architecture, tag)
    hub_id, _, file = pretrained["hf_hub"].rpartition("/")
    needs = {"weights": (file,)} if file else folders.OPEN_CLIP_WEIGHTS
    folder = hub.fetch(
        request.name, "encoder", hub_id, request.revision, needs, download_size=request.download_size
    )
    text = open_clip.get_model_config(architecture)["text_cfg"]
    return _built(
        request,
        folder,
        f"open_clip:{architecture}/{tag}@{folder.name}",
        architecture=architecture,
        options={
            "pretrained": str(next(folder / name for name in needs["weights"] if (folder / name).is_file())),
            "force_quick_gelu": bool(pretrained.get("quick_gelu")),
            "force_preprocess_cfg": {key: pretrained[key] for key in _PREPROCESSING if key in pretrained},
            **_text_tower(request, text, None),
        },
        tokenizer=_tag_tokenizer(request, architecture, text),
    )


def _known_names(request: ModelRequest) -> tuple[str, str]:
    """Architecture and pretrained tag, both known to open_clip."""
    architecture, _, tag = request.location.rpartition("/")
    if not architecture:
        raise ConfigError(
            f"encoder {request.name!r} must be 'open_clip:<architecture>/<pretrained tag>', "
            "such as 'open_clip:ViT-B-32/laion2b_s34b_b79k', 'open_clip:hf-hub:<id>' or a folder"
        )
    if architecture not in open_clip.list_models():
        raise UnknownNameError("open_clip architecture", architecture, open_clip.list_models())
    if not open_clip.is_pretrained_cfg(architecture, tag):
        known = open_clip.list_pretrained_tags_by_model(architecture)
        raise UnknownNameError(f"pretrained tag of {architecture}", tag, known)
    return architecture, tag


def _text_tower(request: ModelRequest, text: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """For a text tower of transformers, where its configuration lies on this machine; else nothing."""
    name = text.get("hf_model_name")
    if not name:
        return {}
    if folder is not None and (folder / "config.json").is_file():
        place = folder
    else:
        place = hub.fetch(request.name, "encoder", name, HUB_BRANCH, folders.CONFIGURATION)
    return {"text_cfg": {**text, "hf_model_name": str(place), "hf_model_pretrained": False}}


def _tag_tokenizer(request: ModelRequest, architecture: str, text: dict[str, Any]) -> Callable[[], Any]:
    """What makes the tokenizer: open_clip's own, or one of transformers fetched beforehand."""
    name = text.get("hf_tokenizer_name")
    if not name:
        return partial(open_clip.get_tokenizer, architecture)
    return partial(
        HFTokenizer,
        str(hub.fetch(request.name, "encoder", name, HUB_BRANCH, folders.TOKENIZER)),
        context_length=text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
        tokenizer_mode=text.get("tokenizer_mode"),
        **text.get("tokenizer_kwargs", {}),
    )


def _built(
    request: ModelRequest,
    folder: Path,
    identity: str,
    *,
    architecture: str,
    options: dict[str, Any],
    tokenizer: Callable[[], Any],
) -> OpenClipEncoder:
    """The encoder, with whatever open_clip says against it in one error."""
    try:
        with no_chatter():
            model = open_clip.create_model(
                architecture,
                precision=_PRECISIONS[request.dtype],
                device=request.device,
                require_pretrained=True,
                **options,
            )
            words = tokenizer()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, AssertionError) as error:
        raise ModelLoadError(
            request.name, f"model {request.name!r}: folder {folder} does not load in open_clip: {error}"
        ) from error
    if "packed_linears" not in request.plain:
        pack_linears(model, besides=(AttentionPool2d,))
    return OpenClipEncoder(
        model.eval(),
        words,
        id=identity,
        dtype=request.dtype,
        default_thresholds=dict(request.default_thresholds),
        plain=request.plain,
    )
