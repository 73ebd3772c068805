from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autotag.errors import ConfigError
from autotag.evaluation.datasets import read_dataset
from autotag.testing import make_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, and nothing written about them yet."""
    for name in ("red.png", "blue.png", "images/green.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        make_image(Path(name).stem).save(tmp_path / name)
    return tmp_path


def texts_of(dataset) -> dict[str, tuple[str, ...]]:
    return {example.id: example.texts for example in dataset.examples}


def test_a_csv_with_ids_quotes_and_line_breaks(folder: Path) -> None:
    file = folder / "prompts.csv"
    file.write_bytes(
        b'\xef\xbb\xbfimgId,prompt\r\nred,"a ""red"" square,\nvery red"\r\ngreen, ein gr\xc3\xbcnes Bild \r\n'
    )
    for place in (file, folder):
        dataset = read_dataset(place)
        assert texts_of(dataset) == {"red": ('a "red" square,\nvery red',), "green": ("ein grünes Bild",)}
    assert dataset.examples[1].image == folder / "images" / "green.png"


def test_captions_of_one_image_on_several_lines_are_its_references(folder: Path) -> None:
    (folder / "captions.txt").write_text("image,caption\nred.png,one\nblue.png,blue, and dark\nred.png,two\n")
    assert texts_of(read_dataset(folder)) == {"red.png": ("one", "two"), "blue.png": ("blue, and dark",)}


def test_the_token_file_of_flickr8k(folder: Path) -> None:
    file = folder / "Flickr8k.token.txt"
    file.write_text("red.png#0\tA red one .\nred.png#1\tRed #2 .\nblue.png#0\tBlue .\n")
    assert texts_of(read_dataset(file)) == {"red.png": ("A red one .", "Red #2 ."), "blue.png": ("Blue .",)}
    file.write_text("red.png#0\tA red one .\nnonsense\n")
    with pytest.raises(ConfigError, match="line 2"):
        read_dataset(file)


def test_metadata_with_captions_and_tags(folder: Path) -> None:
    rows = [
        {"file_name": "red.png", "captions": ["one", "", "two"], "tags": ["red", "red", "square"]},
        {"file_name": "blue.png", "caption": "three", "tags": ["blue"]},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    dataset = read_dataset(folder)
    assert texts_of(dataset) == {"red.png": ("one", "two"), "blue.png": ("three",)}
    assert dataset.labels == ("blue", "red", "square")


def test_tags_in_a_csv(folder: Path) -> None:
    file = folder / "tags.csv"
    file.write_text('image,tags\nred.png,red; square\nblue.png,"blue,square"\n')
    dataset = read_dataset(file)
    assert [example.tags for example in dataset.examples] == [("red", "square"), ("blue", "square")]
    assert not dataset.has_texts


def test_coco_captions_and_categories(folder: Path) -> None:
    images = [{"id": 7, "file_name": "red.png"}, {"id": 9, "file_name": "green.png"}]
    captions = [{"image_id": 7, "caption": "one"}, {"image_id": 7, "caption": "two"}]
    file = folder / "captions_val2014.json"
    file.write_text(json.dumps({"images": images, "annotations": captions}))
    dataset = read_dataset(file)
    assert texts_of(dataset) == {"red.png": ("one", "two")}
    assert dataset.without_truth == 1
    boxes = [{"image_id": 9, "category_id": 3}, {"image_id": 9, "category_id": 3}]
    coco = {"images": images, "annotations": boxes, "categories": [{"id": 3, "name": "cat"}]}
    file.write_text(json.dumps(coco))
    assert [example.tags for example in read_dataset(file).examples] == [("cat",)]


def test_annotations_of_unknown_images_are_refused(folder: Path) -> None:
    file = folder / "coco.json"
    notes = [{"image_id": 8, "caption": "one"}]
    file.write_text(json.dumps({"images": [{"id": 7, "file_name": "red.png"}], "annotations": notes}))
    with pytest.raises(ConfigError, match="1 annotations .* does not list: 8"):
        read_dataset(file)


def test_text_files_beside_images(folder: Path) -> None:
    (folder / "red.txt").write_text("one\n\ntwo\n")
    dataset = read_dataset(folder)
    assert texts_of(dataset) == {"red.png": ("one", "two")}
    assert dataset.without_truth == 2


@pytest.mark.parametrize("as_struct", [False, True])
def test_parquet_with_pictures_inside(tmp_path: Path, as_struct: bool) -> None:
    buffer = io.BytesIO()
    make_image("red").save(buffer, "PNG")
    image = {"bytes": buffer.getvalue(), "path": "red.png"} if as_struct else buffer.getvalue()
    columns = {"image": [image, image], "captions": [["one", "two"], ["three"]]}
    if not as_struct:
        columns["file_name"] = ["red.png", "again.png"]
    file = tmp_path / "some.parquet"
    pq.write_table(pa.table(columns), file)
    dataset = read_dataset(file)
    assert dataset.examples[0].id == "red.png"
    assert dataset.examples[0].texts[:2] == ("one", "two")
    assert dataset.examples[0].image == buffer.getvalue()


def test_missing_images_are_named_or_left_out_and_counted(folder: Path) -> None:
    file = folder / "some.csv"
    file.write_text("image,caption\nred.png,one\nyellow.png,two\nwhite.png,three\n")
    with pytest.raises(
        ConfigError, match=r"2 of 3 images .* missing .*'yellow.png', 'white.png'.*--skip-missing"
    ):
        read_dataset(file)
    dataset = read_dataset(file, skip_missing=True)
    assert (list(texts_of(dataset)), dataset.without_image) == (["red.png"], 2)


def test_a_wrong_folder_is_not_taken_for_a_data_set_without_images(folder: Path) -> None:
    file = folder / "some.csv"
    file.write_text("image,caption\nred.png,one\n")
    with pytest.raises(ConfigError, match="1 of 1 images"):
        read_dataset(file, images=folder / "images", skip_missing=True)


def test_images_without_words_are_left_out_and_counted(folder: Path) -> None:
    file = folder / "some.csv"
    file.write_text('image,caption\nred.png,one\nblue.png,\ngreen.png,"  "\n')
    dataset = read_dataset(file)
    assert (list(texts_of(dataset)), dataset.without_truth) == (["red.png"], 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("some.csv", b"image,caption\nred.png,\n", "holds no image with a caption"),
        ("some.csv", b"", "no column imgId"),
        ("some.csv", b"photo,caption\nred.png,one\n", r"no column imgId.*\['photo', 'caption'\]"),
        ("some.csv", b"image,words\nred.png,one\n", "no column prompt"),
        ("some.csv", b"image,caption\n,one\n", "line 2: it names no image"),
        ("some.csv", b"image,caption\nred.png,caf\xe9\n", "not UTF-8"),
        ("metadata.jsonl", b'{"file_name": "red.png", "caption": "one"}\n{"file_name"', "line 2: not valid"),
        ("metadata.jsonl", b'["red.png"]\n', "line 1: not an object"),
        ("coco.json", b"[]", "not a COCO file"),
        ("some.xlsx", b"PK", "not a known data set"),
        ("some.parquet", b"PK", "cannot read"),
        (
            "mixed.jsonl",
            b'{"image": "red.png", "tags": ["a"]}\n{"image": "blue.png", "text": "b"}',
            "split them",
        ),
    ],
)
def test_a_damaged_data_set_is_refused_by_name(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_dataset(folder / name)


def test_what_is_not_there_is_said_to_be(folder: Path) -> None:
    with pytest.raises(ConfigError, match="there is no data set"):
        read_dataset(folder / "nothing.csv")


def test_a_limit_draws_the_same_images_with_the_same_seed(folder: Path) -> None:
    lines = "".join(f"{name}.png,{name}\n" for name in ("red", "blue", "green"))
    (folder / "captions.txt").write_text("image,caption\n" + lines)
    drawn = {tuple(texts_of(read_dataset(folder, limit=2, seed=seed))) for seed in range(10)}
    assert len(drawn) > 1
    assert all(len(names) == 2 for names in drawn)
    assert read_dataset(folder, limit=2, seed=3) == read_dataset(folder, limit=2, seed=3)


def test_a_place_may_be_a_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no data set"):
        read_dataset(str(tmp_path / "none"))


def test_the_numbers_that_pandas_writes_first_are_no_tags_and_no_captions(folder: Path) -> None:
    for header, cell, wanted in (("tags", "dog", (("dog",), ())), ("caption", "a dog", ((), ("a dog",)))):
        file = folder / "table.csv"
        file.write_text(f",image,{header}\n0,red.png,{cell}\n1,blue.png,{cell}\n")
        examples = read_dataset(file).examples
        assert [(one.tags, one.texts) for one in examples] == [wanted, wanted]


def encoded(colour: str) -> bytes:
    buffer = io.BytesIO()
    make_image(colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_rows_of_other_bytes_under_one_name_are_other_images(tmp_path: Path) -> None:
    contents = [encoded(colour) for colour in ("red", "blue", "red")]
    rows = [
        {"image": {"bytes": content, "path": "0001.png"}, "caption": f"number {number}"}
        for number, content in enumerate(contents)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    examples = read_dataset(tmp_path / "data.parquet").examples
    assert [(one.id, one.image, one.texts) for one in examples] == [
        ("0001.png", contents[0], ("number 0", "number 2")),
        ("0001.png (2)", contents[1], ("number 1",)),
    ]
