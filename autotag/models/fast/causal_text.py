"""CLIP texts cut at their end token.

In a causal tower a token does not see later ones, and the text's vector is that of its end token, so the
padding after it, up to 77 tokens, does not affect the result. Here texts are cut after their end token, and
texts of the same length go through the tower together, unpadded. If many begin alike ("a photo of") and the
tower's parts are known, a CPU computes the common beginning once (``shared_starts``). The plain calls are
``encode_text`` and ``get_text_features``.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from open_clip.model import CLIP
from open_clip.transformer import TextTransformer
from torch.nn.functional import normalize

from autotag.config.fast_paths import say_not_used
from autotag.models.fast.shared_starts import vectors_of
from autotag.models.loading.int8_linears import has_int8_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from autotag.models.fast.causal_tower import CausalTower

PROBE = ("a dog", "", "two men in red jackets climb a snow covered mountain", "a dog runs on the grass " * 30)
"""Texts of different lengths, one longer than any tower reads."""

TEXTS_AT_ONCE = 1_024
"""Texts to pass in one call: the more there are, the more they share. ``CausalText`` limits the tokens that
are read at once."""

_TOKENS_ON_CPU = 1_024
_TOKENS_ON_GPU = 65_536
_LEAST_TOLERANCE = 1e-5
_INT8_TOLERANCE = 5e-3
_LONGEST_SHARED = 32
"""Longest text, in tokens, for which sharing pays: every further token costs one more step for all texts."""
_MOST_OF_SHARED = 0.8
"""Largest ratio of distinct to total tokens for which sharing pays."""

_logger = logging.getLogger("autotag")


@dataclass(frozen=True)
class CausalText:
    """Embed texts that are cut at their end token.

    Attributes:
        calculate: (N, L) token ids, each row ending with its end token -> (N, D), not normalised.
        end: the token id whose first occurrence ends a text; None if that is the greatest id.
        device: the device of the tower.
        tower: the parts of the same tower; None if unknown, or if sharing does not pay.
        is_int8: whether the tower's linear layers are int8: a difference in a last digit then changes what
            numbers are rounded to.
    """

    calculate: Callable[[torch.Tensor], torch.Tensor]
    end: int | None
    device: torch.device
    tower: CausalTower | None = None
    is_int8: bool = False

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (T, D) vectors, not normalised, of (T, C) token ids, on the CPU, padded after the end token.

        A row without an end token ends at its first token, as in the plain call.
        """
        texts = self.cut(tokens)
        if self.tower is not None and _share_much(texts):
            return vectors_of(self.tower, texts, tokens_at_once=2 * _TOKENS_ON_CPU)
        most = _TOKENS_ON_CPU if self.device.type == "cpu" else _TOKENS_ON_GPU
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for row, text in enumerate(texts):
            groups[len(text)].append(row)
        order, parts = [], []
        for length, rows in groups.items():
            step = max(1, most // length)
            for start in range(0, len(rows), step):
                order += rows[start : start + step]
                parts.append(self.calculate(tokens[rows[start : start + step], :length].to(self.device)))
        vectors = torch.cat(parts)
        places = torch.empty(len(order), dtype=torch.long)
        places[order] = torch.arange(len(order))
        return vectors[places.to(vectors.device)]

    def cut(self, tokens: torch.Tensor) -> list[list[int]]:
        """Return the token ids of (T, C) texts, each cut after its end token."""
        ends = tokens.argmax(dim=1) if self.end is None else (tokens == self.end).int().argmax(dim=1)
        return [row[: end + 1] for row, end in zip(tokens.tolist(), ends.tolist(), strict=True)]


def _share_much(texts: Sequence[Sequence[int]]) -> bool:
    """Return whether texts share enough of their beginnings, and none is long, so that sharing pays."""
    if max(map(len, texts)) > _LONGEST_SHARED:
        return False
    beginnings = {tuple(text[:length]) for text in texts for length in range(1, len(text) + 1)}
    return len(beginnings) <= _MOST_OF_SHARED * sum(map(len, texts))


def with_shared_starts(text: CausalText, tower: CausalTower | str, tokens: torch.Tensor) -> CausalText:
    """Return an encoder that reads common beginnings once; the same one if off the CPU or not supported.

    Args:
        text: the encoder without sharing.
        tower: the parts of its tower, or the reason why they are unknown.
        tokens: (T, C) token ids of ``PROBE``, on the CPU.
    """
    if text.device.type != "cpu":
        return text
    if isinstance(tower, str):
        _logger.info("common beginnings of texts are encoded again for each text: %s", tower)
        return text
    lengths = [len(row) for row in text.cut(tokens)]
    with torch.inference_mode():
        try:
            found = vectors_of(tower, text.cut(tokens), tokens_at_once=sum(lengths))
        except (RuntimeError, AttributeError, TypeError, ValueError, IndexError) as error:
            say_not_used("causal_text", f"the tower cannot encode common beginnings of texts: {error}")
            return text
        if not _alike(found, text(tokens), is_int8=text.is_int8):
            say_not_used("causal_text", "the tower gives other vectors for common beginnings of texts")
            return text
    return replace(text, tower=tower)


def causal_text_of_open_clip(model: Any, tokens: torch.Tensor) -> CausalText | None:
    """Return the fast path for open_clip's own text tower; None, after a warning, for another tower.

    Args:
        model: made by open_clip, in eval mode.
        tokens: (T, C) token ids of ``PROBE``, on the CPU.
    """
    try:
        text = _open_clip_text(model)
    except (AttributeError, ValueError) as error:
        say_not_used("causal_text", f"{type(model).__name__}: {error}")
        return None
    return _tried(text, model.encode_text, tokens, type(model).__name__)


def causal_text_of_clip(model: Any, tokens: torch.Tensor) -> CausalText | None:
    """Return the fast path for a ``transformers.CLIPModel``; None, after a warning, if its vectors differ.

    Args:
        model: in eval mode.
        tokens: (T, C) token ids of ``PROBE``, on the CPU.
    """
    end = model.config.text_config.eos_token_id

    def calculate(ids: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = model.get_text_features(input_ids=ids).pooler_output
        return vectors

    # transformers uses the configuration's end token unless it is 2, the wrong value of early CLIP files
    end = None if end == 2 else end
    text = CausalText(calculate, end, model.device, is_int8=has_int8_layers(model.text_model))
    return _tried(text, calculate, tokens, type(model).__name__)


def _open_clip_text(model: Any) -> CausalText:
    """Return ``encode_text`` for unpadded texts.

    Raises:
        ValueError, AttributeError: the tower is not causal, or does not pool at the end token.
    """
    tower, pool, end = _tower(model)
    if tower.attn_mask is None:
        raise ValueError("its text tower is not causal")
    if pool not in {"argmax", "eos"}:
        raise ValueError(f"its text tower pools by {pool!r}, not at the end token")

    def calculate(ids: torch.Tensor) -> torch.Tensor:
        """Return the vectors of texts of one length, pooled at the last token."""
        length = ids.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        states = tower.token_embedding(ids).to(dtype) + tower.positional_embedding[:length].to(dtype)
        states = tower.transformer(states, attn_mask=tower.attn_mask[:length, :length])
        ends: torch.Tensor = tower.ln_final(states)[:, -1]
        projection = tower.text_projection
        if projection is None:
            return ends
        projected: torch.Tensor = projection(ends) if callable(projection) else ends @ projection
        return projected

    device = tower.positional_embedding.device
    is_int8 = has_int8_layers(tower.transformer)
    return CausalText(calculate, end if pool == "eos" else None, device, is_int8=is_int8)


def _tower(model: Any) -> tuple[Any, str, int | None]:
    """Return the module with the text tower's parts, its pooling, and its end token."""
    if type(model) is CLIP:
        return model, model.text_pool_type, getattr(model, "text_eos_id", None)
    tower = model.text
    if type(tower) is not TextTransformer:
        raise ValueError(f"its text tower is a {type(tower).__name__}")
    if tower.cls_emb is not None or tower.use_pad_mask:
        raise ValueError("its text tower has a class token or masks its padding")
    return tower, tower.pool_type, tower.eos_id


def _tried(
    text: CausalText, plain: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor, what: str
) -> CausalText | None:
    """Return the fast path if it gives the same vectors as the plain call; else None, after a warning."""
    with torch.inference_mode():
        try:
            found, expected = text(tokens), plain(tokens.to(text.device))
        except (RuntimeError, AttributeError, TypeError, ValueError, IndexError) as error:
            say_not_used("causal_text", f"{what} cannot be called with texts cut at their end token: {error}")
            return None
    if not _alike(found, expected, is_int8=text.is_int8):
        say_not_used("causal_text", f"{what} gives other vectors for texts that are cut at their end token")
        return None
    return text


def _alike(found: torch.Tensor, expected: torch.Tensor, *, is_int8: bool) -> bool:
    """Return whether vectors have the same directions, within the precision of their dtype."""
    least = _INT8_TOLERANCE if is_int8 else _LEAST_TOLERANCE
    tolerance = max(least, 4 * torch.finfo(expected.dtype).eps)
    return found.shape == expected.shape and torch.allclose(
        normalize(found.float(), dim=-1), normalize(expected.float(), dim=-1), atol=tolerance
    )
