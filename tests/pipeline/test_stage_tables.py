from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from autotag.errors import ConfigError
from autotag.pipeline import stage_tables
from autotag.pipeline.function_stage import stage

if TYPE_CHECKING:
    from autotag.records import Sample


@stage(provides={"prompt"})
def module_level(sample: Sample) -> None:
    sample.prompt = "module level"


@dataclass
class Plain:
    number: int = 1
    name: str = "plain"
    requires: frozenset[str] = field(default=frozenset(), init=False)
    provides: frozenset[str] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("number must not be negative")

    def __call__(self, samples: Sequence[Sample], /) -> None:
        """Nothing to do."""


class NoDataclass:
    name = "no_dataclass"
    requires: frozenset[str] = frozenset()
    provides: frozenset[str] = frozenset()

    def __call__(self, samples: Sequence[Sample], /) -> None:
        """Nothing to do."""


class WithHiddenOptions(NoDataclass):
    def __init__(self, size: int) -> None:
        self.size = size


def test_a_registered_stage_is_found_by_name_and_written_by_name() -> None:
    table = {"stage": "filter_tags", "threshold": 0.3, "score": "cosine", "name": "second"}
    made = stage_tables.stage_from_table(table)
    assert made.name == "second"
    assert stage_tables.table_from_stage(made) == table


def test_a_stage_is_found_by_import_string_and_written_by_it() -> None:
    table = {"stage": f"{__name__}:Plain", "number": 4}
    assert stage_tables.table_from_stage(stage_tables.stage_from_table(table)) == table
    table = {"stage": f"{__name__}:module_level"}
    assert stage_tables.stage_from_table(table) is module_level
    assert stage_tables.table_from_stage(module_level) == table
    table = {"stage": f"{__name__}:NoDataclass"}
    assert stage_tables.table_from_stage(stage_tables.stage_from_table(table)) == table


def test_the_name_of_a_table_is_known_before_it_is_built() -> None:
    assert stage_tables.table_name({"stage": "filter_tags"}) == "filter_tags"
    assert stage_tables.table_name({"stage": "filter_tags", "name": "second"}) == "second"
    assert stage_tables.table_name({"stage": f"{__name__}:Plain"}) == "plain"
    assert stage_tables.table_name({"stage": f"{__name__}:module_level"}) == "module_level"
    assert stage_tables.table_name({"stage": f"{__name__}:NoDataclass"}) == "no_dataclass"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, 'needs stage = "<name>"'),
        ({"stage": 3}, 'needs stage = "<name>"'),
        ({"stage": "filter_tag"}, "Did you mean 'filter_tags'"),
        ({"stage": "no_such_module_at_all:x"}, "cannot be imported"),
        ({"stage": "json:loads"}, "not a stage. Functions need @autotag.stage"),
        ({"stage": "json:JSONDecoder"}, "which is not a stage"),
        ({"stage": f"{__name__}:module_level", "size": 3}, "takes no options; remove size"),
        ({"stage": f"{__name__}:NoDataclass", "size": 3}, "is not a dataclass"),
        ({"stage": f"{__name__}:WithHiddenOptions"}, "missing 1 required positional argument"),
        (
            {"stage": f"{__name__}:Plain", "number": -1},
            "Plain: number must not be negative",
        ),
        ({"stage": "filter_tags", "treshold": 0.3}, r"Did you mean 'threshold'\?"),
        ({"stage": "filter_tags", "threshold": "high"}, "filter_tags: threshold = .high. does not fit"),
    ],
)
def test_a_table_that_describes_no_stage_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stage_tables.stage_from_table(table)


def test_a_stage_that_cannot_be_imported_elsewhere_is_not_written() -> None:
    @stage()
    def local(sample: Sample) -> None:
        """Nothing to do."""

    with pytest.raises(ConfigError, match=r"'local' cannot be written.*package\.module:attribute"):
        stage_tables.table_from_stage(local)


def test_a_stage_with_options_that_are_not_known_is_not_written() -> None:
    with pytest.raises(ConfigError, match="WithHiddenOptions is not a dataclass"):
        stage_tables.table_from_stage(WithHiddenOptions(3))
