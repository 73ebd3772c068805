"""Chooses the class of a transformers model by the ``model_type`` in its configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from autotag.errors import ModelLoadError
from autotag.models.loading import hub, model_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from autotag.models.loading.model_folders import Needs
    from autotag.protocols import ModelKind, ModelRequest

Model = TypeVar("Model")


def load_by_type(
    request: ModelRequest,
    kind: ModelKind,
    needs: Needs,
    loaders: Mapping[str, Callable[[ModelRequest], Model]],
    classes: Collection[str],
) -> Model:
    """Load a model from a folder or hub repository, with the class of its family.

    Args:
        request: names the model.
        kind: of the model.
        needs: the files that its folder must have.
        loaders: ``model_type`` of a configuration -> loads a model of that family.
        classes: names of the transformers classes, for the error.

    Raises:
        ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
        ModelLoadError: the weights are damaged, incomplete, or of a class that is not supported.
    """
    folder = hub.model_folder(request, kind, needs)
    model_type = str(model_folders.read_json(request.name, folder / "config.json").get("model_type"))
    if model_type not in loaders:
        raise ModelLoadError(
            request.name,
            f"model {request.name!r}: config.json in {folder} says model_type {model_type!r}. "
            f"Supported: {', '.join(sorted(classes))}.",
        )
    return loaders[model_type](replace(request, location=str(folder), revision=None))
