from __future__ import annotations

from pathlib import Path

import pytest

from autotag.cli.prompt import MODES, _prompter
from autotag.pipeline.presets import from_config
from autotag.pipeline.wiring import needed_for

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
PRESET = """
encoder = "clip-mini"

[[stages]]
stage = "caption_images"
model = "blip-mini"
max_new_tokens = 6

[[stages]]
stage = "extract_keyphrases"
model = "minilm-mini"

[[stages]]
stage = "assemble_prompt"
mediums = ["a photo", "a painting"]
artists = ["by Ann Lee"]
movements = ["cubism"]
trendings = []
flavors = ["sharp focus", "soft light", "pouring rain"]
negatives = ["blurry"]
"""


@pytest.fixture
def small(tmp_path):
    """Preset mini's models with short lists."""
    file = tmp_path / "small.toml"
    file.write_text(PRESET, encoding="utf-8")
    return file


def test_every_mode_is_known_to_the_stage():
    from typing import get_args

    from autotag.stages.assemble_prompt import Mode

    assert set(MODES) == set(get_args(Mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.slow
def test_one_prompt_per_line_on_stdout(run, small, mode, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    images = [EXAMPLES / "cat.jpg", EXAMPLES / "tower.jpg"]
    result = run("prompt", *images, "--mode", mode, "--preset", small)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert all(lines)


def test_stages_that_the_prompt_does_not_need_are_not_run():
    config = {
        "encoder": "clip-mini",
        "stages": [
            {"stage": "caption_images", "model": "blip-mini"},
            {"stage": "extract_keyphrases", "model": "minilm-mini"},
            {"stage": "assemble_prompt"},
        ],
    }

    def needed(mode):
        config["stages"][-1]["mode"] = mode
        return [stage.name for stage in needed_for("prompt", from_config(config).stages)]

    assert needed("plain") == ["caption_images", "extract_keyphrases", "assemble_prompt"]
    assert needed("fast") == ["caption_images", "assemble_prompt"]
    assert needed("negative") == ["assemble_prompt"]


@pytest.mark.slow
def test_a_bad_image_has_an_empty_line_and_exit_code_1(run, small, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    result = run("prompt", bad, EXAMPLES / "cat.jpg", "--mode", "negative", "--preset", small)
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()
    assert (first, bool(second)) == ("", True)
    assert "bad.jpg" in result.stderr


def test_a_preset_without_a_prompt_is_refused(run, tmp_path):
    preset = tmp_path / "tags.toml"
    preset.write_text('[[stages]]\nstage = "match_vocabulary"\nvocabulary = ["a", "b"]\n', encoding="utf-8")
    result = run("prompt", EXAMPLES / "cat.jpg", "--preset", preset)
    assert result.exit_code == 2
    assert "has no stage that makes a prompt" in result.stderr


def test_a_mode_goes_to_every_prompt_stage_under_its_own_name(small):
    text = small.read_text().replace('"assemble_prompt"', '"assemble_prompt"\nname = "mine"')
    small.write_text(f'{text}\n[[stages]]\nstage = "assemble_prompt"\n')
    pipeline = _prompter(str(small), {}, (), "negative")
    assert [(stage.name, stage.mode) for stage in pipeline.stages] == [
        ("mine", "negative"),
        ("assemble_prompt", "negative"),
    ]


def test_a_mode_without_a_stage_that_has_modes_is_refused(run, tmp_path):
    preset = tmp_path / "tags.toml"
    preset.write_text('[[stages]]\nstage = "match_vocabulary"\nvocabulary = ["a", "b"]\n', encoding="utf-8")
    result = run("prompt", EXAMPLES / "cat.jpg", "--preset", preset, "--mode", "fast")
    assert result.exit_code == 2
    assert "has no stage assemble_prompt, which --mode is for" in result.stderr
