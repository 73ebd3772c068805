from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autotag.models.loading import onnx_loading


def providers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, available: list[str]) -> Any:
    """Return the providers that onnxruntime is asked for; needs no onnxruntime."""
    fake = SimpleNamespace(
        get_available_providers=lambda: available, InferenceSession=lambda _file, providers: providers
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)  # type: ignore[arg-type]
    (tmp_path / "net.onnx").touch()
    request: Any = SimpleNamespace(name="net", device=device)
    return onnx_loading.onnx_session(request, "classifier", tmp_path / "net.onnx")


@pytest.mark.parametrize(("device", "number"), [("cuda", 0), ("cuda:1", 1)])
def test_the_device_of_the_request_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, number: int
) -> None:
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    asked = providers(monkeypatch, tmp_path, device, [cuda, cpu])
    assert asked == [(cuda, {"device_id": number}), cpu]
    assert providers(monkeypatch, tmp_path, "cpu", [cuda, cpu]) == [cpu]


def test_a_build_without_cuda_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    onnx_loading._warn_of_processor.cache_clear()
    with caplog.at_level(logging.WARNING, "autotag"):
        for _ in range(2):
            assert providers(monkeypatch, tmp_path, "cuda", ["CPUExecutionProvider"]) == [
                "CPUExecutionProvider"
            ]
    assert [("onnxruntime-gpu" in record.message) for record in caplog.records] == [True]
