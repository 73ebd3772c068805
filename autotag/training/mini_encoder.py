"""Part 3 of the recipe of the mini models: an open_clip CLIP on the backbone."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from autotag.training import backbone
from autotag.training.averaging import average_states
from autotag.training.backbone import imagenet_classes, read_backbone, without_classifier
from autotag.training.checkpoints import Checkpoint
from autotag.training.encoder import embed_tokens
from autotag.training.features import Features
from autotag.training.image_head import (
    Classes,
    HeadPlan,
    HeadTexts,
    ImageHeadTrainer,
    LabelledFeatures,
    NameShifts,
    Projection,
    TextMap,
    start_head,
)
from autotag.training.mini_labels import blank_set, labelled_sets
from autotag.training.mini_names import imagenet_nouns, known_classes, other_texts, training_names
from autotag.training.mini_photos import Photos
from autotag.training.mini_teacher import teacher_vectors, vectors_of_tokens
from autotag.training.precision import in_half_precision
from autotag.training.progress import OnStep
from autotag.training.text_tower import TextPlan, TextTargets, TextTowerTrainer
from autotag.training.text_vocabulary import contrastive_tokenizer
from autotag.vocabularies.templates import PHOTO, filled
from autotag.vocabularies.vocabulary import Vocabulary

DIMENSIONS = 512


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
    names = training_names(photos, things, classes)
    flat = [caption for texts in photos.flickr.captions for caption in texts]
    vectors = teacher_vectors(teacher, names, work / "texts")
    texts = HeadTexts(vectors, teacher_vectors(teacher, flat, work / "texts").half())
    row = {name: number for number, name in enumerate(names)}
    known = known_classes(network, classes, things, row)
    sets = [*labelled_sets(photos, features, things, row), blank_set(work, names, row)]

    tokens, token_vectors = vectors_of_tokens(teacher, [*names, *flat])
    tokenizer = contrastive_tokenizer(tokens)
    config = encoder_config(len(tokenizer))
    torch.manual_seed(plans.head.seed)
    model = open_clip.CLIP(**config)
    with torch.no_grad():
        model.token_embedding.weight[3 : 3 + len(tokens)] = token_vectors / token_vectors.std() * 0.05
    model.visual.trunk.load_state_dict(without_classifier(network))
    head = model.visual.head
    text_map = TextMap(vectors.shape[1], DIMENSIONS)
    first_names = [each[0] for each in known.names]
    start_head(head.mlp, known, text_map(vectors[first_names]).detach())
    trainer = ImageHeadTrainer(
        head, text_map, sets, known, texts, plans.head, Checkpoint(work / "encoder-head.pt")
    )
    trainer.run(on_step("encoder head"))

    asked_for = sorted({*names, *other_texts(things)})
    nouns = sorted({*imagenet_nouns()} - set(asked_for))
    with torch.no_grad():
        named, others = (
            TextTargets(each, text_map(teacher_vectors(teacher, each, work / "texts")))
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
    save_file(in_half_precision(model.state_dict()), str(output / "open_clip_model.safetensors"))
    tokenizer.save_pretrained(str(output))


@torch.no_grad()
def _tower_vectors(
    model: open_clip.CLIP, tokenize: Callable[[list[str]], Tensor], texts: list[str]
) -> Tensor:
    """Embed texts by the trained text tower: (T, D) float32 unit rows."""
    batches = [texts[at : at + 1024] for at in range(0, len(texts), 1024)]
    return torch.cat([embed_tokens(model, tokenize(batch)) for batch in batches])


def _padded(tokenizer: PreTrainedTokenizerFast) -> Callable[[list[str]], Tensor]:
    def tokenize(texts: list[str]) -> Tensor:
        batch = tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
        ids: Tensor = batch.input_ids
        return ids

    return tokenize
