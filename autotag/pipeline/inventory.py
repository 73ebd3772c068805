"""What there is to use: the presets and models, what each needs, and what is on this machine.

No model is loaded to find out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autotag import options
from autotag.errors import UnknownNameError
from autotag.models import cards, names
from autotag.models.names import PROTOCOLS
from autotag.models.pool import ModelPool
from autotag.pipeline.presets import from_config, preset_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autotag.models.cards import ModelCard
    from autotag.models.names import ModelAddress
    from autotag.pipeline.pipeline import Pipeline
    from autotag.protocols import ModelKind, Stage


@dataclass(frozen=True, slots=True)
class PresetEntry:
    """What a preset is made of.

    Attributes:
        name: the preset's name.
        stages: names of its stages, in order.
        models: names of the models that its stages borrow, in order.
        present: whether the weights of all of them are on this machine.
        size: bytes of all of them together, see ``ModelEntry``.
    """

    name: str
    stages: tuple[str, ...]
    models: tuple[str, ...]
    present: bool
    size: int


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What is known of a model of the catalog.

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
    """The presets that come with autotag, by name."""
    return [_preset_entry(name, from_config(name)) for name in preset_names()]


def model_entries(presets: Sequence[PresetEntry]) -> list[ModelEntry]:
    """Every model of the catalog, in its order.

    Args:
        presets: those that may use them.
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
    """The models that the stages borrow by name, each once, in the order of the stages.

    Taken from the types of the stages' options: one that admits a ``Captioner`` names a captioner, and an
    encoder left at None is the pipeline's. A stage with an attribute ``borrows`` says itself which of its
    options name models that it does borrow. One that is no dataclass does not tell.
    """
    addresses = [address for stage in pipeline.stages for address in _borrowed(stage, pipeline)]
    return tuple({address.key: address for address in addresses}.values())


def find_models(name: str) -> tuple[ModelAddress, ...]:
    """The models behind a name: all that a preset needs, or the one that the catalog calls so.

    Args:
        name: a preset's name, the path of a TOML file, or a model's name in the catalog.

    Raises:
        UnknownNameError: neither a preset nor a model.
        ConfigError: the preset is wrong.
    """
    kinds = [card.kind for card in cards.cards() if card.name == name]
    if kinds:
        return tuple(names.parse_name(name, kind) for kind in kinds)
    if name in preset_names() or name.endswith(".toml"):
        return needed_models(from_config(name))
    known = [*preset_names(), *(card.name for card in cards.cards())]
    raise UnknownNameError("preset or model", name, known)


def is_present(address: ModelAddress) -> bool:
    """Whether a model can be loaded without a download, as far as that can be told without loading it.

    Of a model that is neither in the catalog nor a folder nor behind a server it cannot be told: False.
    """
    if address.card is not None:
        return cards.is_present(address.card)
    return address.factory == "remote" or Path(address.location).is_dir()


def fetch(address: ModelAddress) -> None:
    """Puts a model's weights on this machine; what is downloaded shows its progress on stderr.

    A model that the catalog does not know is loaded once, because only its loader knows what it needs.

    Raises:
        ModelUnavailableError: the weights are not to be had.
        ModelLoadError: the weights of a model outside the catalog do not load.
    """
    if address.card is not None:
        cards.download(address.card)
        return
    pool = ModelPool(device="cpu")
    lenders: dict[ModelKind, Callable[[str], object]] = {
        "captioner": pool.captioner,
        "extractor": pool.extractor,
        "encoder": pool.encoder,
        "detector": pool.detector,
    }
    try:
        lenders[address.kind](address.name)
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


def _borrowed(stage: Stage, pipeline: Pipeline) -> Iterator[ModelAddress]:
    """The models that the options of one stage name."""
    borrowed = getattr(stage, "borrows", None)
    for name, option in options.option_fields(type(stage)).items():
        if borrowed is not None and name not in borrowed:
            continue
        kind = _model_kind(str(option.type))
        given = getattr(stage, name)
        if given is None and kind == "encoder":
            given = pipeline.encoder
        models = given if isinstance(given, list | tuple) else (given,)
        if kind:
            yield from (names.parse_name(model, kind) for model in models if isinstance(model, str))


def _model_kind(annotation: str) -> ModelKind | None:
    """The kind of model that an option of this type names, if any."""
    return next((kind for kind, protocol in PROTOCOLS.items() if protocol.__name__ in annotation), None)
