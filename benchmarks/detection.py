"""Detection: what the pipeline adds to the bare call of transformers, and suppression of 10,000 boxes.

Run: python benchmarks/detection.py [--images 16] [--batch-size 8] [--scale 1.0]

RT-DETRv2-R18 at full size with random weights. The bare call is processor, model and post-processing of
transformers on decoded images in batches; the pipeline gets the same decoded images. Both run on one thread,
in turns, and the processor time of all threads counts. Suppression gets 10,000 boxes around 60 objects in 20
classes, as the heads of a YOLO give them, and for comparison 10,000 boxes anywhere, which no detector gives.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torchvision
import transformers
from PIL import Image
from reporting import options, report

import autotag
from autotag.images.boxes import best_of_overlapping
from autotag.stages import DetectObjects

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

MOST_TIMES_BARE = 1.1
MOST_MS = 20.0
BOXES = 10_000


def model_folder(folder: Path, scale: float) -> Path:
    """RT-DETRv2-R18 as published, with random weights; ``scale`` makes all widths smaller, for a trial."""
    widths = [int(width * scale) for width in (64, 128, 256, 512)]
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=widths[0],
        hidden_sizes=widths,
        depths=[2, 2, 2, 2],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = transformers.RTDetrV2Config(
        backbone_config=backbone,
        encoder_in_channels=widths[1:],
        decoder_layers=3,
        hidden_expansion=0.5,
        id2label={number: f"thing {number}" for number in range(80)},
        label2id={f"thing {number}": number for number in range(80)},
    )
    transformers.RTDetrV2ForObjectDetection(config).save_pretrained(folder)
    transformers.RTDetrImageProcessor().save_pretrained(folder)
    return folder


def pictures(count: int) -> list[Image.Image]:
    """Noise in the sizes of photographs that were decoded for a detector."""
    random = np.random.default_rng(0)
    sizes = ((1280, 960), (960, 1280), (1280, 853), (1600, 900))
    return [
        Image.fromarray(random.integers(0, 255, (high, wide, 3), dtype=np.uint8))
        for wide, high in (sizes[number % len(sizes)] for number in range(count))
    ]


def bare_call(folder: Path, images: list[Image.Image], batch_size: int) -> Callable[[], None]:
    model: Any = transformers.RTDetrV2ForObjectDetection.from_pretrained(folder, dtype=torch.float32).eval()
    processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)

    def call() -> None:
        for first in range(0, len(images), batch_size):
            some = images[first : first + batch_size]
            with torch.inference_mode():
                outputs = model(**processor(images=some, return_tensors="pt"))
            sizes = [(image.height, image.width) for image in some]
            processor.post_process_object_detection(outputs, threshold=0.5, target_sizes=sizes)

    return call


def seconds(call: Callable[[], object]) -> float:
    """Processor time of all threads."""
    started = time.process_time()
    call()
    return time.process_time() - started


def boxes(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    if kind == "around objects":
        place, size = random.uniform(50, 590, (60, 2)), random.uniform(20, 200, (60, 2))
        own = random.integers(0, 60, BOXES)
        middle = place[own] + random.normal(0, 0.1, (BOXES, 2)) * size[own]
        sides, groups = size[own] * np.exp(random.normal(0, 0.1, (BOXES, 2))), own % 20
    else:
        middle = random.uniform(0, 640, (BOXES, 2))
        sides, groups = np.exp(random.uniform(2, 5.3, (BOXES, 2))), random.integers(0, 20, BOXES)
    return np.concatenate([middle - sides / 2, middle + sides / 2], axis=1), random.random(BOXES), groups


def suppression(kind: str) -> list[Any]:
    corners, scores, groups = boxes(kind)
    given = [torch.tensor(one) for one in (corners, scores, groups)]
    ours = min(seconds(lambda: best_of_overlapping(corners, scores, 0.5, groups)) for _ in range(5))
    theirs = min(seconds(lambda: torchvision.ops.batched_nms(*given, 0.5)) for _ in range(5))
    kept = len(best_of_overlapping(corners, scores, 0.5, groups))
    return [f"{BOXES:,} boxes {kind}: ms", ours * 1000, theirs * 1000, kept]


def detection(given: argparse.Namespace) -> list[Any]:
    images = pictures(given.images)
    with tempfile.TemporaryDirectory() as name:
        folder = model_folder(Path(name) / "detector", given.scale)
        bare = bare_call(folder, images, given.batch_size)
        stage = DetectObjects(f"hf:{folder}", threshold=0.5)
        with autotag.Pipeline([stage], batch_size=given.batch_size, device="cpu") as tagger:
            tagger.load()
            ours, theirs = [], []
            for _ in range(given.rounds):
                theirs.append(seconds(bare) / len(images))
                ours.append(seconds(lambda: list(tagger.stream(images))) / len(images))
    return ["detection: ms per image", statistics.median(ours) * 1000, statistics.median(theirs) * 1000, None]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="of the model's widths; for a trial")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [detection(given), *map(suppression, ("around objects", "anywhere"))]
    findings = {
        "pipeline / bare": round(rows[0][1] / rows[0][2], 3),
        "wanted": f"at most {MOST_TIMES_BARE} times bare; suppression in at most {MOST_MS} ms",
    }
    report(
        "detection", given, ["what", "autotag", "transformers, torchvision", "kept"], rows, findings=findings
    )


if __name__ == "__main__":
    main()
