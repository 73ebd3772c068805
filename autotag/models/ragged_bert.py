"""A BERT that reads texts of any lengths at once, one after the other, without padding.

Everything in a BERT but its attention works on single tokens. So all tokens of all texts go through the
linear layers together, however long the texts are, and only the attention looks at the texts of one length at
a time. The layers are the model's own.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import BertModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

_TOKENS_AT_ONCE = 1024  # more falls out of a CPU's cache
_ROWS = 128  # oneDNN makes a program for each number of rows: there are only multiples of this
_WIDEST_RANGE = 60.0  # exp(-60) is still a normal float32
_Group = tuple[slice, int]  # rows of tokens, and the length of their texts


class RaggedBert:
    """Sentence vectors by the mean of a BERT's token vectors.

    Args:
        bert: an encoder, evaluating.
        tokenizer: cuts texts that are too long, pads none.
    """

    def __init__(self, bert: BertModel, tokenizer: Tokenizer) -> None:
        self._bert: Any = bert
        self._tokenizer = tokenizer

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        """(T, D) float32, not normalised."""
        ids: list[list[int]] = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda text: len(ids[text]))
        vectors = torch.empty(len(ids), self._bert.config.hidden_size)
        with torch.inference_mode():
            for texts_of_chunk in _chunks(order, ids):
                vectors[texts_of_chunk] = self._vectors([ids[text] for text in texts_of_chunk])
        found: NDArray[np.float32] = vectors.numpy()
        return found

    def _vectors(self, ids: Sequence[list[int]]) -> Tensor:
        """(T, D), for texts in the order of their lengths."""
        groups = _groups([len(text) for text in ids])
        hidden = self._embeddings(ids)
        for layer in self._bert.encoder.layer:
            hidden = self._through(layer, hidden, groups)
        means = [hidden[rows].view(-1, length, hidden.shape[-1]).mean(dim=1) for rows, length in groups]
        return torch.cat(means)

    def _embeddings(self, ids: Sequence[list[int]]) -> Tensor:
        """(N, D) of all tokens, one text after the other, and of some more to make up a usual number."""
        own = self._bert.embeddings
        flat = [token for text in ids for token in text]
        more = [0] * (-len(flat) % _ROWS)
        tokens = torch.tensor(flat + more)
        places = torch.tensor([place for text in ids for place in range(len(text))] + more)
        vectors = own.word_embeddings(tokens) + own.token_type_embeddings.weight[0]
        normed: Tensor = own.LayerNorm(vectors + own.position_embeddings(places))
        return normed

    def _through(self, layer: Any, hidden: Tensor, groups: Sequence[_Group]) -> Tensor:
        attention = layer.attention
        own = attention.self
        asked, offered, told = own.query(hidden), own.key(hidden), own.value(hidden)
        seen = torch.zeros_like(asked)
        for rows, length in groups:
            shape = (-1, length, own.num_attention_heads, own.attention_head_size)
            query, key, value = (each[rows].view(shape).transpose(1, 2) for each in (asked, offered, told))
            weights = _softmax((query * own.scaling) @ key.transpose(2, 3))
            seen[rows].view(shape).copy_((weights @ value).transpose(1, 2))
        hidden = attention.output(seen, hidden)
        result: Tensor = layer.output(layer.intermediate(hidden), hidden)
        return result


def ragged_bert(model: SentenceTransformer) -> RaggedBert | None:
    """For a sentence transformer on a CPU that is a BERT and the mean of its token vectors; else None."""
    modules: list[Any] = list(model)
    bert = getattr(modules[0], "auto_model", None)
    if not isinstance(bert, BertModel) or bert.config.is_decoder or bert.device.type != "cpu":
        return None
    if len(modules) < 2 or not isinstance(modules[1], Pooling) or modules[1].pooling_mode != "mean":
        return None
    if not all(isinstance(module, Normalize) for module in modules[2:]):
        return None
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(model.max_seq_length or bert.config.max_position_embeddings)
    return RaggedBert(bert, tokenizer)


def _softmax(scores: Tensor) -> Tensor:
    """The softmax over the last dimension, eight times as fast as torch's over a dimension this small.

    It takes the largest of all scores off instead of each row's own: exact while no row is so much below it
    that its exponentials vanish.
    """
    lowest, highest = scores.aminmax()
    if highest - lowest > _WIDEST_RANGE:
        return functional.softmax(scores, dim=-1)
    weights = (scores - highest).exp_()
    return weights.div_(weights.sum(dim=-1, keepdim=True))


def _chunks(order: Sequence[int], ids: Sequence[list[int]]) -> list[list[int]]:
    """Texts to work on at once, in the given order, of no more tokens than fit unless one alone has more."""
    chunks: list[list[int]] = [[]]
    tokens = 0
    for text in order:
        if tokens + len(ids[text]) > _TOKENS_AT_ONCE:
            chunks.append([])
            tokens = 0
        chunks[-1].append(text)
        tokens += len(ids[text])
    return [chunk for chunk in chunks if chunk]


def _groups(lengths: Sequence[int]) -> list[_Group]:
    """The rows of the tokens of all texts of one length, for lengths in order."""
    groups: list[_Group] = []
    start = 0
    for length, texts in groupby(lengths):
        stop = start + length * len(list(texts))
        groups.append((slice(start, stop), length))
        start = stop
    return groups
