"""open_clip's attention as four linear layers, which can be packed.

``torch.nn.MultiheadAttention`` keeps the projections of queries, keys and values in one parameter that it
multiplies by itself: a third of a tower's arithmetic, and no layer that ``pack_linears`` could find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn
from torch.nn import functional

from autotag.models.fast.fast_paths import say_not_used
from autotag.models.fast.packed_linears import linear_of, packing_gains

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOLERANCE = 1e-5


class SplitAttention(nn.Module):
    """Takes the place of a ``MultiheadAttention`` of tokens to each other, with its weights; inference only.

    Args:
        plain: batch first, with biases.
    """

    def __init__(self, plain: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.embed_dim = plain.num_heads, plain.embed_dim
        weights, biases = cast("Any", plain.in_proj_weight).chunk(3), cast("Any", plain.in_proj_bias).chunk(3)
        self.q_proj, self.k_proj, self.v_proj = map(linear_of, weights, biases)
        self.out_proj = linear_of(plain.out_proj.weight, plain.out_proj.bias)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """(B, N, D) to (B, N, D), and None where the plain module may give its weights."""
        if need_weights:
            raise NotImplementedError("weights of the attention are not kept")
        query, key, value = (
            layer(rows).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, rows in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=self._mask(attn_mask))
        return self.out_proj(seen.transpose(1, 2).flatten(2)), None

    def _mask(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        """What is added to the scores: (N, N), or (B, heads, N, N) of a plain module's (B * heads, N, N)."""
        if mask is None:
            return None
        if mask.dtype == torch.bool:  # what is hidden; fused attention would take it for what is seen
            mask = torch.zeros_like(mask, dtype=torch.float32).masked_fill_(mask, float("-inf"))
        return mask if mask.ndim == 2 else mask.view(-1, self.num_heads, *mask.shape[1:])


def split_attention(model: nn.Module) -> int:
    """Splits the attention of open_clip's towers where packed layers gain by it; returns in how many layers.

    If a split layer gives something else, none is split, and one warning says so.

    Args:
        model: evaluated from now on, never trained.
    """
    blocks = list(_blocks(model))
    if not blocks:
        return 0
    fault = _fault(blocks[0].attn)
    if fault is not None:
        say_not_used("packed_linears", f"for open_clip's attention: {fault}")
        return 0
    for block in blocks:
        block.attn = SplitAttention(block.attn)
    return len(blocks)


def _blocks(model: nn.Module) -> Iterator[Any]:
    """The layers whose attention can be split, float32 on a CPU."""
    for block in model.modules():
        if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
            continue
        attention = block.attn
        if type(attention) is not nn.MultiheadAttention or not attention.batch_first:
            continue
        weight = attention.in_proj_weight
        plain = weight is not None and attention.in_proj_bias is not None and attention.bias_k is None
        if (
            plain
            and not attention.add_zero_attn
            and weight.device.type == "cpu"
            and weight.dtype == torch.float32
            and packing_gains(attention.embed_dim, attention.embed_dim)
        ):
            yield block


@torch.no_grad()
def _fault(plain: nn.MultiheadAttention) -> str | None:
    """What is wrong with a split layer, tried on a few tokens with masks and without; None if nothing is."""
    rows = torch.randn(2, 5, plain.embed_dim, generator=torch.Generator().manual_seed(0))
    causal = torch.full((5, 5), float("-inf")).triu_(1)
    each = causal.repeat(2 * plain.num_heads, 1, 1)
    each[: plain.num_heads, :, 1] = float("-inf")
    for mask in (None, causal, each, causal.bool()):
        try:
            expected, _ = plain(rows, rows, rows, need_weights=False, attn_mask=mask)
            given, _ = SplitAttention(plain)(rows, rows, rows, need_weights=False, attn_mask=mask)
        except (RuntimeError, AttributeError, TypeError) as error:
            return f"it cannot be split: {str(error).splitlines()[0]}"
        if not torch.allclose(given, expected, atol=_TOLERANCE * float(expected.abs().max().clamp(min=1))):
            return "split, it gives something else"
    return None
