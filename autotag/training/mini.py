"""The recipe of the bundled mini models, in four parts.

1. sentence: a static sentence encoder, distilled from all-MiniLM-L6-v2.
2. features: the features of every photograph by a backbone pretrained on ImageNet.
3. encoder: an open_clip CLIP on that backbone: train its head, its text tower, then both again.
4. captioner: a BLIP on the same backbone.

Intermediate results are kept in the work folder, so that a killed part resumes. On one machine, the result
depends only on the seeds. Parts 3 and 4 need part 2, but not each other.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import BertTokenizer, BlipConfig, BlipImageProcessor, BlipProcessor, PreTrainedTokenizerFast

from autotag.errors import ConfigError
from autotag.files.replacing import appearing
from autotag.models.captioners.hybrid_blip import HybridBlip
from autotag.models.pool import ModelPool
from autotag.relevance.unrelated_labels import unrelated_labels
from autotag.training import backbone
from autotag.training.averaging import average_states
from autotag.training.backbone import ImageNetClasses, imagenet_classes, imagenet_names, read_backbone
from autotag.training.blank import COLOUR_WORDS, blank_pictures
from autotag.training.captioner import CaptionedInputs, CaptionPlan, CaptionTrainer
from autotag.training.checkpoints import Checkpoint
from autotag.training.data import (
    CaptionedPhotos,
    LabelledPhotos,
    TaggedPhotos,
    read_captioned,
    read_labelled,
    read_tagged,
)
from autotag.training.encoder import embed_tokens
from autotag.training.features import Features, ViewPlan, make_features
from autotag.training.image_head import (
    Classes,
    HeadPlan,
    HeadTexts,
    ImageHeadTrainer,
    LabelledFeatures,
    NameShifts,
    Projection,
    TextMap,
    class_shifts,
    start_head,
)
from autotag.training.inputs import ChainedInputs, ClassMapInputs, Inputs, MapInputs
from autotag.training.label_captions import captions_of_name, captions_of_objects, captions_of_scene
from autotag.training.progress import OnStep, say_nothing
from autotag.training.self_critical import SelfCriticalPlan, SelfCriticalTrainer
from autotag.training.sentence_encoder import distil_tokens, kept_tokens, train_sentence_encoder
from autotag.training.text_tower import TextPlan, TextTargets, TextTowerTrainer
from autotag.training.text_vocabulary import caption_tokenizer, contrastive_tokenizer, words_in
from autotag.training.words import count_words
from autotag.vocabularies.templates import PHOTO, filled
from autotag.vocabularies.vocabulary import BUNDLED, Vocabulary

COMMON_TOKENS = 16_000
SENTENCE_TOKENS = 20_000
DIMENSIONS = 512
TINY_PHOTOS = 10_000
BLANK_PICTURES = 400
LEAST_WORDS = 10
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


@dataclass(frozen=True)
class EncoderPlans:
    """Hyperparameters of the encoder's phases.

    Attributes:
        head: first phase, for the image head and the map of texts.
        text: second phase, for the text tower.
        last: third phase, for the image head again and the projection of the text tower, on its vectors. It
            is run twice from the same weights; the second time a name may move away from its vector.
        names: fourth phase, after that second time, for the text tower, which learns the moved names.
        moved_share: share of the weights with moved names in the final average, from 0 to 1.
    """

    head: HeadPlan = field(default_factory=HeadPlan)
    text: TextPlan = field(default_factory=TextPlan)
    last: HeadPlan = field(
        default_factory=lambda: HeadPlan(steps=500, learning_rate=5e-4, class_weight=6.0, seed=6)
    )
    names: TextPlan = field(
        default_factory=lambda: TextPlan(
            steps=900, learning_rate=1e-3, names_share=0.6, others_share=0.25, seed=4
        )
    )
    moved_share: float = 0.4


@dataclass(frozen=True)
class CaptionerPlans:
    """Hyperparameters of the captioner's two phases.

    Attributes:
        captions: first phase, on human captions and captions made from labels and class names.
        scores: second phase, on the scores of its own captions.
        class_share: share of synthetic feature maps among the photographs.
    """

    captions: CaptionPlan = field(default_factory=CaptionPlan)
    scores: SelfCriticalPlan = field(default_factory=SelfCriticalPlan)
    class_share: float = 0.1


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


def read_teacher(name: str) -> SentenceTransformer:
    """Return the sentence transformer of this hub name or folder, on the CPU.

    Raises:
        ModelUnavailableError: it is not on this machine and cannot be downloaded.
        ModelLoadError: its files do not load.
    """
    extractor: Any = ModelPool(device="cpu").extractor(f"keybert:{name}")
    teacher: SentenceTransformer = extractor.model
    return teacher


def make_sentence_encoder(teacher: SentenceTransformer, output: Path) -> None:
    """Run part 1: train the static sentence encoder and save it in half precision."""
    model = train_sentence_encoder(teacher, dimensions=128, most=SENTENCE_TOKENS)
    model.save_pretrained(str(output), create_model_card=False)
    save_file(_half(load_file(str(output / "model.safetensors"))), str(output / "model.safetensors"))


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


def make_encoder(
    teacher: SentenceTransformer,
    photos: Photos,
    features: dict[str, Features],
    work: Path,
    output: Path,
    *,
    plans: EncoderPlans,
    on_step: Callable[[str], OnStep],
) -> None:
    """Run part 3: train the CLIP and save it as a folder that open_clip loads with ``local-dir:``.

    Args:
        teacher: a sentence transformer.
        photos: the training photographs.
        features: their features, from part 2.
        work: folder for checkpoints and vectors of texts.
        output: the folder to write.
        plans: hyperparameters.
        on_step: phase name -> function that is called with the losses after each step of that phase.
    """
    things = Vocabulary.bundled("things")
    classes = imagenet_classes()
    network = read_backbone()
    names = _names(photos, things, classes)
    flat = [caption for texts in photos.flickr.captions for caption in texts]
    vectors = _teacher_vectors(teacher, names, work / "texts")
    texts = HeadTexts(vectors, _teacher_vectors(teacher, flat, work / "texts").half())
    row = {name: number for number, name in enumerate(names)}
    known = _known_classes(network, classes, things, row)
    sets = [*_labelled_sets(photos, features, things, row), _blank_set(work, names, row)]

    tokens, token_vectors = _token_vectors(teacher, [*names, *flat])
    tokenizer = contrastive_tokenizer(tokens)
    config = encoder_config(len(tokenizer))
    torch.manual_seed(plans.head.seed)
    model = open_clip.CLIP(**config)
    with torch.no_grad():
        model.token_embedding.weight[3 : 3 + len(tokens)] = token_vectors / token_vectors.std() * 0.05
    model.visual.trunk.load_state_dict(_without_classifier(network))
    head = model.visual.head
    text_map = TextMap(vectors.shape[1], DIMENSIONS)
    first_names = [each[0] for each in known.names]
    start_head(head.mlp, known, text_map(vectors[first_names]).detach())
    trainer = ImageHeadTrainer(
        head, text_map, sets, known, texts, plans.head, Checkpoint(work / "encoder-head.pt")
    )
    trainer.run(on_step("encoder head"))

    asked_for = sorted({*names, *_other_texts(things)})
    nouns = sorted({*_nouns()} - set(asked_for))
    with torch.no_grad():
        named, others = (
            TextTargets(each, text_map(_teacher_vectors(teacher, each, work / "texts")))
            for each in (asked_for, nouns)
        )
        sentences = TextTargets(flat, text_map(texts.captions.float()))
    tokenize = _padded(tokenizer)
    checkpoint = Checkpoint(work / "encoder-text.pt")
    TextTowerTrainer(model, tokenize, named, others, sentences, plans.text, checkpoint).run(
        on_step("encoder text")
    )

    known_texts = sorted({*asked_for, *nouns})
    material = _LastMaterial(
        sets, known, names, flat, known_texts, tokenize, trainer.scales.state_dict(), work, plans, on_step
    )
    before = copy.deepcopy(model.state_dict())
    _run_last(model, material, "last", None)
    unmoved = copy.deepcopy(model.state_dict())
    model.load_state_dict(before)
    _run_last(model, material, "moved", NameShifts(len(names), DIMENSIONS))
    model.load_state_dict(average_states(unmoved, model.state_dict(), plans.moved_share))
    save_encoder(model, config, tokenizer, output)


@dataclass(frozen=True)
class _LastMaterial:
    """Hold what the last phases of the encoder need; ``texts`` has all names and nouns."""

    sets: Sequence[LabelledFeatures]
    known: Classes
    names: list[str]
    captions: list[str]
    texts: list[str]
    tokenize: Callable[[list[str]], Tensor]
    scales: dict[str, Tensor]
    work: Path
    plans: EncoderPlans
    on_step: Callable[[str], OnStep]


def _run_last(model: open_clip.CLIP, material: _LastMaterial, phase: str, shifts: NameShifts | None) -> None:
    """Train the head again, on the text tower's vectors; with ``shifts`` then the tower on moved names."""
    names, tokenize = material.names, material.tokenize
    asked = [filled(PHOTO, name) for name in names]
    captions = _tower_vectors(model, tokenize, material.captions)
    projection = Projection(DIMENSIONS)
    last = ImageHeadTrainer(
        model.visual.head,
        projection,
        material.sets,
        material.known,
        HeadTexts(_tower_vectors(model, tokenize, asked), captions.half()),
        material.plans.last,
        Checkpoint(material.work / f"encoder-{phase}.pt"),
        shifts,
    )
    last.scales.load_state_dict(material.scales)
    last.run(material.on_step(f"encoder {phase}"))

    if shifts is not None:
        taught = _taught_names(material.sets, material.known)
        rest = sorted({*material.texts}.difference(names[number] for number in taught))
        often = [
            *sorted(taught),
            *material.sets[0].labels.tolist() * 8,
            *(each[0] for each in material.known.names),
        ]
        placed = _tower_vectors(model, tokenize, [filled(PHOTO, name) for name in rest])
        with torch.no_grad():
            named = TextTargets([names[number] for number in often], last.name_vectors()[often])
            others = TextTargets(rest, projection(placed))
            sentences = TextTargets(material.captions, projection(captions.float()))
    with torch.no_grad():
        model.text_projection.copy_(model.text_projection @ projection.turn.weight.T)
    if shifts is not None:
        checkpoint = Checkpoint(material.work / "encoder-names.pt")
        TextTowerTrainer(model, tokenize, named, others, sentences, material.plans.names, checkpoint).run(
            material.on_step("encoder names")
        )


