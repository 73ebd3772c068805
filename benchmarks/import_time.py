"""How long until something can happen? ``import autotag`` and ``autotag --help`` beside the usual imports.

    python benchmarks/import_time.py [--repeats N]

Each figure is the fastest of several runs of a fresh interpreter, its own start included.
"""

from __future__ import annotations

import subprocess
import sys
import time

from reporting import options, report

NAIVE = """
import torch
from keybert import KeyBERT
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor, CLIPModel, CLIPProcessor
"""
PROGRAMS = {
    "an empty program": ["-c", ""],
    "import autotag": ["-c", "import autotag"],
    "autotag --help": ["-c", "from autotag.cli.main import main; main()", "--help"],
    "autotag.load('base'), without weights": ["-c", "import autotag; autotag.load('base')"],
    "import torch": ["-c", "import torch"],
    "the imports of a tutorial": ["-c", NAIVE],
}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    rows = [[name, seconds(program, given.repeats)] for name, program in PROGRAMS.items()]
    report("import_time", given, ["program", "seconds"], rows)


def seconds(program: list[str], repeats: int) -> float:
    return min(timed(program) for _ in range(repeats))


def timed(program: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *program], check=True, capture_output=True)  # noqa: S603 - our own
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
