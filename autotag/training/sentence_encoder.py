"""A sentence encoder of one lookup per token, distilled from a sentence transformer.

Every token of the teacher's vocabulary goes through the teacher alone; its vector is reduced by PCA and
weighted by how rare the token is. The idea is Model2Vec's (Tulkens and van Dongen, 2024), whose weights
follow Zipf's law because WordPiece vocabularies are ordered by frequency.
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
    """(V, dimensions) float32: the PCA of the teacher's vectors of single tokens, not weighted yet."""
    texts = [token.removeprefix("##") for token in tokens]
    encoded = teacher.encode(texts, batch_size=512, convert_to_tensor=True, show_progress_bar=False)
    vectors: Tensor = encoded.float().cpu()
    centred = vectors - vectors.mean(dim=0)
    directions: Tensor = torch.linalg.svd(centred, full_matrices=False)[2]
    return centred @ directions[:dimensions].T


def zipf_weights(ranks: Tensor) -> Tensor:
    """(V,) float32 in (0, 1]: log(1 + rank), scaled to a maximum of 1, so that rare tokens weigh more."""
    weights = torch.log1p(ranks.float() + 1)
    return weights / weights.max()


def kept_tokens(vocabulary: dict[str, int]) -> list[str]:
    """The tokens of a BERT vocabulary that English text uses, in the vocabulary's order of frequency."""
    by_rank = sorted(vocabulary, key=lambda token: vocabulary[token])
    return [token for token in by_rank if token.isascii() and not _SPECIAL.fullmatch(token)]


def reduced_tokenizer(tokenizer: Tokenizer, kept: list[str]) -> Tokenizer:
    """The same WordPiece tokenizer over fewer tokens, without special tokens around the text."""
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
    """Distils a static sentence encoder of the ``most`` commonest tokens; deterministic, takes seconds."""
    tokenizer: Tokenizer = teacher.tokenizer.backend_tokenizer
    kept = kept_tokens(tokenizer.get_vocab(with_added_tokens=True))[:most]
    vectors = distil_tokens(teacher, kept, dimensions=dimensions)
    weighted = vectors * zipf_weights(torch.arange(len(kept))).unsqueeze(1)
    rows = torch.cat([torch.zeros(1, dimensions), weighted])
    static = StaticEmbedding(reduced_tokenizer(tokenizer, kept), embedding_weights=rows.numpy())
    return SentenceTransformer(modules=[static], device="cpu")
