"""Fine-tunes an encoder by contrast and mixes it with the old one.

The loss is CLIP's own (Radford et al. 2021), which keeps more than a new classifier does (FLYP, Goyal et
al. 2023, arXiv:2212.00638). Photographs with the same text or tag are positives of one another (UniCL, Yang
et al. 2022, arXiv:2204.03610). A model with a bias of its logits (SigLIP) is trained by the sigmoid loss
(Zhai et al. 2023, arXiv:2303.15343). Old and new weights are mixed as in WiSE-FT (Wortsman et al. 2022,
arXiv:2109.01903).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import open_clip
import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from PIL import Image
from torch import Tensor, nn

from autotag.config.fast_paths import FastPaths
from autotag.errors import ConfigError
from autotag.evaluation.datasets import Example
from autotag.models.encoders.hf_encoder import HfEncoder
from autotag.models.encoders.openclip_encoder import OpenClipEncoder
from autotag.models.loading import hub, model_folders
from autotag.models.loading.openclip_loading import load_open_clip
from autotag.models.loading.transformers_loading import load_pretrained
from autotag.protocols import ImageTextEncoder, ModelRequest
from autotag.training.averaging import average_states
from autotag.training.captioner import keep_statistics
from autotag.training.fine_tuning.activations import keep_fewer_activations
from autotag.training.fine_tuning.photographs import Batch
from autotag.training.fine_tuning.saving import copy_beside, save_open_clip, save_transformers, stored_dtype
from autotag.vocabularies.templates import PHOTO, filled

CLASSES = {"clip": "CLIPModel", "siglip": "SiglipModel"}
_LARGEST_SCALE = 100.0  # CLIP's own limit; published SigLIPs have larger ones
_OFF = FastPaths.parse("off")


class _Towers(Protocol):
    """Two towers of one kind of library."""

    model: nn.Module

    def prepare(self, images: list[Image.Image]) -> Mapping[str, Tensor]:
        """Return the inputs of the image tower."""

    def vectors(
        self, images: Mapping[str, Tensor], texts: Sequence[str], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return (B, D) and (B, D), not normalised."""

    def encoder(self) -> ImageTextEncoder:
        """Return the encoder with the present weights."""

    def checkpoint_gradients(self) -> None:
        """Keep fewer activations."""

    def save(self, output: Path) -> None:
        """Write a folder that loads like the one before."""


class ContrastiveEncoder:
    """An encoder to be trained, both towers.

    Args:
        factory: ``"open_clip"`` or ``"hf"``.
        request: the model; float32 on its device.

    Raises:
        ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
        ModelLoadError: the weights are damaged, or of a class that is not fine-tuned.
    """

    learning_rate = 1e-5
    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

    def __init__(self, factory: str, request: ModelRequest) -> None:
        self._towers: _Towers = _OpenClip(request) if factory == "open_clip" else _Transformers(request)
        self.model = self._towers.model
        self.prepare = self._towers.prepare
        self.checkpoint_gradients = self._towers.checkpoint_gradients
        self.as_model = self._towers.encoder
        self.save = self._towers.save
        self._old = _copied(self.model)
        self._new: dict[str, Tensor] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What is fine-tuned, for the card."""
        return {
            "class": type(self.model).__name__,
            "trained_weights": sum(one.numel() for one in self.model.parameters()),
        }

    @property
    def image_side(self) -> int | None:
        """The side in pixels of the model's input."""
        encoder: Any = self.as_model()
        side: int | None = encoder.image_size
        return side

    def rehearsed(self, examples: tuple[Example, ...]) -> tuple[Example, ...]:
        """Return photographs as they are: people's texts say better what belongs together."""
        return examples

    def begin(self) -> None:
        """Put the model into training mode; statistics of batch norms stay as they are."""
        self.model.train()
        keep_statistics(self.model)

    def loss(self, batch: Batch) -> Tensor:
        """Return the contrastive loss of a batch, a scalar in float32."""
        model: Any = self.model
        texts = [
            text if one.texts else filled(PHOTO, text)
            for text, one in zip(batch.texts, batch.examples, strict=True)
        ]
        images, words = self._towers.vectors(batch.images, texts, model.logit_scale.device)
        cosines = F.normalize(images.float(), dim=-1) @ F.normalize(words.float(), dim=-1).T
        scale = model.logit_scale.float().exp()
        same = positives(batch).to(cosines.device)
        bias = getattr(model, "logit_bias", None)
        if bias is None:
            return contrastive_loss(cosines * scale.clamp(max=_LARGEST_SCALE), same)
        logits = cosines * scale + bias.float()
        return -F.logsigmoid(torch.where(same, logits, -logits)).sum(dim=1).mean()

    def mix(self, share: float) -> None:
        """Set the weights to this share of the way from the old to the trained ones, in eval mode."""
        if self._new is None:
            self._new = _copied(self.model)
        self.model.load_state_dict(average_states(self._old, self._new, share))
        self.model.eval()


