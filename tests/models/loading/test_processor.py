from __future__ import annotations

from typing import Any

import pytest
import torch

from autotag.errors import ConfigError
from autotag.models.loading import processor
from autotag.models.loading.device import choose_dtype
from autotag.models.pool import ModelPool

MILAN = {"cpu_name": "AMD EPYC", "avx2": True, "avx512_bf16": False}
GENOA = {"cpu_name": "AMD EPYC", "avx2": True, "avx512_f": True, "avx512_bf16": True}
SAPPHIRE_RAPIDS = {"cpu_name": "Intel Xeon", "avx512_bf16": True, "avx512_fp16": True, "amx_bf16": True}
GRAVITON = {"cpu_name": "", "neon": True, "bf16": True, "fp16_arith": True}


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``on(processor, most)``: this machine is that processor, its instruction sets limited for oneDNN."""

    def pretend(capabilities: dict[str, Any], most: str = "") -> None:
        monkeypatch.setattr(processor, "_capabilities", lambda: capabilities)
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", most)

    return pretend


@pytest.mark.parametrize(
    ("machine", "most", "native"),
    [
        (MILAN, "", set()),
        (GENOA, "", {"bfloat16"}),
        (GENOA, "AVX512_CORE_BF16", {"bfloat16"}),
        (GENOA, "AVX512_CORE_VNNI", set()),
        (GENOA, "avx2", set()),
        (SAPPHIRE_RAPIDS, "", {"bfloat16", "float16"}),
        (SAPPHIRE_RAPIDS, "AVX512_CORE_BF16", {"bfloat16"}),
        (SAPPHIRE_RAPIDS, "AVX2", set()),
        (GRAVITON, "", {"bfloat16", "float16"}),
        ({}, "", {"bfloat16", "float16"}),  # an older torch, which cannot tell
    ],
)
def test_a_dtype_that_the_cpu_only_emulates_is_refused_with_the_way_out(
    on: Any, machine: dict[str, Any], most: str, native: set[str]
) -> None:
    on(machine, most)
    for dtype in ("bfloat16", "float16"):
        if dtype in native:
            assert choose_dtype(dtype, "cpu") == dtype
        else:
            with pytest.raises(ConfigError, match=f"'{dtype}' .* only emulates .* use dtype='auto'"):
                choose_dtype(dtype, "cpu")
        assert choose_dtype(dtype, "cuda") == dtype
    assert choose_dtype("float32", "cpu") == choose_dtype("auto", "cpu") == "float32"


def test_the_refusal_comes_before_weights_are_read(on: Any) -> None:
    on(MILAN)
    with pytest.raises(ConfigError, match="only emulates"):
        ModelPool(device="cpu", dtype="bfloat16").captioner("blip-mini")


def test_linear_layers_are_slow_where_mkl_is_not_on_its_own_processor(
    on: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    for machine, slow in ((MILAN, True), (GENOA, True), (SAPPHIRE_RAPIDS, False), ({}, True)):
        on(machine)
        assert processor.multiplies_slowly() is slow
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert not processor.multiplies_slowly()


def test_torch_tells_what_is_asked_of_it() -> None:
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this torch cannot tell")
    found = processor._capabilities()
    assert isinstance(found["architecture"], str)
    if found["architecture"] == "x86_64":
        assert {"avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16", "cpu_name"} <= found.keys()
