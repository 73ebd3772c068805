"""Captions by a CoCa: greedy, by beam search, and by sampling, all images together.

open_clip's ``CoCa.generate`` needs classes that transformers 5 has no more, encodes an image once for each
beam and goes on with captions that are finished. Here each image is encoded once, and finished rows leave.

The beam search is that of ``BeamSearchScorer`` in transformers 4 without groups: a beam that ends counts if
it is among the best K candidates; an image is finished when K have ended and the best candidate, divided by
its length, is not better than the worst of them. open_clip's own default of 6 beams in 3 groups has no
diversity penalty, so its groups are equal and it finds what 2 beams find.

What is added up are log-probabilities. open_clip adds up raw logits (``beam_scores="logits"``). These are
defined only up to a constant for each step, which the softmax takes away and the sum does not: beams of
different histories are compared by where their logits happen to lie, not by how likely the captions are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import pad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.models.fast.coca_decoder import Decoder, Writing
    from autotag.protocols import CaptionOptions

_NEVER = float("-inf")
_TYPICAL_TOKENS = 14
"""How long captions are, to guess which attention to the image pays."""


@dataclass(frozen=True, slots=True)
class Written:
    """A caption as tokens.

    Attributes:
        tokens: without what it began with and without the end token.
        score: the mean log-probability of what was written, the end token included, by sampling and beam
            search; with ``beam_scores="logits"`` the mean logit as open_clip has it; None for greedy.
    """

    tokens: list[int]
    score: float | None


def write(
    decoder: Decoder,
    states: torch.Tensor,
    prefix: Sequence[int],
    end: int,
    options: CaptionOptions,
    *,
    seeds: Sequence[int] = (),
) -> list[list[Written]]:
    """Per image ``options.num_captions`` captions, best first.

    Args:
        decoder: of the CoCa.
        states: (I, N, E) of the images, at least one.
        prefix: tokens that each caption begins with, the start token first.
        end: the token that ends a caption. So does the padding token, but not in a beam search.
        options: that fit the decoder: no more tokens than it reads, twice as many tokens as beams.
        seeds: of sampling, one for each image; none without it.
    """
    rows = len(states) * max(options.num_beams, options.num_captions)
    per_image = options.num_captions if options.do_sample else options.num_beams
    expected = per_image * min(options.max_new_tokens, _TYPICAL_TOKENS)
    length = len(prefix) + options.max_new_tokens
    writing = decoder.begin(states, rows=rows, length=length, expected=expected)
    begun = torch.tensor(prefix, device=states.device).expand(len(states), -1)
    if options.num_beams > 1:
        return _BeamSearch(writing, begun, end, options).run()
    generators = _generators(seeds, options) if options.do_sample else None
    return _Rows(writing, begun, (end, decoder.padding), options, generators).run()


class _Rows:
    """Captions that know nothing of each other: greedy, or drawn.

    Tensors are per row still there; ``places`` says which caption it is.
    """

    def __init__(
        self,
        writing: Writing,
        prefix: torch.Tensor,
        ends: tuple[int, int],
        options: CaptionOptions,
        generators: list[np.random.Generator] | None,
    ) -> None:
        self._writing, self._options, self._generators = writing, options, generators
        self._end, self._padding = ends
        self._prefix = prefix
        count = len(prefix) * options.num_captions
        self._places = torch.arange(count, device=prefix.device)
        self._tokens = torch.full((count, options.max_new_tokens), self._end, device=prefix.device)
        self._sums = torch.zeros(count, device=prefix.device)
        self._lengths = torch.full((count,), options.max_new_tokens, device=prefix.device)

    def run(self) -> list[list[Written]]:
        """The captions of all images."""
        logits = self._writing.next_logits(self._prefix)
        if self._options.num_captions > 1:
            several = self._places // self._options.num_captions
            self._writing.take(several, several)
            logits, self._prefix = logits[several], self._prefix[several]
        for step in range(self._options.max_new_tokens):
            chosen = self._step(logits, step)
            going = ((chosen != self._end) & (chosen != self._padding)).nonzero().squeeze(1)
            if not len(going) or step + 1 == self._options.max_new_tokens:
                break
            if len(going) < len(chosen):
                self._let_go(going)
            logits = self._writing.next_logits(self._tokens[self._places, step, None])
        return self._written()

    def _step(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """(R,) the next token of each row; what ended at this step is marked as so long."""
        sequences = torch.cat([self._prefix, self._tokens[self._places, :step]], dim=1)
        scores = _constrained(logits.clone(), sequences, step, self._end, self._options)
        if self._generators is None:
            chosen = scores.argmax(-1)
        else:
            drawing = [self._generators[place] for place in self._places.tolist()]
            chosen = _drawn(scores, drawing, self._options)
            self._sums[self._places] += logits.log_softmax(-1).gather(1, chosen[:, None]).squeeze(1)
        self._tokens[self._places, step] = chosen
        ended = (chosen == self._end) | (chosen == self._padding)
        self._lengths[self._places[ended]] = step
        return chosen

    def _let_go(self, going: torch.Tensor) -> None:
        self._places, self._prefix = self._places[going], self._prefix[going]
        self._writing.take(going, going)

    def _written(self) -> list[list[Written]]:
        per_image = self._options.num_captions
        captions = [
            Written(
                tokens[:length], None if self._generators is None else total / min(length + 1, len(tokens))
            )
            for tokens, length, total in zip(
                self._tokens.tolist(), self._lengths.tolist(), self._sums.tolist(), strict=True
            )
        ]
        groups = [captions[start : start + per_image] for start in range(0, len(captions), per_image)]
        return [sorted(group, key=lambda caption: -(caption.score or 0.0)) for group in groups]


class _BeamSearch:
    """Beam search over images, each of which leaves when it is finished.

    Tensors are per image still there (I), per beam (K): ``running`` are the sequences that go on, prefix
    included, ``done`` the best that ended.
    """

    def __init__(self, writing: Writing, prefix: torch.Tensor, end: int, options: CaptionOptions) -> None:
        self._writing, self._end, self._options = writing, end, options
        (count, self._start), beams, device = prefix.shape, options.num_beams, prefix.device
        self._places = torch.arange(count, device=device)
        self._running = prefix[:, None]
        self._running_scores = torch.zeros(count, 1, device=device)
        self._done = torch.zeros(count, beams, options.max_new_tokens, dtype=torch.int64, device=device)
        self._done_scores = torch.full((count, beams), _NEVER, device=device)
        self._done_lengths = torch.zeros(count, beams, dtype=torch.int64, device=device)
        self._results = [self._done.clone(), self._done_scores.clone(), self._done_lengths.clone()]
        self._besides = 1 if options.beam_scores == "logits" else 0
        """open_clip counts the start token when it divides by the length."""

    def run(self) -> list[list[Written]]:
        """The best captions of all images."""
        logits = self._writing.next_logits(self._running[:, 0])
        for step in range(self._options.max_new_tokens):
            rows, finished = self._step(logits, step)
            last = step + 1 == self._options.max_new_tokens
            if last:
                self._end_running(~finished)
            going = (~finished).nonzero().squeeze(1)[: 0 if last else None]
            self._let_go(rows, going)
            if not len(going):
                break
            logits = self._writing.next_logits(self._running[:, :, -1].reshape(-1, 1))
        return self._written()

    def _step(self, logits: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes one token more.

        Returns:
            (I, K) rows of the writing that the running beams continue, and (I,) whether an image is finished.
        """
        beams, length = self._options.num_beams, step + 1 + self._besides
        scores, parents, tokens = self._candidates(logits, step)
        ended = tokens == self._end
        counted = torch.where(ended, scores, _NEVER)[:, :beams] / length
        written = _chosen(self._running[:, :, self._start :], parents[:, :beams])
        self._keep_done(counted, written)
        order = torch.arange(2 * beams, device=ended.device) + 2 * beams * ended
        best = order.topk(beams, largest=False).indices
        parents = parents.gather(1, best)
        chosen = _chosen(self._running, parents)
        self._running = torch.cat([chosen, tokens.gather(1, best)[:, :, None]], dim=2)
        self._running_scores = scores.gather(1, best)
        finished = (self._done_scores[:, -1] > _NEVER) & (self._done_scores[:, -1] >= scores[:, 0] / length)
        width = len(logits) // len(parents)
        return parents + width * torch.arange(len(parents), device=best.device)[:, None], finished

    def _candidates(self, logits: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The 2 K best continuations per image: (I, 2 K) score, beam that it continues, token; best first.

        Twice as many as beams, so that there is one to go on with for each even if all others end.
        """
        count, beams, _ = self._running.shape
        scores = logits if self._options.beam_scores == "logits" else logits.log_softmax(-1)
        scores = _constrained(scores, self._running.flatten(0, 1), step, self._end, self._options)
        scores = scores.view(count, beams, -1) + self._running_scores[:, :, None]
        best, places = scores.flatten(1).topk(2 * self._options.num_beams)
        parents = places.div(scores.shape[2], rounding_mode="floor")
        return best, parents, places - parents * scores.shape[2]

    def _keep_done(self, scores: torch.Tensor, written: torch.Tensor) -> None:
        """Takes the best of (I, K, T) sequences with (I, K) scores, where one is above ``_NEVER``."""
        if not (scores > _NEVER).any():
            return
        length = written.shape[2]
        written = pad(written, (0, self._options.max_new_tokens - length))
        lengths = torch.full_like(self._done_lengths, length)
        self._done_scores, best = torch.cat([self._done_scores, scores], 1).topk(self._options.num_beams)
        self._done = _chosen(torch.cat([self._done, written], 1), best)
        self._done_lengths = torch.cat([self._done_lengths, lengths], 1).gather(1, best)

    def _end_running(self, unfinished: torch.Tensor) -> None:
        """There is room for no further token: what runs counts as it is, for (I,) unfinished images."""
        scores = self._running_scores / (self._options.max_new_tokens + self._besides)
        scores = torch.where(unfinished[:, None], scores, _NEVER)
        self._keep_done(scores, self._running[:, :, self._start :])

    def _let_go(self, rows: torch.Tensor, going: torch.Tensor) -> None:
        """Moves the rows of the writing, and lets go of all images but those at (J,)."""
        if len(going) < len(self._places):
            for result, done in zip(
                self._results, (self._done, self._done_scores, self._done_lengths), strict=True
            ):
                result[self._places] = done
            self._places = self._places[going]
            self._running, self._running_scores = self._running[going], self._running_scores[going]
            self._done, self._done_scores = self._done[going], self._done_scores[going]
            self._done_lengths = self._done_lengths[going]
        if len(going):
            images = going if len(going) < len(rows) else None
            self._writing.take(rows[going].flatten(), images)

    def _written(self) -> list[list[Written]]:
        tokens, scores, lengths = (
            result[:, : self._options.num_captions].tolist() for result in self._results
        )
        return [
            [Written(row[:length], score) for row, score, length in zip(*image, strict=True)]
            for image in zip(tokens, scores, lengths, strict=True)
        ]


def _chosen(sequences: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
    """(I, J, T) of (I, K, T): for each image the sequences at (I, J)."""
    return sequences.gather(1, beams[:, :, None].expand(-1, -1, sequences.shape[2]))


def _constrained(
    scores: torch.Tensor, sequences: torch.Tensor, step: int, end: int, options: CaptionOptions
) -> torch.Tensor:
    """(R, V) scores, in place: no early end, and tokens of the (R, T) sequences made worse.

    The penalty is that of CTRL, arXiv:1909.05858, on whatever the scores are, as in transformers.
    """
    if step < options.min_new_tokens:
        scores[:, end] = _NEVER
    if options.repetition_penalty == 1.0:
        return scores
    seen = scores.gather(1, sequences)
    penalty = options.repetition_penalty
    return scores.scatter_(1, sequences, torch.where(seen < 0, seen * penalty, seen / penalty))


def _drawn(
    logits: torch.Tensor, generators: Sequence[np.random.Generator], options: CaptionOptions
) -> torch.Tensor:
    """(R,) tokens drawn by (R, V) logits, each row with a generator of its own.

    Temperature first, then top-k, then top-p, as in transformers. The largest of logits with Gumbel noise is
    a draw by their softmax ("Gumbel-max", Maddison et al. 2014, arXiv:1411.0030). It hardly ever turns on
    the last places of the logits, which differ between batches, as a search in their sums would.
    """
    logits = logits / options.temperature
    if options.top_k is not None and options.top_k < logits.shape[1]:
        least = logits.topk(options.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, _NEVER)
    if options.top_p is not None and options.top_p < 1:
        logits = _nucleus(logits, options.top_p)
    noise = [generator.standard_exponential(logits.shape[1], dtype=np.float32) for generator in generators]
    waits = torch.from_numpy(np.stack(noise)).clamp_min_(torch.finfo(torch.float32).tiny)
    return (logits - waits.log_().to(logits.device)).argmax(-1)


def _nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """(R, V): the fewest likeliest tokens that together have at least ``top_p`` (arXiv:1904.09751)."""
    ordered, tokens = logits.softmax(-1).sort(descending=True, stable=True)
    dropped = ordered.cumsum(-1) - ordered >= top_p
    dropped[:, 0] = False
    return logits.masked_fill(torch.zeros_like(dropped).scatter_(1, tokens, dropped), _NEVER)


def _generators(seeds: Sequence[int], options: CaptionOptions) -> list[np.random.Generator]:
    """One for each caption, by its image and its number among the image's captions, whatever the batch."""
    return [
        np.random.default_rng([options.seed, seed, number])
        for seed in seeds
        for number in range(options.num_captions)
    ]
