"""Attention of a text decoder to its image and to its own words.

Keys and values of the image are projected once, or not at all: ``blip_generation`` explains this "absorbed"
attention. On a GPU, matrix products replace torch's fused attention where there are few queries: in half
precision on recent GPUs torch prefers cuDNN, which makes a plan for each shape, and every further token
changes the shape. (Others report twenty milliseconds and more for a plan; it was not measured here.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn import functional

from autotag.models.fast.packed_attention import ImageStates, StackedStates, image_states

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_MANY_HEADS = 384
"""At this many rows x heads, element-wise attention is faster on a CPU (measured)."""


class CrossLayer(Protocol):
    """The projections of one layer's attention to images of (N, E) states; W = heads * D is its width.

    Attributes:
        heads: number of attention heads.
        cross_key: (B, N, E) states -> (B, N, W) keys.
        cross_value: (B, N, E) states -> (B, N, W) values.
        key_weight: (heads, D, E), the weight of ``cross_key``; its bias cancels in the softmax.
        value_weight: (heads, E, D), the weight of ``cross_value``.
        value_bias: (W,), its bias.
    """

    heads: int
    cross_key: Any
    cross_value: Any
    key_weight: torch.Tensor
    value_weight: torch.Tensor
    value_bias: torch.Tensor


class AbsorbedAttention:
    """Attend to images without projecting keys and values."""

    def __init__(self, states: ImageStates, layers: Sequence[CrossLayer]) -> None:
        self._states = states
        self._layers = layers

    @property
    def count(self) -> int:
        """Return the number of images."""
        return self._states.count

    def attend(self, index: int, query: torch.Tensor) -> torch.Tensor:
        """Return the (B, Q, heads * D) attended values for (B, Q, heads, D) queries of layer ``index``."""
        layer, (batch, queries, heads, size) = self._layers[index], query.shape
        by_head = (query * size**-0.5).reshape(-1, heads, size).transpose(0, 1)
        absorbed = torch.bmm(by_head, layer.key_weight).view(heads, batch, queries, -1)
        seen = self._states.attend(absorbed.transpose(0, 1).reshape(batch, heads * queries, -1))
        seen = seen.view(batch, heads, queries, -1)
        values = torch.bmm(seen.transpose(0, 1).reshape(heads, batch * queries, -1), layer.value_weight)
        values = values.transpose(0, 1).reshape(batch, queries, -1)
        return values.add_(layer.value_bias)

    def take(self, images: torch.Tensor) -> None:
        """Replace image i by image ``images[i]``."""
        self._states.take(images)


class ProjectedAttention:
    """Attend to images with keys and values projected once: better for many tokens or beams."""

    def __init__(self, states: torch.Tensor, layers: Sequence[CrossLayer]) -> None:
        self._keys = [by_head(layer.cross_key(states), layer.heads).contiguous() for layer in layers]
        self._values = [by_head(layer.cross_value(states), layer.heads).contiguous() for layer in layers]
        fused = states.device.type == "cpu" and states.dtype != torch.float32
        self._attend: Callable[..., torch.Tensor] = (
            functional.scaled_dot_product_attention if fused else by_products
        )

    @property
    def count(self) -> int:
        """Return the number of images."""
        return len(self._keys[0])

    def attend(self, index: int, query: torch.Tensor) -> torch.Tensor:
        """Return the (B, Q, heads * D) attended values for (B, Q, heads, D) queries of layer ``index``."""
        seen = self._attend(query.transpose(1, 2), self._keys[index], self._values[index])
        return seen.transpose(1, 2).flatten(2)

    def take(self, images: torch.Tensor) -> None:
        """Replace image i by image ``images[i]``."""
        self._keys = [keys.index_select(0, images) for keys in self._keys]
        self._values = [values.index_select(0, images) for values in self._values]


def by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the same as ``scaled_dot_product_attention``, mask included; faster for few queries."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.mT)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.matmul(scores.softmax(-1), value)


def attend_to_words(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Return the (R, heads, T, D) attended values of new tokens.

    Args:
        query: (R, heads, T, D) queries of the new tokens.
        keys: (L, R, heads * D) keys of all tokens.
        values: values of all tokens, of the same shape.
        mask: bool, the tokens that each token sees; None for itself and earlier ones.
    """
    rows, heads, new, _ = query.shape
    keys, values = (states.view(*states.shape[:2], heads, -1) for states in (keys, values))
    on_cpu = query.device.type == "cpu" and query.dtype == torch.float32
    if on_cpu and new == 1 and mask is None and rows * heads >= _MANY_HEADS:
        return _by_element(query, keys, values)
    key, value = keys.permute(1, 2, 0, 3), values.permute(1, 2, 0, 3)
    if new == 1 and query.is_cuda:
        return by_products(query, key, value, mask)
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None and new > 1
    )


def _by_element(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the (R, heads, 1, D) result for (R, heads, 1, D) queries and (L, R, heads, D) keys and values.

    On a CPU, fused attention loops over rows and heads; this loops over positions.
    """
    query = query.squeeze(2)
    scores: torch.Tensor = torch.linalg.vecdot(query * query.shape[-1] ** -0.5, keys)
    weights = scores.softmax(0)[..., None]
    seen = weights[0] * values[0]
    for place in range(1, len(values)):
        seen.addcmul_(weights[place], values[place])
    return seen.unsqueeze(2)


CrossAttention = AbsorbedAttention | ProjectedAttention


def cheaper_attention(
    states: torch.Tensor, layers: Sequence[CrossLayer], *, tokens: int, packed: bool
) -> CrossAttention:
    """Return the cheaper kind of attention to images.

    Args:
        states: (B, N, E) states of the images.
        layers: the layers that attend to them.
        tokens: expected tokens per image, over all its rows.
        packed: whether oneDNN's product may be used.
    """
    count, encoded = states.shape[1:]
    width, heads = len(layers[0].value_bias), layers[0].heads
    projecting = count * encoded * width + tokens * count * width
    absorbing = tokens * encoded * (width + heads * count)
    if absorbing >= projecting:
        return ProjectedAttention(states, layers)
    return AbsorbedAttention(image_states(states) if packed else StackedStates(states), layers)


def by_head(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Split (B, N, heads * D) into (B, heads, N, D)."""
    return rows.view(*rows.shape[:2], heads, -1).transpose(1, 2)
