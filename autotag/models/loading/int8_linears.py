"""Linear layers in int8 on a CPU: weights are rounded once, their input in each call.

A weight has one scale for each output, and its int8 numbers are symmetric around 0. Input is rounded to
uint8: many rows of one image share a scale and a zero point, others have a scale for each row. So an image's
result does not depend on the other images of its batch. oneDNN multiplies, and adds in int32. This is dynamic
quantisation with the affine scheme of Jacob et al. 2018, "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference".
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional

from autotag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_MANY_ROWS = 128
"""From so many rows of an image, they share a scale: one for each row would take as long as the product."""
_LARGEST = 127
_MOST_LEVELS = 255
_TOLERANCE = 0.03  # of the largest result of the small product that is tried
_SMALLEST_SCALE = 1e-12


class Int8Linear(nn.Module):
    """A linear layer in int8, for inference only: no state.

    Gradients flow to its input, slowly, and not to its weights.

    Args:
        linear: the layer whose weight (float32, on a CPU) is rounded.
    """

    int8_original_dtype = torch.float32  # open_clip reads this from a layer without a weight

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.bias = linear.bias
        weight = linear.weight.detach()
        self._scales = (weight.abs().amax(1) / _LARGEST).clamp_min(_SMALLEST_SCALE)
        rounded = (weight / self._scales[:, None]).round().to(torch.int8)
        self._zeros = torch.zeros(self.out_features, dtype=torch.int64)
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, None)

    @property
    def weight(self) -> torch.Tensor:
        """Return the (out_features, in_features) float32 weight, computed from int8 each time."""
        return cast("torch.Tensor", self._packed.to_dense().T.float() * self._scales[:, None])

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) float32 to (..., out_features) float32."""
        if torch.is_grad_enabled() and rows.requires_grad:
            return functional.linear(rows, self.weight, self.bias)
        if rows.dim() == 3 and rows.shape[1] >= _MANY_ROWS and len(rows):
            return torch.stack([self._many(image) for image in rows.contiguous()])
        few = self._few(rows.reshape(-1, self.in_features))
        return few.view(*rows.shape[:-1], self.out_features)

    def _many(self, rows: torch.Tensor) -> torch.Tensor:
        low, high = (float(bound) for bound in torch.aminmax(rows))
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / _MOST_LEVELS, _SMALLEST_SCALE)
        zero = round(-low / scale)
        # Half a level is added because the conversion cuts fractions off.
        rounded = torch.add(torch.tensor(zero + 0.5), rows, alpha=1 / scale).to(torch.uint8)
        return self._product(rounded, scale, zero, self.bias)

    def _few(self, rows: torch.Tensor) -> torch.Tensor:
        if not len(rows):
            return rows.new_empty(0, self.out_features)
        scales = (rows.abs().amax(1, keepdim=True) / _LARGEST).clamp_min(_SMALLEST_SCALE)
        zero = _LARGEST + 1
        rounded = torch.addcmul(torch.tensor(zero + 0.5), rows, scales.reciprocal()).to(torch.uint8)
        found = self._product(rounded, 1.0, zero, None)
        return found.mul_(scales) if self.bias is None else torch.addcmul(self.bias, found, scales)

    def _product(
        self, rows: torch.Tensor, scale: float, zero: int, bias: torch.Tensor | None
    ) -> torch.Tensor:
        return cast(
            "torch.Tensor",
            torch.ops.onednn.qlinear_pointwise(
                rows, scale, zero, self._packed, self._scales, self._zeros, bias,
                1.0, 0, torch.float32, "none", [], "",
            ),
        )  # fmt: skip


def quantize_linears(module: nn.Module, *, besides: tuple[type[nn.Module], ...] = ()) -> int:
    """Replace a module's linear layers by int8 ones.

    The module can no longer be saved or trained.

    Args:
        module: a module for inference, in float32 on a CPU.
        besides: classes of modules that read the weights of their layers instead of calling them; those
            layers are not changed.

    Returns:
        The number of layers.

    Raises:
        ConfigError: the installed torch does not multiply in int8.
    """
    fault = _fault()
    if fault is not None:
        raise ConfigError(
            f"dtype 'int8' was asked for, and torch {torch.__version__} {fault}; use dtype='float32'"
        )
    return replace_linears(module, Int8Linear, besides=besides)


def has_int8_layers(module: nn.Module) -> bool:
    """Return whether linear layers of a module are int8."""
    return any(isinstance(part, Int8Linear) for part in module.modules())


def replace_linears(
    module: nn.Module, make: Callable[[nn.Linear], nn.Module], *, besides: tuple[type[nn.Module], ...] = ()
) -> int:
    """Replace a module's linear layers in float32 on a CPU; return how many there are.

    Only ``torch.nn.Linear`` itself is replaced, because other code may read the weight of a subclass.

    Args:
        module: what to look through.
        make: returns the new layer; a layer that stands in several places is made once.
        besides: classes of modules whose own layers stay.
    """
    made: dict[int, nn.Module] = {}
    for parent in list(module.modules()):
        if isinstance(parent, besides):
            continue
        for name, child in list(parent.named_children()):
            if _can_be_replaced(child):
                if id(child) not in made:
                    with torch.no_grad():
                        made[id(child)] = make(cast("nn.Linear", child)).eval()
                setattr(parent, name, made[id(child)])
    return len(made)


def _can_be_replaced(module: nn.Module) -> bool:
    return (
        type(module) is nn.Linear
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
    )


@lru_cache(maxsize=1)
@torch.no_grad()
def _fault() -> str | None:
    """Return why int8 layers do not work, tested on a small one, or None."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(48, 80)
    linear.weight.copy_(torch.randn(80, 48, generator=generator))
    rows: Any = torch.randn(2, _MANY_ROWS, 48, generator=generator)
    try:
        layer = Int8Linear(linear)
        given = [layer(rows), layer(rows[:, :1])]
    except (RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
        return f"does not multiply in it: {str(error).splitlines()[0]}"
    expected = [linear(rows), linear(rows[:, :1])]
    for one, other in zip(given, expected, strict=True):
        if one.shape != other.shape or (one - other).abs().max() > _TOLERANCE * other.abs().max():
            return "gives other results in it"
    return None
