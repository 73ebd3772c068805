"""Tiny detectors with random, seeded weights, written as folders: the real classes, loaded the real way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

LABELS = ("person", "dog", "bicycle", "N/A", "kite")
SIDE = 64
BERT_SPECIALS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
"""The numbers that Grounding DINO has built in."""


def _named() -> dict[str, Any]:
    return {"id2label": dict(enumerate(LABELS)), "label2id": {label: n for n, label in enumerate(LABELS)}}


def _lively(model: torch.nn.Module, spread: float = 0.3) -> Any:
    """Heads and attention whose output depends on the image; what normalises stays as it is."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name.lower() and parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model.eval()


def _resnet() -> Any:
    return transformers.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )


def _rt_detr_parts() -> dict[str, Any]:
    return {
        "encoder_hidden_dim": 32,
        "encoder_in_channels": [16, 24, 32],
        "encoder_ffn_dim": 32,
        "encoder_attention_heads": 2,
        "encoder_layers": 1,
        "d_model": 32,
        "num_queries": 12,
        "decoder_in_channels": [32, 32, 32],
        "decoder_ffn_dim": 32,
        "decoder_layers": 2,
        "decoder_attention_heads": 2,
        "num_denoising": 0,
        "anchor_image_size": None,
        "eval_size": None,
    }


def _rt_detr_processor() -> Any:
    return transformers.RTDetrImageProcessor(size={"height": SIDE, "width": SIDE})


def rt_detr_v2(folder: Path) -> Path:
    config = transformers.RTDetrV2Config(backbone_config=_resnet(), **_rt_detr_parts(), **_named())
    return _saved(_lively(transformers.RTDetrV2ForObjectDetection(config)), _rt_detr_processor(), folder)


def d_fine(folder: Path) -> Path:
    backbone = transformers.HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 16, 24, 32],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[16, 24, 32, 32],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        hidden_sizes=[16, 24, 32, 32],
        depths=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )
    parts = {**_rt_detr_parts(), "encoder_in_channels": [24, 32, 32]}
    config = transformers.DFineConfig(backbone_config=backbone, **parts, **_named())
    return _saved(_lively(transformers.DFineForObjectDetection(config)), _rt_detr_processor(), folder)


def detr(folder: Path) -> Path:
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=32,
        num_queries=12,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        **_named(),
    )
    processor = transformers.DetrImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 2 * SIDE})
    return _saved(_lively(transformers.DetrForObjectDetection(config)), processor, folder)


def yolos(folder: Path) -> Path:
    config = transformers.YolosConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[SIDE, SIDE],
        patch_size=16,
        num_detection_tokens=12,
        **_named(),
    )
    processor = transformers.YolosImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 2 * SIDE})
    return _saved(_lively(transformers.YolosForObjectDetection(config)), processor, folder)


def owlv2(folder: Path) -> Path:
    return _owl(folder, "Owlv2")


def owlvit(folder: Path) -> Path:
    return _owl(folder, "OwlViT")


def _owl(folder: Path, family: str) -> Path:
    sentences = ["a photo of a dog", "a photo of a person on a bicycle", "a kite"]
    trained = transformers.CLIPTokenizer().train_new_from_iterator(sentences, vocab_size=300)
    merges = json.loads(trained.backend_tokenizer.to_str())["model"]["merges"]
    moved = {"<first>": 0, **{token: number + 1 for token, number in trained.get_vocab().items()}}
    tokenizer = transformers.CLIPTokenizer(vocab=moved, merges=[tuple(pair) for pair in merges])
    tokenizer.model_max_length = 16
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 16,
    }
    config = getattr(transformers, f"{family}Config")(
        text_config=text, vision_config=vision, projection_dim=32
    )
    image_processor = getattr(transformers, f"{family}ImageProcessor")(size={"height": SIDE, "width": SIDE})
    processor = getattr(transformers, f"{family}Processor")(image_processor, tokenizer)
    assert tokenizer.bos_token_id > 0, "a query that begins with token 0 counts as padding"
    return _saved(_lively(getattr(transformers, f"{family}ForObjectDetection")(config)), processor, folder)


def grounding_dino(folder: Path) -> Path:
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["dog", "red", "bicycle", "person", *letters, *(f"##{letter}" for letter in letters)]
    fillers = {f"[unused{number}]": number for number in range(1030)}
    taken = {**BERT_SPECIALS, **{word: 200 + number for number, word in enumerate(words)}}
    numbers = set(taken.values())
    vocabulary = {**{word: n for word, n in fillers.items() if n not in numbers}, **taken}
    tokenizer = transformers.BertTokenizer(vocab=vocabulary)
    text = transformers.BertConfig(
        vocab_size=1030,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    backbone = transformers.SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, image_size=SIDE,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.GroundingDinoConfig(
        text_config=text.to_dict(),
        backbone_config=backbone,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        d_model=32,
        num_queries=12,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_text_len=24,
        num_feature_levels=4,
    )
    processor = transformers.GroundingDinoProcessor(
        transformers.GroundingDinoImageProcessor(size={"shortest_edge": 2 * SIDE, "longest_edge": 4 * SIDE}),
        tokenizer,
    )
    return _saved(_lively(transformers.GroundingDinoForObjectDetection(config)), processor, folder)


def _saved(model: Any, processor: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
