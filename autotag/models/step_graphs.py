"""Greedy search on an NVIDIA GPU by steps that are recorded once, as CUDA graphs, and replayed.

A step of BLIP's decoder is some three hundred small operations; to ask for one takes the host longer than it
takes a GPU to do it. A recorded step is asked for as a whole. Therefore nothing in it may depend on how far
the search has come: captions that are finished stay, tokens attend to as many as there can be, those that are
not written yet being masked, and the place of the next one is a tensor. (What may be recorded: "CUDA Graphs"
in the CUDA C++ Programming Guide and in torch's notes on CUDA semantics.)

Whether that pays depends on the GPU, the model and the number of images, and is tried out for each power of
two of them: what is recorded has to choose the words that the plain search chooses, in less time.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from autotag.fast_paths import say_not_used
from autotag.models.cross_attention import AbsorbedAttention
from autotag.models.packed_attention import StackedStates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from autotag.models.blip_generation import BlipDecoder

_GAIN = 1.05
"""How many times sooner than the plain search a recorded one has to be."""
_ROUNDS = 3
_WARM_UP = 3
"""Steps that are run before one is recorded, as torch asks for."""
_MULTIPLE = 8
"""Captions of up to a multiple of so many tokens share what is recorded."""
_MOST_GRAPHS = 8
_ROUNDING = 64
"""How far the logit of a word may be behind the best, in units in the last place of the largest."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is to be captioned.

    Attributes:
        states: (B, N, E) of images.
        prompt: (B, P) int64 tokens that the captions begin with.
        total: tokens of a caption at most, prompt included.
    """

    states: torch.Tensor
    prompt: torch.Tensor
    total: int


class StepGraph:
    """Greedy search for a number of images at most, by a recorded step.

    Args:
        decoder: on a GPU.
        rows: images at once.
        length: tokens of a caption at most, prompt included.
        like: (B, N, E) states of images, of any B.
    """

    def __init__(self, decoder: BlipDecoder, rows: int, length: int, like: torch.Tensor) -> None:
        self._decoder = decoder
        self._cache = decoder.new_fixed_cache(length, rows)
        self._states = like.new_zeros(rows, *like.shape[1:])
        self._images = AbsorbedAttention(StackedStates(self._states), decoder.cross_layers)
        self._written = torch.zeros(rows, length, dtype=torch.int64, device=like.device)
        self._tokens = torch.zeros(rows, 1, dtype=torch.int64, device=like.device)
        self._finished = torch.zeros(rows, dtype=torch.bool, device=like.device)
        self._given = torch.zeros(1, dtype=torch.int64, device=like.device)
        self._graph = _recorded(self._step, like.device)

    def write(self, search: Search) -> torch.Tensor:
        """(B, T) int64 captions, padded on the right, as the plain search gives them."""
        count, start = search.prompt.shape
        self._states[:count].copy_(search.states)
        self._written.fill_(self._decoder.padding)
        self._written[:count, :start].copy_(search.prompt)
        self._tokens.copy_(self._written[:, :1])
        self._finished.fill_(value=True)
        self._finished[:count].fill_(value=False)
        self._given.fill_(start)
        self._cache.start()
        for place in range(1, search.total):
            self._graph.replay()
            if place >= start and self._finished.all():
                return self._written[:count, : place + 1].clone()
        return self._written[:count, : search.total].clone()

    def _step(self) -> None:
        """One token more for all. Only tensors change, and stay where they are."""
        chosen = self._decoder(self._tokens, self._cache, self._images).argmax(-1)
        place = self._cache.position
        is_given = place < self._given
        given = self._written.index_select(1, place).squeeze(1)
        chosen = torch.where(is_given, given, chosen.masked_fill(self._finished, self._decoder.padding))
        self._written.index_copy_(1, place, chosen[:, None])
        self._finished.logical_or_((chosen == self._decoder.end).logical_and(~is_given))
        self._tokens.copy_(chosen[:, None])


class StepGraphs:
    """The recorded steps of a decoder, by number of images and length. Safe to use from several threads.

    Args:
        decoder: on a GPU.
    """

    def __init__(self, decoder: BlipDecoder) -> None:
        self._decoder = decoder
        self._graphs: OrderedDict[tuple[int, ...], StepGraph | None] = OrderedDict()
        self._lock = Lock()
        self._fit = True

    def write(self, search: Search, plain: Callable[[], torch.Tensor]) -> torch.Tensor:
        """(B, T) int64 captions, padded on the right, by whichever way is sooner.

        Args:
            search: what is to be captioned.
            plain: does the same without anything recorded.
        """
        rows = 1 << (len(search.states) - 1).bit_length()
        length = -(-search.total // _MULTIPLE) * _MULTIPLE
        key = (rows, length, *search.states.shape[1:])
        with self._lock:
            if self._fit and key not in self._graphs:
                self._graphs[key] = self._sooner(rows, length, search, plain)
                if len(self._graphs) > _MOST_GRAPHS:
                    self._graphs.popitem(last=False)
            graph = self._graphs.get(key)
            if graph is not None:
                self._graphs.move_to_end(key)
                return graph.write(search)
        return plain()

    def _sooner(
        self, rows: int, length: int, search: Search, plain: Callable[[], torch.Tensor]
    ) -> StepGraph | None:
        """What is recorded, if it is sooner; where it is wrong one warning, and nothing is recorded again."""
        try:
            graph = StepGraph(self._decoder, rows, length, search.states)
            written = graph.write(search)
        except torch.OutOfMemoryError:
            return None
        except (RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
            self._refuse(f"a step cannot be recorded: {str(error).splitlines()[0]}")
            return None
        if not self._chooses_the_same(written, search):
            self._refuse("a recorded step chooses other words")
            return None
        seconds = _shortest_seconds([plain, partial(graph.write, search)], search.states.device)
        return graph if seconds[0] > _GAIN * seconds[1] else None

    def _refuse(self, reason: str) -> None:
        self._fit = False
        self._graphs.clear()
        say_not_used("step_graphs", reason)

    def _chooses_the_same(self, written: torch.Tensor, search: Search) -> bool:
        """Whether the plain decoder, led along these captions, would choose each word, but for rounding."""
        count, start = search.prompt.shape
        images = AbsorbedAttention(StackedStates(search.states), self._decoder.cross_layers)
        cache = self._decoder.new_cache(written.shape[1], count)
        tokens, fine = search.prompt, torch.zeros(count, dtype=torch.bool, device=written.device)
        for place in range(start, written.shape[1]):
            logits, chosen = self._decoder(tokens, cache, images), written[:, place]
            behind = logits.amax(-1) - logits.gather(1, chosen[:, None]).squeeze(1)
            allowed = _ROUNDING * torch.finfo(search.states.dtype).eps * logits.abs().amax(-1)
            if not ((behind <= allowed) | fine).all():
                return False
            fine = fine | (chosen == self._decoder.end)  # what follows is padding
            tokens = chosen[:, None]
        return True


def _recorded(step: Callable[[], None], device: torch.device) -> torch.cuda.CUDAGraph:
    """A step, warmed up and recorded. Other threads may use the GPU meanwhile."""
    cuda: Any = torch.cuda
    with cuda.device(device):
        beside = cuda.Stream()
        beside.wait_stream(cuda.current_stream())
        with cuda.stream(beside):
            for _ in range(_WARM_UP):
                step()
        cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with cuda.graph(graph, stream=beside, capture_error_mode="thread_local"):
            step()
    return graph


def _shortest_seconds(ways: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """What each way takes at best; they take turns."""
    shortest = [float("inf")] * len(ways)
    for _ in range(_ROUNDS):
        for index, way in enumerate(ways):
            torch.cuda.synchronize(device)
            start = time.perf_counter()
            way()
            torch.cuda.synchronize(device)
            shortest[index] = min(shortest[index], time.perf_counter() - start)
    return shortest
