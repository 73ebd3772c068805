from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from autotag.testing import make_image

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
PROMPTS = {
    "astronaut": 'a woman in an orange suit, "portrait"',
    "cat": "eine getigerte Katze\nschaut in die Kamera",
    "coffee": "a cup of coffee on a table",
    "rocket": "a white rocket stands on its launch pad",
}
OFFLINE = ("--similarity-model", "minilm-mini", "-q")


@pytest.fixture
def prompts(tmp_path):
    """A CSV file of prompts with quotes, line breaks and two languages."""
    file = tmp_path / "prompts.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerows([("imgId", "prompt"), *PROMPTS.items()])
    return file


@pytest.mark.slow
def test_models_are_compared_offline_and_the_same_every_time(run, prompts, tmp_path):
    given = ("--images", EXAMPLES, *OFFLINE, "--clip-model", "clip-mini")
    figures = []
    for output in (tmp_path / "one", tmp_path / "two"):
        result = run(
            "evaluate", prompts, "--models", "mini", "blip-mini", *given, "--seed", 3, "--output", output
        )
        assert result.exit_code == 0, result.output
        found = json.loads((output / "report.json").read_text(encoding="utf-8"))
        figures.append({model["name"]: (model["figures"], model["texts"]) for model in found["models"]})
    assert figures[0] == figures[1]
    assert set(figures[0]) == {"mini", "blip-mini"}
    assert {"similarity", "cider_d", "bleu_4", "clip_score"} <= set(figures[0]["mini"][0])
    lines = result.stdout.splitlines()
    assert lines[0].split()[0] == "model"
    assert [line for line in lines if line.startswith("images/s")]
    assert lines[-1] == f"report: {output / 'report.html'}"
    assert found["images"][1]["texts"] == [PROMPTS["cat"]]


@pytest.mark.slow
def test_ensembles_are_judged_by_file_and_by_weights(run, prompts, tmp_path, tiny_git):
    preset = tmp_path / "ensemble.toml"
    preset.write_text(
        f'encoder = "clip-mini"\n[[stages]]\nstage = "caption_images"\nmodel = ["blip-mini", "{tiny_git}"]\n'
        'max_new_tokens = 8\n[[stages]]\nstage = "choose_caption"\n'
    )
    output = tmp_path / "out"
    given = ("--weights", "2,1,1", "--images", EXAMPLES, *OFFLINE, "--output", output)
    result = run("evaluate", prompts, "--models", preset, "blip-mini", tiny_git, *given)
    assert result.exit_code == 0, result.output
    models = json.loads((output / "report.json").read_text(encoding="utf-8"))["models"]
    names = [str(preset), "blip-mini", str(tiny_git)]
    mean = f"{preset} 0.5 + blip-mini 0.25 + {tiny_git} 0.25"
    texts = {model["name"]: model["texts"] for model in models}
    assert set(texts) == {*names, mean}
    assert all(texts[str(preset)])
    figures = {model["name"]: model["figures"] for model in models}
    assert set(figures[mean]) == {"similarity", "text_found_at_1", "text_found_at_5"}


def test_a_page_without_matplotlib_stops_before_a_model_is_loaded(run, prompts, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    given = ("evaluate", prompts, "--models", "blip-base", *OFFLINE)
    result = run(*given, "--images", EXAMPLES)
    assert result.exit_code == 2
    assert "pip install 'autotag-images[report]'" in result.stderr
    result = run(*given, "--no-html")
    assert "install" not in result.stderr
    assert "4 of 4 images" in result.stderr


def test_weights_that_do_not_fit_stop_before_a_model_is_loaded(run, prompts):
    given = ("--images", EXAMPLES, *OFFLINE)
    result = run("evaluate", prompts, "--models", "blip-base", "git-base", "--weights", "1", *given)
    assert result.exit_code == 2
    assert "models: 2, weights: 1" in result.stderr


def test_missing_images_stop_before_a_model_is_loaded(run, prompts):
    result = run("evaluate", prompts, "--models", "blip-base", *OFFLINE)
    assert result.exit_code == 2
    assert "4 of 4 images" in result.stderr
    assert "--images" in result.stderr


def test_a_model_that_is_not_known_is_refused(run, prompts):
    result = run("evaluate", prompts, "--models", "mimi", *OFFLINE)
    assert result.exit_code == 2
    assert "Did you mean 'mini'?" in result.stderr


def test_no_model_is_refused(run, prompts):
    assert run("evaluate", prompts, *OFFLINE).exit_code == 2


@pytest.mark.slow
def test_an_image_that_fails_costs_exit_code_1(run, tmp_path):
    make_image("red").save(tmp_path / "red.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    for name in ("red", "bad"):
        (tmp_path / f"{name}.txt").write_text("a red picture")
    output = tmp_path / "out"
    result = run(
        "evaluate", tmp_path, "--models", "blip-mini", "--similarity-model", "none", "-q", "--output", output
    )
    assert result.exit_code == 1, result.output
    assert "bad.png" in (output / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_tags_are_judged_by_label(run, tmp_path):
    file = tmp_path / "tags.csv"
    file.write_text("image,tags\ncat.jpg,cat;dog\ncoffee.jpg,cup\n")
    output = tmp_path / "out"
    result = run("evaluate", file, "--models", "mini", "--images", EXAMPLES, "-q", "--output", output)
    assert result.exit_code == 0, result.output
    assert "macro F1" in result.stdout
    assert "mAP" in (output / "report.html").read_text(encoding="utf-8")
    result = run("evaluate", file, "--models", "blip-mini", "--images", EXAMPLES, "-q", "--output", output)
    assert result.exit_code == 2
    assert "gives no tags" in result.stderr
