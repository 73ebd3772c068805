from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from autotag.errors import WiringError
from autotag.pipeline.wiring import check_wiring, describe


@dataclass
class Step:
    name: str = "step"
    requires: Any = frozenset()
    provides: Any = field(default_factory=frozenset)

    def __call__(self, samples: Any, /) -> None:
        """Nothing to do."""


CAPTION = Step("caption", provides={"captions"})
EXTRACT = Step("extract", {"captions"}, {"tags"})
FILTER = Step("filter", {"tags"}, {"tags"})


def test_stages_in_order_are_accepted() -> None:
    check_wiring([CAPTION, EXTRACT, FILTER])


def test_source_image_and_size_are_always_there() -> None:
    check_wiring([Step(requires={"source", "image", "size"})])


def test_a_third_partys_field_is_handed_on() -> None:
    check_wiring([Step("one", provides={"extras.sharpness"}), Step("two", requires={"extras.sharpness"})])


def test_a_later_stage_that_writes_the_field_is_named_as_the_one_to_move() -> None:
    with pytest.raises(
        WiringError, match=r"'filter' \(position 1\) needs 'tags'.* Move 'extract' \(pos.* 3\)"
    ):
        check_wiring([FILTER, CAPTION, EXTRACT])


def test_a_stage_that_needs_the_field_itself_is_not_the_one_to_move() -> None:
    with pytest.raises(WiringError, match="'one' .*needs 'tags'") as caught:
        check_wiring([Step("one", {"tags"}, {"tags"}), FILTER])
    assert "Move" not in str(caught.value)


def test_registered_stages_that_would_write_the_field_are_named() -> None:
    with pytest.raises(WiringError, match="Put .*'caption_images'.* in front of 'extract'"):
        check_wiring([EXTRACT])
    with pytest.raises(WiringError, match="Put .*'extract_keyphrases'.* in front of 'filter'") as caught:
        check_wiring([FILTER])
    assert "merge_tags" not in str(caught.value), "merge_tags needs tags itself"


def test_a_field_nobody_writes_is_said_to_be_so() -> None:
    with pytest.raises(WiringError, match="No registered stage creates it"):
        check_wiring([Step(requires={"extras.sharpness"})])


@pytest.mark.parametrize("side", ["requires", "provides"])
def test_an_unknown_field_is_refused_with_the_near_miss(side: str) -> None:
    with pytest.raises(WiringError, match=rf"'step' {side} 'tag'.*Did you mean 'tags'\?"):
        check_wiring([Step(**{side: {"tag"}})])


@pytest.mark.parametrize("name", ["extras", "extras."])
def test_extras_need_a_key(name: str) -> None:
    with pytest.raises(WiringError, match="Name the key"):
        check_wiring([Step(provides={name})])


@pytest.mark.parametrize("declared", ["tags", ["tags"], None])
def test_fields_are_declared_as_a_set(declared: object) -> None:
    with pytest.raises(WiringError, match="write a set of field names"):
        check_wiring([Step(provides=declared)])


def test_two_stages_of_one_name_are_refused_with_the_way_out() -> None:
    with pytest.raises(WiringError, match=r"called 'caption' \(positions 1 and 3\).*name='caption_2'"):
        check_wiring([CAPTION, EXTRACT, CAPTION])


def test_a_class_is_refused_and_to_be_called() -> None:
    with pytest.raises(WiringError, match=r"stage 2 is the class Step.*Call it: Step\(\.\.\.\)"):
        check_wiring([CAPTION, Step])


def test_a_bare_function_is_to_be_decorated() -> None:
    with pytest.raises(WiringError, match="@autotag.stage"):
        check_wiring([lambda sample: None])


def test_a_name_instead_of_a_stage_is_pointed_to_load() -> None:
    with pytest.raises(WiringError, match=r"autotag\.load"):
        check_wiring(["caption_images"])


def test_what_an_object_lacks_is_said() -> None:
    with pytest.raises(WiringError, match=r"lacks name, requires, provides, __call__"):
        check_wiring([42])


def test_no_stage_at_all_is_refused() -> None:
    with pytest.raises(WiringError, match="at least one stage"):
        check_wiring([])


def test_the_description_has_a_line_per_stage() -> None:
    lines = describe([CAPTION, EXTRACT]).splitlines()
    assert lines[0].split() == ["1.", "caption", "needs", "the", "image", "writes", "captions"]
    assert lines[1].split() == ["2.", "extract", "needs", "captions", "writes", "tags"]
