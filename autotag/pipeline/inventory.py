"""List the presets and models, the models that each preset needs, and the weights on this machine.

This does not load a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from autotag.config import options
from autotag.errors import UnknownNameError
from autotag.models import cards, names
from autotag.models.pool import ModelPool
from autotag.pipeline.presets import from_config, is_preset, preset_names
from autotag.protocols import fields_in_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autotag.models.cards import ModelCard
    from autotag.models.names import ModelAddress
    from autotag.pipeline.pipeline import Pipeline
    from autotag.protocols import ModelKind, Stage


@dataclass(frozen=True, slots=True)
class PresetEntry:
    """A preset with its stages and models.

    Attributes:
        name: the preset's name.
        stages: names of its stages, in order.
        models: names of the models that its stages use, in order.
        present: whether the weights of all its models are on this machine.
        size: total bytes of its models, see ``ModelEntry``.
    """

    name: str
    stages: tuple[str, ...]
    models: tuple[str, ...]
    present: bool
    size: int


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model of the catalog.

    Attributes:
        card: facts about its weights.
        present: whether the weights are on this machine.
        size: bytes on this machine for bundled weights, else bytes to download.
        presets: names of the presets that use it.
    """

    card: ModelCard
    present: bool
    size: int
    presets: tuple[str, ...]


def preset_entries() -> list[PresetEntry]:
    """Return the presets that come with autotag, by name."""
    return [_preset_entry(name, from_config(name)) for name in preset_names()]


def model_entries(presets: Sequence[PresetEntry]) -> list[ModelEntry]:
    """Return every model of the catalog, in its order.

    Args:
        presets: the presets to name beside the models that they use.
    """
    return [
        ModelEntry(
            card=card,
            present=cards.is_present(card),
            size=_size(card),
            presets=tuple(preset.name for preset in presets if card.name in preset.models),
        )
        for card in cards.cards()
    ]


def needed_models(pipeline: Pipeline) -> tuple[ModelAddress, ...]:
    """Return the models that the stages name, each once, in the order of the stages.

    An option with ``metadata={"model": "captioner"}`` names a captioner, and an encoder of None is the
    pipeline's. A stage that is ``BorrowsSome`` says which options are in use. For a stage that is not a
    dataclass, no models are found.
    """
    addresses = [address for stage in pipeline.stages for address in _models_of(stage, pipeline)]
    return tuple({address.key: address for address in addresses}.values())


def find_models(name: str) -> tuple[ModelAddress, ...]:
    """Return the models of a preset, or the catalog's model of this name.

    Args:
        name: a preset's name, the path of a TOML file, or a model's name in the catalog.

    Raises:
        UnknownNameError: the name is neither a preset nor a model.
        ConfigError: the preset is wrong.
    """
    kinds = [card.kind for card in cards.cards() if card.name == name]
    if kinds:
        return tuple(names.parse_name(name, kind) for kind in kinds)
    if is_preset(name):
        return needed_models(from_config(name))
    known = [*preset_names(), *(card.name for card in cards.cards())]
    raise UnknownNameError("preset or model", name, known)


def is_present(address: ModelAddress) -> bool:
    """Return True if a model is known to load without a download.

    Return False for a model that is not in the catalog, not a folder and not on a server: only loading it
    would tell.
    """
    if address.card is not None:
        return cards.is_present(address.card)
    return address.factory == "remote" or address.folder is not None


def fetch(address: ModelAddress) -> None:
    """Download a model's weights if they are not on this machine; show the progress on stderr.

    A model that is not in the catalog is loaded once, because only its loader knows which files it needs.

    Raises:
        ModelUnavailableError: the weights cannot be downloaded.
        ModelLoadError: the weights of a model outside the catalog do not load.
    """
    if address.card is not None:
        cards.download(address.card)
        return
    pool = ModelPool(device="cpu")
    getters: dict[ModelKind, Callable[[str], object]] = {
        "captioner": pool.captioner,
        "extractor": pool.extractor,
        "encoder": pool.encoder,
        "detector": pool.detector,
        "classifier": pool.classifier,
        "translator": pool.translator,
    }
    try:
        getters[address.kind](address.name)
    finally:
        pool.close()


def _preset_entry(name: str, pipeline: Pipeline) -> PresetEntry:
    addresses = needed_models(pipeline)
    return PresetEntry(
        name=name,
        stages=tuple(stage.name for stage in pipeline.stages),
        models=tuple(address.name for address in addresses),
        present=all(map(is_present, addresses)),
        size=sum(_size(address.card) for address in addresses if address.card),
    )


def _size(card: ModelCard) -> int:
    if not card.bundled:
        return card.download_size
    return sum(file.stat().st_size for file in Path(card.location).rglob("*") if file.is_file())


def _models_of(stage: Stage, pipeline: Pipeline) -> Iterator[ModelAddress]:
    """Yield the addresses of the models that the options of one stage name."""
    kinds = options.model_fields(type(stage))
    for name in fields_in_use(stage, kinds):
        kind = kinds[name]
        given = getattr(stage, name)
        if given is None and kind == "encoder":
            given = pipeline.encoder
        models = given if isinstance(given, list | tuple) else (given,)
        yield from (
            names.parse_name(model, cast("ModelKind", kind)) for model in models if isinstance(model, str)
        )
