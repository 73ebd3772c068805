"""Linear layers on a CPU whose weights are in oneDNN's own layout.

``torch.nn.functional.linear`` passes MKL the weight row by row in each call. oneDNN rearranges a weight once
into its own layout, in float32, and multiplies by it with the same result. On processors of other makers than
Intel, for which MKL is not optimised, that takes half the time (AVX-512), or two thirds for few rows (AVX2):
docs/performance.md has the figures. The maker of the processor decides, not a timing test, so a machine
returns the same results in each run.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional

from autotag.config.fast_paths import say_not_used
from autotag.models.loading.int8_linears import quantize_linears, replace_linears
from autotag.models.loading.processor import multiplies_slowly

if TYPE_CHECKING:
    from autotag.protocols import ModelRequest

_TOLERANCE = 1e-4
_MANY_ROWS = 128
_BLOCK = 16
"""Rows that oneDNN processes as one block. A large odd number of rows, such as the 577 of one image in BLIP,
takes 1.4 times as long with AVX2."""


def linear_of(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """Return a linear layer that shares these weights, for inference only."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def packed_matrix(matrix: torch.Tensor) -> torch.Tensor:
    """Return an (N, K) matrix, float32 on a CPU, in oneDNN's layout, which only ``product`` can read.

    Both use private operators of torch, so they are tested before use.
    """
    return cast("torch.Tensor", torch.ops.mkldnn._reorder_linear_weight(matrix))  # noqa: SLF001 - tried at load


def product(rows: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Multiply (..., K) rows by an (N, K) matrix to (..., N).

    A matrix that is not packed must be contiguous by rows or by columns; otherwise this takes a thousand
    times as long.
    """
    return cast(
        "torch.Tensor",
        torch.ops.mkldnn._linear_pointwise(rows, matrix, bias, "none", [], ""),  # noqa: SLF001 - tried at load
    )


class PackedLinear(nn.Module):
    """A linear layer in the layout that torch's compiler uses, for inference only: no state.

    Gradients flow to its input, slowly, and not to its weights.

    Args:
        linear: the layer whose weight (float32, on a CPU) is copied into the new layout.
    """

    int8_original_dtype = torch.float32  # open_clip reads this from a layer without a weight

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.bias = linear.bias
        self._packed = packed_matrix(linear.weight.detach())

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) float32 to (..., out_features) float32."""
        if torch.is_grad_enabled() and rows.requires_grad:
            return functional.linear(rows, self._packed.to_dense(), self.bias)
        count = rows.shape[:-1].numel()
        if count < _MANY_ROWS or count % 2 == 0:
            return product(rows, self._packed, self.bias)
        filled_up = functional.pad(rows.reshape(count, -1), (0, 0, 0, -count % _BLOCK))
        return product(filled_up, self._packed, self.bias)[:count].view(*rows.shape[:-1], -1)


def pack_linears(module: nn.Module, *, besides: tuple[type[nn.Module], ...] = ()) -> int:
    """Replace a module's linear layers by packed ones, on processors where that is faster.

    This changes only float32 layers on a CPU, and only ``torch.nn.Linear`` itself, because other code may
    read the weight of a subclass. A packed layer has no ``weight``: the module can no longer be saved, and
    the memory of the original is freed unless something else (tied embeddings) shares it.

    Args:
        module: a module for inference, which will not be trained again.
        besides: classes of modules that read the weights of their layers instead of calling them; those
            layers are not changed.

    Returns:
        The number of packed layers.
    """
    return replace_linears(module, PackedLinear, besides=besides) if packing_gains() else 0


def prepare_linears(
    module: nn.Module, request: ModelRequest, *, besides: tuple[type[nn.Module], ...] = ()
) -> None:
    """Make a loaded model's linear layers what is asked for: int8, packed, or as they are.

    Args:
        module: a module for inference.
        request: its ``dtype`` and ``fast_paths`` count.
        besides: as for ``pack_linears``.

    Raises:
        ConfigError: the installed torch does not multiply in int8.
    """
    if request.dtype == "int8":
        quantize_linears(module, besides=besides)
    elif request.fast_paths.packed_linears:
        pack_linears(module, besides=besides)


def packing_gains() -> bool:
    """Return whether packed linear layers in float32 are faster on this CPU and available in this torch."""
    return multiplies_slowly() and _fits()


@lru_cache(maxsize=1)
def _fits() -> bool:
    """Return whether the installed torch packs layers with the same results; if not, warn once."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    fault = _fault()
    if fault is not None:
        say_not_used("packed_linears", f"torch's own layout for linear layers {fault}")
    return fault is None


@torch.no_grad()
def _fault() -> str | None:
    """Return why packed layers do not fit, tested on a small one, or None."""
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
