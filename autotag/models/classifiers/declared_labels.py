"""The labels that a classifier's folder declares, read before the model is loaded. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autotag.models.classifiers.tagger_labels import TAGS_FILE, TaggerLabels
from autotag.models.loading.class_names import LABELS_FILE, is_generic
from autotag.models.loading.model_folders import read_json

if TYPE_CHECKING:
    from autotag.models.names import ModelAddress


@dataclass(frozen=True, slots=True)
class DeclaredLabels:
    """The labels of a classifier that is not loaded, as its ``labels`` and ``categories`` will be.

    Attributes:
        labels: in no particular order.
        categories: of each label; empty for none.
    """

    labels: tuple[str, ...]
    categories: tuple[str, ...] = ()


def declared_labels(address: ModelAddress) -> DeclaredLabels | None:
    """Return the labels that the files of a folder name; None where only loading the model can tell.

    Raises:
        ModelLoadError: a file with labels cannot be read.
    """
    folder = address.folder
    if folder is None:
        return None
    if address.factory in {"timm", "onnx"} and (folder / TAGS_FILE).is_file():
        table = TaggerLabels.read(address.name, folder / TAGS_FILE)
        return DeclaredLabels(table.labels, table.categories)
    if (
        address.factory == "hf"
        and not (folder / LABELS_FILE).is_file()
        and (folder / "config.json").is_file()
    ):
        names = read_json(address.name, folder / "config.json").get("id2label")
        labels = tuple(str(name).strip() for name in names.values()) if isinstance(names, dict) else ()
        return None if all(map(is_generic, labels)) else DeclaredLabels(labels)
    return None
