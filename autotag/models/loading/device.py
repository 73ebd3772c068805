"""Where models run and in which precision. Torch is imported only when a device is looked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from autotag.errors import ConfigError, suggestion

if TYPE_CHECKING:
    import torch

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_DTYPES = ("float32", "bfloat16", "float16")


def check_placement(device: str, dtype: str) -> None:
    """Refuses names that can be no device or dtype, without looking at the machine.

    Raises:
        ConfigError: neither of ``auto``, ``cpu``, ``cuda``, ``cuda:<n>``, ``mps``; or of ``auto``,
            ``float32``, ``bfloat16``, ``float16``.
    """
    if not _DEVICE.fullmatch(device):
        raise ConfigError(f"unknown device {device!r}. {suggestion(device, ('auto', 'cpu', 'cuda', 'mps'))}")
    if dtype not in {"auto", *_DTYPES}:
        raise ConfigError(f"unknown dtype {dtype!r}. {suggestion(dtype, ('auto', *_DTYPES))}")


def choose_device(device: str = "auto") -> str:
    """The device to use: for ``"auto"`` cuda if there is one, else mps, else cpu.

    Raises:
        ConfigError: the device asked for is not on this machine, or is no device.
    """
    import torch

    check_placement(device, "auto")
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if device.startswith("cuda"):
        _check_cuda(device)
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' was asked for, but torch finds no Apple GPU here; use device='auto'")
    return device


def _check_cuda(device: str) -> None:
    import torch

    if not torch.cuda.is_available():
        build = "" if torch.version.cuda else " (this torch is built without CUDA)"
        raise ConfigError(
            f"device {device!r} was asked for, but torch finds no CUDA{build}; use device='auto'"
        )
    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise ConfigError(f"device {device!r} was asked for, but there are {count}, counted from cuda:0")


def choose_dtype(dtype: str, device: str) -> str:
    """The precision to use on a device: for ``"auto"`` float32 on the CPU, float16 on cuda and mps.

    float32 on the CPU because few CPUs calculate faster in less, and captions change. float16 rather
    than bfloat16 on a GPU because these models are published and used in it, and because its three more
    bits keep cosines, which thresholds cut, to about 0.0005 instead of 0.004.

    Raises:
        ConfigError: not a dtype, or one that this CPU only emulates.
    """
    from autotag.models.loading.processor import calculates_in

    check_placement(device, dtype)
    if dtype == "auto":
        return "float32" if device == "cpu" else "float16"
    if device == "cpu" and not calculates_in(dtype):
        raise ConfigError(
            f"dtype {dtype!r} was asked for, but this CPU only emulates it, several times slower "
            "than float32; use dtype='auto', or a GPU"
        )
    return dtype


def torch_dtype(dtype: str) -> torch.dtype:
    """``"float16"`` as torch's own object."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
