from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from autotag.evaluation.sentence_encoder import load_sentence_encoder
from autotag.evaluation.submission import read_submission
from autotag.testing import make_image

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


def test_a_submission_has_the_embedding_of_each_caption(run, tmp_path, minilm):
    file = tmp_path / "submission.csv"
    images = (EXAMPLES / "cat.jpg", EXAMPLES / "astronaut.jpg")
    result = run(
        "submission", *images, "--model", "blip-mini", "--similarity-model", minilm, "--output", file, "-q"
    )
    assert result.exit_code == 0, result.output
    assert "2 images, 768 rows" in result.stdout
    found = read_submission(file)
    assert list(found) == ["astronaut", "cat"]
    tagged = run("tag", images[0], "--preset", _captions_only(tmp_path), "--format", "jsonl", "-q")
    caption = json.loads(tagged.stdout)["caption"]
    expected = load_sentence_encoder(str(minilm)).vectors([caption])[0]
    assert np.allclose(found["cat"], expected, atol=1e-5)


def _captions_only(folder: Path) -> Path:
    file = folder / "captions.toml"
    file.write_text('[[stages]]\nstage = "caption_images"\nmodel = "blip-mini"\n')
    return file


def test_a_submission_of_a_bad_image_or_of_twice_one_id_is_not_written(run, tmp_path, minilm):
    file = tmp_path / "submission.csv"
    make_image("red").save(tmp_path / "red.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    given = ("--model", "blip-mini", "--similarity-model", minilm, "--output", file, "-q")
    result = run("submission", tmp_path, *given)
    assert (result.exit_code, file.exists()) == (2, False)
    assert "1 of 2 images failed" in result.stderr
    (tmp_path / "bad.png").rename(tmp_path / "red.jpg")
    result = run("submission", tmp_path, *given)
    assert (result.exit_code, file.exists()) == (2, False)
    assert "two images have the id 'red'" in result.stderr


def test_another_sentence_encoder_does_not_make_a_submission(run, tmp_path):
    file = tmp_path / "submission.csv"
    given = ("--model", "blip-mini", "--similarity-model", "minilm-mini", "--output", file, "-q")
    result = run("submission", EXAMPLES / "cat.jpg", *given)
    assert (result.exit_code, file.exists()) == (2, False)
    assert "a submission needs (384,)" in result.stderr
