"""The names that the mini encoder learns: classes of ImageNet in the words of the vocabulary, and others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from autotag.relevance.unrelated_labels import unrelated_labels
from autotag.training.backbone import ImageNetClasses, imagenet_names
from autotag.training.image_head import Classes
from autotag.training.mini_photos import Photos
from autotag.training.words import count_words
from autotag.vocabularies.vocabulary import BUNDLED, Vocabulary

LEAST_WORDS = 10
_FEWEST_CLASSES = 3
_FEWEST_OBJECTS = 3
_SAY_LITTLE = {"object", "place", "activity", "event", "nature", "body"}


def training_names(photos: Photos, things: Vocabulary, classes: ImageNetClasses) -> list[str]:
    """Return the names to train the head on: classes, broader terms, objects, scenes, caption words."""
    words = count_words(photos.flickr.captions, least=LEAST_WORDS).words
    of_classes = (name for names in _class_names(classes, things) for name in names)
    broader = (*_classes_below(classes, things), *labels_below(photos.coco.labels, things))
    return sorted({*of_classes, *broader, *photos.coco.labels, *photos.scenes.labels, *words})


def known_classes(
    network: nn.Module, classes: ImageNetClasses, things: Vocabulary, row: dict[str, int]
) -> Classes:
    """Return the backbone's classifier, with the rows of the names and broader terms of its classes."""
    below = _classes_below(classes, things)
    classifier: Any = network.classifier
    return Classes(
        weight=classifier.weight.detach().clone(),
        bias=classifier.bias.detach().clone(),
        names=[[row[name] for name in names] for names in _class_names(classes, things)],
        broader=torch.tensor([row[label] for label in below]),
        below=torch.tensor(
            [[float(number in numbers) for number in range(len(classes.names))] for numbers in below.values()]
        ),
    )


def _classes_below(classes: ImageNetClasses, things: Vocabulary) -> dict[str, set[int]]:
    """Return broader term -> its classes, if enough that a photograph of the term probably shows one."""
    below = _below(_class_labels(classes, things), things)
    return {term: numbers for term, numbers in below.items() if len(numbers) >= _FEWEST_CLASSES}


def labels_below(labels: list[str], things: Vocabulary) -> dict[str, set[int]]:
    """Return broader term -> its objects, if enough that without any of them the term is absent."""
    label_of = _label_of_name(things)
    below = _below([{label_of[label]} if label in label_of else set() for label in labels], things)
    return {
        term: numbers
        for term, numbers in below.items()
        if len(numbers) >= _FEWEST_OBJECTS and term not in labels
    }


def _below(labels: Sequence[set[str]], things: Vocabulary) -> dict[str, set[int]]:
    """Return vocabulary term -> indices of the items below it, without terms that are too general."""
    below: dict[str, set[int]] = {}
    for number, own in enumerate(labels):
        for term in {term for label in own for term in things.ancestors(label)} - _SAY_LITTLE:
            below.setdefault(term, set()).add(number)
    return dict(sorted(below.items()))


def _class_names(classes: ImageNetClasses, things: Vocabulary) -> list[list[str]]:
    """Return each class's first lemma, its other unambiguous lemmas, and all names of its labels."""
    label_of = _label_of_name(things)
    named = []
    for (first, *others), labels in zip(classes.names, _class_labels(classes, things), strict=True):
        own = [name for name in others if label_of.get(name.casefold()) in {None, *labels}]
        called = [name for label in sorted(labels) for name in things.names(label)]
        named.append(list(dict.fromkeys([first, *own, *called])))
    return named


def _class_labels(classes: ImageNetClasses, things: Vocabulary) -> list[set[str]]:
    """Return for each class its labels in the vocabulary."""
    label_of = _label_of_name(things)
    return [
        {CLASS_LABELS[wnid]}
        if wnid in CLASS_LABELS
        else {label_of[name.casefold()] for name in names if name.casefold() in label_of}
        for wnid, names in zip(classes.wnids, classes.names, strict=True)
    ]


def _label_of_name(things: Vocabulary) -> dict[str, str]:
    return {name.casefold(): label for label in things for name in things.names(label)}


def imagenet_nouns() -> list[str]:
    """Return English nouns in addition to the trained names: the lemmas of all synsets of ImageNet."""
    return sorted({name for names in imagenet_names().values() for name in names})


def other_texts(things: Vocabulary) -> list[str]:
    """Return things, labels of other vocabularies, and the baseline labels of standardised scores."""
    labels = (label for name in BUNDLED if name != "things" for label in Vocabulary.bundled(name).labels)
    return [*(name for label in things for name in things.names(label)), *labels, *unrelated_labels()]


CLASS_LABELS = {  # classes of ImageNet whose lemmas are missing in ``things`` or mean something else there
    "n01496331": "electric ray",
    "n01514668": "rooster",
    "n01608432": "red kite",
    "n01729977": "green snake",
    "n01797886": "ruffed grouse",
    "n01872401": "echidna",
    "n01984695": "spiny lobster",
    "n02108089": "boxer dog",
    "n02113186": "cardigan corgi",
    "n02125311": "cougar",
    "n02127052": "lynx",
    "n02128925": "jaguar",
    "n02231487": "stick insect",
    "n02268443": "dragonfly",
    "n02346627": "porcupine",
    "n02445715": "skunk",
    "n02509815": "red panda",
    "n02704792": "amphibious vehicle",
    "n02786058": "adhesive bandage",
    "n02808440": "bathtub",
    "n02892201": "plaque",
    "n02894605": "breakwater",
    "n02917067": "high-speed train",
    "n02966193": "carousel",
    "n03017168": "wind chime",
    "n03065424": "coil",
    "n03126707": "construction crane",
    "n03133878": "slow cooker",
    "n03188531": "diaper",
    "n03457902": "greenhouse",
    "n03461385": "grocery store",
    "n03494278": "harmonica",
    "n03584254": "mp3 player",
    "n03594734": "jeans",
    "n03594945": "off-road vehicle",
    "n03777568": "classic car",
    "n03791053": "motor scooter",
    "n03793489": "computer mouse",
    "n03825788": "baby bottle",
    "n03832673": "laptop",
    "n03840681": "ocarina",
    "n03895866": "passenger car",
    "n03947888": "pirate ship",
    "n03954731": "hand plane",
    "n03976467": "instant camera",
    "n03991062": "flowerpot",
    "n04116512": "eraser",
    "n04548362": "wallet",
    "n04550184": "wardrobe",
    "n07615774": "ice lolly",
    "n13133613": "ear of corn",
}
