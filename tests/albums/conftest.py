from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autotag.albums import AlbumSummary, tag_folder
from autotag.pipeline.presets import from_config
from autotag.testing import make_image

STAGES = Path(__file__).resolve().parent.parent / "cli"


@pytest.fixture(name="tree")
def tree_fixture() -> Callable[[Path], dict[str, str]]:
    """Every file, hidden ones too, with a digest of its content."""
    return tree


def tree(folder: Path) -> dict[str, str]:
    """Every file, hidden ones too, with a digest of its content."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ledgers and journals of a test go, and stages without weights that can be imported."""
    monkeypatch.setenv("AUTOTAG_STATE", str(tmp_path / "state"))
    monkeypatch.syspath_prepend(STAGES)
    monkeypatch.setenv("PYTHONPATH", str(STAGES))
    return tmp_path / "state"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven pictures of three formats, some of one colour, two of one stem, one in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    pictures = {
        "a red.png": "red", "b.jpg": "blue", "c.webp": "green", "d.jpg": "red", "e.jpg": "blue",
        "e.png": "green", "more/f.jpg": "yellow",
    }  # fmt: skip
    for name, colour in pictures.items():
        make_image(colour).save(folder / name)
    (folder / "b.txt").write_text("my own words")
    return folder


@pytest.fixture
def tagged() -> Iterator[Callable[..., AlbumSummary]]:
    """Runs an album through a stage that names colours."""

    def tagged(
        folder: Path, *writers: object, options: dict[str, object] | None = None, **more: object
    ) -> AlbumSummary:
        stage = {"stage": "colour_stages:NameColours", **(options or {})}
        with from_config({"stages": [stage]}) as pipeline:
            return tag_folder(folder, pipeline=pipeline, writers=writers or ("xmp",), **more)  # type: ignore[arg-type]

    yield tagged
    sys.modules.pop("colour_stages", None)
