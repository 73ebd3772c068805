"""Beam search for captioners whose decoder keeps what it has read: all images together, each encoded once.

A beam that ends counts if it is among the best K candidates, by the mean of its tokens' scores. An image
leaves when K have ended and what it may still hope for is not better than the worst of them. The generations
of transformers hope for different things: ``BeamSearchScorer`` of 4 for the score of the best candidate,
ended or not, ``GenerationMixin._beam_search`` of 5 for that of the best beam that goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn.functional import pad

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER = float("-inf")
"""The score of what must not be chosen."""


class Writing(Protocol):
    """Captions that are being written: R rows of tokens, each with one of I images.

    The rows of an image lie together, and each image has as many.
    """

    def next_logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """(R, T) int64, the tokens that are new, to the (R, V) float32 logits of what follows the last."""
        ...

    def take(self, rows: torch.Tensor, images: torch.Tensor | None = None) -> None:
        """Row i becomes what row ``rows[i]`` was; image i what ``images[i]`` was, None for no change."""
        ...


@dataclass(frozen=True, slots=True)
class Beams:
    """How to search.

    Attributes:
        count: beams, at most half as many as there are tokens.
        most: tokens to write.
        end: the token that ends a caption.
        score: (R, V) logits, which it may change, and (R, T) tokens so far -> (R, V) scores to add up.
        hopes_for_ended: whether an image may hope for the score of a candidate that has ended.
        tokens_besides: counted when scores are divided by the length.
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
        tokens: (I, K, most) int64, what was written after the prompt.
        scores: (I, K) float32, means.
        lengths: (I, K) int64, how many tokens count, the end token among them.
    """

    tokens: torch.Tensor
    scores: torch.Tensor
    lengths: torch.Tensor


class BeamSearch:
    """The search.

    Tensors are per image still there (I), per beam (K): ``running`` are the sequences that go on, prompt
    included, ``done`` the best that ended.

    Args:
        writing: with one row for each image.
        prompt: (I, P) int64 tokens that captions begin with.
        beams: how to search.
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
        """Write one token more, which makes so many.

        Returns:
            (I, K) rows of the writing that the running beams continue, and (J,) the images that go on.
        """
        count, last = self._beams.count, length == self._beams.most
        scores, parents, tokens = self._candidates(logits)
        ended = tokens == self._beams.end
        divisor = length + self._beams.tokens_besides
        written = _chosen(self._running[:, :, self._start :], parents[:, :count])
        written = torch.cat([written, tokens[:, :count, None]], dim=2)
        counted = (
            scores if last else torch.where(ended, scores, NEVER)
        )  # there is no room for a further token
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
        """Return the 2 K best continuations per image: (I, 2 K) score, beam that it continues, token.

        Best first. Twice as many as beams, so that one goes on for each even if all others end.
        """
        count, beams, _ = self._running.shape
        scores = self._beams.score(logits, self._running.flatten(0, 1))
        scores = scores.view(count, beams, -1).add_(self._running_scores[:, :, None])
        best, places = scores.flatten(1).topk(2 * self._beams.count)
        parents = places.div(scores.shape[2], rounding_mode="floor")
        return best, parents, places - parents * scores.shape[2]

    def _keep_done(self, scores: torch.Tensor, written: torch.Tensor) -> None:
        """Take the best of (I, K, T) sequences with (I, K) scores, where one is above ``NEVER``."""
        if not (scores > NEVER).any():
            return
        length = written.shape[2]
        written = pad(written, (0, self._beams.most - length))
        lengths = torch.full_like(self._done_lengths, length)
        self._done_scores, best = torch.cat([self._done_scores, scores], 1).topk(self._beams.count)
        self._done = _chosen(torch.cat([self._done, written], 1), best)
        self._done_lengths = torch.cat([self._done_lengths, lengths], 1).gather(1, best)

    def _let_go(self, rows: torch.Tensor, going: torch.Tensor) -> None:
        """Move the rows of the writing, and let go of all images but those at (J,)."""
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
    """Make (R, V) scores of the (R, T) tokens already written worse, in place, and return them.

    As in CTRL, arXiv:1909.05858, on whatever the scores are, as in transformers.
    """
    if penalty == 1.0:
        return scores
    seen = scores.gather(1, written)
    return scores.scatter_(1, written, torch.where(seen < 0, seen * penalty, seen / penalty))


def _chosen(sequences: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
    """(I, J, T) of (I, K, T): for each image the sequences at (I, J)."""
    return sequences.gather(1, beams[:, :, None].expand(-1, -1, sequences.shape[2]))
