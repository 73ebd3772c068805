"""Facts about this machine's CPU: its maker, and the dtypes that it supports in hardware.

Both come from ``torch.cpu.get_capabilities``. An older torch lacks it; the CPU is then taken as unknown.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

_NATIVE = {
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16"),
    "float16": ("avx512_fp16", "amx_fp16", "fp16_arith"),
    "int8": ("avx512_vnni", "amx_int8"),
}
"""Dtype -> CPU features, of x86 and ARM, that multiply matrices in it."""

_MOST_OF_ONEDNN = {
    "bfloat16": ("BF16", "FP16", "AMX", "AVX10", "DEFAULT", "ALL"),
    "float16": ("FP16", "AMX_FP16", "AVX10", "DEFAULT", "ALL"),
    "int8": ("AVX512_CORE_VNNI", "BF16", "FP16", "AMX", "AVX10", "DEFAULT", "ALL"),
}
"""Dtype -> parts of values of ONEDNN_MAX_CPU_ISA that allow it."""


@lru_cache(maxsize=1)
def _capabilities() -> Mapping[str, Any]:
    read = getattr(torch.cpu, "get_capabilities", None)
    return {} if read is None else read()


def multiplies_slowly() -> bool:
    """Return whether torch's own matrix products are slow here: with MKL on a CPU not made by Intel."""
    has_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return has_mkl and "intel" not in str(_capabilities().get("cpu_name")).lower()


def has_avx512() -> bool:
    """Return whether torch uses AVX-512; False if ``ATEN_CPU_CAPABILITY`` forbids it."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def calculates_in(dtype: str) -> bool:
    """Return whether the CPU multiplies matrices in a dtype in hardware, without converting each number.

    True for float32, and where this torch cannot tell. False if the environment variable
    ``ONEDNN_MAX_CPU_ISA`` forbids it.

    Args:
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"int8"``.
    """
    found = _capabilities()
    if dtype not in _NATIVE or not found:
        return True
    most = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    allowed = not most or any(part in most for part in _MOST_OF_ONEDNN[dtype])
    return allowed and any(found.get(name) for name in _NATIVE[dtype])
