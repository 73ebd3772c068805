"""Linear layers on a CPU whose weights lie in oneDNN's own layout.

``torch.nn.functional.linear`` gives MKL a weight row by row, each time again. oneDNN multiplies by a weight
that it has laid out once as it likes, in float32 and with the same products. On processors that are not
Intel's, for which MKL is not made, that takes half the time (AVX-512), or two thirds for few rows (AVX2):
docs/performance.md has the figures. The maker of the processor decides, not a trial, so that a machine
calculates the same in each run.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from autotag.fast_paths import say_not_used
from autotag.models.loading.processor import multiplies_slowly

_TOLERANCE = 1e-4
_MANY_ROWS = 128
_BLOCK = 16
"""Rows that oneDNN likes to take together. For many rows of an odd number, such as the 577 of one image in
BLIP, it finds no good blocks, and takes 1.4 times as long by AVX2."""


def linear_of(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """Return a layer by these weights, which it shares, for inference only."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def packed_matrix(matrix: torch.Tensor) -> torch.Tensor:
    """Return an (N, K) matrix, float32 on a CPU, in oneDNN's layout, which only ``product`` understands.

    Both are private to torch: try them before they are relied on.
    """
    return cast("torch.Tensor", torch.ops.mkldnn._reorder_linear_weight(matrix))  # noqa: SLF001 - tried at load


def product(rows: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Multiply (..., K) rows by an (N, K) matrix to (..., N).

    A matrix that is not packed has to lie row by row or column by column: another takes a thousand times as
    long.
    """
    return cast(
        "torch.Tensor",
        torch.ops.mkldnn._linear_pointwise(rows, matrix, bias, "none", [], ""),  # noqa: SLF001 - tried at load
    )


class PackedLinear(nn.Module):
    """A linear layer in the layout that torch's compiler uses. For inference only: no gradients, no state.

    Args:
        linear: the layer whose weight (float32, on a CPU) is copied into the new layout.
    """

    int8_original_dtype = torch.float32  # open_clip asks a layer that has no weight for this

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.bias = linear.bias
        self._packed = packed_matrix(linear.weight.detach())

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., in_features) float32 to (..., out_features) float32."""
        count = rows.shape[:-1].numel()
        if count < _MANY_ROWS or count % 2 == 0:
            return product(rows, self._packed, self.bias)
        filled_up = functional.pad(rows.reshape(count, -1), (0, 0, 0, -count % _BLOCK))
        return product(filled_up, self._packed, self.bias)[:count].view(*rows.shape[:-1], -1)


def pack_linears(module: nn.Module, *, besides: tuple[type[nn.Module], ...] = ()) -> int:
    """Put packed layers in the place of a module's linear layers, on processors that gain by it.

    Only float32 layers on a CPU, and only ``torch.nn.Linear`` itself: a subclass may be one whose weight is
    read from outside. A packed layer has no ``weight``: the module can no longer be saved, and the memory of
    the original is free unless something else (tied embeddings) shares it.

    Args:
        module: evaluated from now on, never trained.
        besides: classes of modules that read the weights of their layers instead of calling them; those
            layers stay as they are.

    Returns:
        How many layers were packed.
    """
    if not packing_gains():
        return 0
    packed: dict[int, PackedLinear] = {}
    for parent in list(module.modules()):
        if isinstance(parent, besides):
            continue
        for name, child in list(parent.named_children()):
            if _can_be_packed(child):
                if id(child) not in packed:
                    packed[id(child)] = _packed(cast("nn.Linear", child))
                setattr(parent, name, packed[id(child)])
    return len(packed)


def packing_gains() -> bool:
    """Return whether linear layers in float32 gain by packing on this CPU and with this torch."""
    return multiplies_slowly() and _fits()


def _can_be_packed(module: nn.Module) -> bool:
    return (
        type(module) is nn.Linear
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
    )


@torch.no_grad()
def _packed(linear: nn.Linear) -> PackedLinear:
    return PackedLinear(linear).eval()


@lru_cache(maxsize=1)
def _fits() -> bool:
    """Return whether the installed torch packs and gives the same; else one warning says why not."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    fault = _fault()
    if fault is not None:
        say_not_used("packed_linears", f"torch's own layout for linear layers {fault}")
    return fault is None


@torch.no_grad()
def _fault() -> str | None:
    """Return what is wrong with packed layers, tried on a small one; None if nothing is."""
    generator = torch.Generator().manual_seed(0)
    linear = linear_of(torch.randn(80, 48, generator=generator), torch.randn(80, generator=generator))
    rows: Any = torch.randn(3, 5, 48, generator=generator)
    expected = linear(rows)
    try:
        given = PackedLinear(linear)(rows)
    except (RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
        return f"does not work: {str(error).splitlines()[0]}"
    if given.shape != expected.shape or not torch.allclose(given, expected, atol=_TOLERANCE):
        return "gives other values"
    return None
