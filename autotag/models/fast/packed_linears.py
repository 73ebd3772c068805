"""Linear layers on a CPU whose weights lie in oneDNN's own layout.

``torch.nn.functional.linear`` hands a weight to the BLAS library row by row, each time anew. oneDNN
multiplies by a weight that it has once laid out as it likes, in float32 and with the same products, and on
some CPUs takes less than half the time; on others it gains nothing. So a trial of a few milliseconds
decides, for each shape of layer.
"""

from __future__ import annotations

import time
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional

from autotag.models.fast.fast_paths import say_not_used

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ROWS = 64
"""Rows of input in a trial: enough that the layout matters more than the call."""
_TRIAL_SECONDS = 0.02
_GAIN = 1.15
"""How many times sooner than the plain layer a packed one has to be."""
_TOLERANCE = 1e-5


def linear_of(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """A layer by these weights, which it shares, for inference only."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def packed_matrix(matrix: torch.Tensor) -> torch.Tensor:
    """An (N, K) matrix, float32 on a CPU, in oneDNN's layout: only ``product`` knows what to do with it.

    Both are private to torch: try them before they are relied on.
    """
    return cast("torch.Tensor", torch.ops.mkldnn._reorder_linear_weight(matrix))  # noqa: SLF001 - tried at load


def product(rows: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """(..., K) rows by an (N, K) matrix to (..., N).

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
        return product(rows, self._packed, self.bias)


class MkldnnLinear(nn.Module):
    """The same by torch's public ``to_mkldnn``, which also copies what goes in and what comes out.

    Args:
        linear: the layer whose weight (float32, on a CPU) is copied into the new layout.
    """

    int8_original_dtype = torch.float32  # open_clip asks a layer that has no weight for this

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self._weight = linear.weight.detach().to_mkldnn()
        self._bias = None if linear.bias is None else linear.bias.detach().to_mkldnn()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., in_features) float32 to (..., out_features) float32."""
        flat = rows.reshape(-1, self.in_features).contiguous()
        if not len(flat):  # which oneDNN refuses
            return rows.new_empty(*rows.shape[:-1], self.out_features)
        out = functional.linear(flat.to_mkldnn(), self._weight, self._bias).to_dense()
        return out.view(*rows.shape[:-1], self.out_features)


_Packed = type[PackedLinear] | type[MkldnnLinear]


def pack_linears(module: nn.Module, *, besides: tuple[type[nn.Module], ...] = ()) -> int:
    """Puts packed layers in the place of a module's linear layers, where a trial shows a gain.

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
    packed: dict[int, nn.Module] = {}
    for parent in list(module.modules()):
        if isinstance(parent, besides):
            continue
        for name, child in list(parent.named_children()):
            if _can_be_packed(child):
                if id(child) not in packed:
                    packed[id(child)] = _packed(cast("nn.Linear", child))
                setattr(parent, name, packed[id(child)])
    return sum(not isinstance(layer, nn.Linear) for layer in packed.values())


def packing_gains(in_features: int, out_features: int) -> bool:
    """Whether a trial shows a gain for linear layers of this shape, float32 on this CPU."""
    return _best_layout(in_features, out_features) is not None


def _can_be_packed(module: nn.Module) -> bool:
    return (
        type(module) is nn.Linear
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
    )


@torch.no_grad()
def _packed(linear: nn.Linear) -> nn.Module:
    kind = _best_layout(linear.in_features, linear.out_features)
    return linear if kind is None else kind(linear).eval()


@lru_cache(maxsize=1024)
def _best_layout(in_features: int, out_features: int) -> _Packed | None:
    """The layout to use for layers of this shape, None where it gains nothing."""
    kind = _layout()
    if kind is None:
        return None
    linear = _seeded(in_features, out_features)
    rows = torch.randn(_ROWS, in_features, generator=torch.Generator().manual_seed(1))
    plain, packed = shortest_seconds([partial(layer, rows) for layer in (linear, kind(linear))])
    return kind if plain > _GAIN * packed else None


def _seeded(in_features: int, out_features: int) -> nn.Linear:
    """A layer whose outputs are about 1 for inputs of about 1; torch's own random state is left alone."""
    linear = nn.Linear(in_features, out_features, device="meta").to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    linear.weight.data.normal_(generator=generator).mul_(in_features**-0.5)
    linear.bias.data.normal_(generator=generator)
    return linear


def shortest_seconds(ways: Sequence[Callable[[], object]]) -> list[float]:
    """What each way takes at best; they take turns, so that a busy moment hits all."""
    shortest = [float("inf")] * len(ways)
    end = time.perf_counter() + _TRIAL_SECONDS
    rounds = 0
    while rounds < 3 or time.perf_counter() < end:
        for index, way in enumerate(ways):
            start = time.perf_counter()
            way()
            shortest[index] = min(shortest[index], time.perf_counter() - start)
        rounds += 1
    return shortest


@lru_cache(maxsize=1)
def _layout() -> _Packed | None:
    """The layout that this torch has and that gives what the plain layer gives, None where it has none.

    The public one does the same and copies more: it is for a torch that has no other.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    wrong = _fault(PackedLinear)
    if wrong is None:
        return PackedLinear
    say_not_used(
        "packed_linears", f"torch's own layout for linear layers {wrong}; its public one is tried instead"
    )
    wrong = _fault(MkldnnLinear)
    if wrong is None:
        return MkldnnLinear
    say_not_used("packed_linears", f"torch's to_mkldnn {wrong}")
    return None


@torch.no_grad()
def _fault(kind: Callable[[nn.Linear], nn.Module]) -> str | None:
    """What is wrong with a layout, tried on a small layer; None if nothing is."""
    linear = _seeded(48, 80)
    rows: Any = torch.randn(3, 5, 48, generator=torch.Generator().manual_seed(1))
    try:
        given = kind(linear)(rows)
    except (RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
        return f"does not work: {str(error).splitlines()[0]}"
    if given.shape != (3, 5, 80) or not torch.allclose(given, linear(rows), atol=_TOLERANCE):
        return "gives other values"
    return None
