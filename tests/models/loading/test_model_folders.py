from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch

from autotag.errors import ModelLoadError
from autotag.models.captioners.blip_captioner import HfCaptioner
from autotag.models.loading import model_folders

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n"


@pytest.fixture
def copied(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    return shutil.copytree(tiny_folder("blip"), tmp_path / "blip")


def _check(folder: Path, expected: str) -> None:
    with pytest.raises(ModelLoadError, match=expected):
        model_folders.check_folder("mine", folder, model_folders.TRANSFORMERS)


def _pickled(folder: Path) -> Path:
    """Return the weights of a folder, now a file of torch that is not those of the model."""
    (folder / "model.safetensors").unlink()
    file = folder / "pytorch_model.bin"
    torch.save({"a": torch.zeros(100)}, file)
    return file


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_named_with_the_way_out(copied: Path, name: str) -> None:
    (copied / name).write_text(POINTER)

    _check(copied, f"{name} in folder .*blip is a Git LFS pointer; run `git lfs pull`")


def test_pickled_weights_that_are_a_pointer_or_cut_off_are_named(copied: Path) -> None:
    file = _pickled(copied)
    model_folders.check_folder("mine", copied, model_folders.TRANSFORMERS)

    file.write_bytes(file.read_bytes()[:-200])
    _check(copied, "pytorch_model.bin in folder .*blip is damaged")
    file.write_text(POINTER)
    _check(copied, "pytorch_model.bin in folder .*blip is a Git LFS pointer")


def test_pickled_weights_beside_safetensors_are_not_looked_at(copied: Path) -> None:
    (copied / "pytorch_model.bin").write_text(POINTER)

    model_folders.check_folder("mine", copied, model_folders.TRANSFORMERS)


def test_pickled_weights_that_torch_refuses_are_named_without_its_advice(
    copied: Path, request_for: Callable[..., object]
) -> None:
    file = _pickled(copied)
    torch.save({"a": slice(1)}, file)

    with pytest.raises(ModelLoadError, match="pytorch_model.bin .* is damaged, or holds more than") as caught:
        HfCaptioner.load(request_for(copied))  # type: ignore[arg-type]

    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index_of_shards_counts_as_missing_weights(copied: Path, text: str) -> None:
    (copied / "model.safetensors").rename(copied / "model-1.safetensors")
    index = copied / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    assert model_folders.missing_parts(copied, model_folders.TRANSFORMERS) == []

    index.write_text(text)
    _check(copied, r"no weights \(model.safetensors.index.json is damaged\)")


def test_adapters_without_their_model_are_to_be_merged(copied: Path) -> None:
    (copied / "config.json").unlink()
    (copied / "adapter_config.json").write_text('{"base_model_name_or_path": "Salesforce/blip"}')

    _check(copied, "LoRA adapters; merge them into their base model 'Salesforce/blip' first")
