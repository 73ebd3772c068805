"""Beam search for captioners whose decoder has a cache: a batch of images, each encoded once.

A finished beam counts if it is among the best K candidates, by the mean of its tokens' scores. An image
leaves the batch when K beams are finished and its best attainable score is not above the worst of them.
transformers 4 and 5 estimate that score differently: ``BeamSearchScorer`` of 4 takes the best candidate,
finished or not, ``GenerationMixin._beam_search`` of 5 the best running beam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn.functional import pad

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER = float("-inf")
"""The score of a token that must not be chosen."""


class Writing(Protocol):
    """A decoder that writes captions: R rows of tokens, each for one of I images.

    The rows of an image are adjacent, and each image has the same number of rows.
    """

    def next_logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read (R, T) int64 new tokens; return the (R, V) float32 logits of the next token."""
        ...

    def take(self, rows: torch.Tensor, images: torch.Tensor | None = None) -> None:
        """Replace row i by row ``rows[i]``, and image i by image ``images[i]`` (None: images stay)."""
        ...


@dataclass(frozen=True, slots=True)
class Beams:
    """Settings of a beam search.

    Attributes:
        count: number of beams, at most half the size of the vocabulary.
        most: largest number of tokens to write.
        end: the token that ends a caption.
        score: (R, V) logits, which it may overwrite, and (R, T) tokens so far -> (R, V) scores to add up.
        hopes_for_ended: whether finished candidates count in an image's best attainable score, as in
            transformers 4.
        tokens_besides: tokens added to the length by which scores are divided.
    """

    count: int
    most: int
    end: int
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    hopes_for_ended: bool = False
    tokens_besides: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """The K best captions of I images, best first.

    Attributes:
        tokens: (I, K, most) int64, without the prompt.
        scores: (I, K) float32, mean scores of tokens.
        lengths: (I, K) int64, numbers of valid tokens, including the end token.
    """

    tokens: torch.Tensor
    scores: torch.Tensor
    lengths: torch.Tensor


class BeamSearch:
    """Find the best captions of a batch of images by beam search.

    Tensors have one row per image still in the batch (I) and beam (K): ``running`` holds the unfinished
    sequences, prompt included, ``done`` the best finished ones.

    Args:
        writing: the decoder, with one row for each image.
        prompt: (I, P) int64 tokens that captions begin with.
        beams: the settings.
    """

    def __init__(self, writing: Writing, prompt: torch.Tensor, beams: Beams) -> None:
        self._writing, self._beams = writing, beams
        (count, self._start), device = prompt.shape, prompt.device
        self._places = torch.arange(count, device=device)
        self._running = prompt[:, None]
        self._running_scores = torch.zeros(count, 1, device=device)
        self._done = torch.zeros(count, beams.count, beams.most, dtype=torch.int64, device=device)
        self._done_scores = torch.full((count, beams.count), NEVER, device=device)
        self._done_lengths = torch.zeros(count, beams.count, dtype=torch.int64, device=device)
        self._results = [self._done.clone(), self._done_scores.clone(), self._done_lengths.clone()]

    def run(self) -> Found:
        """Return the best captions of all images."""
        logits = self._writing.next_logits(self._running[:, 0])
        for length in range(1, self._beams.most + 1):
            rows, going = self._step(logits, length)
            self._let_go(rows, going)
            if not len(going):
                break
            logits = self._writing.next_logits(self._running[:, :, -1].reshape(-1, 1))
        return Found(*self._results)

    def _step(self, logits: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the token at position ``length``, counted from 1.

        Returns:
            (I, K) rows of the decoder that the running beams continue, and (J,) indices of unfinished images.
        """
        count, last = self._beams.count, length == self._beams.most
        scores, parents, tokens = self._candidates(logits)
        ended = tokens == self._beams.end
        divisor = length + self._beams.tokens_besides
        written = _chosen(self._running[:, :, self._start :], parents[:, :count])
        written = torch.cat([written, tokens[:, :count, None]], dim=2)
        # the last token finishes every beam
        counted = scores if last else torch.where(ended, scores, NEVER)
        self._keep_done(counted[:, :count] / divisor, written)
        order = torch.arange(2 * count, device=ended.device) + 2 * count * ended
        best = order.topk(count, largest=False).indices
        hope = scores[:, 0] if self._beams.hopes_for_ended else scores.gather(1, best)[:, 0]
        going = (hope / divisor > self._done_scores[:, -1]).nonzero().squeeze(1)[: 0 if last else None]
        parents = parents.gather(1, best)
        chosen = _chosen(self._running, parents)
        self._running = torch.cat([chosen, tokens.gather(1, best)[:, :, None]], dim=2)
        self._running_scores = scores.gather(1, best)
        width = len(logits) // len(parents)
        return parents + width * torch.arange(len(parents), device=best.device)[:, None], going

    def _candidates(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the 2 K best continuations per image, best first: (I, 2 K) scores, parent beams, tokens.

        With twice as many as beams, K unfinished ones remain even if K end.
        """
        count, beams, _ = self._running.shape
        scores = self._beams.score(logits, self._running.flatten(0, 1))
        scores = scores.view(count, beams, -1).add_(self._running_scores[:, :, None])
        best, places = scores.flatten(1).topk(2 * self._beams.count)
        parents = places.div(scores.shape[2], rounding_mode="floor")
        return best, parents, places - parents * scores.shape[2]

    def _keep_done(self, scores: torch.Tensor, written: torch.Tensor) -> None:
        """Merge (I, K, T) finished sequences with (I, K) scores into the best so far."""
        if not (scores > NEVER).any():
            return
        length = written.shape[2]
        written = pad(written, (0, self._beams.most - length))
        lengths = torch.full_like(self._done_lengths, length)
        self._done_scores, best = torch.cat([self._done_scores, scores], 1).topk(self._beams.count)
        self._done = _chosen(torch.cat([self._done, written], 1), best)
        self._done_lengths = torch.cat([self._done_lengths, lengths], 1).gather(1, best)

    def _let_go(self, rows: torch.Tensor, going: torch.Tensor) -> None:
        """Reorder the rows of the decoder, and remove all images except those at (J,)."""
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


def penalised(scores: torch.Tensor, written: torch.Tensor, penalty: float) -> torch.Tensor:
    """Apply the repetition penalty to (R, V) scores of the (R, T) tokens already written, in place.

    The penalty is that of CTRL (arXiv:1909.05858), applied to scores of any kind, as in transformers.

    Returns:
        The same tensor of scores.
    """
    if penalty == 1.0:
        return scores
    seen = scores.gather(1, written)
    return scores.scatter_(1, written, torch.where(seen < 0, seen * penalty, seen / penalty))


def _chosen(sequences: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
    """Return, from (I, K, T) sequences, the (I, J, T) sequences of the beams at (I, J)."""
    return sequences.gather(1, beams[:, :, None].expand(-1, -1, sequences.shape[2]))
