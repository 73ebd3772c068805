"""Shards of webdataset: images in tar files, and tar files with results."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

import autotag
from autotag.distributed.webdataset import tag_tars
from autotag.errors import ConfigError
from autotag.images.tar_files import images_in_tar
from autotag.testing import make_image

STAGES = Path(__file__).parents[1] / "cli"


def png(colour: str) -> bytes:
    stream = io.BytesIO()
    make_image(colour).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> autotag.Pipeline:
    monkeypatch.syspath_prepend(STAGES)
    from colour_stages import NameColours

    return autotag.Pipeline([NameColours(top_k=1)], encoder=None)


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    members = {
        "d/0001.png": png("red"), "d/0001.cls": b"7", "d/0002.left.png": png("blue"), "d/0002.json": b"{}",
        "d/0003.png": b"no image", "d/._0001.png": b"of a Mac",
    }  # fmt: skip
    return write_tar(tmp_path / "in" / "shard-000.tar", members)


def test_images_in_a_tar_are_inputs_of_a_pipeline(tar: Path, pipeline: autotag.Pipeline) -> None:
    results = list(pipeline.stream(images_in_tar(tar), on_error="record"))
    assert [result.source for result in results] == [
        f"{tar}/d/{name}" for name in ("0001.png", "0002.left.png", "0003.png")
    ]
    assert [result.caption for result in results] == ["a red picture", "a blue picture", ""]


def test_tars_come_out_with_every_member_and_a_result_beside_each_image(
    tar: Path, tmp_path: Path, pipeline: autotag.Pipeline
) -> None:
    results = list(tag_tars([tar], tmp_path / "out", pipeline))
    with tarfile.open(tmp_path / "out" / tar.name) as out, tarfile.open(tar) as before:
        contents = {member.name: out.extractfile(member).read() for member in out}
        for member in before:
            assert contents[member.name] == before.extractfile(member).read()
    added = [name for name in contents if name.endswith(".autotag.json")]
    assert added == ["d/0001.autotag.json", "d/0002.left.autotag.json", "d/0003.autotag.json"]
    assert [json.loads(contents[name]) for name in added] == [result.to_dict() for result in results]


def test_no_member_is_written_twice(tmp_path: Path, pipeline: autotag.Pipeline) -> None:
    source = write_tar(tmp_path / "a.tar", {"1.jpg": png("red"), "1.png": png("blue"), "1.cls": b"7"})
    list(tag_tars([source], tmp_path / "once", pipeline))
    list(tag_tars([tmp_path / "once" / "a.tar"], tmp_path / "twice", pipeline))
    for folder in ("once", "twice"):
        with tarfile.open(tmp_path / folder / "a.tar") as tar:
            names = tar.getnames()
            second = json.loads(tar.extractfile("1.png.autotag.json").read())
        assert names == ["1.jpg", "1.autotag.json", "1.png", "1.png.autotag.json", "1.cls"]
        assert second["caption"] == "a blue picture"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_webdataset_reads_the_results_as_fields_of_the_samples(
    tar: Path, tmp_path: Path, pipeline: autotag.Pipeline
) -> None:
    import webdataset

    list(tag_tars([tar], tmp_path / "out", pipeline))
    samples = list(webdataset.WebDataset(str(tmp_path / "out" / tar.name), shardshuffle=False))
    first = next(sample for sample in samples if sample["__key__"] == "d/0001")
    assert json.loads(first["autotag.json"])["caption"] == "a red picture"
    assert (first["cls"], "png" in first) == (b"7", True)


def test_a_second_run_does_what_is_missing_and_nothing_twice(
    tar: Path, tmp_path: Path, pipeline: autotag.Pipeline
) -> None:
    assert len(list(tag_tars([tar], tmp_path / "out", pipeline))) == 3
    second = write_tar(tmp_path / "in" / "shard-001.tar", {"a.png": png("green")})
    written = (tmp_path / "out" / tar.name).stat()
    [result] = tag_tars([tar, second], tmp_path / "out", pipeline)
    assert result.caption == "a green picture"
    assert (tmp_path / "out" / tar.name).stat() == written


def test_a_tar_that_is_cut_off_or_compressed_is_named_and_leaves_no_file(
    tar: Path, tmp_path: Path, pipeline: autotag.Pipeline
) -> None:
    tar.write_bytes(tar.read_bytes()[:700])
    packed = write_tar(tmp_path / "packed.tar.gz", {"a.png": png("red")}, "w:gz")
    for path in (tar, packed, tmp_path / "gone.tar"):
        with pytest.raises(ConfigError, match=path.name):
            list(tag_tars([path], tmp_path / "out", pipeline))
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(ConfigError, match="folder of the tar files themselves"):
        tag_tars([tar], tar.parent, pipeline)
    with pytest.raises(ConfigError, match="two tar files are called"):
        tag_tars([tar, tar], tmp_path / "out", pipeline)
