"""Fused attention of torch for BLIP's image tower, which transformers does not offer.

The plain module stores the attention weights of all pairs of tokens (577 x 577 x 12 per layer and image);
``scaled_dot_product_attention`` returns the same result without storing them. On a CPU where
``packed_attention`` is even faster, the weights are stored for one head at a time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import nn
from transformers.models.blip import modeling_blip

from autotag.config.fast_paths import say_not_used
from autotag.models.fast.packed_attention import SelfAttention, fused, self_attention

if TYPE_CHECKING:
    from transformers.models.blip.modeling_blip import BlipVisionModel

_TOLERANCE = 1e-4


class FastBlipAttention(nn.Module):
    """Replace transformers' ``BlipAttention``, sharing its weights.

    Args:
        plain: the module to replace.
        attend: the attention function.
    """

    def __init__(self, plain: Any, attend: SelfAttention = fused) -> None:
        super().__init__()
        self.attend = attend
        self.num_heads = plain.num_heads
        self.scale = plain.scale
        self.qkv = plain.qkv
        self.projection = plain.projection

    def forward(self, hidden_states: torch.Tensor, **_: object) -> tuple[torch.Tensor, None]:
        """Map (B, N, D) to (B, N, D), and return None in place of the plain module's attention weights."""
        split = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        return self.projection(self.attend(query, key, value, self.scale)), None


def fuse_attention(tower: BlipVisionModel, *, packed: bool = False) -> bool:
    """Put fused attention into an image tower, for inference.

    If the installed transformers does not fit, leave the tower unchanged and log one warning that says why.

    Args:
        tower: on its device and in its dtype.
        packed: whether oneDNN's product may be used, see ``packed_attention``.

    Returns:
        Whether the tower was changed.
    """
    fault = _fault()
    if fault is not None:
        say_not_used("blip_attention", fault)
        return False
    _fuse(tower, _self_attention(tower) if packed else fused)
    return True


def _self_attention(tower: Any) -> SelfAttention:
    """Return the faster attention function for the tokens of a tower."""
    return self_attention(tower.embeddings.num_positions, tower.embeddings.position_embedding)


def _fuse(tower: Any, attend: SelfAttention = fused) -> None:
    for layer in tower.encoder.layers:
        if type(layer.self_attn) is not modeling_blip.BlipAttention:
            raise TypeError(f"expected a BlipAttention, not a {type(layer.self_attn).__name__}")
        layer.self_attn = FastBlipAttention(layer.self_attn, attend)


@lru_cache(maxsize=1)
@torch.no_grad()
def _fault() -> str | None:
    """Return why fused attention does not fit the installed transformers, tested on a tiny tower, or None."""
    version = f"transformers {transformers.__version__}"
    config = transformers.BlipVisionConfig(
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    try:
        with torch.random.fork_rng(devices=[]):
            tower: Any = modeling_blip.BlipVisionModel(config)
            tower.eval()
        generator = torch.Generator().manual_seed(0)
        for parameter in tower.parameters():
            parameter.normal_(generator=generator)
        pixels = torch.randn(2, 3, 8, 8, generator=generator)
        expected = tower(pixel_values=pixels)[0]
        _fuse(tower)
        given = tower(pixel_values=pixels)[0]
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        return f"the image tower of {version} has another structure: {error}"
    if not torch.allclose(given, expected, atol=_TOLERANCE, rtol=_TOLERANCE):
        return f"the image tower of {version} returns other values"
    return None
