"""Parses and checks the names of models before anything is loaded. Does not import torch.

A model is named by

- a catalog name: ``"blip-base"``;
- ``"<factory>:<location>"``: ``"hf:Salesforce/blip-image-captioning-base"``,
  ``"open_clip:ViT-B-32/laion2b_s34b_b79k"``, ``"keybert:sentence-transformers/all-MiniLM-L6-v2"``;
  ``@revision`` may follow a hub id;
- ``"remote:<URL>"``: a captioner behind a server (``RemoteCaptioner``);
- a folder on disk, whose name must not be a catalog name;
- the bare name of a plug-in's factory: ``"mine"``.

A location that is an existing folder is used as a folder, even if it contains ``@``; in other locations ``@``
separates the revision, and what stands before it is a hub id, even if a folder has this name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from autotag import protocols
from autotag.config import registry
from autotag.config.fast_paths import AUTO, FastPaths
from autotag.errors import ConfigError, DuplicateNameError, ModelUnavailableError, UnknownNameError
from autotag.files.bounded_files import is_file, is_folder, named_path
from autotag.models.cards import ModelCard, cards, find_card
from autotag.models.loading.hub import HUB_BRANCH
from autotag.models.loading.model_folders import looks_like_folder, read_json
from autotag.protocols import ModelKind, ModelRequest

if TYPE_CHECKING:
    from pathlib import Path

Model = TypeVar("Model")
"""A model object."""

SAVED_CONFIG = "autotag.toml"
"""The config of a saved pipeline, in its folder."""
SAVED_MODELS = "models"
"""The folder of the models of a saved pipeline, in its folder."""


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """The parts of a model's name.

    Attributes:
        name: the card's name when the catalog has the model, the name of the folder when it was saved with a
            pipeline, else as the user wrote it.
        kind: what it is used as.
        factory: the registered name of the factory that loads it.
        location: hub id, open_clip name or absolute folder; empty for a bare factory name.
        revision: on the hub; None for a folder, or for a plug-in's location without a revision.
        card: its card; None when the catalog does not have it.
    """

    name: str
    kind: ModelKind
    factory: str
    location: str
    revision: str | None = None
    card: ModelCard | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder of the model; None for a model that is not in one."""
        return self.request("auto", "auto").folder

    @property
    def key(self) -> tuple[str, str, str, str | None]:
        """Return a key that is equal for two names of the same model."""
        return self.kind, self.factory, self.location, self.revision

    def request(self, device: str, dtype: str, fast_paths: FastPaths = AUTO) -> ModelRequest:
        """Return the request that the factory is called with."""
        return ModelRequest(
            name=self.name,
            location=self.location,
            revision=self.revision,
            device=device,
            dtype=dtype,
            default_thresholds=dict(self.card.default_thresholds) if self.card else {},
            default_score=self.card.default_score if self.card else "standardised",
            head=self.card.head if self.card else None,
            download_size=self.card.download_size if self.card else None,
            fast_paths=fast_paths,
        )


def parse_name(name: str, kind: ModelKind) -> ModelAddress:
    """Parse a model's name, without loading anything.

    Raises:
        UnknownNameError: the name is not a catalog name or a factory.
        ModelUnavailableError: it names a folder that does not exist.
        ConfigError: it names another kind of model, or is incomplete.
        DuplicateNameError: a plug-in registers the name of a model of the catalog.
    """
    card = find_card(name, kind)
    if card is not None:
        _check_only_ours(name, kind)
        return ModelAddress(name, kind, card.factory, card.location, card.revision, card)
    folder = named_path(name)
    if name and is_folder(folder):
        return _located(name, kind, _folder_factory(name, kind, folder), name)
    factory, colon, location = name.partition(":")
    if kind == "classifier" and ((colon and factory == _LEARNED) or folder.suffix == ".tags"):
        return _of_keywords(name, location if colon and factory == _LEARNED else name)
    if colon and factory in registry.names(kind):
        return _located(name, kind, factory, location)
    if name in registry.names(kind):
        return _bare(name, kind)
    raise _refusal(name, kind)


