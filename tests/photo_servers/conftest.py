from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from autotag.cli.main import main

sys.path.insert(0, str(Path(__file__).parent))  # for the module beside this one; tests are no package

from fake_immich import KEY, FakeImmich

HERE = Path(__file__).resolve().parent
Run = Callable[..., Result]


@pytest.fixture
def fake() -> Iterator[FakeImmich]:
    """An Immich with three photographs of one person."""
    server = FakeImmich()
    for name, colour in (("one.jpg", "red"), ("two.jpg", "blue"), ("three.jpg", "lime")):
        server.add(name, colour)
    yield server
    server.close()


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A preset of one stage that needs no weights; it is importable here and in programs started here."""
    stages = HERE.parent / "cli"
    monkeypatch.syspath_prepend(stages)
    monkeypatch.setenv("PYTHONPATH", f"{HERE.parents[1]}{os.pathsep}{stages}")
    file = tmp_path / "colours.toml"
    file.write_text('[[stages]]\nstage = "colour_stages:NameColours"\ntop_k = 2\n')
    return file


@pytest.fixture
def arguments(fake: FakeImmich, tmp_path: Path, preset: Path) -> list[str]:
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    state = tmp_path / "state"
    names = {"--server": fake.url, "--api-key-file": key, "--state": state, "--preset": preset}
    return ["immich", *(str(part) for option in names.items() for part in option)]


@pytest.fixture
def run(arguments: list[str]) -> Run:
    """Runs ``autotag immich`` in this process; an option given again replaces the fixture's."""
    return lambda *more: CliRunner().invoke(main, [*arguments, *map(str, more)])
