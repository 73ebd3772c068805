"""The API reference is built from docstrings and signatures, and says something about every public name."""

from __future__ import annotations

import html
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "docs" / "build_reference.py"
MODULES = (
    "autotag", "autotag.errors", "autotag.evaluation", "autotag.protocols", "autotag.records",
    "autotag.stages", "autotag.testing", "autotag.training",
)  # fmt: skip


def public_names(module: str) -> list[str]:
    """What a module offers: its ``__all__``, or the classes and functions that it defines."""
    found = importlib.import_module(module)
    if hasattr(found, "__all__"):
        values = {name: getattr(found, name) for name in found.__all__ if name != "__version__"}
        return [name for name, value in values.items() if not inspect.ismodule(value)]
    return [
        name
        for name, value in vars(found).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module
    ]


def test_every_public_name_says_what_it_is() -> None:
    silent = [
        f"{module}.{name}"
        for module in MODULES
        for name in public_names(module)
        if not inspect.getdoc(getattr(importlib.import_module(module), name))
    ]
    assert silent == []


@pytest.mark.slow
def test_the_reference_has_every_public_name_with_its_docstring(tmp_path: Path) -> None:
    pytest.importorskip("pdoc", reason="the extra docs is not installed")
    subprocess.run([sys.executable, "-W", "error:Found", str(BUILD), str(tmp_path)], cwd=ROOT, check=True)
    for module in MODULES:
        page = (tmp_path / f"{module.replace('.', '/')}.html").read_text(encoding="utf-8")
        text = " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())
        for name in public_names(module):
            assert f'id="{name}"' in page, f"{module}.{name}"
            first = inspect.getdoc(getattr(importlib.import_module(module), name)).split("\n")[0]  # type: ignore[union-attr]
            words = re.sub(r"`+", "", first).split()[:4]
            assert " ".join(words) in text, f"{module}.{name}: {first}"