def _check_only_ours(name: str, kind: ModelKind) -> None:
    for other_kind, other, package in registry.plugins():
        if (other_kind, other) == (kind, name):
            claims = ("autotag's catalog of models", f"{registry.import_string(kind, name)} ({package})")
            raise DuplicateNameError(kind, name, claims)


class ModelName(str):
    """A model's name that is parsed and checked. It is the text that the user wrote, with its address.

    Stages keep what ``check_model`` returns and ask the pool for it in ``setup``, so that each name is parsed
    once, when the pipeline is built.

    Args:
        name: the name as the user wrote it.
        address: the result of ``parse_name``.
    """

    address: ModelAddress

    def __new__(cls, name: str, address: ModelAddress) -> ModelName:
        made = super().__new__(cls, name)
        made.address = address
        return made

    def __getnewargs__(self) -> tuple[str, ModelAddress]:  # type: ignore[override]
        """Return what a copy is made of."""
        return str(self), self.address


def check_model(model: str | Model, kind: ModelKind) -> ModelName | Model:
    """Return a model's name, parsed, or a model object as it is, before anything is loaded.

    Args:
        model: a name, which may be a ``ModelName`` already, or an object.
        kind: what it is to be used as.

    Raises:
        ConfigError: ``parse_name`` refuses the name (also ``ModelUnavailableError``, ``UnknownNameError``),
            or the object is not a model of this kind; the message names the attributes that it lacks.
    """
    if isinstance(model, ModelName) and model.address.kind == kind:
        return model
    if isinstance(model, str):
        return ModelName(model, parse_name(model, kind))
    if isinstance(model, type):
        raise ConfigError(f"{model.__name__} is a class; pass an instance of it as the {kind}")
    lacking = [attribute for attribute in _attributes(kind) if not hasattr(model, attribute)]
    if lacking:
        raise ConfigError(
            f"{type(model).__name__} object cannot be used as {_article(kind)}: "
            f"it has no {', '.join(lacking)} (see autotag.protocols.{PROTOCOLS[kind].__name__})"
        )
    return model


PROTOCOLS: dict[ModelKind, type] = {
    "captioner": protocols.Captioner,
    "extractor": protocols.KeyphraseExtractor,
    "encoder": protocols.ImageTextEncoder,
    "detector": protocols.Detector,
    "classifier": protocols.Classifier,
    "translator": protocols.Translator,
}
"""Kind of model -> the protocol that it must satisfy."""
_OWN_FACTORIES = ("hf", "open_clip", "keybert", "class_activation", "timm")
_LEARNED = "learned"
_HUB_NAME = re.compile(r"(?P<id>(?:hf-hub:)?[\w.-]+(?:/[\w.-]+)?)@(?P<revision>[\w./-]+)")
_FACTORY_NAME = re.compile(r"[A-Za-z]\w+")


def _attributes(kind: ModelKind) -> list[str]:
    return [attribute for attribute in vars(PROTOCOLS[kind]) if not attribute.startswith("_")]


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _folder_factory(name: str, kind: ModelKind, folder: Path) -> str:
    """Return the factory that loads a folder given without one."""
    if kind == "translator":
        return "hf"
    if kind == "detector" and (folder / "config.json").is_file():
        return "hf"
    if kind == "classifier":
        return _classifier_factory(name, folder)
    if kind in {"captioner", "encoder"}:
        return "open_clip" if (folder / "open_clip_config.json").is_file() else "hf"
    if kind == "extractor":
        return "keybert"
    raise ConfigError(f"folder {name!r}: say what loads it, as '<factory>:{name}'")


def _classifier_factory(name: str, folder: Path) -> str:
    if (folder / "config.json").is_file():
        config = read_json(name, folder / "config.json")
        return "timm" if "architecture" in config and "model_type" not in config else "hf"
    if (folder / "model.onnx").is_file():
        return "onnx"
    raise ModelUnavailableError(
        name, f"classifier {name!r}: there is neither config.json nor model.onnx in it", looked_in=folder
    )


