"""Finding copies of photographs: precision and recall of `autotag duplicates`, and imagehash's beside it.

Run: python benchmarks/duplicates.py --data FOLDER [--scale 100000]

2,000 photographs, and copies of 500 of them, 125 each: resized (to 0.4, 0.5, 0.7 or 1.5), recompressed (JPEG
quality 15, 30, 50 or 70), cropped (5 % of width and height, anywhere), brightened (by 1.15, 1.3 or 1.5). A
pair is found if both lie in one group. The thresholds were chosen on the first 2,000 photographs; `--skip
2000` leaves these out. `--scale` compares the small pictures of so many photographs, the real ones in FOLDER,
mirrored and turned, and says how long it takes and how much memory.
"""

from __future__ import annotations

import io
import random
import resource
import sys
import tempfile
import time
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance
from reporting import options, report

from autotag.search import find_duplicates
from autotag.search.same_picture import SIDE, grey_thumbnail, same_pictures

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

PHOTOGRAPHS, COPIES = 2000, 500
WAYS = ("resized", "recompressed", "cropped", "brightened")
HASH_DISTANCES = range(0, 25, 2)
Pairs = set[tuple[str, str]]


def photographs(folder: Path) -> Iterator[bytes]:
    """Every photograph at hand, as a file."""
    for path in sorted((folder / "photos").glob("*.JPEG")):
        yield path.read_bytes()
    import pyarrow.parquet

    tables = ("flickr8k-val", "coco-train", "flickr8k-train", "scenes-train")
    for name in (*tables, "tiny-imagenet-val", "tiny-imagenet-train-0"):
        for batch in pyarrow.parquet.ParquetFile(folder / f"{name}.parquet").iter_batches(
            500, columns=["image"]
        ):
            for found in batch.column("image").to_pylist():
                yield found if isinstance(found, bytes) else found["bytes"]


def make_album(data: Path, album: Path, skip: int) -> Pairs:
    """Write photographs and copies, and return the true pairs of names."""
    made = random.Random(skip)  # noqa: S311 - no secret
    for number, content in enumerate(islice(photographs(data), skip, skip + PHOTOGRAPHS)):
        suffix = ".webp" if content[8:12] == b"WEBP" else ".jpg"
        (album / f"{number:04}{suffix}").write_bytes(content)
    originals = sorted(album.iterdir())
    pairs = set()
    for count, original in enumerate(made.sample(originals, COPIES)):
        way = WAYS[count % len(WAYS)]
        copy = album / f"{original.stem}-{way}.jpg"
        write_copy(original, copy, way, made)
        pairs.add((original.name, copy.name))
    return {tuple(sorted(pair)) for pair in pairs}


def write_copy(original: Path, copy: Path, way: str, made: random.Random) -> None:
    """Write one copy, made in one of the ways."""
    image, quality = Image.open(original).convert("RGB"), 90
    width, height = image.size
    if way == "resized":
        scale = made.choice([0.4, 0.5, 0.7, 1.5])
        image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    elif way == "recompressed":
        quality = made.choice([15, 30, 50, 70])
    elif way == "cropped":
        left, top = round(0.05 * width * made.random()), round(0.05 * height * made.random())
        image = image.crop((left, top, left + round(0.95 * width), top + round(0.95 * height)))
    else:
        image = ImageEnhance.Brightness(image).enhance(made.choice([1.15, 1.3, 1.5]))
    image.save(copy, quality=quality)


def pairs_of_autotag(album: Path) -> tuple[Pairs, float]:
    """Return the pairs that autotag finds, and the seconds that it takes."""
    started = time.perf_counter()
    groups = find_duplicates(sorted(album.iterdir()), bursts=False)
    seconds = time.perf_counter() - started
    names = [sorted(Path(photo.path).name for photo in group.photos) for group in groups]
    return {pair for group in names for pair in combinations(group, 2)}, seconds


def pairs_of_hashes(album: Path) -> tuple[list[str], np.ndarray, float]:
    """Return the names, the distances of all perceptual hashes (64 bits), and the seconds for them."""
    import imagehash

    started = time.perf_counter()
    files = sorted(album.iterdir())
    bits = np.stack([imagehash.phash(Image.open(file)).hash.ravel() for file in files]).astype(np.int16)
    distances = bits @ (1 - bits).T
    return [file.name for file in files], distances + distances.T, time.perf_counter() - started


def measured(found: Pairs, true: Pairs) -> list[float]:
    """Return precision, recall, and recall by the way in which copies were made."""
    right = found & true
    by_way = []
    for way in WAYS:
        wanted = {pair for pair in true if any(f"-{way}" in name for name in pair)}
        by_way.append(round(len(wanted & found) / len(wanted), 4))
    return [round(len(right) / max(1, len(found)), 4), round(len(right) / len(true), 4), *by_way]


def scaled(data: Path, count: int) -> dict[str, float]:
    """Compare so many small pictures; return seconds and megabytes."""
    thumbnails = np.empty((count, SIDE, SIDE), dtype=np.uint8)
    turned = ((content, way) for content in photographs(data) for way in range(3))
    made = 0
    for made, (content, way) in enumerate(islice(turned, count), 1):
        image = Image.open(io.BytesIO(content)).convert("RGB")
        if way:
            image = image.transpose((Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180)[way - 1])
        thumbnails[made - 1] = grey_thumbnail(image)
    thumbnails = thumbnails[:made]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, processor = time.perf_counter(), time.process_time()
    found = same_pictures(thumbnails, lambda ones, _: np.zeros(len(ones), dtype=np.bool_))
    return {
        "photographs": len(thumbnails),
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "small_pictures_mb": round(thumbnails.nbytes / 1e6),
        "more_memory_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3),
        "found": len(found),
    }


def run(given: argparse.Namespace) -> None:
    """Measure, print and keep the results."""
    with tempfile.TemporaryDirectory() as folder:
        album = Path(folder)
        true = make_album(given.data, album, given.skip)
        found, seconds = pairs_of_autotag(album)
        rows = [["autotag", None, *measured(found, true), round(seconds, 1)]]
        names, distances, seconds = pairs_of_hashes(album)
        for most in HASH_DISTANCES:
            near = np.argwhere(np.triu(distances <= most, 1))
            hashed = {(names[one], names[other]) for one, other in near}
            rows.append(["imagehash.phash", most, *measured(hashed, true), round(seconds, 1)])
    findings = {"not made by us": sorted(found - true), "missed": sorted(true - found)}
    if given.scale:
        findings["scale"] = scaled(given.data, given.scale)
        print(findings["scale"])
    columns = ["finder", "distance", "precision", "recall", *WAYS, "seconds"]
    report(f"duplicates{f'-{given.skip}' if given.skip else ''}", given, columns, rows, findings=findings)


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="photos/ and *.parquet")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N photographs")
    parser.add_argument("--scale", type=int, default=0, metavar="N", help="also compare N photographs")
    sys.exit(run(parser.parse_args()))
