"""Detectors of transformers: what plain transformers finds, in one batch, on images of any shape."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import autotag
from autotag.config.fast_paths import FastPaths
from autotag.errors import ConfigError, ModelLoadError
from autotag.models.pool import ModelPool
from autotag.protocols import FindsLabels, HasLabels, ViewsImages
from autotag.stages import DetectObjects
from autotag.testing import check_detector

CLOSED = ["rt_detr_v2", "d_fine", "detr", "yolos"]
SQUARE = ["rt_detr_v2", "d_fine"]
OPEN = ["owlv2", "owlvit", "grounding_dino"]
LABELS = ("dog", "red bicycle", "person")


@pytest.fixture(scope="module")
def detector(detector_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    pool = ModelPool(device="cpu")
    return lambda family: pool.detector(str(detector_folder(family)))


def any_found(detector: Any, images: list[Image.Image]) -> list[list[Any]]:
    if isinstance(detector, FindsLabels):
        return detector.detect_labels(images, LABELS)
    found: list[list[Any]] = detector.detect(images)
    return found


@pytest.mark.parametrize("family", CLOSED)
def test_a_closed_detector_fits_the_protocol_and_names_its_labels(
    detector: Callable[[str], Any], family: str
) -> None:
    check_detector(detector(family))
    assert isinstance(detector(family), HasLabels)
    assert detector(family).labels == ("person", "dog", "bicycle", "kite")


@pytest.mark.parametrize("family", OPEN)
def test_an_open_detector_fits_the_protocol(detector: Callable[[str], Any], family: str) -> None:
    check_detector(detector(family))
    with pytest.raises(ConfigError, match="name it: labels"):
        detector(family).detect([Image.new("RGB", (20, 20))])


@pytest.mark.parametrize("family", CLOSED)
def test_boxes_are_those_of_plain_transformers(
    detector: Callable[[str], Any],
    detector_folder: Callable[[str], Path],
    images: list[Image.Image],
    family: str,
) -> None:
    folder = detector_folder(family)
    model: Any = transformers.AutoModelForObjectDetection.from_pretrained(folder, dtype=torch.float32).eval()
    processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)
    for image, ours in zip(images, detector(family).detect(images), strict=True):
        with torch.inference_mode():
            outputs = model(**processor(images=image, return_tensors="pt"))
        theirs = processor.post_process_object_detection(
            outputs, threshold=0.05, target_sizes=[(image.height, image.width)]
        )[0]
        wide, high = image.size
        plain = [
            (model.config.id2label[label], score, [min(max(x, 0), wide), min(max(y, 0), high),
             min(max(u, 0), wide), min(max(v, 0), high)])
            for label, score, (x, y, u, v) in zip(
                theirs["labels"].tolist(), theirs["scores"].tolist(), theirs["boxes"].tolist(), strict=True
            )
        ]  # fmt: skip
        plain = [row for row in plain if row[0] != "N/A" and row[2][2] > row[2][0] and row[2][3] > row[2][1]]
        plain.sort(key=lambda row: -row[1])
        assert [one.label for one in ours] == [label for label, _, _ in plain]
        np.testing.assert_allclose([one.score for one in ours], [score for _, score, _ in plain], atol=0.02)
        if ours:
            np.testing.assert_allclose([one.box for one in ours], [box for _, _, box in plain], atol=1.5)


@pytest.mark.parametrize("family", [*CLOSED, *OPEN])
def test_an_image_has_the_same_boxes_in_a_batch_and_alone(
    detector: Callable[[str], Any], images: list[Image.Image], family: str
) -> None:
    together = any_found(detector(family), images)
    assert sum(map(len, together)) > 0
    alone = [any_found(detector(family), [image])[0] for image in images]
    for one, other in zip(together, alone, strict=True):
        assert [found.label for found in one] == [found.label for found in other]
        if one:
            np.testing.assert_allclose([f.box for f in one], [f.box for f in other], atol=0.05)


@pytest.mark.parametrize("family", SQUARE)
def test_views_give_the_boxes_of_images_in_pixels_of_the_original(
    detector: Callable[[str], Any], images: list[Image.Image], family: str
) -> None:
    one = detector(family)
    assert isinstance(one, ViewsImages)
    views = [one.view(image) for image in images]
    sizes = [(3 * image.width, 3 * image.height) for image in images]
    for found, plain in zip(one.detect_views(views, sizes), one.detect(images), strict=True):
        np.testing.assert_allclose([f.box for f in found], [np.multiply(p.box, 3) for p in plain], rtol=1e-5)


def test_the_processor_itself_is_used_when_views_are_switched_off(
    detector: Callable[[str], Any], detector_folder: Callable[[str], Path], images: list[Image.Image]
) -> None:
    plain: Any = ModelPool(device="cpu", fast_paths=FastPaths(views=False)).detector(
        str(detector_folder("d_fine"))
    )
    assert plain.view_id is None
    for one, other in zip(plain.detect(images), detector("d_fine").detect(images), strict=True):
        assert [found.label for found in one] == [found.label for found in other]
        np.testing.assert_allclose([f.score for f in one], [f.score for f in other], atol=0.02)


@pytest.mark.parametrize("family", [*CLOSED, *OPEN])
@pytest.mark.parametrize("size", [(1, 1), (30_000, 100), (100, 30_000)])
def test_boxes_of_images_of_any_shape_are_inside_them(
    detector: Callable[[str], Any], images: list[Image.Image], family: str, size: tuple[int, int]
) -> None:
    image = images[0].resize(size)
    for found in any_found(detector(family), [image])[0]:
        left, top, right, bottom = found.box
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]


@pytest.mark.parametrize("family", ["owlv2", "owlvit"])
def test_owl_scores_are_those_of_plain_transformers(
    detector_folder: Callable[[str], Path], images: list[Image.Image], family: str
) -> None:
    from autotag.models.detectors.owl_detector import OwlDetector

    folder = detector_folder(family)
    model: Any = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder, dtype=torch.float32)
    processor: Any = transformers.AutoProcessor.from_pretrained(folder)
    ours = OwlDetector(model.eval(), processor, name="owl", overlap=1.0)
    texts = [[f"a photo of a {label}" for label in LABELS]]
    for image in images:
        inputs = processor(images=image, text=texts, padding="max_length", return_tensors="pt")
        with torch.inference_mode():
            outputs = model(**inputs)
        plain = processor.post_process_grounded_object_detection(
            outputs, threshold=0.05, target_sizes=[(image.height, image.width)], text_labels=[list(LABELS)]
        )[0]
        found = ours.detect_labels([image], LABELS)[0]
        inside = [
            (label, score, np.clip(box, 0, [image.width, image.height] * 2))
            for label, score, box in zip(
                plain["text_labels"], plain["scores"].tolist(), plain["boxes"].numpy(), strict=True
            )
        ]
        inside = [row for row in inside if row[2][2] > row[2][0] and row[2][3] > row[2][1]]
        inside.sort(key=lambda row: -row[1])
        assert found
        assert [one.label for one in found] == [label for label, _, _ in inside]
        np.testing.assert_allclose([one.box for one in found], [box for _, _, box in inside], atol=0.01)


def test_many_labels_in_chunks_give_what_they_give_at_once(
    detector: Callable[[str], Any], images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tuple(f"{first}{second} dog" for first in "abcde" for second in "ghijklmn")
    whole = detector("owlv2").detect_labels(images, labels)
    monkeypatch.setattr("autotag.models.detectors.owl_detector._LABELS_AT_ONCE", 7)
    detector("owlv2")._last = None
    again = detector("owlv2").detect_labels(images, labels)
    assert len({one.label for found in whole for one in found}) > 1
    for one, other in zip(again, whole, strict=True):
        np.testing.assert_allclose([f.score for f in one], [f.score for f in other], atol=1e-4)


def test_grounding_dino_reads_long_lists_in_several_passes(
    detector: Callable[[str], Any], images: list[Image.Image]
) -> None:
    """A token reads only its own phrase and the image, so a label scores about the same in any text."""
    one = detector("grounding_dino")
    labels = (
        "dog",
        "person",
        "red",
        "red dog",
        "bicycle",
        "red person",
        "dog person",
        "person dog",
        "red red",
    )
    assert len(one._prompts(labels)) == 2
    assert {found.label for found in one.detect_labels(images, labels)[0]} <= set(labels)
    with pytest.raises(ConfigError, match="passes of detector"):
        one.check_labels([f"{chr(97 + n % 26)} {chr(97 + n // 26 % 26)}" for n in range(600)])


def test_a_label_that_a_model_cannot_read_whole_is_refused(detector: Callable[[str], Any]) -> None:
    for family in OPEN:
        detector(family).check_labels(LABELS)
        with pytest.raises(ConfigError, match="tokens"):
            detector(family).check_labels([*LABELS, "very " * 80 + "long"])
    with pytest.raises(ConfigError, match="nothing that can be read"):
        detector("grounding_dino").check_labels(["..."])


@pytest.mark.parametrize("id2label", [None, {"0": "LABEL_0", "1": "LABEL_1"}, {"0": "0", "1": "1"}])
def test_a_model_without_names_for_its_classes_is_refused(
    detector_folder: Callable[[str], Path], tmp_path: Path, id2label: dict[str, str] | None
) -> None:
    folder = tmp_path / "nameless"
    shutil.copytree(detector_folder("yolos"), folder)
    config = json.loads((folder / "config.json").read_text())
    count = len(config["id2label"])
    del config["id2label"], config["label2id"]
    if id2label:
        config["id2label"] = {str(n): id2label["0"].replace("0", str(n)) for n in range(count)}
    else:
        config["num_labels"] = count
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match=r"names no labels .*Write them into config\.json"):
        ModelPool(device="cpu").detector(str(folder))


def test_another_kind_of_model_is_refused_with_what_is_supported(
    detector_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(detector_folder("yolos"), folder)
    (folder / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ModelLoadError, match=r"model_type 'clip'\. Supported: .*RTDetrV2ForObjectDetection"):
        ModelPool(device="cpu").detector(str(folder))


def test_a_pipeline_makes_the_view_once_and_gives_boxes_of_the_original(
    detector_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autotag.models.detectors.hf_detector import HfDetector

    calls: list[int] = []
    plain = HfDetector.detect_views

    def counted(self: HfDetector, views: Any, sizes: Any) -> Any:
        calls.append(len(views))
        return plain(self, views, sizes)

    monkeypatch.setattr(HfDetector, "detect_views", counted)
    photo = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo)
    stage = DetectObjects(str(detector_folder("rt_detr_v2")), threshold=0.05)
    with autotag.Pipeline([stage]) as tagger:
        results = list(tagger.stream([photo] * 3))
    assert sum(calls) == 3
    assert results[0].size == (1200, 900)
    assert max(side for one in results[0].detections for side in one.box) > 300
