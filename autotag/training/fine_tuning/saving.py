"""Writes fine-tuned weights into folders with the files of the model that they began as."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from autotag.models.loading.quiet import no_chatter
from autotag.training.fine_tuning.run_folder import CARD

_BESIDE = ("*.json", "*.txt", "*.model", "LICENSE*")
_NOT_BESIDE = ("*.index.json", CARD)


def save_transformers(model: Any, source: Path, output: Path) -> None:
    """Write a transformers model with the tokenizer, processor and licence of the folder that it came from.

    Args:
        model: the model in float32, on any device.
        source: that folder; the weights get its dtype.
        output: an existing folder.
    """
    copy_beside(source, output)
    with no_chatter():
        model.to(stored_dtype(source)).save_pretrained(str(output))


def save_open_clip(
    state: Mapping[str, Tensor], layout: Mapping[str, Any], dtype: torch.dtype, output: Path
) -> None:
    """Write ``open_clip_config.json`` and weights of open_clip.

    Args:
        state: of the model.
        layout: ``model_cfg`` and ``preprocess_cfg``.
        dtype: of the written weights.
        output: an existing folder.
    """
    (output / "open_clip_config.json").write_text(json.dumps(layout, indent=2) + "\n", encoding="utf-8")
    kept = {
        name: (values.to(dtype) if values.is_floating_point() else values).cpu().contiguous().clone()
        for name, values in state.items()
    }
    save_file(kept, str(output / "open_clip_model.safetensors"))


def copy_beside(source: Path, output: Path) -> None:
    """Copy the files beside the weights: configuration, tokenizer, processor, licence."""
    left_out = {file for pattern in _NOT_BESIDE for file in source.glob(pattern)}
    for file in {file for pattern in _BESIDE for file in source.glob(pattern)} - left_out:
        shutil.copyfile(file, output / file.name)


def stored_dtype(folder: Path) -> torch.dtype:
    """Return the dtype of the first weights in a folder's safetensors files; float32 without such a file."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  (it is not a dict)
                dtype: torch.dtype = opened.get_tensor(name).dtype
                if dtype.is_floating_point:
                    return dtype
    return torch.float32
