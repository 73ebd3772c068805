from __future__ import annotations

import pytest

from autotag.errors import ConfigError
from autotag.stages import AssemblePrompt
from autotag.testing import check_stage, make_sample


def test_it_keeps_the_contract():
    check_stage(AssemblePrompt())
    check_stage(AssemblePrompt(separator="; ", max_tags=1))


def test_the_best_caption_and_the_new_tags_make_the_prompt():
    sample = make_sample(
        captions=["a dog on a beach", "a cat"], tags={"dog": 0.9, "sunset": 0.8, "waves": 0.7}
    )
    AssemblePrompt(separator=" | ", max_tags=1)([sample])
    assert sample.prompt == "a dog on a beach | sunset"


def test_without_captions_the_tags_make_it():
    sample = make_sample(tags={"dog": 0.9, "sunset": 0.8})
    AssemblePrompt()([sample])
    assert sample.prompt == "dog, sunset"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "fastest"}, r"assemble_prompt\.mode is 'fastest'; allowed: 'plain'"),
        ({"max_tags": -1}, r"assemble_prompt\.max_tags is -1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        AssemblePrompt(**options)
