"""The house keeps its rooms apart: who may import whom, and what ``import autotag`` costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "autotag"
FLOORS = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
HEAVY = {
    "keybert",
    "open_clip",
    "sentence_transformers",
    "sklearn",
    "timm",
    "torch",
    "torchvision",
    "transformers",
}
MAY_BE_HEAVY = ("autotag.models", "autotag.training", "autotag.prompts.prefix_scorer")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def floors() -> dict[str, int]:
    """Room -> floor, from the table of docs/architecture.md."""
    table = FLOORS.partition("```text floors\n")[2].partition("```")[0]
    rows = [re.fullmatch(r"(\d+) +(.+)", line) for line in table.splitlines()]
    return {room: int(row[1]) for row in rows if row for room in row[2].split(", ")}


def room(module: str) -> str:
    """``"stages"`` for ``autotag.stages.filter_tags``; empty for ``autotag`` itself."""
    return module.split(".")[1] if "." in module else ""


def package(module: str) -> str:
    """The package that holds a module; a package holds its own ``__init__``."""
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def imported(module: str) -> set[str]:
    """Every module of autotag that a module imports anywhere, also late or for type checkers."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & set(MODULES) or {str(node.module)}
    return (found & set(MODULES)) - {module}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Each module of autotag but ``autotag`` itself, and what it imports."""
    return {module: imported(module) for module in MODULES if module != "autotag"}


def circle(arrows: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def run(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout.strip()


def test_the_table_of_floors_names_every_room_and_no_other() -> None:
    rooms = {room(module) for module in MODULES} - {""}
    files = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.*") if path.suffix not in {".py", ".pyc"})
    assert set(floors()) == rooms | {file.parts[0] for file in files if len(file.parts) > 1}


def test_every_room_imports_only_floors_below(imports: dict[str, set[str]]) -> None:
    floor = floors()
    upward = [
        f"{module} imports {target}"
        for module, targets in imports.items()
        for target in sorted(targets)
        if room(target) != room(module) and (not room(target) or floor[room(target)] >= floor[room(module)])
    ]
    assert upward == []


def test_modules_import_one_another_in_no_circle(imports: dict[str, set[str]]) -> None:
    assert circle(imports) == []


def test_packages_import_one_another_in_no_circle(imports: dict[str, set[str]]) -> None:
    arrows: dict[str, set[str]] = defaultdict(set)
    for module, targets in imports.items():
        if package(module) == "autotag":  # single files, which the two tests above hold apart
            continue
        arrows[package(module)] |= {package(target) for target in targets} - {package(module)}
    assert circle(arrows) == []


def test_a_circle_and_an_arrow_upward_are_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert floors()["cli"] > floors()["stages"] > floors()["models"] > floors()["errors"] == 1


def test_no_stage_imports_another(imports: dict[str, set[str]]) -> None:
    stages = {module: targets for module, targets in imports.items() if module.startswith("autotag.stages.")}
    assert stages
    assert not any(room(target) == "stages" for targets in stages.values() for target in targets)


def test_every_package_says_what_it_is() -> None:
    inits = {module: path for module, path in MODULES.items() if path.name == "__init__.py"}
    short = [
        module
        for module, path in inits.items()
        if len(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") < 100
    ]
    assert short == []


def test_heavy_packages_are_imported_in_their_rooms_only() -> None:
    for module, path in MODULES.items():
        body = ast.parse(path.read_text(encoding="utf-8")).body
        top = {
            alias.name.split(".")[0] for node in body if isinstance(node, ast.Import) for alias in node.names
        }
        top |= {str(node.module).split(".")[0] for node in body if isinstance(node, ast.ImportFrom)}
        assert module.startswith(MAY_BE_HEAVY) or not top & HEAVY, module


def test_nothing_heavy_is_imported_before_a_model_is_needed() -> None:
    for statement in (
        "import autotag; autotag.tag, autotag.load, autotag.find_images, autotag.Pipeline, autotag.stage",
        "import autotag; autotag.Vocabulary; autotag.load('base')",
        "import autotag.stages, autotag.testing, autotag.models.names, autotag.albums, autotag.language",
    ):
        found = run(f"import sys\n{statement}\nprint(sorted({HEAVY!r} & set(sys.modules)))")
        assert found == "[]", statement


def test_import_autotag_is_quick() -> None:
    program = "import time; start = time.process_time(); import autotag; print(time.process_time() - start)"
    assert min(float(run(program)) for _ in range(3)) < 0.3


def test_help_is_quick() -> None:
    program = (
        "import time; start = time.process_time()\n"
        "from click.testing import CliRunner; from autotag.cli.main import main\n"
        "CliRunner().invoke(main, ['--help']); print(time.process_time() - start)"
    )
    assert min(float(run(program)) for _ in range(3)) < 0.5