def _located(name: str, kind: ModelKind, factory: str, location: str) -> ModelAddress:
    """Return the address of ``factory:location``."""
    if not location:
        what = "URL" if factory == "remote" else "hub id or folder"
        raise ConfigError(f"{kind} {name!r} has no location; write '{factory}:<{what}>'")
    folder = named_path(location.removeprefix("local-dir:"))
    if is_folder(folder):
        resolved = folder.resolve()
        shown = resolved.name if _is_of_saved_pipeline(resolved) else name
        return _known(ModelAddress(shown, kind, factory, str(resolved)))
    if factory in _OWN_FACTORIES and looks_like_folder(location):
        raise ModelUnavailableError(name, f"{kind} {name!r}: there is no folder {folder}", looked_in=folder)
    if factory == "remote":
        _check_remote(location)
    match = _HUB_NAME.fullmatch(location)
    if match:
        return _known(ModelAddress(name, kind, factory, match["id"], match["revision"]))
    revision = HUB_BRANCH if factory in _OWN_FACTORIES else None
    return _known(ModelAddress(name, kind, factory, location, revision))


def _is_of_saved_pipeline(folder: Path) -> bool:
    """Return whether a folder is a model that was saved with a pipeline; the pipeline may lie anywhere."""
    return folder.parent.name == SAVED_MODELS and is_file(folder.parent.parent / SAVED_CONFIG)


def _check_remote(location: str) -> None:
    """Refuse an address that a request cannot be sent to."""
    from autotag.models.captioners.remote_captioner import RemoteCaptioner

    RemoteCaptioner.at(location)


def _of_keywords(name: str, location: str) -> ModelAddress:
    """Return the address of a file of ``autotag learn``."""
    file = named_path(location)
    if not location or not is_file(file):
        raise ModelUnavailableError(
            name,
            f"classifier {name!r}: there is no file {str(file)!r}; `autotag learn PHOTOS` makes one",
            looked_in=file.parent,
        )
    return ModelAddress(name, "classifier", _LEARNED, str(file.resolve()))


def _known(address: ModelAddress) -> ModelAddress:
    """Return the address with its card, when the catalog has one for this location and revision."""
    for card in cards():
        same = (card.kind, card.factory, card.location) == (address.kind, address.factory, address.location)
        if same and address.revision == card.revision:
            return ModelAddress(card.name, card.kind, card.factory, card.location, card.revision, card)
    return address


def _bare(name: str, kind: ModelKind) -> ModelAddress:
    """Return the address of a factory that was named without a location."""
    if name == "remote":
        raise ConfigError(f"{kind} {name!r} has no location; write 'remote:<URL>'")
    if name in _OWN_FACTORIES:
        raise ConfigError(f"{kind} {name!r} has no location; write '{name}:<hub id or folder>'")
    return ModelAddress(name, kind, name, "")


def _refusal(name: str, kind: ModelKind) -> Exception:
    """Return the error for a name that is not a card, folder or factory."""
    other = next((card for card in cards() if card.name == name), None)
    if other is not None:
        return ConfigError(f"{name!r} is {_article(other.kind)}, not {_article(kind)}")
    factory, colon, _ = name.partition(":")
    if colon and _FACTORY_NAME.fullmatch(factory):
        return UnknownNameError(f"{kind} factory", factory, registry.names(kind))
    if "/" in name or looks_like_folder(name):
        folder = named_path(name)
        hint = "" if looks_like_folder(name) else f"; for a model of the hub write 'hf:{name}'"
        return ModelUnavailableError(
            name, f"{kind} {name!r}: there is no folder {folder}{hint}", looked_in=folder
        )
    known = (*(card.name for card in cards() if card.kind == kind), *registry.names(kind))
    return UnknownNameError(kind, name, known)
