"""The recipe of the bundled mini models, in three parts that each save what the next one needs.

1. sentence: a static sentence encoder distilled from all-MiniLM-L6-v2.
2. encoder: an open_clip CLIP, its token vectors taken from part 1's teacher.
3. captioner: a BLIP, its vision tower first taught by part 2's image tower.

Deterministic by seed on one machine with one number of workers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    PreTrainedTokenizerFast,
)

from autotag.errors import ConfigError
from autotag.models.pool import ModelPool
from autotag.training.captioner import (
    CaptionPlan,
    CaptionTrainer,
    DistillationPlan,
    FeatureTeacher,
    VisionDistiller,
)
from autotag.training.data import CaptionedPhotos, LabelledPhotos, read_captioned, read_labelled
from autotag.training.encoder import (
    MEAN,
    STD,
    EncoderPlan,
    EncoderTrainer,
    ImageTowerPlan,
    ImageTowerTrainer,
    count_words,
)
from autotag.training.progress import OnStep, say_nothing
from autotag.training.sentence_encoder import distil_tokens, kept_tokens, train_sentence_encoder
from autotag.training.text_vocabulary import caption_tokenizer, contrastive_tokenizer, words_in
from autotag.training.workers import run_workers, worker

ENCODER_SIZE = 96
CAPTIONER_SIZE, CAPTIONER_PATCH = 128, 16
ENCODER_PLANS = (
    EncoderPlan(steps=1200, size=64, smallest_crop=0.55, jitter=0.2, seed=0),
    EncoderPlan(steps=1600, size=64, first_step=1200, seed=1),
    ImageTowerPlan(steps=2400, seed=3),
    ImageTowerPlan(steps=5200, size=96, small_steps=3400, seed=6),
    EncoderPlan(steps=1500, size=96, cycle_steps=1500, train_images=False, seed=7),
)
COMMON_TOKENS = 16_000
SENTENCE_TOKENS = 20_000


def read_data(folder: Path) -> tuple[CaptionedPhotos, LabelledPhotos]:
    """The training photographs of Flickr8k and Tiny ImageNet.

    Args:
        folder: holds ``flickr8k-train.parquet`` and ``tiny-imagenet-train-*.parquet``.

    Raises:
        ConfigError: they are not there.
    """
    flickr = folder / "flickr8k-train.parquet"
    tiny = sorted(folder.glob("tiny-imagenet-train-*.parquet"))
    if not flickr.is_file() or not tiny:
        missing = "tiny-imagenet-train-*.parquet" if flickr.is_file() else flickr.name
        raise ConfigError(f"no {missing} in {str(folder)!r}; docs/training.md says what the data is")
    return read_captioned(flickr, size=192), read_labelled(tiny, size=64)


def read_teacher(name: str) -> SentenceTransformer:
    """The sentence transformer of this hub name or folder, on the CPU.

    Raises:
        ModelUnavailableError: it is neither on this machine nor to be had.
        ModelLoadError: it is there but does not load.
    """
    extractor: Any = ModelPool(device="cpu").extractor(f"keybert:{name}")
    teacher: SentenceTransformer = extractor.model
    return teacher


def make_sentence_encoder(teacher: SentenceTransformer, output: Path) -> None:
    """Part 1: saves the static sentence encoder in half precision."""
    model = train_sentence_encoder(teacher, dimensions=128, most=SENTENCE_TOKENS)
    model.save_pretrained(str(output), create_model_card=False)
    _halve(output / "model.safetensors")


def make_encoder(
    teacher: SentenceTransformer,
    captioned: CaptionedPhotos,
    labelled: LabelledPhotos,
    output: Path,
    *,
    plans: Sequence[EncoderPlan | ImageTowerPlan],
    on_step: OnStep,
    workers: int,
) -> None:
    """Part 2: trains the CLIP and saves it as a folder that open_clip loads with ``local-dir:``."""
    tokens, vectors = _token_vectors(teacher, captioned, labelled)
    run_workers(workers, _train_encoder, tokens, vectors, captioned, labelled, output, plans, on_step)


def _train_encoder(  # noqa: PLR0917  (workers are handed positions)
    tokens: list[str],
    vectors: Tensor,
    captioned: CaptionedPhotos,
    labelled: LabelledPhotos,
    output: Path,
    plans: Sequence[EncoderPlan | ImageTowerPlan],
    on_step: OnStep,
) -> None:
    torch.manual_seed(plans[0].seed)
    tokenizer = contrastive_tokenizer(tokens)
    config = encoder_config(len(tokenizer), image_size=ENCODER_SIZE)
    model = open_clip.CLIP(**config).to(memory_format=torch.channels_last)
    with torch.no_grad():
        model.token_embedding.weight[3 : 3 + len(tokens)] = vectors / vectors.std() * 0.05
    model.token_embedding.weight.requires_grad_(False)
    for plan in plans:
        torch.manual_seed(plan.seed)
        if isinstance(plan, ImageTowerPlan):
            words = count_words(captioned, least=5)
            tower = ImageTowerTrainer(model.visual.trunk, captioned, labelled, words, plan)
            tower.run(_first_worker_only(on_step))
        else:
            trainer = EncoderTrainer(model, _padded(tokenizer), captioned, labelled, plan)
            trainer.run(_first_worker_only(on_step))
    if worker()[0] == 0:
        save_encoder(model, config, tokenizer, output)


def encoder_config(vocabulary: int, *, image_size: int) -> dict[str, object]:
    """The ``model_cfg`` of the CLIP: a convolutional image tower and a small causal text tower."""
    return {
        "embed_dim": 256,
        "vision_cfg": {
            "timm_model_name": "resnet10t",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": image_size,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": vocabulary,
            "width": 128,
            "heads": 4,
            "layers": 3,
            "hf_tokenizer_name": "clip-mini",
        },
    }


def save_encoder(
    model: open_clip.CLIP, config: dict[str, object], tokenizer: PreTrainedTokenizerFast, output: Path
) -> None:
    """Writes ``open_clip_config.json``, the weights in half precision, and the tokenizer."""
    output.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"}
    layout = {"model_cfg": config, "preprocess_cfg": preprocess}
    (output / "open_clip_config.json").write_text(json.dumps(layout, indent=2) + "\n", encoding="utf-8")
    save_file(_half(model.state_dict()), str(output / "open_clip_model.safetensors"))
    tokenizer.save_pretrained(str(output))


def make_captioner(
    encoder: Path,
    captioned: CaptionedPhotos,
    labelled: LabelledPhotos,
    output: Path,
    *,
    distillation: DistillationPlan,
    plan: CaptionPlan,
    on_step: OnStep,
    workers: int,
) -> None:
    """Part 3: trains the BLIP and saves it as a folder that transformers loads.

    Args:
        encoder: the folder that part 2 made.
        captioned: photographs with captions.
        labelled: photographs with classes.
        output: the folder to make.
        distillation: how it teaches the captioner's vision tower.
        plan: how the captioner learns captions.
        on_step: is told every step's losses.
        workers: processes to train in.

    Raises:
        ConfigError: part 2 has not been made in the folder ``encoder``.
    """
    if not (encoder / "open_clip_config.json").is_file():
        raise ConfigError(f"there is no encoder in {str(encoder)!r}; make the part 'encoder' first")
    plans = (distillation, plan)
    run_workers(workers, _train_captioner, encoder, captioned, labelled, output, plans, on_step)


def _train_captioner(  # noqa: PLR0917  (workers are handed positions)
    encoder: Path,
    captioned: CaptionedPhotos,
    labelled: LabelledPhotos,
    output: Path,
    plans: tuple[DistillationPlan, CaptionPlan],
    on_step: OnStep,
) -> None:
    distillation, plan = plans
    torch.manual_seed(plan.seed)
    told = _first_worker_only(on_step)
    tokenizer = caption_tokenizer((text for texts in captioned.captions for text in texts), least=4)
    model = BlipForConditionalGeneration(captioner_config(tokenizer))
    words = count_words(captioned, least=5)
    trunk = _trunk(encoder)
    teacher = FeatureTeacher(trunk, grid=CAPTIONER_SIZE // CAPTIONER_PATCH)
    distiller = VisionDistiller(model.vision_model, teacher, captioned, words, labelled, distillation)
    torch.manual_seed(1000 * plan.seed + worker()[0])  # each worker drops out other units
    distiller.run(told)
    CaptionTrainer(model, tokenizer, captioned, words, plan, to_words=distiller.to_words).run(told)
    if worker()[0] == 0:
        save_captioner(model, tokenizer, output)


def captioner_config(tokenizer: BertTokenizer) -> BlipConfig:
    """The configuration of the small BLIP for a tokenizer."""
    shape = {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 8}
    vision = {
        **shape,
        "num_hidden_layers": 6,
        "image_size": CAPTIONER_SIZE,
        "patch_size": CAPTIONER_PATCH,
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


def save_captioner(model: BlipForConditionalGeneration, tokenizer: BertTokenizer, output: Path) -> None:
    """Writes the weights in half precision and the processor."""
    vision: Any = model.config.vision_config
    side = {"height": vision.image_size, "width": vision.image_size}
    images = BlipImageProcessor(size=side, image_mean=list(MEAN), image_std=list(STD))
    model.half().save_pretrained(str(output))  # type: ignore[no-untyped-call]
    BlipProcessor(images, tokenizer).save_pretrained(str(output))  # type: ignore[no-untyped-call]
    model.float()  # type: ignore[no-untyped-call]


def _trunk(encoder: Path) -> nn.Module:
    """The convolutional network inside a saved CLIP."""
    trunk: nn.Module = open_clip.create_model(f"local-dir:{encoder}").visual.trunk
    return trunk.to(memory_format=torch.channels_last)


def _token_vectors(
    teacher: SentenceTransformer, captioned: CaptionedPhotos, labelled: LabelledPhotos
) -> tuple[list[str], Tensor]:
    """The commonest tokens and those that the training texts use, with (V, 128) vectors."""
    known = kept_tokens(teacher.tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True))
    vectors = distil_tokens(teacher, known, dimensions=128)
    used = words_in(text for texts in (*captioned.captions, *labelled.names) for text in texts)
    rows = [row for row, token in enumerate(known) if row < COMMON_TOKENS or token in used]
    return [known[row] for row in rows], vectors[rows]


def _padded(tokenizer: PreTrainedTokenizerFast) -> Callable[[list[str]], Tensor]:
    def tokenize(texts: list[str]) -> Tensor:
        batch = tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
        ids: Tensor = batch.input_ids
        return ids

    return tokenize


def _first_worker_only(on_step: OnStep) -> OnStep:
    return on_step if worker()[0] == 0 else say_nothing


def _half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in weights.items()
    }


def _halve(file: Path) -> None:
    save_file(_half(load_file(str(file))), str(file))
