"""An album to review, and reviews of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autotag.review.endpoints import Desk
from autotag.review.from_album import open_review
from autotag.review.run import make_desk
from autotag.testing import make_image

sys.path.insert(0, str(Path(__file__).parent))  # for the module beside this one; tests are no package

from review_client import PHOTOS, Asking, write_plan


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ledgers and journals of a test go into a folder of its own."""
    monkeypatch.setenv("AUTOTAG_STATE", str(tmp_path / "state"))


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Six photographs in four folders, the first one turned by its Exif orientation."""
    folder = tmp_path / "photos"
    for name, (colour, _) in PHOTOS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = make_image(colour, size=(60, 40))
        exif = image.getexif()
        if name == "2023/beach.jpg":
            exif[0x0112] = 6
        image.save(path, exif=exif)
    return folder


@pytest.fixture
def plan(album: Path, tmp_path: Path) -> Path:
    return write_plan(tmp_path / "plan.jsonl", album, PHOTOS)


@pytest.fixture
def opened() -> Iterator[Callable[..., Desk]]:
    """Opens reviews, and closes them at the end of the test."""
    desks: list[Desk] = []

    def opened(source: Path, **options: object) -> Desk:
        desks.append(make_desk(open_review(source).review, **options))  # type: ignore[arg-type]
        return desks[-1]

    yield opened
    for desk in desks:
        desk.applying.wait()
        desk.suggestions.close()
        desk.review.close()


@pytest.fixture
def asking(plan: Path, opened: Callable[..., Desk]) -> Asking:
    return Asking(opened(plan))
