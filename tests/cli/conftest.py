from __future__ import annotations

import os
import runpy
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from autotag.cli.main import main
from autotag.images import reading
from autotag.testing import make_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

AUTOTAG = Path(sysconfig.get_path("scripts")) / "autotag"
HERE = Path(__file__).resolve().parent


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A preset of one stage that needs no weights; it is importable here and in programs started here."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    file = tmp_path / "colours.toml"
    file.write_text('[[stages]]\nstage = "colour_stages:NameColours"\n')
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three pictures, one of them in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    make_image("red").save(folder / "a red.png")
    make_image("blue").save(folder / "blue.png")
    make_image("green").save(folder / "more" / "green.png")
    return folder


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the sources that were decoded."""
    names: list[str] = []
    decode = reading.decode

    def counted(encoded: Any, source: str, limits: Any) -> Any:
        names.append(Path(source).name)
        return decode(encoded, source, limits)

    monkeypatch.setattr(reading, "decode", counted)
    return names


@pytest.fixture(scope="session")
def tiny_git(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a captioner that writes something else than blip-mini does."""
    make = runpy.run_path(str(HERE.parent / "models" / "tiny_models.py"))["git"]
    folder: Path = make(tmp_path_factory.mktemp("captioner") / "git")
    return folder


@pytest.fixture
def run() -> Callable[..., Result]:
    """Runs the command line in this process."""

    def run(*arguments: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)

    return run


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[bytes]]:
    """Starts the installed command as a user would, with pipes for stdout and stderr."""

    def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [AUTOTAG, *(os.fsencode(str(argument)) for argument in arguments)]
        return subprocess.Popen(command, **{**pipes, **options})  # type: ignore[call-overload, no-any-return]

    return start
