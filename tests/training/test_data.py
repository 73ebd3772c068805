from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from autotag.errors import ConfigError, ImageReadError
from autotag.training.data import clean_caption, read_captioned, read_labelled


def encoded(colour: str, size: tuple[int, int] = (6, 4)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


def parquet(file: Path, **columns: list[object]) -> Path:
    pa.parquet.write_table(pa.table(columns), file)
    return file


@pytest.fixture
def album(folder_of_drawings: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder_of_drawings, tmp_path / "album"))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A  Dog runs .", "a dog runs"),
        (' "Two men , one hat ." ', "two men, one hat"),
        ("the dog 's bone", "the dog's bone"),
        ("Really ?!", "really?!"),
        (" . ", ""),
        ("ends in a version 2.0.", "ends in a version 2.0"),
    ],
)
def test_captions_become_lower_case_without_loose_marks(text: str, cleaned: str) -> None:
    assert clean_caption(text) == cleaned


def test_a_parquet_file_gives_square_photographs_and_their_captions(tmp_path: Path) -> None:
    file = parquet(
        tmp_path / "photos.parquet",
        image=[encoded("red"), encoded("white"), encoded("blue")],
        captions=[["Red .", "all red"], [" ", '"."'], ["Blue"]],
    )
    photos = read_captioned(file, size=5)
    assert photos.captions == [["red", "all red"], ["blue"]]
    assert photos.pixels.dtype == torch.uint8
    assert photos.pixels.shape == (2, 3, 5, 5)
    assert photos.pixels[:, :, 2, 2].tolist() == [[255, 0, 0], [0, 0, 255]]


def test_a_metadata_file_says_what_is_on_which_photograph(album: Path) -> None:
    rows = [
        {"file_name": "red square.png", "caption": "A red square."},
        {"file_name": "lime ring.png", "captions": ["A ring", "Blue"]},
        {"file_name": "blue square.png", "text": "Square and blue"},
        {"file_name": "yellow ring.png", "caption": " . "},
    ]
    (album / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    photos = read_captioned(album, size=8)
    assert photos.captions == [["a red square"], ["a ring", "blue"], ["square and blue"]]
    assert photos.pixels.shape == (3, 3, 8, 8)


def test_a_text_file_beside_a_photograph_holds_a_caption_a_line(album: Path) -> None:
    (album / "lime ring.txt").write_text("A ring.\n\nBlue on grey\n", encoding="utf-8")
    (album / "yellow ring.txt").write_text("\n", encoding="utf-8")
    photos = read_captioned(album, size=8)
    assert photos.captions == [["a ring", "blue on grey"]]


def test_where_nothing_is_captioned_it_says_what_was_expected(album: Path) -> None:
    with pytest.raises(ConfigError, match=r"no captioned photographs in .*metadata\.jsonl"):
        read_captioned(album, size=8)


@pytest.mark.parametrize("line", ['{"caption": "a dog"}', "{", "[]", "3", ""])
def test_a_damaged_metadata_file_is_named_with_its_line(album: Path, line: str) -> None:
    good = '{"file_name": "yellow ring.png", "caption": "a ring"}'
    (album / "metadata.jsonl").write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"metadata\.jsonl, line 2: .*'file_name'"):
        read_captioned(album, size=8)


def test_a_captioned_photograph_that_is_gone_is_named(album: Path) -> None:
    (album / "metadata.jsonl").write_text('{"file_name": "x.png", "caption": "a dog"}', encoding="utf-8")
    with pytest.raises(ImageReadError, match=r"x\.png"):
        read_captioned(album, size=8)


def test_classes_are_numbered_over_all_files_in_the_order_of_their_ids(tmp_path: Path) -> None:
    files = [
        parquet(
            tmp_path / "0.parquet",
            image=[encoded("red"), encoded("blue")],
            wnid=["n2", "n9"],
            names=[["red"], ["blue", "azure"]],
        ),
        parquet(
            tmp_path / "1.parquet",
            image=[encoded("lime"), encoded("red")],
            wnid=["n1", "n2"],
            names=[["green"], ["red"]],
        ),
    ]
    photos = read_labelled(files, size=4)
    assert photos.names == [["green"], ["red"], ["blue", "azure"]]
    assert photos.classes.tolist() == [1, 2, 0, 1]
    assert photos.pixels.shape == (4, 3, 4, 4)
    assert photos.pixels[2, :, 0, 0].tolist() == [0, 255, 0]


def test_no_labelled_photographs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no labelled photographs"):
        read_labelled([], size=4)


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parquet(tmp_path / "photos.parquet", image=[encoded("red")], captions=[["red"]])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"autotag-images\[train\]"):
        read_captioned(file, size=4)
