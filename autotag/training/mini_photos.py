"""Part 2 of the recipe of the mini models: the training photographs and their features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autotag.errors import ConfigError
from autotag.training import backbone
from autotag.training.data import (
    CaptionedPhotos,
    LabelledPhotos,
    TaggedPhotos,
    read_captioned,
    read_labelled,
    read_tagged,
)
from autotag.training.features import Features, ViewPlan, make_features
from autotag.training.progress import OnStep, say_nothing

TINY_PHOTOS = 10_000
VIEWS = {
    "coco": ViewPlan(6, 1),
    "scenes": ViewPlan(4, 1),
    "flickr8k": ViewPlan(6, 3),
    "tiny-imagenet": ViewPlan(1, 1),
}


@dataclass(frozen=True)
class Photos:
    """The training photographs.

    Attributes:
        flickr: Flickr8k, with captions.
        coco: COCO, with the objects that they show.
        scenes: with one of six scenes each.
        tiny: Tiny ImageNet, with one of 200 classes each.
    """

    flickr: CaptionedPhotos
    coco: TaggedPhotos
    scenes: TaggedPhotos
    tiny: LabelledPhotos


def read_data(folder: Path) -> Photos:
    """Return the training photographs, without the held-out ones.

    Args:
        folder: contains ``flickr8k-train.parquet``, ``coco-train.parquet``, ``scenes-train.parquet`` and
            ``tiny-imagenet-train-*.parquet``.

    Raises:
        ConfigError: one of these files is missing.
    """
    names = ("flickr8k-train.parquet", "coco-train.parquet", "scenes-train.parquet")
    tiny = sorted(folder.glob("tiny-imagenet-train-*.parquet"))
    missing = [name for name in names if not (folder / name).is_file()]
    missing += [] if tiny else ["tiny-imagenet-train-*.parquet"]
    if missing:
        raise ConfigError(f"{str(folder)!r} does not contain {missing[0]}; docs/training.md lists the data")
    return Photos(
        flickr=read_captioned(folder / names[0], size=192),
        coco=read_tagged(folder / names[1], size=backbone.SIZE),
        scenes=read_tagged(folder / names[2], size=backbone.SIZE),
        tiny=read_labelled(tiny[:1], size=64, most=TINY_PHOTOS),
    )


def make_all_features(
    photos: Photos, work: Path, *, workers: int, on_step: OnStep = say_nothing
) -> dict[str, Features]:
    """Run part 2: return the features of each set of photographs, by name; existing ones are read."""
    pixels = {
        "coco": photos.coco.pixels,
        "scenes": photos.scenes.pixels,
        "flickr8k": photos.flickr.pixels,
        "tiny-imagenet": photos.tiny.pixels,
    }
    return {
        name: make_features(name, each, VIEWS[name], work / "features", workers=workers, on_step=on_step)
        for name, each in pixels.items()
    }
