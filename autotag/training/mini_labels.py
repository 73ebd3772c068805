"""The labels of the photographs that the mini encoder is trained on, as rows of the learned names."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from autotag.training import backbone
from autotag.training.blank import COLOUR_WORDS, blank_pictures
from autotag.training.data import TaggedPhotos
from autotag.training.features import Features, ViewPlan, make_features
from autotag.training.image_head import LabelledFeatures
from autotag.training.mini_names import LEAST_WORDS, labels_below
from autotag.training.mini_photos import Photos
from autotag.training.words import count_words
from autotag.vocabularies.vocabulary import Vocabulary

BLANK_PICTURES = 400


def labelled_sets(
    photos: Photos, features: dict[str, Features], things: Vocabulary, row: dict[str, int]
) -> list[LabelledFeatures]:
    """Return the sets of photographs, in the order COCO, scenes, Flickr8k, Tiny ImageNet.

    Args:
        photos: the training photographs.
        features: of each set, by name.
        things: the vocabulary with the broader terms.
        row: name -> its row among the learned names.
    """
    words = count_words(photos.flickr.captions, least=LEAST_WORDS)
    starts = np.cumsum([0, *(len(texts) for texts in photos.flickr.captions)])
    return [
        _tagged_set(photos.coco, features["coco"], things, row, weight=0.2),
        LabelledFeatures(
            features["scenes"].pooled,
            torch.tensor([row[label] for label in photos.scenes.labels]),
            photos.scenes.present.to(torch.uint8),
            weight=0.1,
            exclusive=True,
        ),
        LabelledFeatures(
            features["flickr8k"].pooled,
            torch.tensor([row[word] for word in words.words]),
            words.present.to(torch.uint8),
            weight=0.07,
            captions=[list(range(start, end)) for start, end in pairwise(starts)],
        ),
        LabelledFeatures(
            features["tiny-imagenet"].pooled,
            torch.zeros(0, dtype=torch.long),
            torch.zeros(len(photos.tiny.classes), 0, dtype=torch.uint8),
            weight=0.0,
        ),
    ]


def _tagged_set(
    photos: TaggedPhotos, features: Features, things: Vocabulary, row: dict[str, int], *, weight: float
) -> LabelledFeatures:
    """Return the photographs with their objects, and with the broader terms that have enough objects."""
    terms = labels_below(photos.labels, things)
    broader = [photos.present[:, sorted(numbers)].any(dim=1, keepdim=True) for numbers in terms.values()]
    present = torch.cat([photos.present, *broader], dim=1).to(torch.uint8)
    rows = torch.tensor([row[name] for name in [*photos.labels, *terms]])
    return LabelledFeatures(features.pooled, rows, present, weight)


def blank_set(work: Path, names: list[str], row: dict[str, int]) -> LabelledFeatures:
    """Return pictures that show nothing, with all names except colours as absent labels."""
    pictures = blank_pictures(BLANK_PICTURES, size=backbone.SIZE, seed=0)
    features = make_features("blank", pictures, ViewPlan(1), work / "features", workers=1)
    wrong = [row[name] for name in names if not COLOUR_WORDS & set(name.split())]
    present = torch.zeros(len(pictures), len(wrong), dtype=torch.uint8)
    return LabelledFeatures(features.pooled, torch.tensor(wrong), present, weight=0.1, classes_count=False)
