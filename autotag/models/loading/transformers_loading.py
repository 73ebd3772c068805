"""Loads a transformers model and its processor from a folder, or raises one clear error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import transformers

from autotag.errors import ModelLoadError
from autotag.models.loading import hub, model_folders
from autotag.models.loading.device import torch_dtype
from autotag.models.loading.load_errors import loading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

    from autotag.protocols import ModelKind, ModelRequest


def auto_processor(folder: Path) -> Any:
    """Load the processor in a folder, of the class that its files name."""
    auto: Any = transformers.AutoProcessor
    return auto.from_pretrained(folder, local_files_only=True)


def auto_image_processor(folder: Path) -> Any:
    """Load the image processor in a folder, of the class that its files name."""
    auto: Any = transformers.AutoImageProcessor
    return auto.from_pretrained(folder, local_files_only=True)


def load_pretrained(
    request: ModelRequest,
    kind: ModelKind,
    classes: Mapping[str, str],
    *,
    load_processor: Callable[[Path], Any] = auto_processor,
    never_used: tuple[str, ...] = (),
    own_classes: Mapping[str, Any] | None = None,
    needs: model_folders.Needs = model_folders.TRANSFORMERS,
) -> tuple[Any, Any, Path]:
    """Return the model (on its device, in its dtype, in eval mode), its processor, and their folder.

    Args:
        request: hub id or folder, device and dtype.
        kind: what it is used as.
        classes: ``model_type`` of a configuration -> the transformers class that is loaded for it.
        load_processor: makes the processor from the folder.
        never_used: prefixes of parameter names that may be missing.
        own_classes: architecture name in a configuration -> autotag's own class for it.
        needs: the files that the folder must hold.

    Raises:
        ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
        ModelLoadError: the weights are damaged, incomplete, or of another class.
    """
    folder = hub.model_folder(request, kind, needs)
    name = _class_name(request, folder, classes, own_classes or {})
    model_class = (own_classes or {}).get(name) or getattr(transformers, name)
    with loading(request.name, folder, f"as a {name}"):
        processor = load_processor(folder)
        model, report = model_class.from_pretrained(
            folder, dtype=torch_dtype(request.dtype), local_files_only=True, output_loading_info=True
        )
    _check_complete(request, folder, model, report, never_used)
    return model.to(request.device).eval(), processor, folder


def _class_name(
    request: ModelRequest, folder: Path, classes: Mapping[str, str], own_classes: Mapping[str, Any]
) -> str:
    """Return the name of the class to load, from the folder's configuration."""
    config = model_folders.read_json(request.name, folder / "config.json")
    model_type = str(config.get("model_type"))
    supported = f"Supported: {', '.join(sorted(set(classes.values())))}."
    if model_type not in classes:
        raise ModelLoadError(
            request.name,
            f"model {request.name!r}: config.json in {folder} says model_type {model_type!r}. {supported}",
        )
    name = classes[model_type]
    architectures = config.get("architectures") or [name]
    if architectures[0] in own_classes:
        return str(architectures[0])
    if name not in architectures:
        raise ModelLoadError(
            request.name,
            f"model {request.name!r}: folder {folder} holds a {architectures[0]} (config.json). {supported}",
        )
    return name


def _check_complete(
    request: ModelRequest, folder: Path, model: torch.nn.Module, report: Any, never_used: tuple[str, ...]
) -> None:
    """Refuse weights that would leave parameters random, which transformers itself only logs."""
    parameters = {name for name, _ in model.named_parameters() if not name.startswith(never_used)}
    missing = sorted(key for key in report["missing_keys"] if key in parameters)
    if missing or report["mismatched_keys"]:
        wrong = missing or sorted(str(key) for key in report["mismatched_keys"])
        raise ModelLoadError(
            request.name,
            f"model {request.name!r}: the weights in folder {folder} do not fit config.json: "
            f"{len(wrong)} parameters are missing or of another shape, such as {wrong[0]}",
        )


def square_side(image_processor: Any) -> int | None:
    """Return the side in pixels of the square that an image processor makes; None if it makes no square."""
    for attribute in ("crop_size", "size"):
        size = getattr(image_processor, attribute, None)
        if size and (attribute == "size" or getattr(image_processor, "do_center_crop", False)):
            sides = [size.get(side) for side in ("height", "width", "shortest_edge") if size.get(side)]
            if sides:
                return int(max(sides))
    return None
