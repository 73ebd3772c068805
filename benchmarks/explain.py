"""How well do the maps of ``autotag explain`` point? Keeps its table in ``results/explain.json``.

    python benchmarks/explain.py --data DIR [--part maps|attention|times]

The pointing game (Zhang et al. 2018, arXiv:1608.00507) without boxes: four photographs of different classes
in a mosaic of 2 x 2, at 448 pixels; a map points right if its maximum is in the quadrant of its class. Chance
is 25 %; the centre of the picture is in no quadrant.

- clip-mini, on photographs that it was not trained on: COCO (one of 80 objects that is in one photograph of
  the four only, however small), scenes and ImageNet (DIR as for ``mini_models.py``), and a mixture of the
  three. Beside its own maps: Grad-CAM of the same tower, at the same size; and how often the encoder picks
  the right photograph when it sees each of the four alone.
- Two ways of weighting attention: no weights of a vision transformer are at hand, so a small one is trained
  here, in a minute, to tell eight drawn shapes, and judged on mosaics of shapes.
- Time of one photograph and one tag with preset mini's encoder, on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from mini_models import circumstances, held_out, opened
from PIL import Image, ImageDraw
from torch.nn import functional

from autotag.models.encoders import text_maps
from autotag.models.fast.views import view_of_open_clip
from autotag.models.pool import ModelPool
from autotag.training.backbone import imagenet_classes
from autotag.vocabularies.templates import PHOTO, filled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Photo = tuple[Image.Image, frozenset[str]]

RESULTS = Path(__file__).parent / "results" / "explain.json"
QUADRANT = 224
MOSAICS = 400
PARTS = ("maps", "attention", "times")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--part", choices=PARTS, action="append", help="measure only this, keep the others")
    given = options.parse_args()
    data, parts = given.data, given.part or PARTS
    encoder: Any = ModelPool(device="cpu").encoder("clip-mini")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() and given.part else {}
    found: dict[str, Any] = {**kept, **circumstances()}
    if "maps" in parts:
        found |= maps(encoder, data)
    if "attention" in parts:
        found["vision transformer, drawn shapes"] = attention()
    if "times" in parts:
        found["one photograph and one tag"] = _times(encoder, _labelled(data / "coco-train.parquet")[0][0])
    print(json.dumps(found, indent=2))
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


def maps(encoder: Any, data: Path) -> dict[str, dict[str, float]]:
    """Play the pointing game on each kind of photographs."""
    photos = {
        "COCO": _labelled(data / "coco-train.parquet"),
        "scenes": _labelled(data / "scenes-train.parquet"),
        "ImageNet": _of_imagenet(data / "photos"),
    }
    photos["mixture"] = [one for name in ("COCO", "scenes", "ImageNet") for one in photos[name][:60]]
    found = {}
    for name, some in photos.items():
        games = mosaics(some, random.Random(0))  # noqa: S311 - no secret
        found[name] = {
            "own maps": pointing(games, lambda image, text: encoder.text_maps(image, [text]).values[0]),
            "Grad-CAM": pointing(games, lambda image, text: grad_cam(encoder, image, text)),
            "each photograph alone": picking(encoder, games),
        }
        print(name, found[name], flush=True)
    return found


def mosaics(photos: Sequence[Photo], chance: random.Random) -> list[tuple[Image.Image, str, int]]:
    """Return mosaics, each with a class that one of its photographs has, and that photograph's quadrant."""
    classes = sorted(frozenset[str]().union(*(labels for _, labels in photos)))
    games: list[tuple[Image.Image, str, int]] = []
    while len(games) < MOSAICS:
        label = chance.choice(classes)
        right = chance.choice([image for image, labels in photos if label in labels])
        others = [image for image, labels in chance.sample(photos, 12) if label not in labels][:3]
        quadrant = chance.randrange(4)
        images = [*others[:quadrant], right, *others[quadrant:]]
        mosaic = Image.new("RGB", (2 * QUADRANT, 2 * QUADRANT))
        for number, image in enumerate(images):
            place = (number % 2 * QUADRANT, number // 2 * QUADRANT)
            mosaic.paste(image.resize((QUADRANT, QUADRANT), Image.Resampling.BICUBIC), place)
        games.append((mosaic, filled(PHOTO, label), quadrant))
    return games


def pointing(
    games: Sequence[tuple[Image.Image, str, int]], look: Callable[[Image.Image, str], NDArray[np.float32]]
) -> float:
    hits = 0
    for mosaic, text, quadrant in games:
        scaled = np.asarray(Image.fromarray(look(mosaic, text)).resize(mosaic.size, Image.Resampling.BICUBIC))
        row, column = np.unravel_index(scaled.argmax(), scaled.shape)
        hits += int(row // (mosaic.height // 2) * 2 + column // (mosaic.width // 2)) == quadrant
    return hits / len(games)


def picking(encoder: Any, games: Sequence[tuple[Image.Image, str, int]]) -> float:
    """Return how often the photograph of a class has the highest cosine, each of the four seen alone."""
    hits = 0
    for mosaic, text, quadrant in games:
        corners = [(left, top) for top in (0, QUADRANT) for left in (0, QUADRANT)]
        photos = [mosaic.crop((left, top, left + QUADRANT, top + QUADRANT)) for left, top in corners]
        cosines = encoder.embed_images(photos) @ encoder.embed_texts([text])[0]
        hits += int(cosines.argmax()) == quadrant
    return hits / len(games)


def grad_cam(encoder: Any, image: Image.Image, text: str) -> NDArray[np.float32]:
    view = view_of_open_clip(encoder.preprocess, encoder._cfg)  # noqa: SLF001
    assert view is not None
    view = view.larger(2)
    with torch.no_grad():
        pixels = view.normalised([view.make(image)], "cpu", torch.float32)
        features = encoder.model.visual.trunk.forward_features(pixels)
    vectors = torch.from_numpy(encoder.embed_texts([text]))
    maps: NDArray[np.float32] = text_maps.grad_cam(features, encoder._embed_maps, vectors)[0].numpy()  # noqa: SLF001
    return maps


def attention() -> dict[str, float]:
    """Train a small vision transformer on drawn shapes; return how well two ways of weighting point."""
    torch.manual_seed(0)
    chance = random.Random(0)  # noqa: S311 - no secret
    tower = open_clip.transformer.VisionTransformer(
        image_size=64, patch_size=8, width=64, layers=4, heads=4, mlp_ratio=2, output_dim=len(SHAPES)
    )
    learning = torch.optim.AdamW(tower.parameters(), lr=1e-3)
    for _ in range(600):
        names = [chance.choice(list(SHAPES)) for _ in range(64)]
        goals = torch.tensor([list(SHAPES).index(name) for name in names])
        loss = functional.cross_entropy(tower(_pixels([_canvas([name], chance) for name in names])), goals)
        learning.zero_grad()
        torch.autograd.backward(loss)
        learning.step()
    tower.eval()
    games = []
    for _ in range(MOSAICS):
        names = chance.sample(list(SHAPES), 4)
        games.append((_canvas(names, chance), names[(quadrant := chance.randrange(4))], quadrant))
    texts = dict(zip(SHAPES, torch.eye(len(SHAPES)), strict=True))

    def look(method: text_maps.AttentionMethod, image: Image.Image, name: str) -> NDArray[np.float32]:
        with text_maps.AttentionRecord() as record:
            vector = tower(_pixels([image]).requires_grad_())
        maps = text_maps.attention_maps(
            record.probabilities, vector, texts[name][None], (8, 8), has_class_token=True, method=method
        )
        values: NDArray[np.float32] = maps[0].numpy()
        return values

    ways: tuple[text_maps.AttentionMethod, ...] = ("relevance", "grad_sam")
    with torch.no_grad():
        alone = [chance.choice(list(SHAPES)) for _ in range(256)]
        guessed = tower(_pixels([_canvas([name], chance) for name in alone])).argmax(1).tolist()
    right = np.mean([list(SHAPES)[at] == name for at, name in zip(guessed, alone, strict=True)])
    return {
        "shapes alone, right": float(right),
        **{way: pointing(games, partial(look, way)) for way in ways},
    }


def _canvas(names: Sequence[str], chance: random.Random) -> Image.Image:
    """Return 64 x 64 pixels with one shape anywhere, or with four, one in each quadrant."""
    image = Image.effect_noise((64, 64), 60).convert("RGB")
    drawn = ImageDraw.Draw(image)
    for number, name in enumerate(names):
        across, down = (number % 2 * 32, number // 2 * 32) if len(names) > 1 else _anywhere(chance)
        left, top = across + chance.randrange(2, 8), down + chance.randrange(2, 8)
        colour = tuple(chance.randrange(100, 256) for _ in range(3))
        SHAPES[name](drawn, left, top, colour)
    return image


def _anywhere(chance: random.Random) -> tuple[int, int]:
    return chance.randrange(32), chance.randrange(32)


SHAPES: dict[str, Callable[[Any, int, int, Any], object]] = {
    "disc": lambda d, x, y, c: d.ellipse((x, y, x + 20, y + 20), fill=c),
    "ring": lambda d, x, y, c: d.ellipse((x, y, x + 20, y + 20), outline=c, width=4),
    "square": lambda d, x, y, c: d.rectangle((x, y, x + 20, y + 20), fill=c),
    "frame": lambda d, x, y, c: d.rectangle((x, y, x + 20, y + 20), outline=c, width=4),
    "triangle": lambda d, x, y, c: d.polygon([(x, y + 20), (x + 10, y), (x + 20, y + 20)], fill=c),
    "cross": lambda d, x, y, c: [
        d.line((x, y, x + 20, y + 20), fill=c, width=5),
        d.line((x + 20, y, x, y + 20), fill=c, width=5),
    ],
    "bar": lambda d, x, y, c: d.rectangle((x, y + 8, x + 22, y + 13), fill=c),
    "pole": lambda d, x, y, c: d.rectangle((x + 8, y, x + 13, y + 22), fill=c),
}


def _pixels(images: Sequence[Image.Image]) -> torch.Tensor:
    stacked = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2) / 127.5 - 1


def _labelled(file: Path) -> list[Photo]:
    rows = [row for row in held_out(file) if row["labels"]]
    return [(opened(row["image"]).convert("RGB"), frozenset(row["labels"])) for row in rows[:400]]


def _of_imagenet(folder: Path) -> list[Photo]:
    classes = imagenet_classes()
    photos = []
    for path in sorted(folder.glob("*.JPEG")):
        name = classes.names[classes.wnids.index(path.name.partition("_")[0])][0]
        with Image.open(path) as photo:
            photos.append((photo.convert("RGB"), frozenset({name})))
    return photos


def _times(encoder: Any, image: Image.Image) -> dict[str, float]:
    torch.set_num_threads(1)  # threads that wait for one another take processor time
    encoder.text_maps(image, ["a photo of a dog"])
    walls, used = [], []
    for _ in range(20):
        wall, processor = time.perf_counter(), time.process_time()
        encoder.text_maps(image, ["a photo of a dog"])
        walls.append((time.perf_counter() - wall) * 1000)
        used.append((time.process_time() - processor) * 1000)
    return {
        "milliseconds, median of 20": round(statistics.median(walls), 1),
        "milliseconds of processor time, median of 20": round(statistics.median(used), 1),
        "milliseconds of processor time, least of 20": round(min(used), 1),
        "load of the machine": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    main()
