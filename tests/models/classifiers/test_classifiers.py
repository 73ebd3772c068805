"""Classifiers of transformers, timm and ONNX: what the plain libraries find, and how each says what it is."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import transformers
from PIL import Image

import autotag
from autotag.config.fast_paths import FastPaths
from autotag.errors import AutotagError, ConfigError, ModelLoadError, ModelUnavailableError
from autotag.models.pool import ModelPool
from autotag.stages import ClassifyImages
from autotag.testing import check_classifier

LABELS = ("tabby, tabby cat", "dog", "red kite", "lake")
SINGLE, MULTI = "single_label_classification", "multi_label_classification"
Make = Callable[..., Path]
DATA: Any = timm.data


def loaded(name: object, *, views: bool = True) -> Any:
    paths = FastPaths() if views else FastPaths().without("views")
    return ModelPool(device="cpu", fast_paths=paths).classifier(str(name))


@pytest.mark.parametrize(("kind", "problem"), [("vit", SINGLE), ("vit", MULTI), ("convnext", SINGLE)])
@pytest.mark.parametrize("views", [True, False])
def test_transformers_probabilities_are_those_of_its_pipeline(
    make: Make, photos: list[Image.Image], kind: str, problem: str, views: bool
) -> None:
    folder = make(kind, problem_type=problem)
    classifier = loaded(folder, views=views)
    check_classifier(classifier)
    assert classifier.labels == LABELS
    assert classifier.exclusive == (problem == SINGLE)
    plain: Any = transformers.pipeline("image-classification", str(folder), device="cpu")
    usual = [photos[0], photos[1], photos[4]]
    for image, ours in zip(usual, classifier.classify(usual), strict=True):
        theirs = {row["label"]: row["score"] for row in plain(image, top_k=4)}
        assert dict(zip(LABELS, ours.tolist(), strict=True)) == pytest.approx(theirs, abs=5e-3)


def test_a_strip_and_a_pixel_are_classified(make: Make, photos: list[Image.Image]) -> None:
    for kind in ("vit", "timm"):
        found = loaded(make(kind, problem_type=SINGLE, **_names(kind))).classify(photos)
        assert found.shape == (5, 4)
        assert found.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-3)


def test_without_views_a_strip_is_cut_to_its_middle(make: Make) -> None:
    strip = Image.new("RGB", (1, 60_000), "red")
    strip.paste("blue", (0, 29_950, 1, 30_050))
    classifier = loaded(make("timm", problem_type=SINGLE, label_names=list(LABELS)), views=False)
    found = classifier.classify([strip, Image.new("RGB", (10, 10), "blue")])
    assert found[0] == pytest.approx(found[1], abs=0.02)


def _names(kind: str) -> dict[str, Any]:
    return {"label_names": list(LABELS)} if kind == "timm" else {}


@pytest.mark.parametrize("problem", [SINGLE, MULTI])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
def test_timm_probabilities_are_those_of_plain_timm(
    make: Make, photos: list[Image.Image], problem: str, crop_pct: float
) -> None:
    folder = make("timm", label_names=list(LABELS), problem_type=problem, crop_pct=crop_pct)
    classifier = loaded(f"timm:{folder}")
    check_classifier(classifier)
    assert classifier.view_id is not None
    assert classifier.labels == LABELS
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform: Any = DATA.create_transform(**DATA.resolve_data_config({}, model=model))
    usual = [photos[0], photos[1], photos[4]]
    with torch.inference_mode():
        logits = model(torch.stack([transform(image) for image in usual]))
    theirs = logits.softmax(-1) if problem == SINGLE else logits.sigmoid()
    assert classifier.classify(usual) == pytest.approx(theirs.numpy(), abs=5e-3)
    assert loaded(folder, views=False).classify(usual) == pytest.approx(theirs.numpy(), abs=1e-5)


def test_timm_labels_have_the_words_of_their_descriptions(make: Make) -> None:
    folder = make(
        "timm",
        label_names=["n1", "n2", "n3", "n4"],
        label_descriptions={"n1": "tabby, tabby cat", "n2": "dog", "n4": "lake"},
        problem_type=SINGLE,
    )
    assert loaded(folder).labels == ("tabby, tabby cat", "dog", "n3", "lake")


def test_a_model_with_the_classes_of_imagenet_has_their_words_and_softmax(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    classifier = loaded(make("timm", classes=1000))
    assert classifier.labels[281].startswith("tabby, tabby cat")
    assert classifier.exclusive
    assert "does not say" not in caplog.text


@pytest.mark.parametrize("views", [True, False])
def test_a_tagger_sees_blue_green_red_on_white(make: Make, photos: list[Image.Image], views: bool) -> None:
    folder = make("tagger")
    classifier = loaded(folder, views=views)
    check_classifier(classifier)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform: Any = DATA.create_transform(**DATA.resolve_data_config({}, model=model))
    usual = [photos[0], photos[1], photos[4]]
    square = [Image.new("RGB", (max(image.size),) * 2, "white") for image in usual]
    for white, image in zip(square, usual, strict=True):
        white.paste(image, ((white.width - image.width) // 2, (white.height - image.height) // 2))
    with torch.inference_mode():
        theirs = model(torch.stack([transform(image)[[2, 1, 0]] for image in square])).sigmoid().numpy()
    assert classifier.classify(usual) == pytest.approx(theirs, abs=0.02)


def test_a_tagger_has_categories_thresholds_and_readable_tags(make: Make) -> None:
    classifier = loaded(make("tagger"))
    assert classifier.labels[4:] == ("long hair", "^_^", "alice (wonderland)")
    assert classifier.categories == ("rating",) * 4 + ("general",) * 2 + ("character",)
    assert classifier.thresholds == (0.35,) * 6 + (0.85,)
    assert not classifier.exclusive


def test_a_table_with_thresholds_of_its_own_is_followed(make: Make) -> None:
    own = [0.5, 0.5, 0.5, 0.5, 0.21, 0.4, 0.6]
    assert loaded(make("tagger", best_threshold=own)).thresholds == tuple(own)


@pytest.mark.parametrize("batch", ["N", 2])
def test_an_onnx_tagger_sees_blue_green_red_from_0_to_255(
    make: Make, photos: list[Image.Image], batch: object
) -> None:
    folder = make("onnx", batch=batch)
    classifier = loaded(folder)
    check_classifier(classifier)
    assert classifier.labels[5] == "^_^"
    image = Image.new("RGB", (16, 16), (200, 40, 10))
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    pixels = np.full((2, 16, 16, 3), (10, 40, 200), dtype=np.float32)
    theirs = session.run(None, {"image": pixels[: 2 if batch == 2 else 1]})[0][0]
    assert classifier.classify([image])[0] == pytest.approx(theirs, abs=1e-5)
    assert classifier.classify(photos).shape == (5, 7)


def test_a_model_that_does_not_declare_its_head_gets_softmax_with_a_warning(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "autotag"):
        assert loaded(make("vit")).exclusive
    assert "does not say whether its labels exclude each other; softmax" in caplog.text
    assert "problem_type" in caplog.text


def test_a_network_for_regression_is_refused(make: Make) -> None:
    with pytest.raises(ModelLoadError, match="problem_type 'regression'.*single_label"):
        loaded(make("vit", problem_type="regression"))


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_generic_names_are_refused_and_a_file_of_labels_is_the_way_out(make: Make, kind: str) -> None:
    names = {"id2label": {n: f"LABEL_{n}" for n in range(4)}} if kind == "vit" else {}
    folder = make(kind, problem_type=SINGLE, **names)
    with pytest.raises(ModelLoadError, match=r"names no labels.*labels\.txt"):
        loaded(folder)
    (folder / "labels.txt").write_text("cat\ndog\ncat\nété\n\n", encoding="utf-8")
    assert loaded(folder).labels == ("cat", "dog", "cat", "été")


@pytest.mark.parametrize(
    ("lines", "message"),
    [("a\nb\nc\n", "class 3 has no label"), ("a\n\nc\nd\n", "class 1 has no"), ("a\nb\nc\nd\ne", "too many")],
)
def test_a_file_of_labels_that_does_not_fit_is_refused(make: Make, lines: str, message: str) -> None:
    folder = make("vit", problem_type=SINGLE)
    (folder / "labels.txt").write_text(lines, encoding="utf-8")
    with pytest.raises(ModelLoadError, match=message):
        loaded(folder)


def test_gaps_in_the_numbers_of_labels_are_refused(make: Make) -> None:
    folder = make("timm", label_names={"0": "cat", "1": "dog", "3": "lake"}, problem_type=SINGLE)
    with pytest.raises(ModelLoadError, match="class 2 has no label"):
        loaded(folder)


def written(folder: Path, **settings: object) -> None:
    """Write settings into a folder's configuration, as a person may do."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.mark.parametrize("names", [{"a": "cat", "b": "dog"}, {"0": "cat", "x": "dog"}, "cat", 5])
