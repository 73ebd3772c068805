"""autotag explain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from autotag import records
from autotag.cli.explain import _sheet
from autotag.cli.main import main
from autotag.testing import make_image


@pytest.fixture
def coffee(pytestconfig: pytest.Config) -> str:
    return str(pytestconfig.rootpath / "docs/examples/coffee.jpg")


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["explain", *args, "--preset", "mini", "--quiet"])


@pytest.mark.slow
def test_it_says_why_and_draws_where(coffee: str, tmp_path: Path) -> None:
    found = run(coffee, "--output", str(tmp_path / "why.png"))
    assert found.exit_code == 0, found.output
    assert "cup: cosine 0.2" in found.output
    assert "in the caption: a cup" in found.output
    assert "kept: at least 0.110 is needed" in found.output
    assert "filter_tags: its score" in found.output
    with Image.open(tmp_path / "why.png") as sheet:
        assert sheet.width == 3 * 360
        assert sheet.height == 2 * (237 + 4 + 28)  # no empty space above and below wide pictures


@pytest.mark.slow
def test_one_json_object_for_each_tag(coffee: str) -> None:
    found = run(coffee, "--tag", "cup", "--tag", "plane", "--json")
    cup, plane = map(json.loads, found.output.splitlines())
    assert (cup["text"], cup["history"]["dropped_by"]) == ("cup", None)
    assert plane["history"] is None


@pytest.mark.slow
def test_a_photograph_without_tags_says_what_to_do(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    found = run(str(tmp_path / "black.png"), "--output", str(tmp_path / "why.png"))
    assert found.exit_code == 0
    assert found.output == "no tag was kept; ask for one with --tag\n"
    assert not (tmp_path / "why.png").exists()


def test_a_file_that_is_not_there_and_an_empty_tag_are_refused(coffee: str, tmp_path: Path) -> None:
    missing = run(str(tmp_path / "none.jpg"))
    assert missing.exit_code != 0
    assert "none.jpg" in missing.output
    empty = run(coffee, "--tag", " ")
    assert empty.exit_code == 2
    assert "--tag is empty" in empty.output


@pytest.mark.slow
def test_a_file_that_cannot_be_read_has_the_exit_code_that_the_help_says(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    found = run(str(tmp_path / "broken.jpg"), "--tag", "dog")
    assert found.exit_code == 1
    assert "broken.jpg" in found.output


@pytest.mark.parametrize(("name", "said"), [("why.tiff", "PNG"), ("none/why.png", "there is no folder")])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    coffee: str, tmp_path: Path, name: str, said: str
) -> None:
    found = run(coffee, "--output", str(tmp_path / name))
    assert found.exit_code == 2
    assert said in found.output


def test_the_cosine_stands_after_the_tag_in_any_script() -> None:
    pytest.importorskip("matplotlib", reason="its font has Hebrew on every computer")
    image = make_image("white", size=(100, 60))
    maps = records.TextMaps(np.zeros((1, 2, 2), np.float32), (0, 0, 100, 60))

    def line(cosine: float) -> np.ndarray:
        result = records.Result("a", image.size)
        one = records.Explanation("חתול", cosine, "clip-mini", None, (), maps, image, result)
        words = np.asarray(_sheet([one]).convert("L"))[-20:]
        return words[:, : np.argwhere(words < 128)[:, 1].max() + 1]

    one, other = line(-0.15), line(0.99)
    wide = min(one.shape[1], other.shape[1])
    differing = np.argwhere((one[:, :wide] != other[:, :wide]).any(axis=0))
    assert differing.min() > wide / 3
