from __future__ import annotations

import tomllib

import pytest

from autotag.errors import ConfigError
from autotag.files.toml_text import toml_text
from autotag.pipeline import presets


@pytest.mark.parametrize("preset", presets.preset_names())
def test_every_preset_comes_back_as_it_was(preset):
    table = presets.read_preset(preset)
    assert tomllib.loads(toml_text(table)) == table


def test_any_text_number_list_and_table_comes_back():
    table = {
        "encoder": 'C:\\models\\"mine" é \x7f\n\t\x00',
        "stage_batch_sizes": {"filter tags": 4},
        "allow_urls": True,
        "plain": [],
        "stages": [{"stage": "x", "threshold": -1e-07, "vocabulary": {"größe": ["a", "b"], "c": []}}],
    }
    assert tomllib.loads(toml_text(table)) == table


def test_none_becomes_the_word_that_a_config_takes_for_it():
    assert tomllib.loads(toml_text({"stages": [{"top_k": None}]})) == {"stages": [{"top_k": "none"}]}


def test_an_object_is_refused():
    with pytest.raises(ConfigError, match="cannot be written to a TOML file"):
        toml_text({"encoder": object(), "stages": []})