def test_names_that_are_not_numbered_are_refused(make: Make, names: object) -> None:
    folder = make("timm", problem_type=SINGLE)
    written(folder, label_names=names)
    with pytest.raises(ModelLoadError, match=r"config\.json numbers its classes in another way"):
        loaded(folder)


def test_descriptions_of_labels_that_are_not_a_table_are_refused(make: Make) -> None:
    folder = make("timm", label_names=list(LABELS), problem_type=SINGLE)
    written(folder, label_descriptions=list(LABELS))
    with pytest.raises(ModelLoadError, match="label_descriptions is not a table"):
        loaded(folder)


@pytest.mark.parametrize(
    "table",
    ["too short", "no category", "wrong threshold", "binary", "short row", "short first row", "long row"],
)
def test_a_table_of_tags_that_does_not_fit_is_refused(make: Make, table: str) -> None:
    folder = make("tagger")
    file = folder / "selected_tags.csv"
    lines = file.read_text(encoding="utf-8").splitlines()
    broken = {
        "too short": "\n".join(lines[:-2]).encode(),
        "no category": "\n".join(line.replace("category", "kind") for line in lines).encode(),
        "wrong threshold": "\n".join(
            [f"{lines[0]},best_threshold", *(f"{one},7" for one in lines[1:])]
        ).encode(),
        "short row": "\n".join([*lines[:-1], "7"]).encode(),
        "short first row": "\n".join([lines[0], "7", *lines[2:]]).encode(),
        "long row": "\n".join([*lines[:-1], f"{lines[-1]},a,b,c"]).encode(),
        "binary": b"name\xff\xfe\x00category",
    }[table]
    file.write_bytes(broken)
    with pytest.raises(ModelLoadError, match=r"selected_tags\.csv"):
        loaded(folder)


