from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from autotag import stages
from autotag.config import registry
from autotag.errors import ConfigError, DuplicateNameError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes packages with these entry points seem installed."""

    def pretend(*entries: EntryPoint) -> None:
        def found(*, group: str) -> list[EntryPoint]:
            return [entry for entry in entries if entry.group == group]

        monkeypatch.setattr(registry, "entry_points", found)
        registry._table.cache_clear()

    yield pretend
    monkeypatch.undo()
    registry._table.cache_clear()


@pytest.mark.parametrize(
    ("kind", "package", "files"),
    [
        ("stage", "autotag.stages", "*.py"),
        ("writer", "autotag.writers", "*_writer.py"),
        ("album_writer", "autotag.albums.writers", "*_writer.py"),
    ],
)
def test_every_file_of_a_stage_or_writer_is_registered(kind: registry.Kind, package: str, files: str) -> None:
    [folder] = import_module(package).__path__
    found = {f"{package}.{file.stem}" for file in Path(folder).glob(files) if file.stem != "__init__"}
    named = {registry.import_string(kind, name).partition(":")[0] for name in registry.names(kind)}
    assert found == {module for module in named if module.startswith("autotag.")}


def test_every_stage_is_exported() -> None:
    ours = {registry.resolve("stage", name) for name in registry.names("stage")}
    exported = {getattr(stages, name) for name in stages.__all__}
    assert exported == {stage for stage in ours if stage.__module__.startswith("autotag.")}


@pytest.mark.parametrize(
    "kind",
    [
        "stage", "captioner", "extractor", "encoder", "detector", "classifier", "translator", "writer",
        "album_writer", "change",
    ],
)  # fmt: skip
def test_everything_registered_can_be_imported(kind: registry.Kind) -> None:
    for name in registry.names(kind):
        assert callable(registry.resolve(kind, name)), name


def test_a_stage_is_called_like_its_file_and_class() -> None:
    for name in registry.names("stage"):
        target = registry.import_string("stage", name)
        if target.startswith("autotag."):
            assert target == f"autotag.stages.{name}:{name.title().replace('_', '')}"
            assert registry.resolve("stage", name).__dataclass_fields__["name"].default == name


def test_an_unknown_name_is_refused_with_the_near_miss() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown stage 'filter_tag'\. Did you mean 'filter_tags'\?"):
        registry.resolve("stage", "filter_tag")


def test_a_strangers_entry_point_is_found(install: Callable[..., None]) -> None:
    install(EntryPoint("decode", "json:JSONDecoder.decode", "autotag.stages"))
    assert "decode" in registry.names("stage")
    assert registry.resolve("stage", "decode").__qualname__ == "JSONDecoder.decode"


def test_a_name_claimed_twice_raises_naming_both(install: Callable[..., None]) -> None:
    install(EntryPoint("filter_tags", "json:loads", "autotag.stages"))
    with pytest.raises(DuplicateNameError, match="two stages are called 'filter_tags'") as caught:
        registry.names("stage")
    assert "autotag.stages.filter_tags:FilterTags" in str(caught.value)
    assert "json:loads" in str(caught.value)


def test_the_same_target_claimed_twice_is_one(install: Callable[..., None]) -> None:
    entry = EntryPoint("mine", "json:loads", "autotag.stages")
    install(entry, entry)
    assert "mine" in registry.names("stage")


@pytest.mark.parametrize("target", ["no_such_module_at_all:x", "json:no_such_name", "json:"])
def test_a_target_that_does_not_import_is_named(install: Callable[..., None], target: str) -> None:
    install(EntryPoint("broken", target, "autotag.stages"))
    with pytest.raises(ConfigError, match="stage 'broken', registered as .*cannot be imported") as caught:
        registry.resolve("stage", "broken")
    assert target in str(caught.value)


def test_ctrl_c_while_a_part_is_imported_is_not_a_missing_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_name: str) -> None:
        raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr(registry, "import_module", interrupted)
    with pytest.raises(KeyboardInterrupt):
        registry.resolve("stage", "filter_tags")
