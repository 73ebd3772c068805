"""The house keeps its rooms apart: who may import whom, and what ``import autotag`` costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "autotag"

LAYERS = [
    {"errors", "options", "protocols", "ranges", "records"},
    {
        "background", "batch_sizes", "bounded_files", "broader_terms", "clip_interrogator_lists", "colours",
        "data", "decode_memory", "decoding", "embeddings", "english", "fast_paths", "fetching",
        "forked_process", "function_stage", "http_exchange", "images", "jpeg_scans", "label_matrix",
        "mining", "orientation", "phrases", "prompt_phrases", "prompting", "prompting_compat", "raw_files",
        "reading_ahead", "registry", "sample_views", "scores", "stage_tables", "stream_stats", "templates",
        "tiff_directory", "toml_files", "toml_text", "user_cache", "vocabulary", "vocabulary_files",
        "wiring",
    },
    {"models", "stages"},
    {"engine", "pipeline", "streaming"},
    {"config"},
    {
        "album_identity", "album_plan", "album_rules", "album_state", "api", "batch", "batch_tagger",
        "evaluation", "file_changes", "folder_names", "foreign_names", "inventory", "journal", "metadata",
        "pixel_digest", "search", "sharding", "sources", "testing", "training", "writers",
    },
    {"cli", "demo", "integrations", "review", "server", "ui"},
]  # fmt: skip
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}

HEAVY = {
    "torch",
    "torchvision",
    "transformers",
    "keybert",
    "sentence_transformers",
    "open_clip",
    "timm",
    "sklearn",
}
MAY_BE_HEAVY = {"models", "training", "server", "ui", "integrations"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """``"stages"`` for ``autotag.stages.filter_tags``; empty for ``autotag`` itself."""
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    """Every module of autotag that is imported anywhere in a file, also late or for type checkers."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "autotag"
                else {node.module}
            )
    return {name for name in names if name.split(".")[0] == "autotag"}


def imported_on_import(path: Path) -> set[str]:
    """The top-level packages that importing a file imports."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    return names


def run(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip()


def test_every_room_is_on_the_plan() -> None:
    rooms = {room_of(name_of(path)) for path in MODULES} - {""}
    assert rooms <= set(LEVEL), f"not on the plan: {sorted(rooms - set(LEVEL))}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_dependencies_point_one_way(path: Path) -> None:
    room = room_of(name_of(path))
    if not room:
        return
    for target in imported(path):
        assert room_of(target), f"{name_of(path)} imports autotag itself"
        assert LEVEL[room_of(target)] <= LEVEL[room], f"{name_of(path)} imports {target}"


def test_no_stage_imports_another_and_no_model_imports_a_stage() -> None:
    for path in MODULES:
        module = name_of(path)
        stages = {target for target in imported(path) if target.startswith("autotag.stages.")}
        if module.startswith("autotag.stages."):
            assert not stages, f"{module} imports {stages}"
        if module.startswith("autotag.models"):
            assert not any(room_of(target) == "stages" for target in imported(path)), module


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_packages_are_imported_in_their_rooms_only(path: Path) -> None:
    if room_of(name_of(path)) not in MAY_BE_HEAVY:
        assert not imported_on_import(path) & HEAVY


@pytest.mark.parametrize(
    "statement",
    [
        "import autotag",
        "import autotag; autotag.tag, autotag.load, autotag.find_images, autotag.Pipeline, autotag.stage",
        "import autotag; autotag.Vocabulary",
        "import autotag; autotag.load('base')",
        "import autotag.stages, autotag.testing, autotag.models.names",
    ],
)
def test_nothing_heavy_is_imported_before_a_model_is_needed(statement: str) -> None:
    found = run(f"import sys\n{statement}\nprint(sorted({HEAVY!r} & set(sys.modules)))")
    assert found == "[]"


def test_import_autotag_is_quick() -> None:
    program = "import time; start = time.perf_counter(); import autotag; print(time.perf_counter() - start)"
    assert min(float(run(program)) for _ in range(5)) < 0.3


def test_help_is_quick() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        command = [sys.executable, "-c", "from autotag.cli.main import main; main()", "--help"]
        subprocess.run(command, capture_output=True, timeout=60, check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5
