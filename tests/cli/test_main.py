from __future__ import annotations

import errno
import signal
import subprocess
import sys
from importlib.metadata import version

import pytest

from autotag.cli.main import main
from autotag.cli.signals import Interrupted

HEAVY = {"torch", "transformers", "open_clip", "sentence_transformers", "keybert", "rich", "numpy", "PIL"}


def test_help_lists_the_commands_and_the_exit_codes(run):
    result = run("--help")
    assert result.exit_code == 0
    for word in ("tag", "models", "download", "Exit codes", "130"):
        assert word in result.stdout


@pytest.mark.parametrize("command", ["tag", "models", "download"])
def test_every_command_explains_itself_also_by_the_short_option(run, command):
    assert run(command, "--help").exit_code == 0
    assert run(command, "-h").stdout == run(command, "--help").stdout


def test_python_m_autotag_is_the_command():
    command = [sys.executable, "-m", "autotag", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
    assert said == f"autotag {version('autotag-images')}\n"


def test_a_command_without_a_preset_does_not_speak_of_one_at_device(run):
    for command in ("detect", "search", "accelerate"):
        assert "preset's own" not in run(command, "--help").stdout


def test_the_version_is_that_of_the_package(run):
    assert run("--version").stdout.split()[-1] == version("autotag-images")


def test_an_unknown_command_or_option_is_refused_with_the_near_miss(run):
    for arguments, wanted in (("tga",), "'tag'"), (("tag", "--formt", "json", "x"), "'--format'"):
        result = run(*arguments)
        assert result.exit_code == 2
        assert wanted in result.stderr
        assert result.stdout == ""


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from autotag.cli.main import main\n"
        "assert CliRunner().invoke(main, ['tag', '--help']).exit_code == 0\n"
        f"print(*({HEAVY!r} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


@pytest.mark.parametrize(("file", "named"), [("x/y.jpg", "'x/y.jpg'"), (None, "the output")])
def test_a_full_disk_is_one_line_and_exit_code_2(run, monkeypatch, file, named):
    def fail(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device", file)

    monkeypatch.setattr(main.commands["models"], "callback", fail)
    result = run("models")
    assert result.exit_code == 2
    assert result.stderr == f"autotag: error: cannot write {named}: No space left on device.\n"


def test_a_signal_is_one_line_and_its_exit_code(run, monkeypatch):
    def end(*_arguments, **_options):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(main.commands["models"], "callback", end)
    result = run("models")
    assert (result.exit_code, result.stderr) == (143, "autotag: interrupted\n")


def test_an_unexpected_error_keeps_its_traceback(run, preset, photos):
    """Only what autotag raises on purpose is made one line: a bug must be findable."""
    broken = preset.with_name("broken.toml")
    broken.write_text('[[stages]]\nstage = "colour_stages:BreaksOnSetup"\n')
    result = run("tag", photos, "--preset", broken)
    assert isinstance(result.exception, ZeroDivisionError)
