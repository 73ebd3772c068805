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


USERS = """\
# My preset.
encoder = "clip-mini"   # the small one
batch_size = 8
allow_urls = false

# What I see.
[[stages]]
stage = "caption_images"
model = "blip-mini"  # fast
vocabulary = { a = 1 }

[[stages]] # cut
stage = "filter_tags"
score = "cosine"
leave_out = [
    "thing",  # says nothing
]
# the end
"""


def test_what_a_user_wrote_stays_where_it_does_not_change():
    config = tomllib.loads(USERS)
    assert toml_text(config, over=USERS) == USERS
    config["stages"][1] |= {"score": "standardised", "threshold": 1.5}
    config |= {"encoder": None, "device": "cpu"}
    del config["batch_size"]
    changed = toml_text(config, over=USERS)
    assert tomllib.loads(changed) == config | {"encoder": "none"}
    for kept in (
        "# My preset.",
        '"none"   # the small one',
        "# What I see.",
        '"blip-mini"  # fast',
        "# says",
    ):
        assert kept in changed
    assert "# the end" in changed


@pytest.mark.parametrize(
    "over",
    [USERS, 'stages = [{stage = "x"}]\nencoder = "a"\n', 'encoder = "a"\n[stage_batch_sizes]\nx = 2\n', ""],
)
def test_other_stages_and_settings_replace_what_was_there(over):
    config = {
        "stage_batch_sizes": {"y": 1},
        "stages": [{"stage": "y", "top_k": 1}, {"stage": "z", "a": True}],
    }
    assert tomllib.loads(toml_text(config, over=over)) == config
    assert tomllib.loads(toml_text({"encoder": "b"}, over=over)) == {"encoder": "b"}


def test_one_and_true_are_not_taken_for_each_other():
    assert toml_text({"allow_urls": True}, over="allow_urls = 1\n") == "allow_urls = true\n"
