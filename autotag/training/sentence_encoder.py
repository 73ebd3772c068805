"""Trains a static sentence encoder (one vector per token), distilled from a sentence transformer.

The teacher encodes every token of its vocabulary by itself; the vectors are reduced by PCA, and rare tokens
get higher weights. The method is Model2Vec's (Tulkens and van Dongen, 2024). Its weights follow Zipf's law,
because WordPiece vocabularies are ordered by frequency.
"""

from __future__ import annotations

import json
import re

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from torch import Tensor

_SPECIAL = re.compile(r"\[(PAD|UNK|CLS|SEP|MASK)\]|\[unused.*", re.DOTALL)


def distil_tokens(teacher: SentenceTransformer, tokens: list[str], *, dimensions: int) -> Tensor:
    """Return the PCA of the teacher's vectors of single tokens, unweighted: (V, dimensions) float32."""
    texts = [token.removeprefix("##") for token in tokens]
    encoded = teacher.encode(texts, batch_size=512, convert_to_tensor=True, show_progress_bar=False)
    vectors: Tensor = encoded.float().cpu()
    centred = vectors - vectors.mean(dim=0)
    directions: Tensor = torch.linalg.svd(centred, full_matrices=False)[2]
    return centred @ directions[:dimensions].T


def zipf_weights(ranks: Tensor) -> Tensor:
    """Return weights, higher for rarer tokens, (V,) float32 in (0, 1]: log(2 + rank) over its maximum.

    Args:
        ranks: (V,), from 0 for the most frequent token.
    """
    weights = torch.log1p(ranks.float() + 1)
    return weights / weights.max()


def kept_tokens(vocabulary: dict[str, int]) -> list[str]:
    """Return the ASCII tokens of a BERT vocabulary, without special ones, most frequent first."""
    by_rank = sorted(vocabulary, key=lambda token: vocabulary[token])
    return [token for token in by_rank if token.isascii() and not _SPECIAL.fullmatch(token)]


def reduced_tokenizer(tokenizer: Tokenizer, kept: list[str]) -> Tokenizer:
    """Return the same WordPiece tokenizer with fewer tokens, and without special tokens around the text."""
    layout = json.loads(tokenizer.to_str())
    layout["model"]["vocab"] = {token: index for index, token in enumerate(["[UNK]", *kept])}
    layout["added_tokens"] = []
    layout["post_processor"] = None
    layout["truncation"] = None
    layout["padding"] = None
    return Tokenizer.from_str(json.dumps(layout))


def train_sentence_encoder(
    teacher: SentenceTransformer, *, dimensions: int, most: int
) -> SentenceTransformer:
    """Distil a static sentence encoder of the ``most`` most common tokens; deterministic, takes seconds."""
    tokenizer: Tokenizer = teacher.tokenizer.backend_tokenizer
    kept = kept_tokens(tokenizer.get_vocab(with_added_tokens=True))[:most]
    vectors = distil_tokens(teacher, kept, dimensions=dimensions)
    weighted = vectors * zipf_weights(torch.arange(len(kept))).unsqueeze(1)
    rows = torch.cat([torch.zeros(1, dimensions), weighted])
    static = StaticEmbedding(reduced_tokenizer(tokenizer, kept), embedding_weights=rows.numpy())
    return SentenceTransformer(modules=[static], device="cpu")
