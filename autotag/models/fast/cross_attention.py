"""Attention of a text decoder to its image, with keys and values projected once, or never; and to its words.

The second, "absorbed" kind is explained in ``blip_generation``. On a GPU, products of matrices take the place
of torch's fused attention where there are few queries: for half precision on recent ones torch prefers cuDNN,
which makes a plan for each shape, and every token more is another shape. (Others report twenty milliseconds
and more for a plan; it was not measured here.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn import functional

from autotag.models.fast.packed_attention import ImageStates, StackedStates, image_states

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_MANY_HEADS = 384
"""Rows times heads from which on a CPU attends to words by element, which is sooner then, by trial."""


class CrossLayer(Protocol):
    """The projections of one layer's attention to images of (N, E) states; W = heads * D is its width.

    Attributes:
        heads: of the attention.
        cross_key: (B, N, E) states to (B, N, W) keys.
        cross_value: (B, N, E) states to (B, N, W) values.
        key_weight: (heads, D, E), the weight of ``cross_key``, whose bias the softmax does not see.
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
    """Attention to images whose keys and values are never projected."""

    def __init__(self, states: ImageStates, layers: Sequence[CrossLayer]) -> None:
        self._states = states
        self._layers = layers

    @property
    def count(self) -> int:
        """How many images there are."""
        return self._states.count

    def attend(self, index: int, query: torch.Tensor) -> torch.Tensor:
        """(B, Q, heads, D) queries of layer ``index`` to what they see, (B, Q, heads * D)."""
        layer, (batch, queries, heads, size) = self._layers[index], query.shape
        by_head = (query * size**-0.5).reshape(-1, heads, size).transpose(0, 1)
        absorbed = torch.bmm(by_head, layer.key_weight).view(heads, batch, queries, -1)
        seen = self._states.attend(absorbed.transpose(0, 1).reshape(batch, heads * queries, -1))
        seen = seen.view(batch, heads, queries, -1)
        values = torch.bmm(seen.transpose(0, 1).reshape(heads, batch * queries, -1), layer.value_weight)
        values = values.transpose(0, 1).reshape(batch, queries, -1)
        return values.add_(layer.value_bias)

    def take(self, images: torch.Tensor) -> None:
        """Image i becomes what image ``images[i]`` was."""
        self._states.take(images)


class ProjectedAttention:
    """Attention to images whose keys and values are projected once: the better for many tokens or beams."""

    def __init__(self, states: torch.Tensor, layers: Sequence[CrossLayer]) -> None:
        self._keys = [by_head(layer.cross_key(states), layer.heads).contiguous() for layer in layers]
        self._values = [by_head(layer.cross_value(states), layer.heads).contiguous() for layer in layers]
        fused = states.device.type == "cpu" and states.dtype != torch.float32
        self._attend: Callable[..., torch.Tensor] = (
            functional.scaled_dot_product_attention if fused else by_products
        )

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self._keys[0])

    def attend(self, index: int, query: torch.Tensor) -> torch.Tensor:
        """(B, Q, heads, D) queries of layer ``index`` to what they see, (B, Q, heads * D)."""
        seen = self._attend(query.transpose(1, 2), self._keys[index], self._values[index])
        return seen.transpose(1, 2).flatten(2)

    def take(self, images: torch.Tensor) -> None:
        """Image i becomes what image ``images[i]`` was."""
        self._keys = [keys.index_select(0, images) for keys in self._keys]
        self._values = [values.index_select(0, images) for values in self._values]


def by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """What ``scaled_dot_product_attention`` gives, mask included; for few queries sooner."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.mT)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.matmul(scores.softmax(-1), value)


def attend_to_words(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """(R, heads, T, D) queries of new tokens to what they see of all, of the same shape.

    Args:
        query: of new tokens.
        keys: (L, R, heads * D), of all tokens.
        values: of the same shape.
        mask: bool, what each token sees; None for itself and those before it.
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
    """(R, heads, 1, D) queries and (L, R, heads, D) keys and values to (R, heads, 1, D).

    On a CPU, fused attention goes through rows and heads one at a time, and here through positions.
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
    """Attention to images, of the kind that is cheaper.

    Args:
        states: (B, N, E) of the images.
        layers: that attend to them.
        tokens: how many there will be per image, of all rows together.
        packed: whether oneDNN's product may be tried.
    """
    count, encoded = states.shape[1:]
    width, heads = len(layers[0].value_bias), layers[0].heads
    projecting = count * encoded * width + tokens * count * width
    absorbing = tokens * encoded * (width + heads * count)
    if absorbing >= projecting:
        return ProjectedAttention(states, layers)
    return AbsorbedAttention(image_states(states) if packed else StackedStates(states), layers)


def by_head(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, N, heads * D) to (B, heads, N, D)."""
    return rows.view(*rows.shape[:2], heads, -1).transpose(1, 2)
