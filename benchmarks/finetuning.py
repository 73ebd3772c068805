"""What does fine-tuning gain, and what does it forget? Keeps its figures in ``results/finetuning.json``.

    python benchmarks/finetuning.py --data DIR --work FOLDER

Both bundled models are fine-tuned by ``autotag.training.fine_tuning``, as ``autotag train`` does, to a domain
that they do not know:

- ``captioner``: blip-mini on drawings of two shapes, one above the other, whose captions name both colours,
  both shapes and their order. Judged by CIDEr-D on other drawings.
- ``encoder``: clip-mini on handwritten digits (scikit-learn's copy of the UCI set, real scans of 8 x 8
  pixels). Judged by how often the right one of ten names comes first, on other digits.

DIR holds ``flickr8k-val.parquet``, ``coco-train.parquet`` and ``scenes-train.parquet``. Photographs of the
first half of flickr8k-val are the ones to keep; the captioner rehearses half of them and is judged by the
other half when the share of the change is chosen, the encoder rehearses none. What is forgotten is judged on
the second half of the file, and for the encoder also on the held-out photographs of COCO and of the scenes.
Figures are from 0 to 1 (CIDEr-D to 10); 0.01 is a point.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from autotag.evaluation.datasets import EvaluationSet, Example, read_dataset
from autotag.models.pool import ModelPool
from autotag.training.data import is_held_out
from autotag.training.fine_tuning import FineTuningPlan, Lora, fine_tune_captioner, fine_tune_encoder
from autotag.training.fine_tuning.figures import captioner_figures, encoder_figures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from autotag.training.fine_tuning.figures import Figures

RESULTS = Path(__file__).parent / "results" / "finetuning.json"
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "pink")
SHAPES = ("circle", "square", "triangle", "cross")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CAPTIONER = FineTuningPlan(
    steps=120, batch_size=16, learning_rate=5e-4, may_lose=0.02, rehearse=0.5, device="cpu"
)
ENCODER = FineTuningPlan(
    steps=40, batch_size=16, learning_rate=2e-4, may_lose=0.015, rehearse=0.0, device="cpu"
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--work", type=Path, required=True, help="For the models; a killed run resumes.")
    options.add_argument("--only", choices=("captioner", "encoder"))
    given = options.parse_args()
    torch.set_num_threads(1)
    kept, judged = halves(read_dataset(given.data / "flickr8k-val.parquet"))
    parts: dict[str, Callable[[], Any]] = {
        "captioner": lambda: captioner(kept, judged, given.work / "blip"),
        "encoder": lambda: encoder(kept, judged, given.data, given.work / "clip"),
    }
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for name, part in parts.items():
        if given.only in {None, name}:
            found[name] = part()
            print(name, json.dumps(found[name], indent=2), flush=True)
            RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def captioner(kept: EvaluationSet, judged: EvaluationSet, output: Path) -> dict[str, Any]:
    """Fine-tune blip-mini on drawings."""
    started = time.monotonic()
    done = fine_tune_captioner(
        drawings(600, seed=0),
        "blip-mini",
        output,
        plan=CAPTIONER,
        lora=Lora(rank=16),
        keep=[kept],
        on_step=tell,
    )
    seconds = time.monotonic() - started
    sets = {"domain: other drawings": drawings(100, seed=1), "elsewhere: flickr8k-val, second half": judged}

    def figures(model: str, photographs: EvaluationSet) -> Figures:
        return captioner_figures(model, photographs, device="cpu")

    return facts(
        done.folder,
        seconds,
        {name: both("blip-mini", done.folder, one, figures) for name, one in sets.items()},
    )


def encoder(kept: EvaluationSet, judged: EvaluationSet, data: Path, output: Path) -> dict[str, Any]:
    """Fine-tune clip-mini on digits."""
    started = time.monotonic()
    every = digits()
    kept, judged = first(kept, 80), first(judged, 200)
    taught, asked = first(every, 500), replace(every, examples=every.examples[500:900])
    done = fine_tune_encoder(taught, "clip-mini", output, plan=ENCODER, keep=[kept], on_step=tell)
    seconds = time.monotonic() - started
    sets = {
        "domain: other digits": asked,
        "elsewhere: flickr8k-val, second half": judged,
        "elsewhere: coco, held out": first(held_out(read_dataset(data / "coco-train.parquet")), 300),
        "elsewhere: scenes, held out": held_out(read_dataset(data / "scenes-train.parquet")),
    }

    def figures(model: str, photographs: EvaluationSet) -> Figures:
        return encoder_figures(ModelPool(device="cpu").encoder(model), photographs)

    return facts(
        done.folder,
        seconds,
        {name: both("clip-mini", done.folder, one, figures) for name, one in sets.items()},
    )


def both(
    base: str, folder: Path, photographs: EvaluationSet, figures: Callable[[str, EvaluationSet], Figures]
) -> dict[str, Any]:
    before, after = figures(base, photographs), figures(str(folder), photographs)
    return {
        "photographs": len(photographs.examples),
        **{
            name: {"before": round(value, 4), "after": round(after[name], 4)}
            for name, value in before.items()
        },
    }


def facts(folder: Path, seconds: float, figures: Mapping[str, Any]) -> dict[str, Any]:
    card = json.loads((folder / "fine_tuning.json").read_text(encoding="utf-8"))
    kept = ("data", "training", "share", "mixtures", "versions")
    return {"figures": figures, "seconds": round(seconds), **{name: card[name] for name in kept}}


def tell(step: int, steps: int, loss: float) -> None:
    if step % 20 == 0:
        print(f"{step} of {steps}: {loss:.3f}", flush=True)


def first(photographs: EvaluationSet, count: int) -> EvaluationSet:
    return replace(photographs, examples=photographs.examples[:count])


def halves(photographs: EvaluationSet) -> tuple[EvaluationSet, EvaluationSet]:
    middle = len(photographs.examples) // 2
    return first(photographs, middle), replace(photographs, examples=photographs.examples[middle:])


def held_out(photographs: EvaluationSet) -> EvaluationSet:
    """Return the photographs that clip-mini was not trained on."""
    return replace(photographs, examples=tuple(one for one in photographs.examples if is_held_out(one.id)))


def drawings(count: int, *, seed: int) -> EvaluationSet:
    """Return drawings of two shapes, with captions such as "a red circle above a blue cross"."""
    choice = random.Random(seed)  # noqa: S311  (not for security)
    return EvaluationSet("drawings", tuple(_drawing(number, choice) for number in range(count)))


def _drawing(number: int, choice: random.Random) -> Example:
    image = Image.new("RGB", (96, 96), (choice.randint(215, 255),) * 3)
    names = []
    for top in (4, 50):
        colour, shape = choice.choice(COLOURS), choice.choice(SHAPES)
        left, side = choice.randint(4, 48), choice.randint(32, 42)
        _draw(ImageDraw.Draw(image), shape, colour, (left, top, left + side, top + side))
        names.append(f"a {colour} {shape}")
    return Example(f"drawing-{number}", _encoded(image), (" above ".join(names),))


def _draw(pen: ImageDraw.ImageDraw, shape: str, colour: str, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    third = (right - left) // 3
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    elif shape == "triangle":
        pen.polygon([((left + right) // 2, top), (left, bottom), (right, bottom)], fill=colour)
    else:
        pen.rectangle((left + third, top, right - third, bottom), fill=colour)
        pen.rectangle((left, top + third, right, bottom - third), fill=colour)


def digits() -> EvaluationSet:
    """Return handwritten digits, each with the name of its digit."""
    found = load_digits()
    return EvaluationSet(
        "digits",
        tuple(
            Example(f"digit-{number}", _encoded(_enlarged(pixels)), tags=(f"digit {DIGITS[label]}",))
            for number, (pixels, label) in enumerate(zip(found.images, found.target, strict=True))
        ),
    )


def _enlarged(pixels: Any) -> Image.Image:
    grey = Image.fromarray((255 - pixels * 15).astype("uint8"))
    return grey.resize((96, 96), Image.Resampling.BICUBIC).convert("RGB")


def _encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


if __name__ == "__main__":
    main()
