from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from autotag.errors import ModelUnavailableError
from autotag.evaluation.sentence_encoder import load_sentence_encoder
from autotag.evaluation.submission import read_submission
from autotag.testing import make_image

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_submission_of_several_models_has_the_weighted_mean_of_their_embeddings(
    run, tmp_path, minilm, tiny_git
):
    file = tmp_path / "submission.csv"
    common = (EXAMPLES / "cat.jpg", "--similarity-model", minilm, "--output", file, "-q")
    rows = []
    for models in (("blip-mini",), (tiny_git,), ("blip-mini", tiny_git, "--weights", "3,1")):
        named = [word for model in models[:2] for word in ("--model", model)]
        result = run("submission", *common, *named, *models[2:])
        assert result.exit_code == 0, result.output
        rows.append(read_submission(file)["cat"])
    blip, git, both = rows
    mean = 0.75 * blip + 0.25 * git
    assert np.allclose(both, mean / np.linalg.norm(mean), atol=1e-5)
    assert not np.allclose(both, blip, atol=1e-2)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("1", "models: 2, weights: 1"),
        ("1,-1", "weights are numbers of at least 0, not 1, -1"),
        ("0,0", "all weights are 0"),
        ("1;2", "write numbers with commas, such as 0.6,0.4"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_a_model_is_loaded(run, tmp_path, weights, message):
    file = tmp_path / "submission.csv"
    named = ("--model", "blip-base", "--model", "git-base", "--weights", weights)
    result = run("submission", EXAMPLES / "cat.jpg", *named, "--output", file, "-q")
    assert (result.exit_code, file.exists()) == (2, False)
    assert message in result.stderr


def _captions_only(folder: Path) -> Path:
    file = folder / "captions.toml"
    file.write_text('[[stages]]\nstage = "caption_images"\nmodel = "blip-mini"\n')
    return file


@pytest.mark.slow
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


def test_another_sentence_encoder_is_refused_before_an_image_is_read(run, tmp_path, monkeypatch):
    def ran(*_args, **_options):
        pytest.fail("a model ran")

    monkeypatch.setattr("autotag.evaluation.model_runs.run_model", ran)
    file = tmp_path / "submission.csv"
    given = ("--model", "blip-mini", "--similarity-model", "minilm-mini", "--output", file, "-q")
    result = run("submission", EXAMPLES / "cat.jpg", *given)
    assert (result.exit_code, file.exists()) == (2, False)
    assert "embeds a text in 128 numbers; a submission needs 384" in result.stderr


def test_missing_weights_are_not_answered_by_a_model_that_a_submission_refuses(run, tmp_path, monkeypatch):
    def missing(_pool, name):
        raise ModelUnavailableError(name, f"model {name!r} is not on this machine.")

    monkeypatch.setattr("autotag.models.pool.ModelPool.extractor", missing)
    result = run("submission", EXAMPLES / "cat.jpg", "--model", "blip-mini", "--output", tmp_path / "s.csv")
    assert result.exit_code == 2
    assert "--similarity-model FOLDER uses a copy" in result.stderr
    assert "minilm-mini" not in result.stderr
