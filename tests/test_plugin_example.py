"""A stranger's package adds a part of every kind: docs/plugin-example, installed and then used."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "docs" / "plugin-example"
PRESET = PLUGIN / "colours.toml"
EXAMPLES = ROOT / "docs" / "examples"

RIVAL = """
[build-system]
requires = ["hatchling>=1.24"]
build-backend = "hatchling.build"

[project]
name = "autotag-rival"
version = "1.0"

[project.entry-points."autotag.stages"]
blocklist_tags = "autotag_rival:stage"

[tool.hatch.build.targets.wheel]
packages = ["autotag_rival"]
"""


def install(package: Path, target: Path) -> None:
    """What ``pip install`` does, offline and into a folder of its own."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "install", *options, str(package)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the packages in a folder as well as those installed."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=environment, cwd=folder, check=False
    )


def output(folder: Path, *arguments: str) -> str:
    done = run(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(PLUGIN, folder)
    return folder


@pytest.mark.slow
def test_the_plugin_passes_its_own_tests(installed: Path) -> None:
    tests = (str(PLUGIN), "--rootdir", str(ROOT), "-p", "no:cacheprovider")
    assert " passed" in output(installed, "-m", "pytest", *tests)


def test_every_kind_is_registered_beside_our_own(installed: Path) -> None:
    program = """
import json
from autotag.config import registry
kinds = ["stage", "captioner", "extractor", "encoder", "detector", "classifier", "writer"]
print(json.dumps([{kind: registry.names(kind) for kind in kinds}, registry.plugins()]))
"""
    names, plugins = json.loads(output(installed, "-c", program))
    assert {package for _, _, package in plugins} == {"autotag-plugin-example"}
    assert {kind for kind, _, _ in plugins} >= names.keys()
    assert all(name in names[kind] for kind, name, _ in plugins if kind in names)
    assert {"blocklist_tags", "find_regions", "filter_tags"} <= set(names["stage"])
    assert {"colour-words", "hf"} <= set(names["captioner"])
    assert {"long-words", "keybert"} <= set(names["extractor"])
    assert {"colour-histogram", "open_clip"} <= set(names["encoder"])
    assert {"bright-region"} <= set(names["detector"])
    assert {"light-or-dark", "timm"} <= set(names["classifier"])
    assert {"csv-lines", "jsonl"} <= set(names["writer"])


@pytest.mark.slow
def test_the_command_line_runs_a_preset_of_the_plugin_and_writes_its_format(installed: Path) -> None:
    photo = EXAMPLES / "cat.jpg"
    arguments = ("tag", "--quiet", "--preset", str(PRESET), "--format", "csv-lines", str(photo))
    command = ("-c", "from autotag.cli.main import main; main()", *arguments)
    [row] = csv.DictReader(io.StringIO(output(installed, *command)))
    assert row["file"] == str(photo)
    assert row["caption"].startswith("a picture in ")
    assert row["tags"].split("; ")
    assert "picture" not in row["tags"]
    assert row["error"] == ""


@pytest.mark.slow
def test_a_pipeline_takes_the_models_by_name_and_each_stage_says_what_it_did(installed: Path) -> None:
    program = f"""
import json
import autotag
from autotag.pipeline.presets import from_config, to_config
with autotag.load({str(PRESET)!r}) as pipeline:
    result = pipeline({str(EXAMPLES / "rocket.jpg")!r})
again = to_config(from_config(to_config(pipeline)))
print(json.dumps([result.to_dict(), to_config(pipeline) == again, pipeline.describe()]))
"""
    row, round_trip, description = json.loads(output(installed, "-c", program))
    assert [caption["source"] for caption in row["captions"]] == ["colour-words"] * 3
    assert all(list(tag["scores"]) == ["extract_keyphrases", "filter_tags"] for tag in row["tags"])
    width, height = row["size"]
    for found in row["detections"]:
        assert 0 <= found["box"][0] < found["box"][2] <= width
        assert 0 <= found["box"][1] < found["box"][3] <= height
    assert round_trip is True
    assert "blocklist_tags" in description


@pytest.mark.slow
def test_the_detector_comes_from_the_pool(installed: Path) -> None:
    program = """
from autotag.models.pool import ModelPool
print(type(ModelPool(device="cpu").detector("bright-region")).__name__)
"""
    assert output(installed, "-c", program).strip() == "BrightDetector"


def test_a_wrong_option_of_a_strangers_stage_is_refused_with_the_near_miss(installed: Path) -> None:
    program = f"import autotag; autotag.load({str(PRESET)!r}, blocklist_tags={{'word': ['x']}})"
    assert (
        "unknown option of blocklist_tags: 'word'. Did you mean 'words'?"
        in run(installed, "-c", program).stderr
    )


def test_without_the_plugin_its_names_are_unknown(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", f"import autotag; autotag.load({str(PRESET)!r})")
    assert done.returncode == 1
    assert "UnknownNameError" in done.stderr
    assert "colour-words" in done.stderr


@pytest.mark.slow
def test_two_packages_that_claim_one_name_are_both_named(tmp_path: Path) -> None:
    rival, folder = tmp_path / "rival", tmp_path / "site"
    (rival / "autotag_rival").mkdir(parents=True)
    (rival / "autotag_rival" / "__init__.py").write_text("stage = None\n", encoding="utf-8")
    (rival / "pyproject.toml").write_text(RIVAL, encoding="utf-8")
    for package in (PLUGIN, rival):
        install(package, folder)
    error = run(folder, "-c", f"import autotag; autotag.load({str(PRESET)!r})").stderr
    assert "DuplicateNameError: two stages are called 'blocklist_tags'" in error
    assert "(autotag-plugin-example)" in error
    assert "(autotag-rival)" in error
