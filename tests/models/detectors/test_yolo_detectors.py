"""YOLO networks: as ONNX files exported here, and through a stand-in for ultralytics with its interface."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchvision
from PIL import Image

from autotag.errors import ConfigError, ModelLoadError, ModelUnavailableError
from autotag.models.detectors.onnx_detector import decoded, letterboxed
from autotag.models.pool import ModelPool
from autotag.testing import check_detector

SIDE, CELL = 64, 8


class Spots(torch.nn.Module):
    """YOLO's output: a box of 24 pixels around each cell, as likely as the cell is red (or blue)."""

    def __init__(self, *, own_suppression: bool = False) -> None:
        super().__init__()
        self.own_suppression = own_suppression
        steps = torch.arange(CELL / 2, SIDE, CELL)
        down, across = torch.meshgrid(steps, steps, indexing="ij")
        self.register_buffer("middles", torch.stack([across.flatten(), down.flatten()]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        cells = torch.nn.functional.avg_pool2d(images, CELL).flatten(2)
        red, green, blue = cells[:, 0], cells[:, 1], cells[:, 2]
        chances = torch.stack([red - green, blue - green], dim=1).clamp(0, 1)
        middles = self.middles[None] + 0 * chances[:, :1]
        whole = torch.cat([middles, torch.full_like(middles, 24.0), chances], dim=1)
        if not self.own_suppression:
            return whole
        best, number = chances.max(dim=1)
        rows = [middles - 12, middles + 12, best[:, None], number[:, None].float()]
        return torch.cat(rows, dim=1).transpose(1, 2)


def exported(file: Path, network: torch.nn.Module, names: str | None, *, fixed: bool = False) -> Path:
    stream = io.BytesIO()
    axes = {} if fixed else {"images": {0: "batch"}, "output0": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 3, SIDE, SIDE),),
            stream,
            dynamo=False,
            input_names=["images"],
            output_names=["output0"],
            dynamic_axes=axes,
        )
    model = onnx.load_from_string(stream.getvalue())
    if names is not None:
        entry = model.metadata_props.add()
        entry.key, entry.value = "names", names
    onnx.save(model, file)
    return file


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("onnx") / "spots.onnx", Spots(), "{0: 'red', 1: 'blue'}")


def scene(size: tuple[int, int], *spots: tuple[str, tuple[int, int, int, int]]) -> Image.Image:
    image = Image.new("RGB", size, (114, 114, 114))
    for colour, box in spots:
        image.paste(colour, box)
    return image


def test_it_fits_the_protocol_and_reads_its_labels(spots: Path) -> None:
    detector: Any = ModelPool(device="cpu").detector(f"onnx:{spots}")
    check_detector(detector)
    assert detector.labels == ("red", "blue")


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("own_suppression", [False, True])
def test_things_are_found_where_they_are(tmp_path: Path, fixed: bool, own_suppression: bool) -> None:
    network = Spots(own_suppression=own_suppression)
    file = exported(tmp_path / "spots.onnx", network, "{0: 'red', 1: 'blue'}", fixed=fixed)
    detector = ModelPool(device="cpu").detector(f"onnx:{file}")
    wide = scene((640, 320), ("red", (160, 80, 240, 160)), ("blue", (480, 160, 560, 240)))
    tall = scene((100, 400), ("blue", (50, 300, 100, 350)))
    for found, spots in zip(
        detector.detect([wide, tall]),
        ([("red", 200, 120), ("blue", 520, 200)], [("blue", 75, 325)]),
        strict=True,
    ):
        assert sorted(one.label for one in found if one.score > 0.5) == sorted(label for label, _, _ in spots)
        for label, x, y in spots:
            [box] = [one.box for one in found if one.label == label and one.score > 0.5]
            assert box[0] < x < box[2]
            assert box[1] < y < box[3]


def test_decoding_and_suppression_are_those_of_torchvision() -> None:
    random = np.random.default_rng(0)
    middle, size = random.uniform(0, 640, (2, 800)), random.uniform(10, 120, (2, 800))
    output = np.concatenate([middle, size, random.random((5, 800))]).astype(np.float32)
    boxes, scores, numbers = decoded(output)
    whole = torchvision.ops.box_convert(torch.tensor(output[:4].T).double(), "cxcywh", "xyxy")
    best = torch.tensor(output[4:]).max(dim=0)
    kept = torchvision.ops.batched_nms(whole, best.values.double(), best.indices, 0.5)
    np.testing.assert_allclose(boxes, whole[kept].numpy(), atol=1e-3)
    np.testing.assert_allclose(scores, best.values[kept].numpy())
    assert numbers.tolist() == best.indices[kept].tolist()


def test_a_box_that_is_not_finite_is_left_out() -> None:
    output = np.array([[10, np.nan], [10, 10], [4, 4], [4, 4], [0.9, 0.9]], dtype=np.float32)
    assert decoded(output)[0].tolist() == [[8, 8, 12, 12]]


