"""Folders of tiny classifiers with random, seeded weights: the real classes, written the real way."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image

LABELS = ("tabby, tabby cat", "dog", "red kite", "lake")
TAGS = (
    ("general", 9),
    ("sensitive", 9),
    ("questionable", 9),
    ("explicit", 9),
    ("long_hair", 0),
    ("^_^", 0),
    ("alice_(wonderland)", 4),
)


def _lively(model: torch.nn.Module) -> Any:
    """Weights with which the output depends on the image; what normalises stays as it is."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name.lower() and parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def _transformers(folder: Path, kind: str, **config: Any) -> Path:
    named = {"id2label": dict(enumerate(LABELS)), "label2id": {label: n for n, label in enumerate(LABELS)}}
    model: Any
    processor: Any
    if kind == "vit":
        settings: Any = transformers.ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
            image_size=32, patch_size=8, **{**named, **config},
        )  # fmt: skip
        model = transformers.ViTForImageClassification(settings)
        processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    else:
        settings = transformers.ConvNextConfig(
            hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=2, **{**named, **config}
        )
        model = transformers.ConvNextForImageClassification(settings)
        processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875)
    _lively(model).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _timm(folder: Path, classes: int, **config: Any) -> Path:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=classes)
    data = {"input_size": (3, 64, 64), "crop_pct": config.pop("crop_pct", 0.875)}
    data |= {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic"}
    timm.models.save_for_hf(
        _lively(model), str(folder), model_config=config, data_config=data, safe_serialization=True
    )
    return folder


def write_tags(file: Path, rows: Any = TAGS, **columns: Any) -> None:
    with file.open("w", encoding="utf-8", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["tag_id", "name", "category", "count", *columns])
        for number, (name, category) in enumerate(rows):
            table.writerow([number, name, category, 10, *(values[number] for values in columns.values())])


def _onnx(folder: Path, *, sigmoid: bool = True, batch: int | str = "N") -> Path:
    """The mean of each channel of a 16 x 16 image, BGR in [0, 255], through one layer."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(3, len(TAGS))).astype(np.float32) / 40
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits" if sigmoid else "tags"]),
        *([helper.make_node("Sigmoid", ["logits"], ["tags"])] if sigmoid else []),
    ]
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 16, 16, 3])],
        [helper.make_tensor_value_info("tags", TensorProto.FLOAT, [batch, len(TAGS)])],
        [
            numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "axes"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    write_tags(folder / "selected_tags.csv")
    return folder


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """``make("vit", problem_type="...")``: a new folder with that tiny classifier."""
    kinds: dict[str, Callable[..., Path]] = {
        "vit": lambda folder, **config: _transformers(folder, "vit", **config),
        "convnext": lambda folder, **config: _transformers(folder, "convnext", **config),
        "timm": lambda folder, classes=4, **config: _timm(folder, classes, **config),
        "onnx": _onnx,
    }

    def made(kind: str, **config: Any) -> Path:
        if kind == "tagger":
            folder = _timm(tmp_path / "tagger", len(TAGS), crop_pct=1.0)
            write_tags(folder / "selected_tags.csv", **config)
            return folder
        return kinds[kind](tmp_path / kind, **config)

    return made


@pytest.fixture
def rewrite() -> Callable[..., None]:
    """Change config.json in a folder; None removes a key."""

    def rewritten(folder: Path, **changes: Any) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for name, value in changes.items():
            config.pop(name, None)
            if value is not None:
                config[name] = value
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    return rewritten


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    """Noise in several shapes: wide, high, one pixel, a strip, and grey."""
    random = np.random.default_rng(5)
    sizes = [(90, 61), (61, 90), (1, 1), (30_000, 100), (40, 40)]
    images = [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    images[-1] = images[-1].convert("L").convert("RGB")
    return images
