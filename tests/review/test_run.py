"""The command: it says where it listens, ends on a signal, and keeps what was decided."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading

import httpx2
import pytest
from click.testing import CliRunner
from review_client import rows

from autotag.cli.main import main

COMMAND = [sys.executable, "-c", "from autotag.cli.main import main; main()", "review"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(plan, number):
    command = [*COMMAND, str(plan), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(120, process.kill)
        killer.start()
        try:
            assert process.stderr
            said = ""
            while not (found := re.search(r"6 photographs: (http://127\.0\.0\.1:\d+)/review/", said)):
                line = process.stderr.readline()
                assert line, said
                said += line
            decision = {"revision": 0, "action": "reject", "tag": "dog"}
            answer = httpx2.post(f"{found[1]}/review/api/decisions", json=decision, trust_env=False)
            assert answer.json()["tags"] == 2
            os.kill(process.pid, number)
            assert process.wait(60) == 0
        finally:
            killer.cancel()
            process.kill()
    assert rows(plan.with_name("plan.jsonl.decisions"))[1:] == [
        {"decision": {"action": "reject", "tag": "dog"}}
    ]


def test_a_port_that_is_taken_is_said(plan):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = CliRunner().invoke(main, ["review", str(plan), "--port", str(port), "--no-open"])
    assert answer.exit_code == 2
    assert "choose another --port" in answer.output


def test_what_is_neither_plan_nor_album_is_said(tmp_path):
    answer = CliRunner().invoke(main, ["review", str(tmp_path / "nothing"), "--no-open"])
    assert answer.exit_code == 2
    assert "neither a plan nor the folder of an album" in answer.output


def test_an_unknown_vocabulary_is_said(plan):
    answer = CliRunner().invoke(main, ["review", str(plan), "--vocabulary", "thinks", "--no-open"])
    assert answer.exit_code == 2
    assert "things" in answer.output
