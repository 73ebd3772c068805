"""What the prompt modes cost beyond the image tower, given the caption: time, and memory above the models.

    python benchmarks/interrogator_modes.py [--architecture ViT-B-32 | clip-mini] [--candidates 2048]

The bundled vocabularies, one example photograph, single precision, one thread, process CPU time; ViT-B-32 and
others of open_clip with seeded random weights. "image tower" is ``embed_images`` alone, its preprocessing
included; each figure is the least of several runs. Memory is the process's peak while prompts are made, above
what it holds when the models and label vectors are loaded (Linux only).
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import open_clip
import torch
from interrogator_parity import CLIP_MINI
from material import EXAMPLES
from PIL import Image
from reporting import options, report

from autotag.files.user_folders import FOLDER_VARIABLE
from autotag.models.encoders.openclip_encoder import OpenClipEncoder
from autotag.models.pool import ModelPool
from autotag.records import Caption, Sample
from autotag.stages import AssemblePrompt

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

CAPTION = "a cup of coffee on a wooden table"
PROCESS = Path("/proc/self")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--candidates", type=int, default=2048)
    given = parser.parse_args()
    torch.set_num_threads(1)
    encoder = made(given.architecture)
    with tempfile.TemporaryDirectory() as cache:
        os.environ[FOLDER_VARIABLE] = cache
        rows = measured(given, encoder)
    columns = ["what", "s", "times the image tower", "peak above the models, MB"]
    report(f"interrogator_modes_{given.architecture.lower()}", given, columns, rows)


def made(architecture: str) -> OpenClipEncoder:
    torch.manual_seed(0)
    name = f"local-dir:{CLIP_MINI}" if architecture == "clip-mini" else architecture
    model, tokenizer = open_clip.create_model(name).eval(), open_clip.get_tokenizer(name)
    return OpenClipEncoder(model, tokenizer, id=architecture, dtype="float32", default_thresholds={})


def measured(given: argparse.Namespace, encoder: OpenClipEncoder) -> list[list[object]]:
    with Image.open(EXAMPLES / "coffee.jpg") as file:
        image = file.convert("RGB")
    stages = {mode: AssemblePrompt(mode, candidates=given.candidates) for mode in ("fast", "classic", "best")}
    embedding = seconds(lambda: stages["fast"].setup(ModelPool(encoder=encoder)), runs=1)
    for stage in stages.values():
        stage.setup(ModelPool(encoder=encoder))
    tower = seconds(lambda: encoder.embed_images([image]), runs=20)
    rows: list[list[object]] = [
        ["label vectors, at first use only", embedding, None, None],
        ["image tower", tower, 1.0, None],
    ]
    for mode, stage in stages.items():

        def work(stage: AssemblePrompt = stage) -> None:
            sample = Sample("coffee.jpg", image, image.size)
            sample.captions = [Caption(CAPTION, "given")]
            stage([sample])

        peak = peak_above(work)
        taken = seconds(work, runs=1 if mode == "best" else 20)
        rows.append([f"{mode}, given the caption", taken, taken / tower, peak])
    return rows


def seconds(work: Callable[[], object], *, runs: int) -> float:
    """CPU seconds of the fastest of so many runs."""
    taken = []
    for _ in range(runs):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def peak_above(work: Callable[[], object]) -> float | None:
    """MB that the process holds at most while it works, above what it held before; None where nobody says."""
    try:
        (PROCESS / "clear_refs").write_text("5")  # reset the peak
        before = in_status("VmRSS")
    except OSError:
        return None
    work()
    return in_status("VmHWM") - before


def in_status(what: str) -> float:
    [line] = [line for line in (PROCESS / "status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
