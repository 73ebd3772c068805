"""Loads classifiers and taggers of timm, from folders and hub repositories as timm writes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import timm

from autotag.errors import ModelLoadError
from autotag.models.classifiers.heads import declared_head
from autotag.models.classifiers.network_classifier import NetworkClassifier
from autotag.models.classifiers.tagger_labels import TAGS_FILE, TaggerLabels, on_white_square, white_view
from autotag.models.fast.views import view_of_timm
from autotag.models.loading import hub, model_folders
from autotag.models.loading.class_names import LABELS_FILE, class_labels, numbered
from autotag.models.loading.device import torch_dtype
from autotag.models.loading.load_errors import loading

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from autotag.protocols import Head, ModelRequest


_data: Any = timm.data


def load(request: ModelRequest) -> NetworkClassifier:
    """Load the classifier from a folder or hub repository with timm's config.json.

    A folder with ``selected_tags.csv`` is a tagger as SmilingWolf publishes them (WD14): each label has its
    own probability, images are padded with white to a square, and channels are blue, green, red.

    Raises:
        ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
        ModelLoadError: the weights are damaged, incomplete or of another class, or name no labels.
    """
    folder = hub.model_folder(request, "classifier", model_folders.TIMM)
    config = model_folders.read_json(request.name, folder / "config.json")
    model = _model(request, folder, config)
    data: dict[str, Any] = _data.resolve_data_config({}, pretrained_cfg=model.pretrained_cfg, model=model)
    transform: Any = _data.create_transform(**data, is_training=False)
    view = view_of_timm(transform, data) if request.fast_paths.views else None
    image_size = math.floor(max(data["input_size"][1:]) / data["crop_pct"])
    count = int(model.num_classes)
    table = None
    head: Head
    if (folder / TAGS_FILE).is_file():
        table = TaggerLabels.read(request.name, folder / TAGS_FILE, count)
        labels, head = table.labels, "sigmoid"
    else:
        labels, head = _labels_and_head(request, folder, config, count)
    return NetworkClassifier(
        model.to(request.device, torch_dtype(request.dtype)).eval(),
        transform if table is None else lambda image: transform(on_white_square(image, image_size)),
        labels=labels,
        head=head,
        view=view if table is None else white_view(view),
        device=request.device,
        dtype=torch_dtype(request.dtype),
        image_size=image_size,
        bgr=table is not None,
        categories=table.categories if table else (),
        thresholds=table.thresholds if table else (),
    )


def _model(request: ModelRequest, folder: Path, config: Mapping[str, Any]) -> Any:
    if "architecture" not in config:
        raise ModelLoadError(
            request.name,
            f"model {request.name!r}: config.json in {folder} names no architecture of timm; "
            "a model of transformers is 'hf:<hub id or folder>'",
        )
    with loading(request.name, folder, "in timm"):
        model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
    if not model.num_classes:
        raise ModelLoadError(
            request.name, f"model {request.name!r}: folder {folder} holds a backbone without classes"
        )
    return model


def _labels_and_head(
    request: ModelRequest, folder: Path, config: Mapping[str, Any], count: int
) -> tuple[tuple[str, ...], Head]:
    """Return the labels and the head.

    The labels are those of labels.txt, else ``label_names`` with ``label_descriptions`` in config.json, else
    ImageNet's if the number of classes is that of one of its sets, as timm and transformers take it.
    """
    settings = {**config.get("pretrained_cfg", {}), **config}
    names = settings.get("label_names") or settings.get("labels")
    imagenet = _data.infer_imagenet_subset({"num_classes": count})
    found: dict[int, str] = {}
    known: Head | None = None
    is_named_beside = (folder / LABELS_FILE).is_file()
    if names and not is_named_beside:
        words = settings.get("label_descriptions") or {}
        if not isinstance(words, dict):
            raise ModelLoadError(
                request.name,
                f"model {request.name!r}: config.json in {folder}: label_descriptions is not a table of "
                "label names",
            )
        named = numbered(request.name, folder / "config.json", names)
        found = {number: str(words.get(name, name)) for number, name in named.items()}
    elif imagenet and not is_named_beside:
        found = dict(enumerate(_data.ImageNetInfo(imagenet).label_descriptions()))
        known = "softmax"
    labels = class_labels(request.name, folder, found, count)
    return labels, declared_head(request, folder, config, count, known=known)
