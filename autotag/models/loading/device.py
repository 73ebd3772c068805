"""Choice of device and dtype. Torch is imported only when a device is looked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from autotag.errors import ConfigError, suggestion

if TYPE_CHECKING:
    import torch

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_DTYPES = ("float32", "bfloat16", "float16", "int8")


def check_placement(device: str, dtype: str) -> None:
    """Refuse names that are not a device or dtype, without looking at the machine.

    Raises:
        ConfigError: the device is not one of ``auto``, ``cpu``, ``cuda``, ``cuda:<n>``, ``mps``, or the dtype
            is not one of ``auto``, ``float32``, ``bfloat16``, ``float16``, ``int8``.
    """
    if not _DEVICE.fullmatch(device):
        raise ConfigError(f"unknown device {device!r}. {suggestion(device, ('auto', 'cpu', 'cuda', 'mps'))}")
    if dtype not in {"auto", *_DTYPES}:
        raise ConfigError(f"unknown dtype {dtype!r}. {suggestion(dtype, ('auto', *_DTYPES))}")


def choose_device(device: str = "auto") -> str:
    """Return the device to use; for ``"auto"``, cuda if available, else mps, else cpu.

    Raises:
        ConfigError: the device is not on this machine, or the name is not a device.
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
    """Return the dtype to use on a device; for ``"auto"``, float32 on the CPU, float16 on cuda and mps.

    float32 on the CPU, because few CPUs are faster in half precision, and captions change. float16 on a GPU,
    not bfloat16, because these models are published and used in float16, and because its three more bits of
    precision keep cosines, which are compared with thresholds, accurate to about 0.0005 instead of 0.004.

    Raises:
        ConfigError: the name is not a dtype, this CPU only emulates it, or it is int8 on a GPU.
    """
    from autotag.models.loading.processor import calculates_in

    check_placement(device, dtype)
    if dtype == "auto":
        return "float32" if device == "cpu" else "float16"
    if dtype == "int8" and device != "cpu":
        raise ConfigError(f"dtype 'int8' is for CPUs, and the device is {device!r}; use dtype='float16'")
    if device == "cpu" and not calculates_in(dtype):
        if dtype == "int8":
            raise ConfigError(
                "dtype 'int8' was asked for, but this CPU has no AVX-512 VNNI and no AMX, without which "
                "int8 is not faster than float32; use dtype='auto'"
            )
        raise ConfigError(
            f"dtype {dtype!r} was asked for, but this CPU only emulates it, several times slower "
            "than float32; use dtype='auto', or a GPU"
        )
    return dtype


def torch_dtype(dtype: str) -> torch.dtype:
    """Return the torch dtype in which a model is loaded; for int8 float32, as only linear layers are int8."""
    import torch

    return {
        "int8": torch.float32,
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }[dtype]
