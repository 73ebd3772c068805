from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import autotag


@pytest.fixture
def captioned(tmp_path):
    """24 pictures, red ones and green ones, with captions and tags in two files."""
    folder = tmp_path / "photos"
    folder.mkdir()
    draw = np.random.default_rng(0)
    captions, tags = [], []
    for number in range(24):
        colour, caption = (("red", "a red bus in the street"), ("green", "the green grass"))[number % 2]
        noise = Image.fromarray(draw.integers(0, 60, (48, 48, 3), dtype=np.uint8))
        Image.blend(Image.new("RGB", (48, 48), colour), noise, 0.3).save(folder / f"{number}.png")
        captions.append({"file_name": f"{number}.png", "caption": caption})
        tags.append({"file_name": f"{number}.png", "tags": [colour]})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, captions)))
    (folder / "tags.jsonl").write_text("\n".join(map(json.dumps, tags)))
    return folder


def test_a_captioner_is_fine_tuned_and_tags(run, captioned, tiny_git, tmp_path):
    output = tmp_path / "model"
    done = run(
        *("train", "captioner", captioned, "--from", tiny_git, "--output", output, "--steps", 3),
        *("--batch-size", 4, "--rank", 4, "--freeze-images", "--device", "cpu"),
    )
    assert done.exit_code == 0, done.output
    assert "step 3 of 3: loss " in done.stderr
    assert done.stdout.startswith("photographs  figure")
    assert f"model: {output}" in done.stdout
    card = json.loads((output / "fine_tuning.json").read_text())
    assert card["training"]["lora"]["rank"] == 4
    assert card["training"]["lora"]["images"] is False
    judged = run(
        *("evaluate", captioned, "--models", output, "--no-html", "--similarity-model", "none"),
        *("--output", tmp_path / "report"),
    )
    assert judged.exit_code == 0, judged.output


@pytest.mark.slow
def test_the_bundled_encoder_is_fine_tuned_on_tags(run, captioned, tmp_path):
    output = tmp_path / "model"
    done = run(
        *("train", "encoder", captioned / "tags.jsonl", "--from", "clip-mini", "--output", output),
        *("--steps", 2, "--batch-size", 4, "--share", 0.3, "--device", "cpu", "--quiet"),
    )
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    assert "share of the learned change: 0.3" in done.stdout
    assert (output / "LICENSE").is_file()
    cat = Path(__file__).resolve().parents[2] / "docs" / "examples" / "cat.jpg"
    tagger = autotag.load("mini", encoder=str(output), filter_tags={"score": "standardised"}, device="cpu")
    with tagger:
        assert "cat" in [tag.text for tag in tagger(cat).tags]


@pytest.mark.slow
def test_missing_photographs_to_keep_are_left_out_as_those_of_the_data_are(
    run, captioned, tiny_git, tmp_path
):
    kept = captioned / "kept.jsonl"
    lost = json.dumps({"file_name": "lost.png", "caption": "what was lost"})
    kept.write_text((captioned / "metadata.jsonl").read_text() + "\n" + lost)
    command = (
        *("train", "captioner", captioned, "--from", tiny_git, "--output", tmp_path / "model", "--steps", 1),
        *("--batch-size", 4, "--keep", kept, "--rehearse", 0, "--share", 1, "--device", "cpu"),
    )
    refused = run(*command)
    assert refused.exit_code == 2
    assert "leave them out (--skip-missing)" in refused.stderr
    assert run(*command, "--skip-missing").exit_code == 0


def test_bad_input_is_told_in_one_line(run, captioned, tiny_git, tmp_path):
    output = tmp_path / "model"
    for data, base, words in (
        (captioned / "tags.jsonl", tiny_git, "has tags and no captions"),
        (tmp_path / "nothing", tiny_git, "there is no data set"),
        (captioned / "0.png", tiny_git, "is not a known data set"),
        (captioned, "blip-bass", "unknown captioner 'blip-bass'. Did you mean 'blip-base'"),
        (captioned, "clip-mini", "is an encoder, not a captioner"),
    ):
        refused = run("train", "captioner", data, "--from", base, "--output", output)
        assert refused.exit_code == 2
        assert words in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert not output.exists()
    used = run("train", "captioner", captioned, "--from", tiny_git, "--output", captioned)
    assert used.exit_code == 2
    assert "is not empty" in used.stderr
