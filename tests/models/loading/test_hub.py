from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from autotag.errors import ModelLoadError, ModelUnavailableError
from autotag.models import cards
from autotag.models.loading import hub, model_folders
from autotag.models.names import parse_name
from autotag.models.pool import ModelPool
from autotag.protocols import CaptionOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

REPOSITORY = "someone/tiny-blip"


@pytest.fixture
def published(local_hub: Any, tiny_folder: Callable[[str], Path]) -> Any:
    """The hub, with a tiny BLIP on it and the clutter that repositories have."""
    folder = tiny_folder("blip")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    clutter = ("pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "onnx/config.json", "README.md")
    local_hub.files[REPOSITORY] = {**files, **dict.fromkeys(clutter, b"not wanted")}
    return local_hub


def _fetch() -> Path:
    return hub.fetch(
        "mine", "captioner", REPOSITORY, "main", model_folders.TRANSFORMERS, download_size=990_000_000
    )


def test_a_model_of_the_hub_is_downloaded_and_captions(published: Any, images: list[Image.Image]) -> None:
    captioner = ModelPool(device="cpu").captioner(f"hf:{REPOSITORY}")

    assert len(captioner.caption(images, CaptionOptions(max_new_tokens=3))) == len(images)


def test_a_revision_means_the_hub_even_if_a_folder_has_the_name(
    published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / REPOSITORY).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    address = parse_name(f"hf:{REPOSITORY}@main", "captioner")
    assert address.folder is None
    assert parse_name(f"hf:{REPOSITORY}", "captioner").folder == tmp_path / REPOSITORY

    found = hub.model_folder(address.request("cpu", "float32"), "captioner", model_folders.TRANSFORMERS)

    assert found == _fetch()


def test_only_what_is_needed_is_downloaded(published: Any) -> None:
    names = {file.name for file in _fetch().rglob("*") if file.is_file()}

    assert {"config.json", "model.safetensors", "tokenizer.json", "processor_config.json"} <= names
    assert not names & {"pytorch_model.bin", "tf_model.h5", "model.onnx", "README.md"}


def test_the_template_of_a_chat_model_comes_with_it(
    local_hub: Any, tiny_folder: Callable[[str], Path], images: list[Image.Image]
) -> None:
    folder = tiny_folder("qwen2_5_vl")
    local_hub.files[REPOSITORY] = {file.name: file.read_bytes() for file in folder.iterdir()}

    captioner = ModelPool(device="cpu").captioner(f"hf:{REPOSITORY}")

    assert len(captioner.caption(images, CaptionOptions(max_new_tokens=3))) == len(images)


def test_the_first_download_shows_its_progress(published: Any, capfd: pytest.CaptureFixture[str]) -> None:
    _fetch()

    shown = capfd.readouterr()
    assert "Fetching" in shown.err
    assert shown.out == ""


def test_what_is_in_the_cache_is_used_without_asking_the_hub(published: Any) -> None:
    first = _fetch()
    published.asked.clear()

    assert _fetch() == first
    assert published.asked == []


def test_a_download_cut_off_before_the_weights_counts_as_missing(published: Any) -> None:
    (_fetch() / "model.safetensors").unlink()

    assert hub.cached_folder(REPOSITORY, "main", model_folders.TRANSFORMERS) is None


def test_weights_in_shards_count_as_missing_until_each_is_there(published: Any) -> None:
    files = published.files[REPOSITORY]
    del files["model.safetensors"]
    files["model.safetensors.index.json"] = (
        b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    )
    files["model-1.safetensors"] = files["model-2.safetensors"] = b"weights"
    folder = _fetch()
    assert hub.cached_folder(REPOSITORY, "main", model_folders.TRANSFORMERS) == folder

    (folder / "model-2.safetensors").unlink()
    assert hub.cached_folder(REPOSITORY, "main", model_folders.TRANSFORMERS) is None

    (folder / "model.safetensors.index.json").write_text("{")
    assert hub.cached_folder(REPOSITORY, "main", model_folders.TRANSFORMERS) is None


def test_a_catalog_model_is_present_once_it_is_downloaded(published: Any) -> None:
    card = cards.find_card("blip-base", "captioner")
    assert card
    assert card.hub_id
    published.files[card.hub_id] = published.files[REPOSITORY]
    assert not cards.is_present(card)

    cards.download(card)

    assert cards.is_present(card)


def _refused(expected: str) -> ModelUnavailableError:
    with pytest.raises(ModelUnavailableError, match=expected) as caught:
        _fetch()
    return caught.value


@pytest.mark.parametrize("status", [403, 407, 500, 503])
def test_a_hub_or_proxy_that_refuses_is_reported_with_its_answer(local_hub: Any, status: int) -> None:
    local_hub.status = status

    _refused(f"answered {status}")


@pytest.mark.parametrize("status", [401, 404])
def test_a_model_that_the_hub_does_not_have_is_reported(local_hub: Any, status: int) -> None:
    local_hub.status = status

    _refused("no such model|answered")


def test_a_hub_that_never_answers_costs_seconds(local_hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    local_hub.stall = threading.Event()
    monkeypatch.setattr(hub, "PATIENCE", 0.5)

    _refused("cannot be reached")


@pytest.mark.slow
def test_nobody_waits_longer_than_seconds_for_a_hub_that_never_answers(local_hub: Any) -> None:
    """The hub of the tests does answer, after twenty seconds; by then nobody asks any more."""
    local_hub.stall = threading.Event()

    _refused("cannot be reached")

    assert not local_hub.stall.is_set()


def test_a_refused_connection_is_reported(local_hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")

    _refused("cannot be reached")


def test_offline_mode_is_named_as_the_reason(local_hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    _refused("HF_HUB_OFFLINE")


def test_the_error_names_model_cache_size_and_the_bundled_alternative(local_hub: Any) -> None:
    local_hub.status = 503

    error = _refused("990 MB")

    assert error.model == "mine"
    assert error.looked_in == local_hub.cache
    assert error.download_size == 990_000_000
    for fact in ("'mine'", REPOSITORY, str(local_hub.cache), "'blip-mini' (preset 'mini')"):
        assert fact in str(error)


def test_a_name_that_can_be_no_hub_id_is_refused_like_a_missing_model(local_hub: Any) -> None:
    with pytest.raises(ModelUnavailableError, match="not a hub id"):
        hub.fetch("odd", "captioner", "spaces are odd", "main", model_folders.TRANSFORMERS)
    assert local_hub.asked == []


def test_a_repository_without_weights_is_refused(published: Any) -> None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        del published.files[REPOSITORY][name]

    _refused("no model.safetensors")


def test_a_cached_model_with_damaged_weights_names_folder_and_file(
    published: Any, request_for: Callable[..., Any]
) -> None:
    published.files[REPOSITORY]["model.safetensors"] = b"damaged"

    with pytest.raises(ModelLoadError, match=r"model\.safetensors in folder .*damaged"):
        hub.model_folder(request_for(REPOSITORY, revision="main"), "captioner", model_folders.TRANSFORMERS)
