"""A process in which torch, oneDNN and MKL use no more than one instruction set."""

from __future__ import annotations

import os
import subprocess
import sys

ISA = {
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "ATEN_CPU_CAPABILITY": "avx512",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
    "avx512-vnni": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
        "ATEN_CPU_CAPABILITY": "avx512",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
}
_INSIDE = "AUTOTAG_BENCHMARK_ISA"


def limit_to(isa: str | None) -> None:
    """Run this program again, limited to an instruction set, and exit with its status.

    Return if it is limited already. None goes on with what the machine has.
    """
    if isa and os.environ.get(_INSIDE) != isa:
        inside = {**os.environ, **ISA[isa], _INSIDE: isa}
        again = subprocess.run([sys.executable, *sys.argv], env=inside, check=False)  # noqa: S603 - itself
        sys.exit(again.returncode)


def instruction_set(asked: str | None) -> str:
    """Return what torch uses, such as ``"AVX512"``; exit if it is not what was asked for."""
    import torch

    used = torch.backends.cpu.get_cpu_capability().replace(" ", "")
    if asked and used.lower() != asked.partition("-")[0]:
        sys.exit(f"this machine has no {asked}: torch says {used}")
    return str(used)
