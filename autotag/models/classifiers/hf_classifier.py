"""Loads classifiers of transformers: every model behind ``AutoModelForImageClassification``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from autotag.errors import ModelLoadError
from autotag.models.classifiers.heads import declared_head
from autotag.models.classifiers.network_classifier import NetworkClassifier
from autotag.models.fast.views import view_of
from autotag.models.loading import hub, model_folders
from autotag.models.loading.class_names import class_labels
from autotag.models.loading.transformers_loading import auto_image_processor, load_pretrained, square_side

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from PIL import Image

    from autotag.protocols import ModelRequest

_PARTS = {part: model_folders.TRANSFORMERS_IMAGES[part] for part in ("configuration", "weights")}


def load(request: ModelRequest) -> NetworkClassifier:
    """Load the classifier from a folder or hub repository.

    Raises:
        ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
        ModelLoadError: the weights are damaged, incomplete or of another class, or name no labels.
    """
    folder = hub.model_folder(request, "classifier", _PARTS)
    config = model_folders.read_json(request.name, folder / "config.json")
    model_type = str(config.get("model_type"))
    model, processor, _ = load_pretrained(
        request,
        "classifier",
        {model_type: _class_name(request, folder, config)},
        load_processor=auto_image_processor,
        needs=model_folders.TRANSFORMERS_IMAGES,
    )
    labels = class_labels(request.name, folder, model.config.id2label, int(model.config.num_labels))

    def network(pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(pixel_values=pixels).logits
        return logits

    def prepare(image: Image.Image) -> torch.Tensor:
        pixels: torch.Tensor = processor(images=[image], return_tensors="pt")["pixel_values"][0]
        return pixels

    return NetworkClassifier(
        network,
        prepare,
        labels=labels,
        head=declared_head(request, folder, config, len(labels)),
        view=view_of(processor) if request.fast_paths.views else None,
        device=model.device,
        dtype=model.dtype,
        image_size=square_side(processor),
    )


def _class_name(request: ModelRequest, folder: Path, config: Mapping[str, Any]) -> str:
    """Return the transformers class of a configuration.

    Raises:
        ModelLoadError: transformers has no image classifier of this type, or timm wrote the configuration.
    """
    model_type = str(config.get("model_type"))
    if "model_type" not in config and "architecture" in config:
        location = request.name.partition(":")[2] or request.name
        raise ModelLoadError(
            request.name,
            f"model {request.name!r}: folder {folder} holds a model of timm; write 'timm:{location}'",
        )
    known: Any = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.get(model_type)
    if known is None or model_type == "timm_wrapper":
        raise ModelLoadError(
            request.name,
            f"model {request.name!r}: config.json in {folder} says model_type {model_type!r}; "
            "transformers has no image classifier of that",
        )
    choices = [known] if isinstance(known, str) else list(known)
    architectures = config.get("architectures") or []
    return next((name for name in choices if name in architectures), choices[0])
