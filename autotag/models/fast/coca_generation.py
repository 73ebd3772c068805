"""Captions by a CoCa: greedy search, beam search and sampling, for a batch of images.

open_clip's ``CoCa.generate`` needs classes that transformers 5 has removed, encodes an image once for each
beam and keeps finished captions in the batch. Here each image is encoded once, and finished rows leave.

The beam search (``beam_search``) is that of ``BeamSearchScorer`` in transformers 4 without groups.
open_clip's own default of 6 beams in 3 groups has no diversity penalty, so its groups are equal and it finds
what 2 beams find.

Scores are sums of log-probabilities. open_clip sums raw logits (``beam_scores="logits"``), which are defined
only up to a constant for each step. The softmax removes that constant, the sum does not, so beams are
compared by an arbitrary offset of their logits, not by how likely the captions are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from autotag.models.fast.beam_search import NEVER, Beams, BeamSearch, penalised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.models.fast.beam_search import Writing
    from autotag.models.fast.coca_decoder import Decoder
    from autotag.protocols import CaptionOptions

_TYPICAL_TOKENS = 14
"""Typical length of a caption, to choose the cheaper attention to the image."""


@dataclass(frozen=True, slots=True)
class Written:
    """A caption as tokens.

    Attributes:
        tokens: without the prefix and the end token.
        score: the mean log-probability of the tokens, end token included, for sampling and beam search; with
            ``beam_scores="logits"`` the mean logit, as in open_clip; None for greedy search.
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
        return _by_beams(writing, begun, end, options)
    generators = _generators(seeds, options) if options.do_sample else None
    return _Rows(writing, begun, (end, decoder.padding), options, generators).run()


class _Rows:
    """Write independent captions, by greedy search or sampling.

    Tensors have one row for each unfinished caption; ``places`` holds the caption's index.
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
        """Return the captions of all images."""
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
        """Return the (R,) next tokens; store the lengths of captions that end at this step."""
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


def _by_beams(
    writing: Writing, prefix: torch.Tensor, end: int, options: CaptionOptions
) -> list[list[Written]]:
    """Return the best captions of all images by beam search."""
    by_logits = options.beam_scores == "logits"

    def score(logits: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        step = written.shape[1] - prefix.shape[1]
        return _constrained(logits if by_logits else logits.log_softmax(-1), written, step, end, options)

    besides = 1 if by_logits else 0  # open_clip counts the start token when it divides by the length
    beams = Beams(
        options.num_beams, options.max_new_tokens, end, score, hopes_for_ended=True, tokens_besides=besides
    )
    found = BeamSearch(writing, prefix, beams).run()
    best = (some[:, : options.num_captions].tolist() for some in (found.tokens, found.scores, found.lengths))
    return [
        [Written(_without(end, row[:length]), score) for row, score, length in zip(*image, strict=True)]
        for image in zip(*best, strict=True)
    ]


def _without(end: int, tokens: list[int]) -> list[int]:
    """Return tokens without the end token, which can only be the last."""
    return tokens[:-1] if tokens and tokens[-1] == end else tokens


def _constrained(
    scores: torch.Tensor, sequences: torch.Tensor, step: int, end: int, options: CaptionOptions
) -> torch.Tensor:
    """Forbid an early end and penalise repeated tokens in (R, V) scores, in place; return them."""
    if step < options.min_new_tokens:
        scores[:, end] = NEVER
    return penalised(scores, sequences, options.repetition_penalty)


def _drawn(
    logits: torch.Tensor, generators: Sequence[np.random.Generator], options: CaptionOptions
) -> torch.Tensor:
    """Draw (R,) tokens from (R, V) logits, with one generator for each row.

    Temperature comes first, then top-k, then top-p, as in transformers. The maximum of logits plus Gumbel
    noise is a draw from their softmax ("Gumbel-max", Maddison et al. 2014, arXiv:1411.0030). Its result
    rarely depends on the last digits of the logits, which differ between batches; a search in cumulative sums
    would depend on them more often.
    """
    logits = logits / options.temperature
    if options.top_k is not None and options.top_k < logits.shape[1]:
        least = logits.topk(options.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, NEVER)
    if options.top_p is not None and options.top_p < 1:
        logits = _nucleus(logits, options.top_p)
    noise = [generator.standard_exponential(logits.shape[1], dtype=np.float32) for generator in generators]
    waits = torch.from_numpy(np.stack(noise)).clamp_min_(torch.finfo(torch.float32).tiny)
    return (logits - waits.log_().to(logits.device)).argmax(-1)


def _nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Return (R, V) logits of only the fewest most likely tokens with at least ``top_p`` in total.

    This is nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751).
    """
    ordered, tokens = logits.softmax(-1).sort(descending=True, stable=True)
    dropped = ordered.cumsum(-1) - ordered >= top_p
    dropped[:, 0] = False
    return logits.masked_fill(torch.zeros_like(dropped).scatter_(1, tokens, dropped), NEVER)


def _generators(seeds: Sequence[int], options: CaptionOptions) -> list[np.random.Generator]:
    """Return one generator per caption, seeded by its image and its index, independent of the batch."""
    return [
        np.random.default_rng([options.seed, seed, number])
        for seed in seeds
        for number in range(options.num_captions)
    ]
