"""Part 4 of the recipe of the mini models: a BLIP on the backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BertTokenizer, BlipConfig, BlipImageProcessor, BlipProcessor

from autotag.models.captioners.hybrid_blip import HybridBlip
from autotag.training import backbone
from autotag.training.backbone import imagenet_classes, read_backbone, without_classifier
from autotag.training.captioner import CaptionedInputs, CaptionPlan, CaptionTrainer
from autotag.training.checkpoints import Checkpoint
from autotag.training.features import Features
from autotag.training.image_head import class_shifts
from autotag.training.inputs import ChainedInputs, ClassMapInputs, Inputs, MapInputs
from autotag.training.label_captions import captions_of_name, captions_of_objects, captions_of_scene
from autotag.training.mini_photos import Photos
from autotag.training.progress import OnStep
from autotag.training.self_critical import SelfCriticalPlan, SelfCriticalTrainer
from autotag.training.text_vocabulary import caption_tokenizer
from autotag.training.words import count_words

_SHARES = {"flickr8k": 0.75, "coco": 0.12, "scenes": 0.03, "tiny-imagenet": 0.1}


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
    trained |= {trunk + name: weight for name, weight in without_classifier(network).items()}
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
