"""What every benchmark shares: its options, the table that it prints, and the JSON that it keeps."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "autotag-images", "torch", "torchvision", "transformers", "open_clip_torch", "keybert",
    "sentence-transformers", "numpy", "pillow",
)  # fmt: skip


def options(doc: str) -> argparse.ArgumentParser:
    """A parser whose help is the benchmark's docstring."""
    parser = argparse.ArgumentParser(
        description=doc.strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path(__file__).parent / "results",
        metavar="FOLDER",
        help="where the JSON goes (benchmarks/results)",
    )
    return parser


def report(
    name: str,
    given: argparse.Namespace,
    columns: list[str],
    rows: list[list[Any]],
    *,
    findings: dict[str, Any] | None = None,
) -> None:
    """Prints the table and the findings, and keeps both, with the circumstances, in ``<name>.json``.

    Args:
        name: of the file.
        given: the options.
        columns: headings.
        rows: cells; None is left empty.
        findings: what a table cannot say, by name.
    """
    print_table(columns, rows)
    for what, value in (findings or {}).items():
        if not isinstance(value, list | dict):
            print(f"{what}: {_cell(value)}")
    kept = {
        "benchmark": name,
        **circumstances(),
        "options": {option: _plain(value) for option, value in vars(given).items() if option != "results"},
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
        "findings": findings or {},
    }
    given.results.mkdir(parents=True, exist_ok=True)
    path = given.results / f"{name}.json"
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    print(f"kept in {path}", file=sys.stderr)


def circumstances() -> dict[str, Any]:
    """Date, machine and versions."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "processor": processor_name(),
            "cores": cores(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "gpu": gpu_name(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """As Linux has it, else as Python does."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def gpu_name() -> str | None:
    """The first GPU's name; None without one, or when this benchmark does not use torch."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name(0) if torch and torch.cuda.is_available() else None


def resident_mb() -> float:
    """Memory of this process now, MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def print_table(columns: list[str], rows: list[list[Any]]) -> None:
    """Columns as wide as they need, numbers to the right."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in [columns, *cells]) for index in range(len(columns))]
    is_number = [
        all(isinstance(row[index], int | float | None) for row in rows) for index in range(len(columns))
    ]
    for row in [columns, ["-" * width for width in widths], *cells]:
        aligned = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, is_number, strict=True)
        ]
        print("  ".join(aligned).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return (
        f"{value:.4g}"
        if isinstance(value, float) and abs(value) < 1000
        else (f"{value:,.0f}" if isinstance(value, float) else str(value))
    )


def _plain(value: Any) -> Any:
    """An option as JSON has it; of a path only its name, which says nothing about this machine."""
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value.name if isinstance(value, Path) else value


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