def test_timm_and_transformers_point_to_each_other(make: Make) -> None:
    with pytest.raises(ModelLoadError, match="write 'timm:"):
        loaded(f"hf:{make('timm', problem_type=SINGLE)}")
    with pytest.raises(ModelLoadError, match="a model of transformers is 'hf:"):
        loaded(f"timm:{make('vit', problem_type=SINGLE)}")


def test_weights_that_do_not_fit_are_refused(make: Make, rewrite: Callable[..., None]) -> None:
    folder = make("timm", label_names=list(LABELS), problem_type=SINGLE)
    rewrite(folder, architecture="test_vit")
    with pytest.raises(ModelLoadError, match="does not load in timm"):
        loaded(folder)
    rewrite(folder, architecture="no_such_network")
    with pytest.raises(ModelLoadError, match="no_such_network"):
        loaded(folder)


def test_other_networks_are_refused(make: Make, rewrite: Callable[..., None], tmp_path: Path) -> None:
    folder = make("vit", problem_type=SINGLE)
    rewrite(folder, model_type="blip")
    with pytest.raises(ModelLoadError, match="transformers has no image classifier"):
        loaded(folder)
    onnx_folder = make("onnx")
    (onnx_folder / "model.onnx").write_bytes(b"not a network")
    with pytest.raises(ModelLoadError, match="not an ONNX network"):
        loaded(onnx_folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelUnavailableError, match=r"neither config\.json nor model\.onnx"):
        loaded(tmp_path / "empty")
    with pytest.raises(AutotagError, match="there is no folder"):
        loaded("timm:./nowhere")


def test_an_onnx_tagger_without_a_sigmoid_is_refused(make: Make, photos: list[Image.Image]) -> None:
    with pytest.raises(ModelLoadError, match="not in \\[0, 1\\]"):
        loaded(make("onnx", sigmoid=False)).classify(photos)


def test_without_onnxruntime_the_error_says_what_to_install(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'autotag-images\[onnx\]'"):
        loaded(folder)


def test_ten_thousand_labels_and_doubled_ones(make: Make) -> None:
    labels = [f"thing {number // 2}" for number in range(10_000)]
    folder = make("timm", classes=10_000, label_names=labels, problem_type=SINGLE)
    stage = ClassifyImages(str(folder), threshold=0.0, top_k=5000)
    with autotag.Pipeline([stage]) as tagger:
        tags = tagger(Image.new("RGB", (30, 20), "red")).tags
    assert len(tags) == len({tag.text for tag in tags}) == 5000
    assert [tag.score for tag in tags] == sorted((tag.score for tag in tags), reverse=True)


def test_views_are_made_once_for_all_models_of_one_input(make: Make, photos: list[Image.Image]) -> None:
    folder = make("vit", problem_type=SINGLE)
    classifier = loaded(folder)
    assert classifier.view_id == "32x32-squash-bilinear"
    with autotag.Pipeline([ClassifyImages(str(folder), threshold=0.0)]) as tagger:
        results = list(tagger.stream(photos))
    assert [len(result.tags) for result in results] == [4] * 5
    assert {tag.text for tag in results[0].tags} == {"tabby", "dog", "red kite", "lake"}


@pytest.mark.slow
@pytest.mark.parametrize("views", [True, False])
@pytest.mark.parametrize("kind", ["vit", "tagger"])
def test_a_gpu_gives_what_a_cpu_gives(
    make: Make, photos: list[Image.Image], pretended_gpu: ModuleType, kind: str, views: bool
) -> None:
    folder = make(kind, **({"problem_type": SINGLE} if kind == "vit" else {}))
    paths = FastPaths() if views else FastPaths().without("views")
    expected = (
        ModelPool(device="cpu", dtype="float32", fast_paths=paths).classifier(str(folder)).classify(photos)
    )
    with pretended_gpu.pretended():
        there = ModelPool(device="cuda", dtype="float32", fast_paths=paths).classifier(str(folder))
        assert there.classify(photos) == pytest.approx(expected, abs=1e-5)
