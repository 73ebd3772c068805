from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from autotag.errors import ConfigError
from autotag.evaluation.sentence_encoder import load_sentence_encoder
from autotag.evaluation.submission import (
    check_ids,
    image_id,
    read_submission,
    submitted_vectors,
    write_submission,
)

CHANCE = np.random.default_rng(5)


def vectors(*names: str) -> dict[str, np.ndarray]:
    return {name: CHANCE.normal(0, 0.05, 384).astype(np.float32) for name in names}


def test_there_are_384_lines_per_image_in_the_order_of_ids(tmp_path: Path) -> None:
    file = tmp_path / "submission.csv"
    write_submission(vectors("f27", "20057f34d", "a_b"), file)
    with file.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["imgId_eId", "val"]
    assert len(rows) == 3 * 384
    assert [row[0] for row in rows[::384]] == ["20057f34d_0", "a_b_0", "f27_0"]
    assert rows[383][0] == "20057f34d_383"


def test_every_float_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    written = vectors("one", "two, with a comma")
    written["one"][:4] = [1 / 3, 1e-38, -0.0, np.nextafter(np.float32(1), np.float32(2))]
    write_submission(written, tmp_path / "submission.csv")
    back = read_submission(tmp_path / "submission.csv")
    for name, vector in written.items():
        assert back[name].tobytes() == vector.tobytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "at least one image"),
        ({"a": np.zeros(128, np.float32)}, r"shape \(128,\)"),
        ({"a": np.full(384, np.nan, np.float32)}, "finite"),
        ({"a": np.zeros(384)}, "not float32"),
    ],
)
def test_what_is_no_embedding_is_refused(tmp_path: Path, given, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_submission(given, tmp_path / "submission.csv")
    assert list(tmp_path.iterdir()) == []


def test_ids_that_come_twice_are_refused() -> None:
    assert image_id("images/20057f34d.png") == "20057f34d"
    with pytest.raises(ConfigError, match="two images have the id 'a'"):
        check_ids([image_id("x/a.png"), image_id("y/a.jpg")])


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (0, "id,val", "does not begin"),
        (3, "a_7,0.5", "line 4: 'a_7' where a_2"),
        (3, "a_2,much", "line 4: 'much' is not a number"),
        (3, "a_2,inf", "not finite"),
        (3, "a_2", "1 cells"),
        (384, None, "has 383 values"),
    ],
)
def test_a_damaged_submission_is_refused_by_line(
    tmp_path: Path, line: int, text: str | None, message
) -> None:
    file = tmp_path / "submission.csv"
    write_submission(vectors("a"), file)
    lines = file.read_text().splitlines()
    lines[line : line + 1] = [] if text is None else [text]
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match=message):
        read_submission(file)


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        write_submission(vectors("a"), tmp_path / "nowhere" / "submission.csv")


def test_what_several_models_wrote_is_averaged_and_an_image_without_words_has_the_empty_texts_embedding(
    minilm,
) -> None:
    encoder = load_sentence_encoder(str(minilm), device="cpu")
    dog, sea, cat, empty = encoder.encode(["a dog", "the sea", "a cat", ""])
    found = submitted_vectors([["a dog", "", " "], ["the sea", "a cat", ""]], encoder, (3, 1))
    assert (found.shape, found.dtype) == ((3, 384), np.float32)
    mean = 0.75 * dog + 0.25 * sea
    for row, expected in zip(found, [mean / np.linalg.norm(mean), cat, empty], strict=True):
        assert row == pytest.approx(expected, abs=1e-6)
    [alone] = submitted_vectors([["a dog"]], encoder)
    assert alone == pytest.approx(dog, abs=1e-6)
