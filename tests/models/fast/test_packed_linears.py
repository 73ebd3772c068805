from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch
from open_clip.modified_resnet import AttentionPool2d
from torch import nn

from autotag.models.fast import fast_paths, packed_linears
from autotag.models.fast.packed_linears import MkldnnLinear, PackedLinear, pack_linears

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYOUTS = [PackedLinear, MkldnnLinear]
pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
    reason="this torch has no oneDNN",
)


@pytest.fixture(autouse=True)
def _fresh_trials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fast_paths, "_said", set())
    packed_linears._best_layout.cache_clear()
    packed_linears._layout.cache_clear()
    yield
    monkeypatch.undo()
    packed_linears._best_layout.cache_clear()
    packed_linears._layout.cache_clear()


def _always(layout: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the CPU: the trial finds that this layout gains."""
    monkeypatch.setattr(packed_linears, "_best_layout", lambda *shape: layout)


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(48, 96), nn.GELU(), nn.Sequential(nn.Linear(96, 40, bias=False), nn.LayerNorm(40))
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(48,), (1, 48), (7, 48), (2, 3, 48), (0, 48)])
def test_a_packed_module_gives_what_the_plain_one_gives(
    layout: Any, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    _always(layout, monkeypatch)
    network, rows = _network().eval(), torch.randn(shape)
    with torch.inference_mode():
        expected = network(rows)

        assert pack_linears(network) == 2
        given = network(rows)

    assert sum(isinstance(module, layout) for module in network.modules()) == 2
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)


def test_rows_that_do_not_lie_in_order_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(5, 3, 48).transpose(0, 1)
    for layout in LAYOUTS:
        _always(layout, monkeypatch)
        network = _network()
        with torch.inference_mode():
            expected = network(rows)
            pack_linears(network)
            torch.testing.assert_close(network(rows), expected, atol=1e-5, rtol=1e-5)


def test_the_plain_weights_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    _always(PackedLinear, monkeypatch)
    network = _network()

    pack_linears(network)

    assert [name for name, _ in network.named_parameters()] == ["0.bias", "2.1.weight", "2.1.bias"]


def test_a_layer_in_two_places_is_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _always(PackedLinear, monkeypatch)
    shared = nn.Linear(8, 8)
    network = nn.Sequential(shared, nn.GELU(), nn.Sequential(shared))

    assert pack_linears(network) == 1
    assert network[0] is network[2][0]  # type: ignore[index]


def test_layers_whose_weights_are_read_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    _always(PackedLinear, monkeypatch)
    attention = nn.MultiheadAttention(8, 2)

    assert pack_linears(attention) == 0
    assert attention.out_proj.weight.shape == (8, 8)


def test_only_float32_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    _always(PackedLinear, monkeypatch)

    assert pack_linears(_network().bfloat16()) == 0


def test_a_layout_that_does_not_gain_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packed_linears, "shortest_seconds", lambda ways: [1.0, 0.9])

    assert pack_linears(_network()) == 0
    assert not caplog.records


def test_a_layout_that_gains_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_linears, "shortest_seconds", lambda ways: [1.0, 0.7])
    network = _network()

    assert pack_linears(network) == 2
    assert isinstance(network[0], PackedLinear)


def test_the_trial_times_each_layer_and_leaves_the_random_state_alone() -> None:
    state = torch.get_rng_state()

    packed_linears._best_layout(64, 64)

    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        slow = nn.Sequential(*(nn.Linear(64, 64) for _ in range(50)))
        rows = torch.randn(64, 64)
        [short, long] = packed_linears.shortest_seconds([lambda: nn.Linear(64, 64)(rows), lambda: slow(rows)])
    assert long > 5 * short > 0


def test_a_torch_whose_private_layout_changed_is_noticed_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def changed(self: PackedLinear, rows: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*rows.shape[:-1], self.out_features)

    monkeypatch.setattr(PackedLinear, "forward", changed)
    monkeypatch.setattr(packed_linears, "shortest_seconds", lambda ways: [1.0, 0.5])
    networks = [_network(), _network()]
    with caplog.at_level(logging.WARNING, "autotag"):
        assert [pack_linears(network) for network in networks] == [2, 2]

    assert isinstance(networks[0][0], MkldnnLinear)
    [record] = caplog.records
    assert "packed_linears" in record.message
    assert "gives other values" in record.message


def test_without_either_layout_the_layers_stay_plain(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(self: nn.Module, linear: nn.Linear) -> None:
        raise AttributeError("no such operator")

    for layout in LAYOUTS:
        monkeypatch.setattr(layout, "__init__", gone)
    with caplog.at_level(logging.WARNING, "autotag"):
        assert pack_linears(_network()) == 0

    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert all("no such operator" in record.message for record in caplog.records)


def test_layers_whose_weights_are_read_by_their_module_stay_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    _always(PackedLinear, monkeypatch)
    pool = AttentionPool2d(2, 32, 4, 24)  # as in CLIP's RN50
    network = nn.Sequential(pool, nn.Linear(24, 16)).eval()
    features = torch.randn(3, 32, 2, 2)
    with torch.inference_mode():
        expected = network(features)

        assert pack_linears(network, besides=(AttentionPool2d,)) == 1

        torch.testing.assert_close(network(features), expected, atol=1e-5, rtol=1e-5)
