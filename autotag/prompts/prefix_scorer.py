"""Compare texts with a common start with images, exactly, and compute the common start only once.

In a causal text tower no token attends to a later one. So the keys and values of a common start do not depend
on the rest of a text: they are computed once, cached, and extended when the start grows. The rest of each
text is a few tokens; their own common prefixes are computed once, too (``token_trie``). ``prompt_scorer``
uses this if the tower is causal and a test against ``embed_texts`` succeeds; otherwise every text is embedded
in full.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from autotag.config.fast_paths import say_not_used
from autotag.models.fast.causal_tower import CausalTower, causal_tower
from autotag.models.fast.text_reader import TextReader, text_reader
from autotag.models.fast.token_trie import TokenTrie, in_chunks, token_trie
from autotag.prompts.modes import JOINT, Continuations, PromptScorer, Scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder

_TEXTS_AT_ONCE = 256
_TOKENS_AT_ONCE_ON_CPU = 2048
_TOKENS_AT_ONCE_ON_GPU = 16384
_PHRASES_KEPT = 300_000
_CLOSE = 1e-4
_TRIAL = Continuations(
    "a photo of a dog", ("blue", "blue sky", "8k", "it's art-deco (1920s), wow!!", "by a friend")
)
_JOINTS = [
    ("wow!!", "8 k"),
    ("a 1/2", "3d"),
    ("it's", "'s"),
    ('"a"', "(b)"),
    ("a-", "-b"),
    ("...", "etc."),
    ("a$", "#1"),
]

_logger = logging.getLogger("autotag")
_Answer = TypeVar("_Answer")


class OutOfMemoryHalving:
    """Run a calculation on a number of items at once, and halve the number whenever memory runs out.

    Attributes:
        at_once: number of items; stays at the number that fitted.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once

    def __call__(self, calculate: Callable[[int], _Answer]) -> _Answer:
        """Return ``calculate(at_once)``.

        Raises:
            torch.OutOfMemoryError: one item does not fit in memory.
        """
        while True:
            try:
                return calculate(self.at_once)
            except (torch.OutOfMemoryError, MemoryError):
                if self.at_once <= 1:
                    raise
                self.at_once //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


class PlainScorer:
    """Embed every text in full with the encoder's own ``embed_texts``; works with any encoder.

    Args:
        encoder: embeds the texts.
    """

    def __init__(self, encoder: ImageTextEncoder) -> None:
        self.encoder = encoder
        self._halving = OutOfMemoryHalving(_TEXTS_AT_ONCE)

    def similarities(self, asked: Sequence[tuple[Continuations, Scores]], /) -> list[Scores]:
        """Return, for each pair of texts and a unit image vector (D,), the cosines (N,) float32."""
        return [self.of_texts(continuations.texts(), vector) for continuations, vector in asked]

    def of_texts(self, texts: Sequence[str], vector: Scores) -> Scores:
        """Return the (N,) float32 cosines of texts with one image vector (D,)."""
        scores: list[Scores] = [np.zeros(0, dtype=np.float32)]
        start = 0
        while start < len(texts):
            vectors = self._halving(partial(self._embedded, texts, start))
            scores.append(np.asarray(vectors @ vector, dtype=np.float32))
            start += len(vectors)
        return np.concatenate(scores)

    def _embedded(self, texts: Sequence[str], start: int, count: int) -> NDArray[np.float32]:
        return self.encoder.embed_texts(texts[start : start + count])


@dataclass(frozen=True)
class _Prefix:
    """The keys and values of a common start of P tokens, (heads, P, D / heads) for each layer."""

    length: int
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


@dataclass(frozen=True)
class _Phrase:
    """The tokens of a phrase without start and end token, and whether the joint before it needs a check."""

    tokens: tuple[int, ...]
    risky: bool


@dataclass(frozen=True)
class _Piece:
    """Some texts of one image, as part of a forward pass."""

    prefix: _Prefix
    trie: TokenTrie
    asker: int
    places: NDArray[np.intp]