def positives(batch: Batch) -> Tensor:
    """Return (B, B) bool: whether the text of a column is right for the photograph of a row.

    It is if it is one of the photograph's own texts or tags, ignoring case.
    """
    own = [{text.casefold() for text in one.texts or one.tags} for one in batch.examples]
    return torch.tensor([[text.casefold() in texts for text in batch.texts] for texts in own])


def contrastive_loss(logits: Tensor, same: Tensor) -> Tensor:
    """Return the mean cross-entropy of rows and of columns, each spread evenly over its positives.

    Args:
        logits: (B, B), photographs by texts.
        same: (B, B) bool, with the diagonal set.
    """
    target = same.float()
    rows = F.cross_entropy(logits, target / target.sum(dim=1, keepdim=True))
    columns = F.cross_entropy(logits.T, target.T / target.T.sum(dim=1, keepdim=True))
    return (rows + columns) / 2


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: values.detach().cpu().clone() for name, values in model.state_dict().items()}


class _OpenClip:
    def __init__(self, request: ModelRequest) -> None:
        loaded = load_open_clip(request, "encoder")
        self.model: Any = loaded.model
        self._tokenizer: Any = loaded.tokenizer
        self._encoder = OpenClipEncoder(
            loaded.model,
            loaded.tokenizer,
            id=f"{loaded.id} fine-tuned",
            dtype="float32",
            default_thresholds={},
            fast_paths=_OFF,
        )
        self._request = request

    def prepare(self, images: list[Image.Image]) -> Mapping[str, Tensor]:
        return {"pixels": torch.stack([self._encoder.preprocess(image) for image in images])}

    def vectors(
        self, images: Mapping[str, Tensor], texts: Sequence[str], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        tokens = self._tokenizer(list(texts)).to(device)
        return self.model.encode_image(images["pixels"].to(device)), self.model.encode_text(tokens)

    def encoder(self) -> ImageTextEncoder:
        return self._encoder

    def checkpoint_gradients(self) -> None:
        try:
            self.model.set_grad_checkpointing()
        except (AttributeError, AssertionError, NotImplementedError) as error:
            raise ConfigError(
                f"{self._request.name!r} does not support gradient checkpointing; leave it off"
            ) from error

    def save(self, output: Path) -> None:
        source = _open_clip_folder(self._request)
        dtype = torch.float32
        if source is not None:
            copy_beside(source, output)
            dtype = stored_dtype(source)
            layout = model_folders.read_json(self._request.name, source / "open_clip_config.json")
        else:
            layout = _layout_of_tag(self._request.location, self.model)
            tokenizer = getattr(self._tokenizer, "tokenizer", None)  # of transformers; else open_clip's own
            if tokenizer is not None:
                tokenizer.save_pretrained(str(output))
            text: Any = getattr(self.model, "text", None)
            if hasattr(text, "config"):
                text.config.save_pretrained(str(output))
        save_open_clip(self.model.state_dict(), layout, dtype, output)


def _open_clip_folder(request: ModelRequest) -> Path | None:
    """Return the folder with the model's files; None for a name of open_clip's own table."""
    if request.folder is not None:
        return request.folder
    if request.location.startswith("hf-hub:"):
        hub_id = request.location.removeprefix("hf-hub:")
        return hub.fetch(request.name, "encoder", hub_id, request.revision, model_folders.OPEN_CLIP)
    return None


def _layout_of_tag(location: str, model: Any) -> dict[str, Any]:
    """Return the layout of a model that open_clip knows by architecture and pretrained tag."""
    architecture, _, tag = location.rpartition("/")
    config: dict[str, Any] = open_clip.get_model_config(architecture)
    if open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu"):
        config["quick_gelu"] = True
    preprocessing: dict[str, Any] = model.visual.preprocess_cfg
    kept = ("mean", "std", "interpolation", "resize_mode")
    return {"model_cfg": config, "preprocess_cfg": {name: preprocessing[name] for name in kept}}


class _Transformers:
    def __init__(self, request: ModelRequest) -> None:
        self.model, self._processor, self._folder = load_pretrained(request, "encoder", CLASSES)
        self._encoder = HfEncoder(
            self.model,
            self._processor,
            id=f"{request.name} fine-tuned",
            default_thresholds={},
            fast_paths=_OFF,
        )

    def prepare(self, images: list[Image.Image]) -> Mapping[str, Tensor]:
        return {"pixel_values": self._processor.image_processor(images, return_tensors="pt")["pixel_values"]}

    def vectors(
        self, images: Mapping[str, Tensor], texts: Sequence[str], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        given = {name: values.to(device) for name, values in self._encoder.text_inputs(texts).items()}
        pixels = {name: values.to(device) for name, values in images.items()}
        return (
            self.model.get_image_features(**pixels).pooler_output,
            self.model.get_text_features(**given).pooler_output,
        )

    def encoder(self) -> ImageTextEncoder:
        return self._encoder

    def checkpoint_gradients(self) -> None:
        keep_fewer_activations(self.model)

    def save(self, output: Path) -> None:
        save_transformers(self.model, self._folder, output)
