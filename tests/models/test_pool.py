from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from autotag.config import registry
from autotag.errors import ConfigError, ModelUnavailableError
from autotag.models.pool import ModelPool
from autotag.protocols import ModelRequest

if TYPE_CHECKING:
    from collections.abc import Callable


class Loaded:
    """A captioner that remembers how it was asked for."""

    def __init__(self, request: ModelRequest) -> None:
        self.request = request

    def caption(self, images: object, /, options: object) -> list[list[Any]]:
        return []


class Sized(Loaded):
    def __init__(self, size: int) -> None:
        self.image_size = size


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[ModelRequest]:
    """What the captioner factory was called with, slowly enough for threads to meet."""
    asked: list[ModelRequest] = []

    def factory(request: ModelRequest) -> Loaded:
        asked.append(request)
        threading.Event().wait(0.05)
        return Loaded(request)

    monkeypatch.setattr(registry, "resolve", lambda kind, name: factory)
    return asked


def test_a_model_is_loaded_once_whichever_of_its_names_is_used(loads: list[ModelRequest]) -> None:
    pool = ModelPool(device="cpu")

    first = pool.captioner("blip-base")
    assert pool.captioner("hf:Salesforce/blip-image-captioning-base") is first
    assert pool.captioner("blip-large") is not first
    assert [request.name for request in loads] == ["blip-base", "blip-large"]


def test_a_folder_is_one_model_however_it_is_written(
    loads: list[ModelRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path.parent)
    pool = ModelPool(device="cpu")

    given = {id(pool.captioner(name)) for name in (str(tmp_path), f"hf:{tmp_path}", f"./{tmp_path.name}")}
    assert len(given) == 1


def test_threads_that_ask_at_once_get_one_object(loads: list[ModelRequest]) -> None:
    pool = ModelPool(device="cpu")
    given: list[object] = []
    threads = [threading.Thread(target=lambda: given.append(pool.captioner("blip-base"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(loads) == 1
    assert len({id(model) for model in given}) == 1


def test_the_factory_is_told_device_dtype_and_what_the_card_knows(loads: list[ModelRequest]) -> None:
    ModelPool(device="cpu", dtype="bfloat16").captioner("blip-base")

    assert loads == [
        ModelRequest(
            name="blip-base",
            location="Salesforce/blip-image-captioning-base",
            revision="main",
            device="cpu",
            dtype="bfloat16",
            default_thresholds={},
            download_size=990_000_000,
        )
    ]


def test_an_object_is_handed_back_as_it_is() -> None:
    mine = Sized(96)

    assert ModelPool().captioner(mine) is mine


def test_an_object_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="Sized object cannot be used as an extractor: it has no extract"):
        ModelPool().extractor(Sized(96))  # type: ignore[arg-type]


def test_what_a_factory_makes_must_fit_too(loads: list[ModelRequest]) -> None:
    with pytest.raises(ConfigError, match="Loaded object cannot be used as an encoder"):
        ModelPool(device="cpu").encoder("clip-vit-b-32")


def test_without_an_encoder_of_its_own_the_pool_says_so() -> None:
    with pytest.raises(ConfigError, match="encoder=..."):
        ModelPool().encoder()


def test_a_wrong_encoder_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ModelUnavailableError, match="there is no folder"):
        ModelPool(encoder="./nowhere")
    with pytest.raises(ConfigError, match="unknown device"):
        ModelPool(device="gpu")


def test_image_size_is_the_largest_that_a_model_in_use_looks_at() -> None:
    pool = ModelPool()
    assert pool.image_size is None

    pool.captioner(Sized(96))
    pool.captioner(Sized(64))
    assert pool.image_size == 96


def test_image_size_is_unknown_once_one_model_in_use_does_not_say() -> None:
    pool = ModelPool()
    pool.captioner(Sized(96))
    pool.captioner(Loaded.__new__(Loaded))

    assert pool.image_size is None


def test_close_lets_go_of_its_models(loads: list[ModelRequest]) -> None:
    pool = ModelPool(device="cpu")
    given = weakref.ref(pool.captioner("blip-base"))
    assert given() is not None

    pool.close()
    gc.collect()
    assert given() is None
    assert pool.image_size is None


def test_a_real_pipeline_of_models_shares_one_pool(tiny_folder: Callable[[str], Path]) -> None:
    pool = ModelPool(encoder=str(tiny_folder("open_clip_folder/timm")), device="cpu")

    pool.captioner(str(tiny_folder("blip")))
    pool.extractor(str(tiny_folder("sentence_transformer")))
    assert pool.encoder() is pool.encoder(str(tiny_folder("open_clip_folder/timm")))
    assert pool.image_size == 64


def test_loading_leaves_the_random_numbers_of_the_program_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawing(request: ModelRequest) -> Loaded:
        torch.rand(3)  # as a library that makes weights before it loads others
        return Loaded(request)

    monkeypatch.setattr(registry, "resolve", lambda kind, name: drawing)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    ModelPool(device="cpu").captioner("hf:someone/something")
    assert torch.rand(1) == expected