@dataclass(frozen=True)
class _Way:
    """The keys that each query attends to.

    Attributes:
        starts: each piece's prefix and the queries that continue it.
        own: queries; their ancestors and themselves as (q, depth) nodes, padded with themselves; and the
            mask that is added to the scores, 0 or -inf.
    """

    starts: list[tuple[_Prefix, slice]]
    own: list[tuple[Tensor, Tensor, Tensor]]


class ChainScorer:
    """Compare texts with a common start through a causal tower; each text costs only its own tokens.

    A text whose tokens do not split at the joint, or that contains the tower's end token, is embedded in
    full by a ``PlainScorer``.

    Args:
        encoder: the encoder whose ``embed_texts`` gives the same vectors.
        tower: its text tower.
        reader: its tokenizer.
        tokens_at_once: limit of own tokens in one forward pass, which limits the memory. None for 2,048 on a
            CPU and 16,384 on a GPU.
    """

    def __init__(
        self,
        encoder: ImageTextEncoder,
        tower: CausalTower,
        reader: TextReader,
        *,
        tokens_at_once: int | None = None,
    ) -> None:
        self.tower = tower
        self.reader = reader
        self.plain = PlainScorer(encoder)
        by_device = _TOKENS_AT_ONCE_ON_CPU if tower.device.type == "cpu" else _TOKENS_AT_ONCE_ON_GPU
        self._halving = OutOfMemoryHalving(tokens_at_once or by_device)
        self._first, self._end = reader.token_ids("") if reader.token_ids else (0, 0)
        self._phrases: dict[str, _Phrase] = {}
        self._prefixes: OrderedDict[tuple[int, ...], _Prefix] = OrderedDict()

    def similarities(self, asked: Sequence[tuple[Continuations, Scores]], /) -> list[Scores]:
        """Return, for each pair of texts and a unit image vector (D,), the cosines (N,) float32."""
        with torch.inference_mode():
            return self._halving(lambda tokens: self._similarities(asked, tokens))

    def _similarities(self, asked: Sequence[tuple[Continuations, Scores]], tokens: int) -> list[Scores]:
        scores = [np.full(len(continuations.phrases), np.nan, dtype=np.float32) for continuations, _ in asked]
        used: set[tuple[int, ...]] = set()
        pieces: list[_Piece] = []
        for asker, (continuations, vector) in enumerate(asked):
            start = self._start(continuations.start)
            places, own = self._own_tokens(start, continuations)
            self._plainly(
                continuations, vector, np.setdiff1d(np.arange(len(scores[asker])), places), scores[asker]
            )
            if own:
                used.add(start)
                prefix = self._prefix(start)
                for chunk in in_chunks(own, tokens):
                    trie = token_trie([own[place] for place in chunk])
                    pieces.append(_Piece(prefix, trie, asker, places[chunk]))
        for together in _together(pieces, tokens):
            self._calculate(together, [vector for _, vector in asked], scores)
        for tokens_of_start in [key for key in self._prefixes if key not in used]:
            del self._prefixes[tokens_of_start]
        return scores

    def _plainly(
        self, continuations: Continuations, vector: Scores, places: NDArray[np.intp], scores: Scores
    ) -> None:
        if len(places):
            texts = continuations.texts()
            scores[places] = self.plain.of_texts([texts[place] for place in places], vector)

    def _start(self, start: str) -> tuple[int, ...]:
        """Return the tokens of a common start and its comma, with the start token."""
        return (self._first, *self._tokens(start + JOINT.rstrip())) if start else (self._first,)

    def _tokens(self, text: str) -> tuple[int, ...]:
        """Return all tokens of a text, without start and end token."""
        assert self.reader.token_ids is not None  # noqa: S101 - chain_scorer checks this
        return tuple(self.reader.token_ids(text)[1:-1])

    def _own_tokens(
        self, start: tuple[int, ...], continuations: Continuations
    ) -> tuple[NDArray[np.intp], list[tuple[int, ...]]]:
        """Return the indices of texts for the fast path, and their own tokens, cut, with the end token."""
        room = self.tower.context_length - len(start) - 1
        if room < 0 or self._end in start:
            return np.zeros(0, dtype=np.intp), []
        risky_start = _is_risky(continuations.start)
        places, own = [], []
        for place, text in enumerate(continuations.phrases):
            phrase = self._phrases.get(text) or self._read(text)
            splits = not (risky_start or phrase.risky) or self._splits(
                start, continuations.start, text, phrase
            )
            if splits and self._end not in phrase.tokens:
                places.append(place)
                own.append((*phrase.tokens[:room], self._end))
        return np.array(places, dtype=np.intp), own

    def _read(self, text: str) -> _Phrase:
        if len(self._phrases) >= _PHRASES_KEPT:
            self._phrases.clear()
        phrase = self._phrases[text] = _Phrase(self._tokens(text), _is_risky(text))
        return phrase

    def _splits(self, start: tuple[int, ...], start_text: str, text: str, phrase: _Phrase) -> bool:
        """Return True if the whole text's tokens are the start's tokens followed by the phrase's."""
        if not start_text:
            return True
        return (*start[1:], *phrase.tokens) == self._tokens(f"{start_text}{JOINT}{text}")

    def _prefix(self, tokens: tuple[int, ...]) -> _Prefix:
        """Return the keys and values of these tokens; extend the longest cached prefix if needed."""
        kept = [key for key in self._prefixes if tokens[: len(key)] == key]
        longest = max(kept, key=len, default=())
        prefix = self._prefixes[longest] if longest else _Prefix(0, (), ())
        if len(longest) < len(tokens):
            prefix = self._extended(prefix, tokens[prefix.length :])
            self._prefixes[tokens] = prefix
        return prefix

    def _extended(self, prefix: _Prefix, tokens: tuple[int, ...]) -> _Prefix:
        """Extend the prefix by tokens that attend to it and to the tokens before them."""
        tower, count = self.tower, len(tokens)
        ids = torch.tensor(tokens, device=tower.device)
        states = tower.embed(ids, torch.arange(prefix.length, prefix.length + count, device=tower.device))
        hidden = torch.full((count, count), float("-inf"), device=tower.device).triu_(1)
        mask = torch.nn.functional.pad(hidden, (prefix.length, 0))
        all_keys, all_values = [], []
        for number, layer in enumerate(tower.layers):
            keys, values = (self._by_head(part) for part in layer.keys_and_values(states))
            if prefix.length:
                keys = torch.cat([prefix.keys[number], keys], dim=1)
                values = torch.cat([prefix.values[number], values], dim=1)
            queries = self._by_head(layer.queries(states))
            weights = _softmax(
                queries @ keys.transpose(1, 2) * queries.shape[-1] ** -0.5 + mask.to(keys.dtype)
            )
            attended = (weights @ values).transpose(0, 1).reshape(count, -1)
            states = states + layer.out(attended)
            states = states + layer.mlp(states)
            all_keys.append(keys.contiguous())
            all_values.append(values.contiguous())
        return _Prefix(prefix.length + count, tuple(all_keys), tuple(all_values))

    def _by_head(self, rows: Tensor) -> Tensor:
        """Reshape (M, D) to (heads, M, D / heads)."""
        return _split(rows, self.tower.heads).transpose(0, 1)

    def _calculate(self, pieces: list[_Piece], vectors: list[Scores], scores: list[Scores]) -> None:
        """Run one forward pass over the own tokens of all pieces, and write their scores."""
        device = self.tower.device
        everything, ends_only, ends = _ways(pieces, device)
        ids = np.concatenate([piece.trie.tokens for piece in pieces])
        positions = np.concatenate([_positions(piece) for piece in pieces])
        states = self.tower.embed(torch.from_numpy(ids).to(device), torch.from_numpy(positions).to(device))
        for number, layer in enumerate(self.tower.layers):
            keys, values = layer.keys_and_values(states)
            last = number == len(self.tower.layers) - 1
            states = states[ends] if last else states
            attended = self._attended(
                layer.queries(states), keys, values, ends_only if last else everything, number
            )
            states = states + layer.out(attended)
            states = states + layer.mlp(states)
        texts = torch.nn.functional.normalize(self.tower.finish(states).float(), dim=-1)
        at = 0
        for piece in pieces:
            nodes, place = np.unique(piece.trie.ends, return_inverse=True)
            image = torch.from_numpy(np.ascontiguousarray(vectors[piece.asker])).to(device)
            cosines = (texts[at : at + len(nodes)] @ image).cpu().numpy()
            scores[piece.asker][piece.places] = cosines[place]
            at += len(nodes)

    def _attended(self, queries: Tensor, keys: Tensor, values: Tensor, way: _Way, number: int) -> Tensor:
        """Return the attention output (Q, D) over each query's start and ancestors, with one softmax."""
        heads, (count, width) = self.tower.heads, queries.shape
        queries = _split(queries * (width // heads) ** -0.5, heads)
        keys, values = _split(keys, heads), _split(values, heads)
        attended = torch.empty_like(queries)
        deepest = max(nodes.shape[1] for _, nodes, _ in way.own)
        own = queries.new_full((count, heads, deepest), float("-inf"))
        for rows, nodes, mask in way.own:
            own[rows, :, : nodes.shape[1]] = (
                (queries[rows].unsqueeze(1) * keys[nodes]).sum(-1) + mask.unsqueeze(-1)
            ).transpose(1, 2)
        for prefix, part in way.starts:
            to_start = queries[part].transpose(0, 1) @ prefix.keys[number].transpose(1, 2)
            weights = _softmax(torch.cat([to_start.transpose(0, 1), own[part]], dim=-1))
            of_start = weights[..., : prefix.length].transpose(0, 1) @ prefix.values[number]
            attended[part] = of_start.transpose(0, 1)
            own[part] = weights[..., prefix.length :]
        for rows, nodes, _ in way.own:
            weights = own[rows, :, : nodes.shape[1]].transpose(1, 2).unsqueeze(-1)
            attended[rows] += (weights * values[nodes]).sum(1)
        return attended.flatten(1)


def chain_scorer(encoder: ImageTextEncoder) -> ChainScorer | str:
    """Return the fast scorer of an encoder, or the reason why it has none, as text.

    Before it is returned, it is compared with ``encoder.embed_texts`` on a few texts.
    """
    tower = causal_tower(encoder)
    if isinstance(tower, str):
        return tower
    reader = text_reader(encoder)
    if reader.token_ids is None or len(reader.token_ids("")) != 2:
        return "the tokenizer does not put one token before a text and one after it"
    for start, phrase in _JOINTS:
        first, second = reader.token_ids(f"{start},"), reader.token_ids(phrase)
        if [*first[:-1], *second[1:]] != reader.token_ids(f"{start}{JOINT}{phrase}"):
            return "the tokenizer does not split texts at a comma and a space"
    scorer = ChainScorer(encoder, tower, reader)
    difference = _largest_difference(scorer)
    return scorer if difference < _tolerance(tower) else f"it differs from embed_texts by {difference:.1e}"


def prompt_scorer(encoder: ImageTextEncoder) -> PromptScorer:
    """Return the fast scorer of an encoder if it works for it, otherwise a ``PlainScorer``.

    Switched off by ``prompt_chain`` in ``autotag.config.fast_paths``.
    """
    tower = causal_tower(encoder)
    if isinstance(tower, str):
        _logger.info("prompts are embedded in full: %s", tower)
        return PlainScorer(encoder)
    scorer = chain_scorer(encoder)
    if isinstance(scorer, str):
        say_not_used("prompt_chain", scorer)
        return PlainScorer(encoder)
    return scorer


def _tolerance(tower: CausalTower) -> float:
    """Return the accepted difference between the fast path and ``embed_texts``; larger in half precision."""
    kind = tower.embed(*torch.zeros((2, 1), dtype=torch.long, device=tower.device)).dtype
    return _CLOSE if kind == torch.float32 else 2e-2


def _largest_difference(scorer: ChainScorer) -> float:
    """Return the largest difference between the fast and the full vectors along a few random directions."""
    width = scorer.plain.encoder.embed_texts(["a"]).shape[1]
    directions = np.random.default_rng(0).normal(size=(4, width)).astype(np.float32)
    asked = [(_TRIAL, direction / np.linalg.norm(direction)) for direction in directions]
    fast, plain = scorer.similarities(asked), scorer.plain.similarities(asked)
    return max(float(np.abs(one - other).max()) for one, other in zip(fast, plain, strict=True))


def _is_risky(text: str) -> bool:
    """Return True if text cleaning may act across words: accents, entities, markup, control characters."""
    return not text.isascii() or not text.isprintable() or any(mark in text for mark in "&<>")


def _split(rows: Tensor, heads: int) -> Tensor:
    """Reshape (M, D) to (M, heads, D / heads)."""
    return rows.reshape(len(rows), heads, -1)


def _softmax(scores: Tensor) -> Tensor:
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)


def _together(pieces: list[_Piece], tokens: int) -> Iterator[list[_Piece]]:
    """Group pieces for one forward pass of at most ``tokens`` tokens."""
    held: list[_Piece] = []
    size = 0
    for piece in pieces:
        if held and size + len(piece.trie.tokens) > tokens:
            yield held
            held, size = [], 0
        held.append(piece)
        size += len(piece.trie.tokens)
    if held:
        yield held


def _positions(piece: _Piece) -> NDArray[np.int64]:
    """Return the position of each node's token in its text."""
    depths = np.diff(piece.trie.levels)
    return piece.prefix.length + np.repeat(np.arange(len(depths)), depths)


def _ways(pieces: list[_Piece], device: torch.device) -> tuple[_Way, _Way, Tensor]:
    """Return the keys of all nodes, the keys of the end nodes, and the indices of the end nodes."""
    all_ancestors: list[list[NDArray[np.int64]]] = []
    starts, end_starts, ends = [], [], []
    base = end_base = 0
    for piece in pieces:
        nodes, size = np.unique(piece.trie.ends), len(piece.trie.tokens)
        all_ancestors.append([way + base for way in piece.trie.ancestors])
        starts.append((piece.prefix, slice(base, base + size)))
        end_starts.append((piece.prefix, slice(end_base, end_base + len(nodes))))
        ends.append(nodes + base)
        base += size
        end_base += len(nodes)
    every_end = np.concatenate(ends)
    rank = np.full(base, -1, dtype=np.int64)
    rank[every_end] = np.arange(len(every_end))
    levels = [way for ancestors in all_ancestors for way in ancestors]
    everything = _Way(starts, _buckets(levels, np.arange(base), device))
    ends_only = _Way(end_starts, _buckets([way[rank[way[:, -1]] >= 0] for way in levels], rank, device))
    return everything, ends_only, torch.from_numpy(every_end).to(device)


def _buckets(
    ways: list[NDArray[np.int64]], query: NDArray[np.int64], device: torch.device
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Group queries by how many nodes they attend to (1, 2, 3 to 4, 5 to 8 and so on), and pad each group."""
    buckets: dict[int, list[NDArray[np.int64]]] = {}
    for way in ways:
        if len(way):
            width = 1 << (way.shape[1] - 1).bit_length()
            short = width - way.shape[1]
            buckets.setdefault(width, []).append(np.pad(way, ((0, 0), (0, short)), constant_values=-1))
    made = []
    for bucket in buckets.values():
        nodes = np.concatenate(bucket)
        filled = nodes < 0
        last = nodes.max(axis=1)
        mask = np.where(filled, np.float32("-inf"), np.float32(0))
        rows = (query[last], np.where(filled, last[:, None], nodes), mask)
        made.append(tuple(torch.from_numpy(array).to(device) for array in rows))
    return made  # type: ignore[return-value]
