"""A BERT that reads texts of any lengths at once, one after the other, without padding.

Everything in a BERT but its attention works on single tokens. So all tokens of all texts go through the
linear layers together, however long the texts are, and only the attention looks at the texts of one length at
a time; on a GPU at texts that are padded a little, see ``padded_texts``. What enters the first layer depends
on nothing but the token and its place, and most keyphrases of a batch share theirs: on a CPU each pair goes
through the first projections once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertModel

from autotag.models.fast.in_place import in_place
from autotag.models.fast.packed_linears import linear_of
from autotag.models.fast.padded_texts import PaddedTexts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

_TOKENS_AT_ONCE = 640  # more falls out of a CPU's cache
_TOKENS_OF_FIRST_STEP = 24_000  # 6 KB each at a width of 384, where no two are the same
_ROWS = 128  # oneDNN makes a program for each number of rows: there are only multiples of this
_WIDEST_RANGE = 60.0  # exp(-60) is still a normal float32
_SHORT = 6
"""Up to so many tokens a text's attention is sooner calculated by element than by products of matrices."""
_TOKENS_ON_GPU = 32_768  # 16 KB each at a width of 384
_Group = tuple[slice, int]  # rows of tokens, and the length of their texts
_Attention = Callable[[Tensor], Tensor]  # (N, 3, heads, D) queries, keys and values to (N, heads * D)