@pytest.mark.parametrize("size", [(1, 1), (200, 100), (100, 200), (64, 64)])
def test_letterbox_keeps_the_aspect_ratio_on_grey(size: tuple[int, int]) -> None:
    one = letterboxed(Image.new("RGB", size, "white"), 64, 64)
    assert one.pixels.shape == (3, 64, 64)
    white = np.argwhere(one.pixels[0] > 0.9)
    assert white[:, 1].min() == one.left
    assert white[:, 0].min() == one.top
    assert round(size[0] * one.scale) == np.ptp(white[:, 1]) + 1
    assert set(np.unique(one.pixels[0])) <= {np.float32(1), np.float32(114 / 255)}


@pytest.mark.parametrize("size", [(1, 1), (30_000, 100)])
def test_images_of_any_shape_have_boxes_inside(spots: Path, size: tuple[int, int]) -> None:
    found = ModelPool(device="cpu").detector(f"onnx:{spots}").detect([Image.new("RGB", size, "red")])[0]
    assert bool(found) == (size == (1, 1))  # of the strip, less than a pixel is left
    assert all(0 <= one.box[0] < one.box[2] <= size[0] for one in found)
    assert all(0 <= one.box[1] < one.box[3] <= size[1] for one in found)


def test_bad_files_are_refused_with_a_way_out(tmp_path: Path) -> None:
    pool = ModelPool(device="cpu")
    with pytest.raises(ModelUnavailableError, match="there is no file"):
        pool.detector(f"onnx:{tmp_path / 'missing.onnx'}")
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(ModelLoadError, match="is not an ONNX network"):
        pool.detector(f"onnx:{tmp_path / 'broken.onnx'}")
    file = exported(tmp_path / "other.onnx", torch.nn.Conv2d(3, 2, 3), "{0: 'red', 1: 'blue'}")
    with pytest.raises(ModelLoadError, match="expected one image input"):
        pool.detector(f"onnx:{file}")
    file = exported(tmp_path / "nameless.onnx", Spots(), None)
    with pytest.raises(ModelLoadError, match=r"names no labels .*labels\.txt"):
        pool.detector(f"onnx:{file}")
    (tmp_path / "labels.txt").write_text("red\nblue\n")
    assert pool.detector(f"onnx:{file}").labels == ("red", "blue")  # type: ignore[attr-defined]


def constant(file: Path, output: np.ndarray, *, dynamic: bool = False, **metadata: str) -> str:
    """Write a network that gives the same output for each image; return its name for a pool."""
    shape = list(output.shape) if not dynamic else ["B", "C", "N"]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node(
                "Constant", [], ["y"], value=onnx.numpy_helper.from_array(output.astype(np.float32))
            )
        ],
        "constant",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, file)
    return f"onnx:{file}"


PLAIN = np.full((1, 6, 9), 0.5)
YOLOV5_OF_ONE = np.array([[[10, 10, 4, 4, 0.9, 0.8]]])


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_networks_for_another_task_are_refused(tmp_path: Path, task: str) -> None:
    name = constant(tmp_path / "a.onnx", PLAIN, names="['red', 'blue']", task=task)
    with pytest.raises(ModelLoadError, match=f"is for the task '{task}'"):
        ModelPool(device="cpu").detector(name)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    ("output", "said"),
    [
        (np.full((1, 38, 9), 0.5), r"2 labels need \[6, N\]"),  # a mask's numbers
        (np.full((1, 9, 7), 0.5), r"gives \[9, 7\]"),  # YOLOv5
    ],
)
def test_outputs_of_another_shape_are_refused(
    tmp_path: Path, output: np.ndarray, said: str, dynamic: bool
) -> None:
    name = constant(tmp_path / "a.onnx", output, dynamic=dynamic, names="['red', 'blue']", task="detect")
    with pytest.raises(ModelLoadError, match=said):
        ModelPool(device="cpu").detector(name).detect([Image.new("RGB", (8, 8))])


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (np.full((1, 6, 9), 640.0), r"scores are not in \[0, 1\]"),
        (np.full((1, 6, 9), -0.1), r"scores are not in \[0, 1\]"),
        (np.full((1, 2, 6), 2.0), r"numbers labels that have no names"),
        (YOLOV5_OF_ONE, r"numbers labels that have no names"),
    ],
)
def test_outputs_that_are_no_scores_and_labels_are_refused(
    tmp_path: Path, output: np.ndarray, said: str
) -> None:
    detector = ModelPool(device="cpu").detector(
        constant(tmp_path / "a.onnx", output, names="{0: 'red', 1: 'blue'}")
    )
    with pytest.raises(ModelLoadError, match=said):
        detector.detect([Image.new("RGB", (8, 8))])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("caf\u00e9\nred\n".encode("cp1252"), r"labels\.txt cannot be read"),
        (b"red\n", r"1 label need \[5, N\]"),
        (b"red\nblue\ngreen\n", r"3 labels need \[7, N\]"),
    ],
)
def test_a_list_of_labels_that_does_not_fit_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    name = constant(tmp_path / "a.onnx", PLAIN)
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(ModelLoadError, match=said):
        ModelPool(device="cpu").detector(name)


