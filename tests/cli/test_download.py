from __future__ import annotations

import json

import pytest

from autotag.models import cards

PARTS = ("config.json", "model.safetensors", "tokenizer.json", "processor_config.json", "modules.json")
WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture
def published(local_hub):
    """A hub that has every model of preset base, in name."""
    for name in ("blip-base", "minilm", "clip-vit-b-32"):
        card = next(card for card in cards.cards() if card.name == name)
        local_hub.files[card.hub_id] = dict.fromkeys((*PARTS, WEIGHTS), b"weights")
    return local_hub


def test_a_preset_is_downloaded_model_by_model_and_then_is_here(run, published):
    first = run("download", "base")
    assert first.exit_code == 0
    assert first.stdout.splitlines() == [
        "blip-base: downloaded",
        "minilm: downloaded",
        "clip-vit-b-32: downloaded",
    ]
    assert "downloading blip-base (990 MB)" in first.stderr
    published.asked.clear()
    second = run("download", "base")
    assert [line.split(": ")[1] for line in second.stdout.splitlines()] == ["already on this machine"] * 3
    assert published.asked == []
    listed = json.loads(run("models", "--format", "json").stdout)
    assert {
        row["name"] for row in listed["models"] if row["present"] and not row["bundled"] | row["remote"]
    } - {"opennsfw"} == {  # opennsfw is there wherever its package is
        "blip-base",
        "minilm",
        "clip-vit-b-32",
    }
    assert next(row["present"] for row in listed["presets"] if row["name"] == "base")


@pytest.mark.slow
def test_the_download_shows_its_progress_on_stderr(start, published, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", published.endpoint)
    monkeypatch.setenv("HF_HUB_CACHE", str(published.cache))
    with start("download", "minilm") as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (0, b"minilm: downloaded\n")
    assert b"Fetching" in err


def test_a_model_is_downloaded_by_its_name_and_only_once(run, published):
    assert run("download", "minilm", "minilm").stdout.splitlines() == ["minilm: downloaded"]


def test_a_toml_file_stands_for_the_models_of_its_stages(run, published, tmp_path):
    file = tmp_path / "captions.toml"
    file.write_text('[[stages]]\nstage = "caption_images"\nmodel = "blip-base"\n')
    assert run("download", file).stdout.splitlines() == ["blip-base: downloaded"]


def test_a_hub_out_of_reach_is_one_clear_line(run, local_hub):
    local_hub.status = 503
    result = run("download", "large")
    assert result.exit_code == 2
    assert result.stdout == ""
    error = result.stderr.splitlines()[-1]
    for words in ("autotag: error:", "'blip-large'", "503", "1.9 GB", "mini"):
        assert words in error


def test_an_unknown_name_is_refused_with_the_near_miss(run):
    for name, wanted in ("bse", "'base'"), ("blip-lrge", "'blip-large'"):
        result = run("download", name)
        assert result.exit_code == 2
        assert f"Did you mean {wanted}?" in result.stderr


def test_a_model_behind_a_server_needs_no_download(run, local_hub, tmp_path):
    preset = tmp_path / "remote.toml"
    preset.write_text(
        'encoder = "none"\n[[stages]]\nstage = "caption_images"\nmodel = "remote:http://host/x"\n'
    )

    for name, shown in (("ofa", "ofa"), (str(preset), "remote:http://host/x")):
        done = run("download", name)
        assert done.exit_code == 0
        assert done.stdout == f"{shown}: runs behind a server, nothing to download\n"
    assert local_hub.asked == []
