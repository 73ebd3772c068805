"""CoCa's text decoder: the next token's logits from the tokens so far and the image.

open_clip calculates every token again for each token that is added. ``CachedDecoder`` keeps keys and values:
both towers are causal, so the states of earlier tokens do not change. The class token that open_clip appends
for the contrastive vector is left out, because other tokens do not see it. The attention to the image is that
of BLIP's loop (``cross_attention``): open_clip normalises the image's states again in each layer, by
``g * (x - mean) / deviation + b`` with the layer's own ``g`` and ``b``, which are merged into its projections
here.

``PlainDecoder`` makes open_clip's own calls.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, cast

import open_clip
import torch
from open_clip.transformer import MultimodalTransformer, ResidualAttentionBlock, TextTransformer
from torch import nn
from torch.nn import functional

from autotag.config.fast_paths import say_not_used
from autotag.models.fast.cross_attention import CrossAttention, attend_to_words, by_head, cheaper_attention
from autotag.models.fast.key_value_cache import KeyValueCache
from autotag.models.fast.packed_linears import linear_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.models.fast.beam_search import Writing

_TOLERANCE = 1e-4


class Decoder(Protocol):
    """A text decoder that starts captions for a batch of images.

    Attributes:
        context_length: most tokens of a text.
        vocabulary_size: number of different tokens.
        padding: the token that CoCa's texts are padded with.
    """

    context_length: int
    vocabulary_size: int
    padding: int

    def begin(self, states: torch.Tensor, *, rows: int, length: int, expected: int) -> Writing:
        """Start writing with one row for each image.

        Args:
            states: (I, N, E) states of the images.
            rows: largest number of rows.
            length: largest number of tokens in a row.
            expected: approximate number of tokens per image, to choose the cheaper attention.
        """
        ...


class PlainDecoder(nn.Module):
    """Decode with open_clip's own calls, which read all tokens each time.

    Args:
        model: an ``open_clip.CoCa``, in eval mode, on its device.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.text, self.decoder = model.text, model.text_decoder
        self.context_length: int = model.context_length
        self.vocabulary_size: int = model.text_decoder.text_projection.shape[1]
        self.padding: int = model.pad_id

    def begin(self, states: torch.Tensor, *, rows: int, length: int, expected: int) -> Writing:  # noqa: ARG002 - a Decoder
        """See ``Decoder``."""
        return _PlainWriting(self, states)

    def embeddings(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map (R, T) int64 tokens to the text tower's (R, T, W) output, the input of the decoder."""
        length = tokens.shape[1]
        if getattr(self.text, "cls_emb", True) is None:  # the tower then needs texts of full length
            tokens = functional.pad(tokens, (0, self.text.context_length - length), value=self.padding)
        _, embeddings = self.text(tokens)
        return cast("torch.Tensor", embeddings[:, :length])


class _PlainWriting:
    def __init__(self, decoder: PlainDecoder, states: torch.Tensor) -> None:
        self._decoder, self._states = decoder, states
        self._tokens = states.new_empty((len(states), 0), dtype=torch.int64)

    def next_logits(self, tokens: torch.Tensor) -> torch.Tensor:
        self._tokens = torch.cat([self._tokens, tokens], dim=1)
        embeddings = self._decoder.embeddings(self._tokens)
        states = self._states.repeat_interleave(len(tokens) // len(self._states), dim=0)
        return cast("torch.Tensor", self._decoder.decoder(states, embeddings)[:, -1].float())

    def take(self, rows: torch.Tensor, images: torch.Tensor | None = None) -> None:
        self._tokens = self._tokens[rows]
        if images is not None:
            self._states = self._states[images]


class CachedDecoder(nn.Module):
    """Decode with a cache, with weights shared with a CoCa. See ``cached_decoder``.

    Args:
        model: an ``open_clip.CoCa`` with open_clip's own causal text tower, in eval mode, on its device.
        packed: whether the attention to images may use oneDNN's product, see ``packed_attention``.
    """

    def __init__(self, model: Any, *, packed: bool = False) -> None:
        super().__init__()
        self._packed = packed
        text, decoder = model.text, model.text_decoder
        kind = text.transformer.get_cast_dtype()
        self.words, self.positions = text.token_embedding, text.positional_embedding.detach().to(kind)
        self.text_layers = nn.ModuleList(_Layer(block) for block in text.transformer.resblocks)
        # with a class token, open_clip does not normalise the tokens after the last layer
        self.text_norm = nn.Identity() if text.cls_emb is not None else text.ln_final
        self.layers = nn.ModuleList(_Layer(block) for block in decoder.resblocks)
        self.cross_layers = nn.ModuleList(_CrossLayer(block) for block in decoder.cross_attn)
        self.norm = decoder.ln_final
        self.head = linear_of(decoder.text_projection.T.to(kind), None)
        self.epsilon: float = decoder.cross_attn[0].ln_1_kv.eps
        self.context_length: int = model.context_length
        self.vocabulary_size: int = self.head.out_features
        self.padding: int = model.pad_id
        self.width: int = self.positions.shape[1]
        self.masks_padding = text.cls_emb is not None
        self.masked: int = text.pad_id  # may differ from the decoder's
        self.masks_padding_itself: bool = text.correct_cls_mask

    def begin(self, states: torch.Tensor, *, rows: int, length: int, expected: int) -> Writing:
        """See ``Decoder``."""
        normal = functional.layer_norm(states.float(), states.shape[-1:], eps=self.epsilon).to(states.dtype)
        layers = [cast("_CrossLayer", layer) for layer in self.cross_layers]
        images = cheaper_attention(normal, layers, tokens=expected, packed=self._packed)
        count = len(self.text_layers) + len(self.layers)
        cache = KeyValueCache(length, max(rows, len(states)), count, self.width, self.positions)
        cache.start(len(states))
        return _CachedWriting(self, images, cache, states.device)

    def forward(
        self,
        tokens: torch.Tensor,
        cache: KeyValueCache,
        images: CrossAttention,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Read (R, T) int64 new tokens; return the (R, V) float32 logits of the next token.

        Args:
            tokens: with as many rows as the cache.
            cache: keys and values of the earlier tokens.
            images: attention to the images; the rows of an image are adjacent.
            mask: (R, 1, T, L) bool, the tokens that each new token sees in the text tower; None for itself
                and all earlier ones.
        """
        new = tokens.shape[1]
        rows = self.words(tokens).to(self.positions.dtype) + cache.places(self.positions, new)
        for index, layer in enumerate(self.text_layers):
            rows = layer(rows, index, cache, mask)
        rows = self.text_norm(rows)
        start = len(self.text_layers)
        for index, (layer, cross) in enumerate(zip(self.layers, self.cross_layers, strict=True)):
            rows = cross(layer(rows, start + index, cache, None), index, images)
        cache.grow(new)
        return cast("torch.Tensor", self.head(self.norm(rows[:, -1])).float())


class _CachedWriting:
    def __init__(
        self, decoder: CachedDecoder, images: CrossAttention, cache: KeyValueCache, device: torch.device
    ) -> None:
        self._decoder, self._images, self._cache = decoder, images, cache
        self._is_padding = torch.zeros((images.count, 0), dtype=torch.bool, device=device)

    def next_logits(self, tokens: torch.Tensor) -> torch.Tensor:
        padding = tokens == self._decoder.masked
        self._is_padding = torch.cat([self._is_padding, padding], dim=1)
        mask = self._mask(tokens.shape[1]) if self._decoder.masks_padding else None
        return cast("torch.Tensor", self._decoder(tokens, self._cache, self._images, mask))

    def _mask(self, new: int) -> torch.Tensor | None:
        """Return open_clip's mask: padding or, by an error its weights were trained with, the next token."""
        hidden = self._is_padding
        if not self._decoder.masks_padding_itself:
            hidden = functional.pad(hidden, (1, 0))[:, :-1]
        if not hidden.any():
            return None
        length = hidden.shape[1]
        causal = torch.ones(new, length, dtype=torch.bool, device=hidden.device).tril(length - new)
        return ~hidden[:, None, None] & causal

    def take(self, rows: torch.Tensor, images: torch.Tensor | None = None) -> None:
        self._cache.take(rows)
        self._is_padding = self._is_padding[rows]
        if images is not None:
            self._images.take(images)


class _Layer(nn.Module):
    """Attention to the tokens so far, then an MLP, made of the modules of a ``ResidualAttentionBlock``."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.heads: int = block.attn.num_heads
        self.norm_1, self.norm_2 = block.ln_1, block.ln_2
        self.scale_1, self.scale_2 = block.ls_1, block.ls_2
        self.qkv = linear_of(block.attn.in_proj_weight, block.attn.in_proj_bias)
        self.out = linear_of(block.attn.out_proj.weight, block.attn.out_proj.bias)
        self.widen, self.activation, self.narrow = block.mlp.c_fc, block.mlp.gelu, block.mlp.c_proj

    def forward(
        self, rows: torch.Tensor, index: int, cache: KeyValueCache, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Map (R, T, W) to (R, T, W); ``mask`` is that of ``CachedDecoder``."""
        rows = rows + self.scale_1(self.out(self._to_words(self.norm_1(rows), index, cache, mask)))
        return _through_network(self, rows)

    def _to_words(
        self, rows: torch.Tensor, index: int, cache: KeyValueCache, mask: torch.Tensor | None
    ) -> torch.Tensor:
        count, new, width = rows.shape
        query, key_value = self.qkv(rows).split((width, 2 * width), dim=-1)
        keys, values = cache.layer(index, key_value)
        seen = attend_to_words(by_head(query, self.heads), keys, values, mask)
        return seen.transpose(1, 2).reshape(count, new, width)


class _CrossLayer(nn.Module):
    """Attention to the image, then an MLP; a ``CrossLayer`` for states that are already normalised."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        attention, norm = block.attn, block.ln_1_kv
        self.heads: int = attention.num_heads
        self.norm_1, self.norm_2 = block.ln_1, block.ln_2
        self.scale_1, self.scale_2 = block.ls_1, block.ls_2
        weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        self.query = linear_of(weights[0], biases[0])
        self.cross_key = _after_norm(weights[1], biases[1], norm)
        self.cross_value = _after_norm(weights[2], biases[2], norm)
        self.out = linear_of(attention.out_proj.weight, attention.out_proj.bias)
        self.widen, self.activation, self.narrow = block.mlp.c_fc, block.mlp.gelu, block.mlp.c_proj
        encoded = self.cross_key.in_features
        self.key_weight = self.cross_key.weight.detach().view(self.heads, -1, encoded)
        self.value_weight = self.cross_value.weight.detach().view(self.heads, -1, encoded).mT
        self.value_bias = self.cross_value.bias.detach()

    def forward(self, rows: torch.Tensor, index: int, images: CrossAttention) -> torch.Tensor:
        """Map (R, T, W) to (R, T, W)."""
        query = self.query(self.norm_1(rows))
        by_image = query.view(images.count, -1, self.heads, query.shape[-1] // self.heads)
        rows = rows + self.scale_1(self.out(images.attend(index, by_image).view_as(query)))
        return _through_network(self, rows)


def _through_network(layer: Any, rows: torch.Tensor) -> torch.Tensor:
    added = layer.narrow(layer.activation(layer.widen(layer.norm_2(rows))))
    return cast("torch.Tensor", rows + layer.scale_2(added))


@torch.no_grad()
def _after_norm(weight: torch.Tensor, bias: torch.Tensor, norm: nn.LayerNorm) -> nn.Linear:
    """Return a projection that includes the norm's weights, for states normalised without them."""
    scaled = weight.float() * norm.weight.float()
    moved = bias.float() + weight.float() @ norm.bias.float()
    return linear_of(scaled.to(weight.dtype), moved.to(weight.dtype))


def cached_decoder(model: Any, *, packed: bool = False) -> CachedDecoder | None:
    """Return the decoder for a CoCa; None, after one warning, if its logits would differ."""
    fault = _model_fault(model) or _fault()
    if fault is not None:
        say_not_used("coca_decoder", fault)
        return None
    return CachedDecoder(model, packed=packed)


def _model_fault(model: Any) -> str | None:
    """Return the part of a CoCa that this decoder does not support, in words, or None."""
    text, decoder = model.text, model.text_decoder
    if type(text) is not TextTransformer:
        return f"the text tower is a {type(text).__name__}"
    if type(decoder) is not MultimodalTransformer:
        return f"the text decoder is a {type(decoder).__name__}"
    if text.attn_mask is None:
        return "the text tower is not causal"
    blocks: Sequence[nn.Module] = [*text.transformer.resblocks, *decoder.resblocks, *decoder.cross_attn]
    other = next((block for block in blocks if type(block) is not ResidualAttentionBlock), None)
    if other is not None:
        return f"a layer is a {type(other).__name__}"
    if len({cast("Any", block).ln_1_kv.eps for block in decoder.cross_attn}) > 1:
        return "the image is normalised in several ways"
    return None


@lru_cache(maxsize=1)
def _fault() -> str | None:
    """Return why this decoder does not fit the installed open_clip, tested on tiny models, or None."""
    version = f"open_clip {open_clip.__version__}"
    try:
        for embed_cls in (True, False):
            if not _gives_the_same(_tiny_model(embed_cls=embed_cls)):
                return f"{version} gives other logits"
    except (AttributeError, TypeError, ValueError, RuntimeError, LookupError) as error:
        return f"the text decoder of {version} has another structure: {error}"
    return None


@torch.inference_mode()
def _gives_the_same(model: Any) -> bool:
    """Return whether both decoders give the same logits, with reordered rows and a padding token."""
    states = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    tokens = torch.tensor([[1, 5, 6, 2], [1, 0, 7, 3]])
    rows = torch.tensor([1, 1, 0, 0])
    for expected_tokens in (1, 1000):
        writings = [
            decoder.begin(states, rows=4, length=8, expected=expected_tokens)
            for decoder in (CachedDecoder(model), PlainDecoder(model))
        ]
        found = [[writing.next_logits(tokens)] for writing in writings]
        for writing, logits in zip(writings, found, strict=True):
            writing.take(rows, torch.tensor([1, 0]))
            logits.append(writing.next_logits(torch.tensor([[4], [0], [9], [3]])))
            logits.append(writing.next_logits(torch.tensor([[5], [8], [9], [0]])))
        same = [torch.allclose(ours, plain, atol=_TOLERANCE) for ours, plain in zip(*found, strict=True)]
        if not all(same):
            return False
    return True


def _tiny_model(*, embed_cls: bool) -> Any:
    """Return a CoCa with seeded weights; keep torch's own random state."""
    text = {"context_length": 8, "vocab_size": 16, "width": 8, "heads": 2, "layers": 2}
    with torch.random.fork_rng(devices=[]):
        model: Any = open_clip.CoCa(
            embed_dim=8,
            multimodal_cfg={**text, "attn_pooler_heads": 2},
            text_cfg={**text, "embed_cls": embed_cls, "output_tokens": True},
            vision_cfg={"image_size": 8, "patch_size": 4, "width": 8, "head_width": 4, "layers": 1},
        )
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return model.eval()