def test_a_list_of_labels_from_an_editor_on_windows_is_read(tmp_path: Path) -> None:
    name = constant(tmp_path / "a.onnx", PLAIN)
    (tmp_path / "labels.txt").write_bytes("\ufeffred\r\ncaf\u00e9\r\n\r\n".encode())
    assert ModelPool(device="cpu").detector(name).labels == ("red", "caf\u00e9")  # type: ignore[attr-defined]


def test_names_in_a_network_that_have_no_numbers_are_refused(tmp_path: Path) -> None:
    name = constant(tmp_path / "a.onnx", PLAIN, names="{'a': 'red', 'b': 'blue'}")
    with pytest.raises(ModelLoadError, match="numbers its classes in another way"):
        ModelPool(device="cpu").detector(name)


def test_without_onnxruntime_the_message_has_the_command(
    spots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'autotag-images\[onnx\]'"):
        ModelPool(device="cpu").detector(f"onnx:{spots}")


class FakeYolo:
    """What autotag uses of ``ultralytics.YOLO``."""

    def __init__(self, file: str) -> None:
        self.names = {0: "dog", 1: "cat"} if "named" in file else {0: "0", 1: "1"}
        self.overrides: dict[str, Any] = {"imgsz": 320}
        self.asked: dict[str, Any] = {}
        if "broken" in file:
            raise EOFError("ran out of input")

    def predict(self, images: list[Image.Image], **options: Any) -> list[Any]:
        self.asked = options
        boxes = SimpleNamespace(
            cls=torch.tensor([1.0, 0.0]),
            conf=torch.tensor([0.4, 0.9]),
            xyxy=torch.tensor([[1.0, 2.0, 9.0, 8.0], [-5.0, 0.0, 10.0, 12.0]]),
        )
        return [SimpleNamespace(boxes=boxes) for _ in images]


@pytest.fixture
def ultralytics(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module: Any = ModuleType("ultralytics")
    module.YOLO = FakeYolo
    monkeypatch.setitem(sys.modules, "ultralytics", module)
    monkeypatch.setattr("autotag.models.detectors.yolo_detector._said", set())
    for name in ("YOLO_AUTOINSTALL", "YOLO_OFFLINE"):
        monkeypatch.setenv(name, "unset")
    return module


@pytest.mark.usefixtures("ultralytics")
def test_yolo_weights_run_and_the_licence_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import os

    (tmp_path / "named.pt").touch()
    detector: Any = ModelPool(device="cpu").detector(f"yolo:{tmp_path / 'named.pt'}")
    ModelPool(device="cpu").detector(f"yolo:{tmp_path / 'named.pt'}")
    assert (os.environ["YOLO_AUTOINSTALL"], os.environ["YOLO_OFFLINE"]) == ("false", "true")
    assert [record.getMessage() for record in caplog.records if "AGPL-3.0" in record.getMessage()]
    assert caplog.text.count("AGPL-3.0") == 1
    check_detector(detector)
    [found] = detector.detect([Image.new("RGB", (20, 10))])
    assert [(one.label, one.box) for one in found] == [("dog", (0, 0, 10, 10)), ("cat", (1, 2, 9, 8))]
    assert detector.model.asked["verbose"] is False
    assert (detector.labels, detector.image_size) == (("dog", "cat"), 320)


@pytest.mark.usefixtures("ultralytics")
@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing-named.pt", ModelUnavailableError, "download the weights yourself"),
        ("broken.pt", ModelLoadError, "ran out of input"),
        ("plain.pt", ModelLoadError, "only names such as '0'"),
    ],
)
def test_bad_weights_are_refused(tmp_path: Path, name: str, error: type[Exception], message: str) -> None:
    if "missing" not in name:
        (tmp_path / name).touch()
    with pytest.raises(error, match=message):
        ModelPool(device="cpu").detector(f"yolo:{tmp_path / name}")


def test_without_ultralytics_the_message_says_licence_and_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(ModelUnavailableError, match=r"there is no file .*any\.pt"):
        ModelPool(device="cpu").detector(f"yolo:{tmp_path / 'any.pt'}")
    (tmp_path / "any.pt").touch()
    with pytest.raises(ConfigError, match=r"AGPL-3\.0.*pip install ultralytics.*'onnx:<file>'"):
        ModelPool(device="cpu").detector(f"yolo:{tmp_path / 'any.pt'}")
