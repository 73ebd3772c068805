from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from autotag.models.cards import BUNDLED as BUNDLED_MODELS
from autotag.relevance.label_matrix import SHIPPED
from autotag.training.commands import main


def test_it_says_how_to_make_the_mini_models() -> None:
    command = [sys.executable, "-m", "autotag.training", "mini", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
    assert all(
        option in text for option in ("--data", "--output", "--work", "--teacher", "--part", "--workers")
    )


@pytest.mark.parametrize("part", ["features", "encoder", "captioner"])
def test_missing_data_is_one_clear_line(tmp_path: Path, minilm: Path, part: str) -> None:
    arguments = [
        "mini",
        "--data",
        str(tmp_path),
        "--output",
        str(tmp_path / "out"),
        "--work",
        str(tmp_path / "work"),
    ]
    done = CliRunner().invoke(main, [*arguments, "--part", part, "--teacher", str(minilm)])
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert "does not contain flickr8k-train.parquet" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    arguments = [
        "mini",
        "--data",
        str(tmp_path),
        "--output",
        str(tmp_path / "out"),
        "--work",
        str(tmp_path / "work"),
    ]
    done = CliRunner().invoke(main, [*arguments, "--teacher", str(tmp_path / "nowhere")])
    assert done.exit_code == 1
    assert "there is no folder" in done.stderr


def test_one_part_can_be_made_alone(tmp_path: Path, tiny_teacher: SentenceTransformer) -> None:
    tiny_teacher.save(str(tmp_path / "teacher"), create_model_card=False)
    arguments = ["mini", "--data", str(tmp_path), "--output", str(tmp_path / "out")]
    arguments += ["--work", str(tmp_path / "work"), "--part", "sentence"]
    done = CliRunner().invoke(main, [*arguments, "--teacher", str(tmp_path / "teacher")])
    assert done.exit_code == 0, done.output
    assert load_file(str(tmp_path / "out" / "minilm-mini" / "model.safetensors"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["minilm-mini"]


def test_mean_losses_are_told_and_kept_every_hundred_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from autotag.training.commands import _TellLosses

    told = _TellLosses("encoder head", tmp_path / "log.jsonl")
    for step in range(1, 201):
        told(step, {"words": 2.0 if step % 2 else 4.0 if step <= 100 else 8.0})
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("part encoder head  step 100")
    assert first.endswith("words 3.0")
    assert second.endswith("words 5.0")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(row["part"], row["step"], row["words"]) for row in rows] == [
        ("encoder head", 100, 3.0),
        ("encoder head", 200, 5.0),
    ]


@pytest.mark.slow
def test_vectors_of_the_bundled_vocabularies_replace_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "earlier.npy").write_bytes(b"of another encoder")
    done = CliRunner().invoke(main, ["labels", str(BUNDLED_MODELS / "clip-mini"), "--output", str(tmp_path)])
    assert done.exit_code == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in SHIPPED.glob("*.npy")}


def test_vectors_by_something_that_is_no_encoder_are_one_clear_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["labels", str(tmp_path), "--output", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