def _taught_names(sets: Sequence[LabelledFeatures], known: Classes) -> set[int]:
    """Return the rows of all names that photographs or the classifier teach."""
    taught = {number for each in known.names for number in each} | set(known.broader.tolist())
    return taught | {number for each in sets for number in each.labels.tolist()}


def encoder_config(vocabulary: int) -> dict[str, object]:
    """Return the CLIP's ``model_cfg``: the backbone with a head, and a small causal text tower."""
    return {
        "embed_dim": DIMENSIONS,
        "vision_cfg": {
            "timm_model_name": backbone.NAME,
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "mlp",
            "image_size": backbone.SIZE,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": vocabulary,
            "width": 256,
            "heads": 4,
            "layers": 3,
            "hf_tokenizer_name": "clip-mini",
        },
    }


def save_encoder(
    model: open_clip.CLIP,
    config: dict[str, object],
    tokenizer: PreTrainedTokenizerFast,
    output: Path,
    *,
    mean: tuple[float, ...] = backbone.MEAN,
    std: tuple[float, ...] = backbone.STD,
) -> None:
    """Write ``open_clip_config.json``, the weights in half precision, and the tokenizer.

    Args:
        model: the CLIP.
        config: its ``model_cfg``.
        tokenizer: its tokenizer.
        output: the folder to write.
        mean: per channel, for normalising pixels in [0, 1].
        std: per channel, for the same.
    """
    output.mkdir(parents=True, exist_ok=True)
    preprocess = {
        "mean": mean,
        "std": std,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    layout = {"model_cfg": config, "preprocess_cfg": preprocess}
    (output / "open_clip_config.json").write_text(json.dumps(layout, indent=2) + "\n", encoding="utf-8")
    save_file(_half(model.state_dict()), str(output / "open_clip_model.safetensors"))
    tokenizer.save_pretrained(str(output))


def make_captioner(
    photos: Photos,
    features: dict[str, Features],
    work: Path,
    output: Path,
    *,
    plans: CaptionerPlans,
    on_step: Callable[[str], OnStep],
) -> None:
    """Run part 4: train the BLIP and save it as a folder that autotag loads.

    Args:
        photos: the training photographs.
        features: their features, from part 2.
        work: folder for checkpoints.
        output: the folder to write.
        plans: hyperparameters.
        on_step: phase name -> function that is called with the losses after each step of that phase.
    """
    network = read_backbone()
    said = _all_captions(photos)
    tokenizer = caption_tokenizer(
        (text for texts in photos.flickr.captions for text in texts),
        least=4,
        besides=(
            text for name, texts in said.items() if name != "flickr8k" for each in texts for text in each
        ),
    )
    torch.manual_seed(plans.captions.seed)
    model = HybridBlip(captioner_config(tokenizer))
    model.vision_model.embeddings.patch_embedding.trunk = nn.Identity()  # the inputs are feature maps
    taught = _taught(said, features, network, plans.class_share)
    flickr = CaptionedInputs(MapInputs(features["flickr8k"].maps), photos.flickr.captions)
    CaptionTrainer(
        model,
        tokenizer,
        taught,
        count_words(taught.captions, least=8),
        plans.captions,
        Checkpoint(work / "captioner-captions.pt"),
    ).run(on_step("captioner captions"))
    SelfCriticalTrainer(
        model, tokenizer, flickr, taught, plans.scores, Checkpoint(work / "captioner-scores.pt")
    ).run(on_step("captioner scores"))
    whole = HybridBlip(captioner_config(tokenizer))
    trained = {**whole.state_dict(), **model.state_dict()}
    trunk = "vision_model.embeddings.patch_embedding.trunk."
    trained |= {trunk + name: weight for name, weight in _without_classifier(network).items()}
    whole.load_state_dict(trained)
    save_captioner(whole, tokenizer, output)


def captioner_config(tokenizer: BertTokenizer) -> BlipConfig:
    """Return the configuration of the small BLIP for a tokenizer."""
    shape = {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 8}
    vision = {
        **shape,
        "num_hidden_layers": 1,
        "image_size": backbone.SIZE,
        "patch_size": backbone.SIZE // backbone.GRID,
        "backbone": backbone.NAME,
        "initializer_range": 0.02,
    }
    text = {
        **shape,
        "num_hidden_layers": 3,
        "encoder_hidden_size": 256,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return BlipConfig(vision_config=vision, text_config=text, projection_dim=256, image_text_hidden_size=256)


def save_captioner(model: HybridBlip, tokenizer: BertTokenizer, output: Path) -> None:
    """Write the weights, in half precision, and the processor."""
    side = {"height": backbone.SIZE, "width": backbone.SIZE}
    images = BlipImageProcessor(size=side, image_mean=list(backbone.MEAN), image_std=list(backbone.STD))
    model.half().save_pretrained(str(output))  # type: ignore[no-untyped-call]
    BlipProcessor(images, tokenizer).save_pretrained(str(output))  # type: ignore[no-untyped-call]
    model.float()  # type: ignore[no-untyped-call]


def _names(photos: Photos, things: Vocabulary, classes: ImageNetClasses) -> list[str]:
    """Return the names to train the head on: classes, broader terms, objects, scenes, caption words."""
    words = count_words(photos.flickr.captions, least=LEAST_WORDS).words
    of_classes = (name for names in _class_names(classes, things) for name in names)
    broader = (*_classes_below(classes, things), *_labels_below(photos.coco.labels, things))
    return sorted({*of_classes, *broader, *photos.coco.labels, *photos.scenes.labels, *words})


def _known_classes(
    network: nn.Module, classes: ImageNetClasses, things: Vocabulary, row: dict[str, int]
) -> Classes:
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


def _labels_below(labels: list[str], things: Vocabulary) -> dict[str, set[int]]:
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
_FEWEST_CLASSES = 3
_FEWEST_OBJECTS = 3
_SAY_LITTLE = {"object", "place", "activity", "event", "nature", "body"}


def _labelled_sets(
    photos: Photos, features: dict[str, Features], things: Vocabulary, row: dict[str, int]
) -> list[LabelledFeatures]:
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
    terms = _labels_below(photos.labels, things)
    broader = [photos.present[:, sorted(numbers)].any(dim=1, keepdim=True) for numbers in terms.values()]
    present = torch.cat([photos.present, *broader], dim=1).to(torch.uint8)
    rows = torch.tensor([row[name] for name in [*photos.labels, *terms]])
    return LabelledFeatures(features.pooled, rows, present, weight)


def _blank_set(work: Path, names: list[str], row: dict[str, int]) -> LabelledFeatures:
    """Return pictures that show nothing, with all names except colours as absent labels."""
    pictures = blank_pictures(BLANK_PICTURES, size=backbone.SIZE, seed=0)
    features = make_features("blank", pictures, ViewPlan(1), work / "features", workers=1)
    wrong = [row[name] for name in names if not COLOUR_WORDS & set(name.split())]
    present = torch.zeros(len(pictures), len(wrong), dtype=torch.uint8)
    return LabelledFeatures(features.pooled, torch.tensor(wrong), present, weight=0.1, classes_count=False)


def _nouns() -> list[str]:
    """Return English nouns in addition to the trained names: the lemmas of all synsets of ImageNet."""
    return sorted({name for names in imagenet_names().values() for name in names})


def _other_texts(things: Vocabulary) -> list[str]:
    """Return things, labels of other vocabularies, and the baseline labels of standardised scores."""
    labels = (label for name in BUNDLED if name != "things" for label in Vocabulary.bundled(name).labels)
    return [*(name for label in things for name in things.names(label)), *labels, *unrelated_labels()]


def _teacher_vectors(teacher: SentenceTransformer, texts: Sequence[str], folder: Path) -> Tensor:
    """Embed texts by the teacher: (T, E) float32 unit rows; cached in the folder by a hash of the texts."""
    file = folder / f"{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]}.npy"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        encoded = teacher.encode(
            list(texts), batch_size=256, show_progress_bar=False, normalize_embeddings=True
        )
        with appearing(file) as stream:
            np.save(stream, np.asarray(encoded, dtype=np.float16))
    return torch.from_numpy(np.load(file)).float()


@torch.no_grad()
def _tower_vectors(
    model: open_clip.CLIP, tokenize: Callable[[list[str]], Tensor], texts: list[str]
) -> Tensor:
    """Embed texts by the trained text tower: (T, D) float32 unit rows."""
    batches = [texts[at : at + 1024] for at in range(0, len(texts), 1024)]
    return torch.cat([embed_tokens(model, tokenize(batch)) for batch in batches])


def _token_vectors(teacher: SentenceTransformer, texts: Iterable[str]) -> tuple[list[str], Tensor]:
    """Return the most common tokens and those of the training texts, with their vectors (V, 256)."""
    known = kept_tokens(teacher.tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True))
    vectors = distil_tokens(teacher, known, dimensions=256)
    used = words_in(texts)
    rows = [row for row, token in enumerate(known) if row < COMMON_TOKENS or token in used]
    return [known[row] for row in rows], vectors[rows]


def _all_captions(photos: Photos) -> dict[str, list[list[str]]]:
    """Return the captions of each photograph, by set, and of each class of ImageNet.

    Photographs of COCO that show people get none: the captions of Flickr8k describe people much better.
    """
    objects = [
        [label for label, there in zip(photos.coco.labels, row, strict=True) if there]
        for row in photos.coco.present.tolist()
    ]
    scenes = photos.scenes.present.int().argmax(dim=1).tolist()
    return {
        "flickr8k": photos.flickr.captions,
        "coco": [
            captions_of_objects(labels, count=3, seed=number) if labels and "person" not in labels else []
            for number, labels in enumerate(objects)
        ],
        "scenes": [captions_of_scene(photos.scenes.labels[number]) for number in scenes],
        "tiny-imagenet": [
            captions_of_name(photos.tiny.names[number][0].lower()) for number in photos.tiny.classes.tolist()
        ],
        "classes": [captions_of_name(names[0].lower()) for names in imagenet_classes().names],
    }


_SHARES = {"flickr8k": 0.75, "coco": 0.12, "scenes": 0.03, "tiny-imagenet": 0.1}


def _taught(
    said: dict[str, list[list[str]]], features: dict[str, Features], network: nn.Module, class_share: float
) -> CaptionedInputs:
    """Return the inputs of the first phase: all photographs and synthetic class maps, weighted by set."""
    shares = {name: share * (1 - class_share) for name, share in _SHARES.items()}
    parts: list[Inputs] = [MapInputs(features[name].maps) for name in shares]
    classifier: Any = network.classifier
    mean, shifts = class_shifts(_sample(features), classifier.weight)
    parts.append(ClassMapInputs(features["coco"].maps, mean, shifts))
    shares["classes"] = class_share
    weights = [torch.tensor([float(bool(texts)) for texts in said[name]]) for name in shares]
    drawn = [share * each / each.sum() for share, each in zip(shares.values(), weights, strict=True)]
    captions = [texts or ["nothing"] for name in shares for texts in said[name]]
    return CaptionedInputs(ChainedInputs(parts), captions, torch.cat(drawn))


def _sample(features: dict[str, Features]) -> Tensor:
    """Return features of whole photographs from all sets, (N, F) float32."""
    whole: list[NDArray[np.float16]] = [each.pooled[:2500, 0] for each in features.values()]
    return torch.from_numpy(np.concatenate(whole)).float()


def _without_classifier(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: weight for name, weight in network.state_dict().items() if not name.startswith("classifier.")
    }


def _padded(tokenizer: PreTrainedTokenizerFast) -> Callable[[list[str]], Tensor]:
    def tokenize(texts: list[str]) -> Tensor:
        batch = tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
        ids: Tensor = batch.input_ids
        return ids

    return tokenize


def _half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in weights.items()
    }
