from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from autotag.cli.main import main


@pytest.mark.parametrize("command", [["demo"], ["serve", "--demo"]])
def test_without_gradio_the_page_says_what_to_install(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("autotag.demo")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "gradio", None)
    ended = CliRunner().invoke(main, [*command, "--preset", "mini"])
    assert ended.exit_code == 2
    assert "pip install 'autotag-images[ui]'" in ended.stderr


def test_an_index_without_the_page_is_refused() -> None:
    ended = CliRunner().invoke(main, ["serve", "--preset", "mini", "--index", "photos.db"])
    assert ended.exit_code == 2
    assert "give --demo" in ended.stderr
    ended = CliRunner().invoke(main, ["serve", "--preset", "mini", "--store", "postgresql://db/gallery"])
    assert ended.exit_code == 2
    assert "give --demo" in ended.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--index", "photos.db", "--store", "postgresql://db/gallery"], "an index is in one place"),
        (["--table", "photo"], "name the server with --store"),
        (["--store", "mysql://db/gallery"], "postgresql"),
    ],
)
def test_what_the_page_cannot_search_is_refused(options: list[str], reason: str) -> None:
    pytest.importorskip("gradio")
    ended = CliRunner().invoke(main, ["demo", "--preset", "mini", *options])
    assert ended.exit_code == 2
    assert reason in ended.stderr
