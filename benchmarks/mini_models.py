"""How good are the bundled mini models? Prints a table, keeps it in ``benchmarks/results/mini_models.json``.

    python benchmarks/mini_models.py --data DIR

DIR holds ``flickr8k-val.parquet`` (columns ``image``, ``captions``), ``coco-train.parquet`` and
``scenes-train.parquet`` (``file_name``, ``image``, ``labels``), whose rows that training holds out are
used, and ``photos/`` with photographs whose names begin with the WordNet id of an ImageNet class. None of
these photographs is trained on. Needs the extra ``autotag-images[train]``.

- COCO: mean average precision of ``match_vocabulary`` over the names of 80 objects, ranking the photographs.
- scenes, ImageNet: the label of ``match_vocabulary`` over six scenes, and over the first names of 1,000
  classes.
- right name among five: the class, a synonym or a broader term of ``things`` among the five best tags of the
  preset.
- R@5: share of Flickr8k photographs with one of their own captions among the five nearest of all captions.
- CIDEr-D: the pipeline's captions against the five human captions (1.0 is often written as 100).
- tags: a tag counts as right if all its words are content words of one human caption of its photograph, after
  lower-casing and lemmatising. The baseline gives every photograph the same five commonest content words.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet
from PIL import Image
from sklearn.metrics import average_precision_score

import autotag
from autotag.evaluation.metrics.caption_words import content_words, is_said
from autotag.evaluation.metrics.cider import CiderD
from autotag.models.pool import ModelPool
from autotag.stages import MatchVocabulary
from autotag.training.backbone import imagenet_classes
from autotag.training.data import is_held_out
from autotag.vocabularies.vocabulary import Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder
    from autotag.records import Result

RESULTS = Path(__file__).parent / "results" / "mini_models.json"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--preset", default="mini")
    given = options.parse_args()
    flickr = pyarrow.parquet.read_table(given.data / "flickr8k-val.parquet").to_pylist()
    photos = sorted((given.data / "photos").glob("*.JPEG"))
    with autotag.load(given.preset) as tagger:
        encoder = ModelPool(encoder=tagger.encoder).encoder()
        started = time.perf_counter()
        results = list(tagger.stream(opened(row["image"]) for row in flickr))
        seconds = time.perf_counter() - started
        of_classes = list(tagger.stream(photos))
    references = [row["captions"] for row in flickr]
    figures = {
        "mAP over 80 objects, COCO held out": object_precision(
            encoder, held_out(given.data / "coco-train.parquet")
        ),
        "top-1 over 6 scenes, held out": scene_accuracy(
            encoder, held_out(given.data / "scenes-train.parquet")
        ),
        **class_figures(encoder, photos),
        "right name among five tags, ImageNet": right_names(of_classes),
        "image-to-text R@5, Flickr8k": recall_at_5(encoder, flickr),
        "CIDEr-D, Flickr8k": CiderD(references).mean([result.caption for result in results]),
        "distinct captions": len({result.caption for result in results}) / len(results),
        **tag_figures(results, references),
        "images per second, whole pipeline": len(results) / seconds,
    }
    for name, figure in figures.items():
        print(f"{name:44s} {figure:8.4f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"preset": given.preset, **circumstances(), **figures}, indent=2) + "\n")


def opened(encoded: bytes) -> Image.Image:
    return Image.open(io.BytesIO(encoded)).convert("RGB")


def embed(encoder: ImageTextEncoder, rows: list[dict[str, Any]]) -> NDArray[np.float32]:
    batches = [rows[at : at + 256] for at in range(0, len(rows), 256)]
    return np.concatenate(
        [encoder.embed_images([opened(row["image"]) for row in batch]) for batch in batches]
    )


def held_out(file: Path) -> list[dict[str, Any]]:
    return [row for row in pyarrow.parquet.read_table(file).to_pylist() if is_held_out(row["file_name"])]


def scores(encoder: ImageTextEncoder, images: list[Image.Image], labels: list[str]) -> NDArray[np.float32]:
    """(images, labels): the cosines of ``match_vocabulary``, which is asked for every label."""
    stage = MatchVocabulary(tuple(labels), top_k=len(labels), encoder=encoder)
    with autotag.Pipeline([stage]) as pipeline:
        found = [{tag.text: tag.score for tag in result.tags} for result in pipeline.stream(images)]
    return np.array([[tags[label] for label in labels] for tags in found], dtype=np.float32)


def object_precision(encoder: ImageTextEncoder, rows: list[dict[str, Any]]) -> float:
    labels = sorted({label for row in rows for label in row["labels"]})
    found = scores(encoder, [opened(row["image"]) for row in rows], labels)
    present = np.array([[label in row["labels"] for label in labels] for row in rows])
    return float(np.mean([average_precision_score(*each) for each in zip(present.T, found.T, strict=True)]))


def scene_accuracy(encoder: ImageTextEncoder, rows: list[dict[str, Any]]) -> float:
    labels = sorted({label for row in rows for label in row["labels"]})
    best = scores(encoder, [opened(row["image"]) for row in rows], labels).argmax(axis=1)
    return float(np.mean([labels[index] in row["labels"] for index, row in zip(best, rows, strict=True)]))


def class_figures(encoder: ImageTextEncoder, photos: list[Path]) -> dict[str, float]:
    classes = imagenet_classes()
    right = [classes.wnids.index(photo.name.partition("_")[0]) for photo in photos]
    texts = encoder.embed_texts([f"a photo of {names[0]}" for names in classes.names])
    images = encoder.embed_images([Image.open(photo).convert("RGB") for photo in photos])
    best = np.argsort(-(images @ texts.T), axis=1)[:, :5]
    return {
        "top-1 over 1,000 ImageNet names": float(np.mean(best[:, 0] == right)),
        "top-5 over 1,000 ImageNet names": float(np.mean((best == np.array(right)[:, None]).any(axis=1))),
    }


def right_names(results: list[Result]) -> float:
    things, classes = Vocabulary.bundled("things"), imagenet_classes()
    label_of = {name.casefold(): label for label in things for name in things.names(label)}
    hits = []
    for result in results:
        names = classes.names[classes.wnids.index(Path(result.source).name.partition("_")[0])]
        labels = {label_of[name.casefold()] for name in names if name.casefold() in label_of}
        broader = {term for label in labels for term in things.ancestors(label)}
        synonyms = {name.casefold() for label in labels | broader for name in things.names(label)}
        right = synonyms | {name.casefold() for name in names}
        hits.append(any(tag.text.casefold() in right for tag in result.tags[:5]))
    return float(np.mean(hits))


def recall_at_5(encoder: ImageTextEncoder, rows: list[dict[str, Any]]) -> float:
    owners = np.array([image for image, row in enumerate(rows) for _ in row["captions"]])
    texts = encoder.embed_texts([caption for row in rows for caption in row["captions"]])
    nearest = np.argsort(-(embed(encoder, rows) @ texts.T), axis=1)[:, :5]
    return float((owners[nearest] == np.arange(len(rows))[:, None]).any(axis=1).mean())


def tag_figures(results: list[Result], references: list[list[str]]) -> dict[str, float]:
    captions = [[content_words(caption) for caption in texts] for texts in references]
    commonest = Counter(word for texts in captions for word in frozenset().union(*texts))
    baseline = [word for word, _ in commonest.most_common(5)]
    tags = [[tag.text for tag in result.tags] for result in results]
    kept = [is_said(tag, texts) for row, texts in zip(tags, captions, strict=True) for tag in row]
    same = [is_said(word, texts) for texts in captions for word in baseline]
    return {
        "tags right": float(np.mean(kept)),
        "tags right, same five words for every photo": float(np.mean(same)),
        "distinct tags per photo": float(np.mean([len(set(row)) for row in tags])),
        "photos without a tag": float(np.mean([not row for row in tags])),
    }


def circumstances() -> dict[str, Any]:
    packages = (
        "autotag-images",
        "torch",
        "transformers",
        "open_clip_torch",
        "keybert",
        "sentence-transformers",
        "pillow",
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "versions": {name: version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