class RaggedBert(nn.Module):
    """Sentence vectors by the mean of a BERT's token vectors.

    Args:
        bert: an encoder, float32, evaluating; its layers are shared but for the projections of its attention,
            which are copied.
        tokenizer: cuts texts that are too long, pads none.
    """

    def __init__(self, bert: BertModel, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.embeddings: Any = bert.embeddings
        self.layers = nn.ModuleList(_Layer(layer) for layer in bert.encoder.layer)
        self._tokenizer = tokenizer

    def forward(self, texts: list[str]) -> NDArray[np.float32]:
        """(T, D) float32, not normalised."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        device = self.embeddings.word_embeddings.weight.device
        on_cpu = device.type == "cpu"
        parts = _parts(ids, _TOKENS_OF_FIRST_STEP if on_cpu else _TOKENS_ON_GPU)
        with torch.inference_mode():
            vectors = [self._vectors(part) if on_cpu else self._by_blocks(part, device) for part in parts]
            found: NDArray[np.float32] = torch.cat(vectors).cpu().numpy()
        return found

    def _by_blocks(self, ids: Sequence[list[int]], device: torch.device) -> Tensor:
        """(T, D) of the tokens of T texts, on a GPU."""
        lengths = [len(text) for text in ids]
        tokens, places = (torch.from_numpy(rows).to(device) for rows in _tokens_and_places(ids, lengths))
        hidden = _embedded(self.embeddings, tokens, places)
        texts = PaddedTexts(lengths, hidden)
        for layer in cast("list[_Layer]", list(self.layers)):
            hidden = layer(hidden, layer.qkv(hidden), texts.attend)
        return texts.means(hidden)

    def _vectors(self, ids: Sequence[list[int]]) -> Tensor:
        """(T, D) of the tokens of T texts."""
        first = _FirstStep(self.embeddings, cast("_Layer", self.layers[0]), ids)
        vectors = torch.empty(len(ids), self.embeddings.word_embeddings.embedding_dim)
        for chunk in _chunks(first.lengths):
            vectors[chunk] = self._of_chunk(chunk, first)
        return vectors

    def _of_chunk(self, texts: Sequence[int], first: _FirstStep) -> Tensor:
        """(T, D), for texts in the order of their lengths."""
        groups = _groups([first.lengths[text] for text in texts])
        attend = partial(_by_length, groups)
        hidden, qkv = first.of(texts)
        for index, layer in enumerate(cast("list[_Layer]", list(self.layers))):
            hidden = layer(hidden, layer.qkv(hidden) if index else qkv, attend)
        means = [hidden[rows].view(-1, length, hidden.shape[-1]).mean(dim=1) for rows, length in groups]
        return torch.cat(means)


class _FirstStep:
    """What enters the first layer, calculated once for each pair of a token and its place.

    Args:
        embeddings: the BERT's.
        layer: its first.
        ids: the tokens of each text, at least one.
    """

    def __init__(self, embeddings: Any, layer: _Layer, ids: Sequence[list[int]]) -> None:
        self.lengths = [len(text) for text in ids]
        self._ends = np.cumsum(self.lengths)
        tokens, places = _tokens_and_places(ids, self.lengths)
        longest = max(self.lengths)
        pairs, self._where = np.unique(tokens * longest + places, return_inverse=True)
        token, place = np.divmod(np.pad(pairs, (0, -len(pairs) % _ROWS)), longest)
        self._hidden = _embedded(embeddings, torch.from_numpy(token), torch.from_numpy(place))
        self._qkv = layer.qkv(self._hidden)

    def of(self, texts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(N, D) tokens and (N, 3 D) queries, keys and values, of these texts one after the other.

        They have some rows more, so that their number is a usual one.
        """
        spans = [self._where[self._ends[text] - self.lengths[text] : self._ends[text]] for text in texts]
        where = np.concatenate(spans)
        rows = torch.from_numpy(np.pad(where, (0, -len(where) % _ROWS)))
        return self._hidden[rows], self._qkv[rows]


class _Layer(nn.Module):
    """One layer, by the modules of transformers' ``BertLayer``."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        attention = plain.attention
        self.heads: int = attention.self.num_attention_heads
        self.qkv = _projections(attention.self)
        self.attention_output, self.attention_norm = attention.output.dense, attention.output.LayerNorm
        activation = plain.intermediate.intermediate_act_fn
        self.widen, self.activation = plain.intermediate.dense, in_place(activation) or activation
        self.narrow, self.norm = plain.output.dense, plain.output.LayerNorm

    def forward(self, hidden: Tensor, qkv: Tensor, attend: _Attention) -> Tensor:
        """(N, D) tokens and their (N, 3 D) queries, keys and values to (N, D)."""
        seen = attend(qkv.view(len(qkv), 3, self.heads, -1))
        hidden = self.attention_norm(self.attention_output(seen).add_(hidden))
        return cast("Tensor", self.norm(self.narrow(self.activation(self.widen(hidden))).add_(hidden)))


def ragged_bert(model: SentenceTransformer) -> RaggedBert | None:
    """For a sentence transformer that is a BERT and the mean of its token vectors; else None.

    None too where its linear layers have been packed already: they have no weights to share.
    """
    modules: list[Any] = list(model)
    bert = getattr(modules[0], "auto_model", None)
    if not isinstance(bert, BertModel) or bert.config.is_decoder:
        return None
    if len(modules) < 2 or not isinstance(modules[1], Pooling) or modules[1].pooling_mode != "mean":
        return None
    if not all(isinstance(module, Normalize) for module in modules[2:]):
        return None
    layers: list[Any] = list(bert.encoder.layer)
    if not all(type(layer.attention.self.query) is nn.Linear for layer in layers):
        return None
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(model.max_seq_length or bert.config.max_position_embeddings)
    return RaggedBert(bert, tokenizer).eval()


@torch.no_grad()
def _projections(attention: Any) -> nn.Linear:
    """Queries, keys and values by one layer; queries come multiplied by the attention's scale."""
    query, others = attention.query, (attention.key, attention.value)
    weights = [query.weight * attention.scaling, *(linear.weight for linear in others)]
    biases = [query.bias * attention.scaling, *(linear.bias for linear in others)]
    return linear_of(torch.cat(weights), torch.cat(biases))


def _tokens_and_places(
    ids: Sequence[list[int]], lengths: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) all tokens, one text after the other, and (N,) the place of each in its text."""
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    return np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=ends[-1]), places


def _embedded(embeddings: Any, tokens: Tensor, places: Tensor) -> Tensor:
    """(N, D) of (N,) tokens at (N,) places."""
    vectors = embeddings.word_embeddings(tokens) + embeddings.token_type_embeddings.weight[0]
    return cast("Tensor", embeddings.LayerNorm(vectors + embeddings.position_embeddings(places)))


def _by_length(groups: Sequence[_Group], qkv: Tensor) -> Tensor:
    """An ``_Attention`` for texts in the order of their lengths; rows after the last text give zeros."""
    count, _, heads, size = qkv.shape
    seen = qkv.new_empty(count, heads * size)
    seen[groups[-1][0].stop :] = 0  # whatever else lay there might be denormal, and slow
    for rows, length in groups:
        query, key, value = qkv[rows].view(-1, length, 3, heads, size).unbind(2)
        attend = _by_element if length <= _SHORT else _by_product
        attend(query, key, value, seen[rows].view_as(query))
    return seen


def _by_product(query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> None:
    """(T, L, heads, D) each; what the tokens of T texts see goes into the last."""
    weights = _softmax(query.transpose(1, 2) @ key.permute(0, 2, 3, 1), dim=-1)
    seen.copy_((weights @ value.transpose(1, 2)).transpose(1, 2))


def _by_element(query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> None:
    """The same; products of matrices this small cost more to call than to calculate."""
    weights = _softmax(torch.linalg.vecdot(query[:, :, None], key[:, None]), dim=2)[..., None]
    torch.mul(weights[:, :, 0], value[:, None, 0], out=seen)
    for place in range(1, key.shape[1]):
        seen.addcmul_(weights[:, :, place], value[:, None, place])


def _softmax(scores: Tensor, dim: int) -> Tensor:
    """The softmax, eight times as fast as torch's over a dimension this small.

    It takes the largest of all scores off instead of each row's own: exact while no row is so much below it
    that its exponentials vanish.
    """
    lowest, highest = scores.aminmax()
    if highest - lowest > _WIDEST_RANGE:
        return functional.softmax(scores, dim=dim)
    weights = (scores - highest).exp_()
    return weights.div_(weights.sum(dim=dim, keepdim=True))


def _parts(ids: Sequence[list[int]], most: int) -> Iterator[Sequence[list[int]]]:
    """Texts in their order, of at most so many tokens unless one alone has more."""
    start = tokens = 0
    for place, text in enumerate(ids):
        if tokens and tokens + len(text) > most:
            yield ids[start:place]
            start, tokens = place, 0
        tokens += len(text)
    yield ids[start:]


def _chunks(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Texts to work on at once, shorter ones first, of no more tokens than fit unless one alone has more.

    Each time the longest that are left, and then the longest that still fit: short ones fill what long ones
    leave, and hardly a row is calculated for nothing.
    """
    left: defaultdict[int, list[int]] = defaultdict(list)
    for text, length in enumerate(lengths):
        left[length].append(text)
    while left:
        chunk: list[int] = []
        room = max(_TOKENS_AT_ONCE, *left)
        for length in sorted(left, reverse=True):
            some = [left[length].pop() for _ in range(min(room // length, len(left[length])))]
            if not left[length]:
                del left[length]
            room -= length * len(some)
            chunk = some + chunk
        yield chunk


def _groups(lengths: Sequence[int]) -> list[_Group]:
    """The rows of the tokens of all texts of one length, for lengths in order."""
    groups: list[_Group] = []
    start = 0
    for length, texts in groupby(lengths):
        stop = start + length * len(list(texts))
        groups.append((slice(start, stop), length))
        start = stop
    return groups
