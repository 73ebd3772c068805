"""Say where in an image an encoder sees a text: maps of three kinds of image towers.

- Convolutional towers with average pooling: each window of 3 x 3 places of the last feature map is pooled and
  embedded as if it were an image, and compared with the text. With a linear head this is a class activation
  map (Zhou et al. 2016, arXiv:1512.04150).
- Other convolutional towers: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) of the last feature map.
- Vision transformers: relevance through gradient-weighted attention (Chefer et al. 2021, arXiv:2103.15679),
  or the sum of gradient-weighted attention over all layers (Grad-SAM, Barkan et al. 2021, arXiv:2204.11073).

``benchmarks/explain.py`` compares them.
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from autotag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AttentionMethod = Literal["relevance", "grad_sam"]

_WINDOW = 3
_MULTI_HEAD = inspect.signature(functional.multi_head_attention_forward)


def cell_vectors(
    features: torch.Tensor, embed: Callable[[torch.Tensor], torch.Tensor], window: int = _WINDOW
) -> torch.Tensor:
    """Return (B, H, W, D) unit vectors: each window of a feature map, embedded as if it were an image.

    Args:
        features: (B, C, H, W), the last feature map of a tower with average pooling.
        embed: (N, C, 1, 1) pooled features -> (N, D) vectors.
        window: side of a window in places, odd; at the edges it is cut.
    """
    count, channels, height, width = features.shape
    pooled = functional.avg_pool2d(features, window, 1, window // 2, count_include_pad=False)
    places = pooled.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
    with torch.no_grad():
        return functional.normalize(embed(places).float(), dim=-1).view(count, height, width, -1)


def grad_cam(
    features: torch.Tensor, embed: Callable[[torch.Tensor], torch.Tensor], texts: torch.Tensor
) -> torch.Tensor:
    """Return (T, H, W) maps by Grad-CAM; negative where the image speaks against a text.

    Args:
        features: (1, C, H, W), the last feature map.
        embed: (1, C, H, W) features -> (1, D) vector; differentiable.
        texts: (T, D) unit vectors.
    """
    with torch.enable_grad():
        features = features.detach().clone().requires_grad_()
        cosines = _cosines(embed(features), texts)
        gradients = [torch.autograd.grad(one, features, retain_graph=True)[0] for one in cosines]
    return torch.cat(
        [(gradient.mean((2, 3), keepdim=True) * features).sum(1) for gradient in gradients]
    ).detach()


class AttentionRecord(TorchFunctionMode):
    """Compute attention explicitly while a tower runs, and keep each layer's (1, heads, L, S) probabilities.

    It stands for ``scaled_dot_product_attention`` and ``multi_head_attention_forward``, which all towers of
    open_clip, timm and transformers use; the results are the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.probabilities: list[torch.Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record the two functions of attention; pass on every other one."""
        if func is functional.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        if func is functional.multi_head_attention_forward:
            return self._multi_head(_MULTI_HEAD.bind(*args, **(kwargs or {})).arguments), None
        return func(*args, **(kwargs or {}))

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        *_: object,  # dropout, which is 0 in eval mode, and is_causal: image towers look at everything
        scale: float | None = None,
        **__: object,
    ) -> torch.Tensor:
        scores = query @ key.transpose(-2, -1) * (scale or 1 / math.sqrt(query.shape[-1]))
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        probabilities = scores.softmax(-1)
        self.probabilities.append(probabilities)
        return probabilities @ value

    def _multi_head(self, given: dict[str, Any]) -> torch.Tensor:
        query, key, value = given["query"], given["key"], given["value"]  # (L or S, B, E)
        heads, width = given["num_heads"], query.shape[-1]
        if given.get("use_separate_proj_weight"):
            weights = [given[f"{name}_proj_weight"] for name in "qkv"]
        else:
            weights = given["in_proj_weight"].chunk(3)
        biases = [None] * 3 if given["in_proj_bias"] is None else given["in_proj_bias"].chunk(3)
        queries, keys, values = (
            functional.linear(rows, weight, bias).reshape(*rows.shape[:-1], heads, -1).permute(1, 2, 0, 3)
            for rows, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        found = self._attend(queries, keys, values, given.get("attn_mask"))
        rows = found.permute(2, 0, 1, 3).reshape(len(query), -1, width)
        return functional.linear(rows, given["out_proj_weight"], given["out_proj_bias"])


def attention_maps(
    probabilities: Sequence[torch.Tensor],
    vector: torch.Tensor,
    texts: torch.Tensor,
    grid: tuple[int, int],
    *,
    has_class_token: bool,
    method: AttentionMethod = "relevance",
) -> torch.Tensor:
    """Return (T, H, W) maps of a vision transformer, none negative.

    Args:
        probabilities: of ``AttentionRecord``, (1, heads, L, S) for each layer; L = S but for a last layer
            that pools the tokens.
        vector: (1, D), computed from them, with its graph.
        texts: (T, D) unit vectors.
        grid: H, W: rows and columns of patches; they are the last tokens.
        has_class_token: whether the vector is made from the first token; else from all, or by the last layer.
        method: ``"relevance"`` by Chefer et al., or ``"grad_sam"``.
    """
    with torch.enable_grad():
        cosines = _cosines(vector, texts)
        gradients = [torch.autograd.grad(one, list(probabilities), retain_graph=True) for one in cosines]
    layers = [one.detach()[0] for one in probabilities]
    combine = _relevance if method == "relevance" else _grad_sam
    rows = [
        combine([layer * gradient[0] for layer, gradient in zip(layers, each, strict=True)], has_class_token)
        for each in gradients
    ]
    height, width = grid
    return torch.stack([row[-height * width :].view(height, width).float() for row in rows])


def _relevance(weighted: Sequence[torch.Tensor], has_class_token: bool) -> torch.Tensor:
    """Return the (S,) relevance of tokens, from (heads, L, S) gradient-weighted attention of each layer."""
    count = weighted[0].shape[-1]
    total = torch.eye(count, dtype=weighted[0].dtype, device=weighted[0].device)
    for layer in weighted:
        mean = layer.clamp(min=0).mean(0)
        if mean.shape[0] != count:
            return mean.sum(0) @ total
        total = total + mean @ total
    if not has_class_token:
        return total.mean(0) - 1 / count
    return total[0]


def _grad_sam(weighted: Sequence[torch.Tensor], has_class_token: bool) -> torch.Tensor:  # noqa: ARG001
    """Return the (S,) sums over heads, queries and layers of (heads, L, S) gradient-weighted attention."""
    return torch.stack([layer.clamp(min=0).mean(0).sum(0) for layer in weighted]).mean(0)


def not_known(encoder_id: str, why: str) -> ConfigError:
    """Return the error for an encoder without maps."""
    return ConfigError(
        f"encoder {encoder_id!r} cannot say where in an image it sees a text: {why}. Use another encoder, "
        "such as 'clip-vit-b-32' or 'clip-mini'."
    )


def _cosines(vector: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    return (functional.normalize(vector.float(), dim=-1) @ texts.T)[0]
