from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import uvicorn

from autotag.errors import ConfigError
from autotag.server.core.limits import Limits
from autotag.server.run import Place, _Server, run_server


def test_two_presets_of_one_name_are_refused_not_dropped(tmp_path: Path) -> None:
    paths = [str(tmp_path / folder / "mine.toml") for folder in "ab"]
    with pytest.raises(
        ConfigError, match=r"a/mine\.toml' and '\S*b/mine\.toml' would both be served as 'mine'"
    ):
        run_server(paths, Place(), Limits())


def test_a_host_that_no_url_can_have_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="without scheme, port"):
        run_server(["no such preset"], Place(), Limits(), allowed_hosts=["https://images.example"])


@pytest.mark.parametrize(
    ("signals", "codes"),
    [
        ((signal.SIGINT, signal.SIGINT), [130]),
        ((signal.SIGTERM, signal.SIGINT), [130]),
        ((signal.SIGTERM, signal.SIGTERM), []),
        ((signal.SIGINT,), []),
    ],
)
def test_a_second_ctrl_c_ends_the_process_at_once(
    signals: tuple[int, ...], codes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    server = _Server(uvicorn.Config("none"))
    for number in signals:
        server.handle_exit(number, None)
    assert ended == codes
    assert server.should_exit
