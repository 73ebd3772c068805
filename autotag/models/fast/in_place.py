"""Activations that write their result where they read.

Between the two linear layers of a transformer's network lies its widest tensor. The plain activation lays out
another of that size, QuickGELU three. To be given that memory, page by page and each time anew, takes a CPU
longer than to calculate the activation, and on a GPU it is memory that larger batches could use.

For inference only: what an activation overwrites is gone when gradients want it.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.transformer import QuickGELU
from torch import nn
from torch.nn import functional
from transformers.activations import GELUActivation, GELUTanh, QuickGELUActivation

from autotag.models.fast.fast_paths import say_not_used

_TOLERANCE = 1e-4
_NETWORKS = (
    ({"fc1", "activation_fn", "fc2"}, "activation_fn", "fc1"),
    ({"c_fc", "gelu", "c_proj"}, "gelu", "c_fc"),
)
"""Of networks in transformers and in open_clip: all parts, the activation, and what comes before it."""


class InPlaceGelu(nn.Module):
    """GELU, by the error function or approximated by tanh, which overwrites what it is given.

    Args:
        approximate: ``"none"`` or ``"tanh"``.
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Any shape; the same tensor comes back."""
        given: torch.Tensor = torch.ops.aten.gelu_(rows, approximate=self.approximate)
        return given


class InPlaceQuickGelu(nn.Module):
    """``x * sigmoid(1.702 x)``, which overwrites what it is given."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Any shape; the same tensor comes back."""
        return rows.mul_((rows * 1.702).sigmoid_())


def in_place(activation: Any) -> nn.Module | None:
    """What does the same as an activation and overwrites what it is given; None for kinds not known here."""
    if isinstance(activation, QuickGELUActivation | QuickGELU):
        return InPlaceQuickGelu()
    if isinstance(activation, nn.GELU):
        return InPlaceGelu(activation.approximate)
    if isinstance(activation, GELUActivation) and activation.act is functional.gelu:
        return InPlaceGelu()
    if isinstance(activation, GELUTanh) and getattr(activation.act, "keywords", None) == {
        "approximate": "tanh"
    }:
        return InPlaceGelu("tanh")
    return None


def activations_in_place(module: nn.Module) -> int:
    """Puts activations in place into the networks of a model that is evaluated only; returns into how many.

    One network of each kind is tried: if it gives something else afterwards, all of that kind are left as
    they are, and one warning says so.
    """
    fits: dict[tuple[type[nn.Module], type[nn.Module]], bool] = {}
    count = 0
    for network in module.modules():
        found = _replacement(network)
        if found is None:
            continue
        kind = type(network), type(getattr(network, found[0]))
        if kind not in fits:
            fits[kind] = _gives_the_same(network, *found)
        if fits[kind]:
            setattr(network, *found)
            count += 1
    return count


def _replacement(network: nn.Module) -> tuple[str, nn.Module] | None:
    """The name of a network's activation and what can take its place; None for other modules."""
    parts = {name for name, _ in network.named_children()}
    name = next((name for names, name, _ in _NETWORKS if names == parts), None)
    replacement = None if name is None else in_place(getattr(network, name))
    return None if name is None or replacement is None else (name, replacement)


@torch.inference_mode()
def _gives_the_same(network: nn.Module, name: str, replacement: nn.Module) -> bool:
    """Whether the network, with its own activation again afterwards, gives the same by the replacement."""
    first = next(first for _, activation, first in _NETWORKS if activation == name)
    like = next(network.parameters())
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, getattr(network, first).in_features, generator=generator).to(like)
    plain = getattr(network, name)
    expected = network(rows)
    setattr(network, name, replacement)
    try:
        same = torch.allclose(network(rows), expected, atol=_TOLERANCE, rtol=_TOLERANCE)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        say_not_used("in_place", f"{type(plain).__name__} in place fails: {str(error).splitlines()[0]}")
        return False
    finally:
        setattr(network, name, plain)
    if not same:
        say_not_used(
            "in_place", f"{type(network).__name__} gives something else with its activation in place"
        )
    return same
