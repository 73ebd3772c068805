from __future__ import annotations

import pytest
import torch

from autotag.errors import ConfigError
from autotag.models.loading.device import check_placement, choose_device, choose_dtype, torch_dtype


def _pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: int, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"), [(1, False, "cuda"), (2, True, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_takes_the_fastest_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, chosen: str
) -> None:
    _pretend(monkeypatch, cuda=cuda, mps=mps)

    assert choose_device("auto") == chosen


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "mps"])
def test_a_device_that_is_there_is_taken_as_asked(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    _pretend(monkeypatch, cuda=2, mps=True)

    assert choose_device(device) == device


@pytest.mark.parametrize(
    ("device", "reason"), [("cuda", "no CUDA"), ("cuda:0", "no CUDA"), ("mps", "no Apple GPU")]
)
def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, device: str, reason: str
) -> None:
    _pretend(monkeypatch, cuda=0, mps=False)

    with pytest.raises(ConfigError, match=reason):
        choose_device(device)


def test_a_gpu_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, cuda=2, mps=False)

    with pytest.raises(ConfigError, match="there are 2"):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    ("device", "dtype"), [("cdua", "auto"), ("gpu", "auto"), ("cpu", "fp16"), ("cuda:x", "auto")]
)
def test_what_is_no_device_or_dtype_is_refused(device: str, dtype: str) -> None:
    with pytest.raises(ConfigError, match="unknown d"):
        check_placement(device, dtype)


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float32"), ("cuda:1", "float16"), ("mps", "float16")])
def test_auto_dtype_suits_the_device(device: str, dtype: str) -> None:
    assert choose_dtype("auto", device) == dtype


def test_a_dtype_that_is_named_is_taken() -> None:
    assert torch_dtype(choose_dtype("bfloat16", "cpu")) is torch.bfloat16
