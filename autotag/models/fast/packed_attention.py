"""Attention on a CPU, in float32, by oneDNN's matrix product.

torch multiplies two activations with its BLAS library, even on CPUs where oneDNN takes half the time (see
``packed_linears``). oneDNN's product is that of a linear layer: the second matrix takes the place of the
layer's weight, one matrix at a time, so this loops over images and over heads with their own keys. It is
faster for many tokens, on CPUs with AVX-512 where torch's own products are slow.

Each plain way has a packed counterpart: ``fused`` and ``head_by_head`` for the attention of tokens to each
other, ``StackedStates`` and ``PackedStates`` for the attention of words to the states of an image.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch.nn import functional

from autotag.config.fast_paths import say_not_used
from autotag.models.fast.packed_linears import packed_matrix, product
from autotag.models.loading.processor import has_avx512, multiplies_slowly

SelfAttention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""(B, heads, N, D) queries, keys and values, and the scale of the scores -> (B, N, heads * D)."""

_MANY_TOKENS = 128
"""Tokens from which the overhead of one call per head and image is negligible."""
_TOLERANCE = 1e-4


def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Attend by torch's ``scaled_dot_product_attention``; a ``SelfAttention``."""
    seen = functional.scaled_dot_product_attention(query, key, value, scale=scale)
    return seen.transpose(1, 2).flatten(2)


def head_by_head(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Attend by oneDNN's products, for float32 on a CPU; a ``SelfAttention``."""
    batch, heads, tokens, size = query.shape
    key, value = key.clone(memory_format=torch.contiguous_format).mul_(scale), value.contiguous()
    seen = query.new_empty(batch, tokens, heads, size)
    for image in range(batch):
        for head in range(heads):
            weights = product(query[image, head], key[image, head]).softmax(-1)
            seen[image, :, head] = product(weights, value[image, head].T)
    return seen.flatten(2)


def self_attention(tokens: int, like: torch.Tensor) -> SelfAttention:
    """Return the faster function for this many tokens, on the device and in the dtype of ``like``."""
    return head_by_head if _gains(tokens, like) else fused


class ImageStates(Protocol):
    """The states of images that words attend to; they are both keys and values."""

    @property
    def count(self) -> int:
        """Return the number of images."""
        ...

    def attend(self, queries: torch.Tensor) -> torch.Tensor:
        """Return (B, R, E) means of the states, weighted by their similarity to the (B, R, E) queries."""
        ...

    def take(self, images: torch.Tensor) -> None:
        """Replace image i by image ``images[i]``."""
        ...


class StackedStates:
    """Attend to images by torch's batched product.

    Args:
        states: (B, N, E) states.
    """

    def __init__(self, states: torch.Tensor) -> None:
        self._states = states

    @property
    def count(self) -> int:
        """Return the number of images."""
        return len(self._states)

    def attend(self, queries: torch.Tensor) -> torch.Tensor:
        """Map (B, R, E) queries to (B, R, E) means of the states."""
        return torch.bmm(torch.bmm(queries, self._states.mT).softmax(-1), self._states)

    def take(self, images: torch.Tensor) -> None:
        """Replace image i by image ``images[i]``."""
        self._states = self._states.index_select(0, images)


class PackedStates:
    """Attend to images by oneDNN's products. The keys are packed once; the values are used unpacked.

    Args:
        states: (B, N, E) float32 states on a CPU.
    """

    def __init__(self, states: torch.Tensor) -> None:
        self._values = list(states)
        self._keys = [packed_matrix(image) for image in states]

    @property
    def count(self) -> int:
        """Return the number of images."""
        return len(self._keys)

    def attend(self, queries: torch.Tensor) -> torch.Tensor:
        """Map (B, R, E) queries to (B, R, E) means of the states."""
        seen = torch.empty_like(queries)
        for image, (keys, values) in enumerate(zip(self._keys, self._values, strict=True)):
            seen[image] = product(product(queries[image], keys).softmax(-1), values.T)
        return seen

    def take(self, images: torch.Tensor) -> None:
        """Replace image i by image ``images[i]``."""
        places = images.tolist()
        self._keys = [self._keys[place] for place in places]
        self._values = [self._values[place] for place in places]


def image_states(states: torch.Tensor) -> ImageStates:
    """Return the faster kind of ``ImageStates`` for (B, N, E) states."""
    return PackedStates(states) if _gains(states.shape[1], states) else StackedStates(states)


def _gains(tokens: int, like: torch.Tensor) -> bool:
    """Return whether oneDNN's product is faster on this tensor's device and in its dtype."""
    in_float32 = like.device.type == "cpu" and like.dtype == torch.float32
    return in_float32 and tokens >= _MANY_TOKENS and multiplies_slowly() and has_avx512() and _fits()


@lru_cache(maxsize=1)
def _fits() -> bool:
    """Return whether the installed torch has the product with the same results; if not, warn once."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    fault = _fault()
    if fault is not None:
        say_not_used("packed_attention", f"torch's product of packed matrices {fault}")
    return fault is None


@torch.inference_mode()
def _fault() -> str | None:
    """Return why the packed functions do not fit, tested on small matrices, or None."""
    query, key, value = (_seeded(2, 3, 7, 8, seed=seed) for seed in range(3))
    states, asked = _seeded(2, 7, 8), _seeded(2, 5, 8)
    try:
        pairs = [
            (fused(query, key, value, 0.3), head_by_head(query, key, value, 0.3)),
            (StackedStates(states).attend(asked), PackedStates(states).attend(asked)),
        ]
    except (RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
        return f"does not work: {str(error).splitlines()[0]}"
    if any(
        one.shape != other.shape or not torch.allclose(one, other, atol=_TOLERANCE) for one, other in pairs
    ):
        return "gives other values"
    return None


def _seeded(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
