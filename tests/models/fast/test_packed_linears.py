from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest
import torch
from open_clip.modified_resnet import AttentionPool2d
from torch import nn

from autotag.config import fast_paths
from autotag.models.fast import packed_linears
from autotag.models.fast.packed_linears import PackedLinear, pack_linears

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
    reason="this torch has no oneDNN",
)


@pytest.fixture(autouse=True)
def _gains(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On a processor that gains, with nothing tried and nothing said."""
    monkeypatch.setattr(fast_paths, "_said", set())
    monkeypatch.setattr(packed_linears, "multiplies_slowly", lambda: True)
    packed_linears._fits.cache_clear()
    yield
    monkeypatch.undo()
    packed_linears._fits.cache_clear()


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(48, 96), nn.GELU(), nn.Sequential(nn.Linear(96, 40, bias=False), nn.LayerNorm(40))
    )


@pytest.mark.parametrize(
    "shape", [(48,), (1, 48), (7, 48), (2, 3, 48), (0, 48), (577, 48), (1, 129, 48), (3, 43, 48), (128, 48)]
)
def test_a_packed_module_gives_what_the_plain_one_gives(shape: tuple[int, ...]) -> None:
    network, rows = _network().eval(), torch.randn(shape)
    with torch.inference_mode():
        expected = network(rows)

        assert pack_linears(network) == 2
        given = network(rows)

    assert sum(isinstance(module, PackedLinear) for module in network.modules()) == 2
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)


def test_rows_that_do_not_lie_in_order_are_understood() -> None:
    rows = torch.randn(5, 3, 48).transpose(0, 1)
    network = _network()
    with torch.inference_mode():
        expected = network(rows)
        pack_linears(network)
        torch.testing.assert_close(network(rows), expected, atol=1e-5, rtol=1e-5)


def test_the_plain_weights_are_let_go() -> None:
    network = _network()

    pack_linears(network)

    assert [name for name, _ in network.named_parameters()] == ["0.bias", "2.1.weight", "2.1.bias"]


def test_a_layer_in_two_places_is_packed_once() -> None:
    shared = nn.Linear(8, 8)
    network = nn.Sequential(shared, nn.GELU(), nn.Sequential(shared))

    assert pack_linears(network) == 1
    assert network[0] is network[2][0]  # type: ignore[index]


def test_layers_whose_weights_are_read_stay() -> None:
    attention = nn.MultiheadAttention(8, 2)

    assert pack_linears(attention) == 0
    assert attention.out_proj.weight.shape == (8, 8)


def test_only_float32_is_packed() -> None:

    assert pack_linears(_network().bfloat16()) == 0


def test_a_processor_that_gains_nothing_keeps_its_layers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packed_linears, "multiplies_slowly", lambda: False)

    assert pack_linears(_network()) == 0
    assert not caplog.records


def test_a_torch_whose_private_layout_changed_is_noticed_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def changed(self: PackedLinear, rows: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*rows.shape[:-1], self.out_features)

    monkeypatch.setattr(PackedLinear, "forward", changed)
    with caplog.at_level(logging.WARNING, "autotag"):
        assert [pack_linears(_network()) for _ in range(2)] == [0, 0]

    [record] = caplog.records
    assert "packed_linears" in record.message
    assert "gives other values" in record.message


def test_without_the_layout_the_layers_stay_plain(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(self: nn.Module, linear: nn.Linear) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr(PackedLinear, "__init__", gone)
    with caplog.at_level(logging.WARNING, "autotag"):
        assert pack_linears(_network()) == 0

    [record] = caplog.records
    assert "no such operator" in record.message


def test_layers_whose_weights_are_read_by_their_module_stay_plain() -> None:
    pool = AttentionPool2d(2, 32, 4, 24)  # as in CLIP's RN50
    network = nn.Sequential(pool, nn.Linear(24, 16)).eval()
    features = torch.randn(3, 32, 2, 2)
    with torch.inference_mode():
        expected = network(features)

        assert pack_linears(network, besides=(AttentionPool2d,)) == 1

        torch.testing.assert_close(network(features), expected, atol=1e-5, rtol=1e-5)


def test_no_clock_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy moment must not change the layout, and with it the last digits of scores."""

    def stopped() -> float:
        raise AssertionError("a clock was read")

    for clock in ("perf_counter", "monotonic", "process_time", "time"):
        monkeypatch.setattr(time, clock, stopped)
    assert pack_linears(_network()) == 2
