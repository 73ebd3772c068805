"""Configs from strangers are read, or refused with a reason, and never take the program down."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from autotag.albums.rules import AlbumRules
from autotag.errors import ConfigError, ModelError
from autotag.files.toml_files import parse_toml, read_toml
from autotag.pipeline.pipeline import Pipeline
from autotag.pipeline.presets import from_config, load, parse_overrides, read_preset
from autotag.stages import AssemblePrompt, CaptionImages, MatchVocabulary, RankLabels

DEEP = {
    "arrays": f"a = {'[' * 5000}{']' * 5000}",
    "tables": f"a = {'{b = ' * 5000}1{'}' * 5000}",
    "dotted keys": f"{'.'.join('a' * 5000)} = 1",
    "names of tables": f"[{'.'.join('a' * 5000)}]",
    "twenty": f"a = {'[' * 20}{']' * 20}",
}


def test_a_table_is_read(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text('a = [[1, 2], {b = "c"}]\n')
    assert read_toml(file, what="preset") == {"a": [[1, 2], {"b": "c"}]}


@pytest.mark.slow
@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_what_is_nested_too_deeply_is_refused_wherever_it_is_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "deep.toml"
    file.write_text(text)
    for read in (read_preset, load, from_config, AlbumRules.read):
        with pytest.raises(ConfigError, match="nested deeper than 16 levels"):
            read(file)


def test_overrides_are_bounded_as_well() -> None:
    with pytest.raises(ConfigError, match="is not a TOML value") as caught:
        parse_overrides([f"filter_tags.top_k={'[' * 5000}{']' * 5000}"])
    assert len(str(caught.value)) < 500


def test_a_config_of_python_objects_that_is_nested_too_deeply_is_refused() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ConfigError, match="nested deeper"):
        from_config({"stages": [{"stage": "filter_tags", "template": deep}]})


def test_a_number_of_too_many_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="4300 digits"):
        parse_toml("a = " + "9" * 5000)


def test_a_file_that_does_not_end_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (8 * 2**20 + 1))
    with pytest.raises(ConfigError, match="more than 8,388,608 bytes"):
        read_preset(large)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no /dev/zero")  # noqa: PTH110
def test_devices_are_refused(tmp_path: Path) -> None:
    link = tmp_path / "endless.toml"
    link.symlink_to("/dev/zero")
    for build in (
        lambda: read_preset(link),
        lambda: AlbumRules.read("/dev/zero"),
        lambda: MatchVocabulary("/dev/zero"),
        lambda: RankLabels(vocabularies=["/dev/zero"]),
        lambda: AssemblePrompt("best", mediums="/dev/zero"),
    ):
        with pytest.raises(ConfigError, match="it is a device, not a file"):
            build()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 10**9}, "max_new_tokens is 1000000000"),
        ({"num_beams": 10**6}, "num_beams is 1000000"),
        ({"candidates": 10**6}, "candidates is 1000000"),
        ({"do_sample": True, "candidates": 10**6}, "candidates is 1000000"),
        ({"do_sample": True, "seed": 10**23}, "seed is 1"),
        ({"temperature": 10**400}, "temperature = 1000"),
    ],
)
def test_options_that_no_machine_can_work_with_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CaptionImages(**options)  # type: ignore[arg-type]


STRANGE = ["\0", "~nobody-of-this-name/x", "x" * 5000, "\ud800", "", "a\nb", "//", f"hf:{'y' * 5000}"]


@pytest.mark.parametrize("name", STRANGE, ids=ascii)
def test_names_that_no_file_can_have_are_refused_like_any_that_is_not_there(name: str) -> None:
    for build in (
        lambda: read_preset(name),
        lambda: MatchVocabulary(name),
        lambda: RankLabels(vocabularies=[name]),  # type: ignore[arg-type]
        lambda: Pipeline([CaptionImages()], encoder=name),
    ):
        with suppress(ConfigError, ModelError):  # a hub id may be right: the hub knows
            build()
