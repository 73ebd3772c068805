"""What autotag imports is what its pyproject.toml declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEVER_DECLARED = {"ultralytics"}  # under AGPL-3.0: users who accept that install it
WITHOUT_IMPORT = {"protobuf", "sentencepiece", "num2words"}  # transformers imports them


def plain(requirement: str) -> str:
    """The name of a distribution as PyPI compares names (PEP 503)."""
    [name] = re.findall(r"^[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name).lower()


DECLARED = {plain(requirement) for requirement in PROJECT["dependencies"]}
OF_EXTRAS = {
    plain(one)
    for extra, requirements in PROJECT["optional-dependencies"].items()
    if extra not in {"test", "dev"}
    for one in requirements
}


def imported(text: str) -> set[str]:
    """The packages that a module imports, also late or for type checkers."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module))
    return {name.partition(".")[0] for name in found}


def used() -> set[str]:
    """The distributions that autotag imports from."""
    names = {name for path in (ROOT / "autotag").rglob("*.py") for name in imported(path.read_text("utf-8"))}
    names -= {*sys.stdlib_module_names, "autotag", "_typeshed", *NEVER_DECLARED}
    installed = packages_distributions()
    return {plain(installed.get(name, [name])[0]) for name in names}


@pytest.mark.slow
def test_everything_that_is_imported_is_declared() -> None:
    assert used() - DECLARED - OF_EXTRAS == set()


@pytest.mark.slow
def test_everything_that_is_declared_is_imported() -> None:
    assert DECLARED - used() - WITHOUT_IMPORT == set()


def test_an_import_that_is_not_declared_is_found() -> None:
    assert imported("if 1:\n    import numpy.linalg\n    from yaml.x import y") == {"numpy", "yaml"}
