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

from autotag.models.fast.cross_attention import AbsorbedAttention
from autotag.models.fast.fast_paths import say_not_used
from autotag.models.fast.packed_attention import StackedStates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from autotag.models.fast.blip_generation import BlipDecoder

_GAIN = 1.05
"""How many times sooner than the plain search a recorded one has to be."""
_ROUNDS = 3
_WARM_UP = 3
"""Steps that are run before one is recorded, as torch asks for."""
_MULTIPLE = 8
"""Captions of up to a multiple of so many tokens share what is recorded."""
_MOST_GRAPHS = 16
_ROUNDING = 4
"""How far the logit of a word may be behind the best, in units in the last place of the largest."""
_LEAST_ROUNDING = 1e-4
"""As a share of the largest, for a dtype with more places."""
_OLDEST_TORCH = "2.8"  # before, memory that is freed in one thread breaks what another one records

_recording = Lock()  # one at a time in a process: to begin one, torch waits for the whole device


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
        stream: to record on; nothing else may be done there.
    """

    def __init__(
        self, decoder: BlipDecoder, rows: int, length: int, like: torch.Tensor, stream: torch.cuda.Stream
    ) -> None:
        self._decoder = decoder
        self._cache = decoder.new_fixed_cache(length, rows)
        self._states = like.new_zeros(rows, *like.shape[1:])
        self._images = AbsorbedAttention(StackedStates(self._states), decoder.cross_layers)
        self._written = torch.zeros(rows, length, dtype=torch.int64, device=like.device)
        self._tokens = torch.zeros(rows, 1, dtype=torch.int64, device=like.device)
        self._finished = torch.zeros(rows, dtype=torch.bool, device=like.device)
        self._given = torch.zeros(1, dtype=torch.int64, device=like.device)
        self._graph = _recorded(self._step, stream)

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
        self._graphs: OrderedDict[tuple[int, ...], StepGraph] = OrderedDict()
        self._slower: set[tuple[int, ...]] = set()
        self._stream: torch.cuda.Stream | None = None
        self._lock = Lock()
        self._fit = True

    def write(self, search: Search, plain: Callable[[], torch.Tensor]) -> torch.Tensor:
        """(B, T) int64 captions, padded on the right, by whichever way is sooner.

        Args:
            search: what is to be captioned.
            plain: does the same without anything recorded.

        Raises:
            torch.OutOfMemoryError: what was recorded is gone then.
        """
        rows = 1 << (len(search.states) - 1).bit_length()
        length = -(-search.total // _MULTIPLE) * _MULTIPLE
        key = (rows, length, *search.states.shape[1:])
        try:
            with self._lock:
                graph = self._graph(key, search, plain)
                if graph is not None:
                    return graph.write(search)
            return plain()
        except torch.OutOfMemoryError:
            with self._lock:
                self._graphs.clear()
            raise

    def _graph(
        self, key: tuple[int, ...], search: Search, plain: Callable[[], torch.Tensor]
    ) -> StepGraph | None:
        """What is recorded for this number of images and length, if it is sooner."""
        if self._fit and key not in self._graphs and key not in self._slower:
            graph = self._tried(key[0], key[1], search, plain)
            if graph is None:
                self._slower.add(key)
            else:
                self._graphs[key] = graph
            if len(self._graphs) > _MOST_GRAPHS:
                self._graphs.popitem(last=False)
        if key in self._graphs:
            self._graphs.move_to_end(key)
        return self._graphs.get(key)

    def _tried(
        self, rows: int, length: int, search: Search, plain: Callable[[], torch.Tensor]
    ) -> StepGraph | None:
        """What is recorded, if it is sooner; where it is wrong one warning, and nothing is recorded again."""
        try:
            with _recording:
                graph = StepGraph(self._decoder, rows, length, search.states, self._own_stream(search))
            right = self._chooses_the_same(graph.write(search), search)
            seconds = _shortest_seconds([plain, partial(graph.write, search)], search.states.device)
        except torch.OutOfMemoryError:
            return None
        except (RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
            cause = error.__context__ or error  # what ends a recording hides what broke it
            if not isinstance(cause, torch.OutOfMemoryError):
                self._refuse(f"a step cannot be recorded: {str(cause).partition(chr(10))[0]}")
            return None
        if not right:
            self._refuse("a recorded step chooses other words")
            return None
        return graph if seconds[0] > _GAIN * seconds[1] else None

    def _own_stream(self, search: Search) -> torch.cuda.Stream:
        """To record on, always the same: torch keeps memory for each that was ever used."""
        if self._stream is None:
            cuda: Any = torch.cuda
            self._stream = cuda.Stream(search.states.device)
        return self._stream

    def _refuse(self, reason: str) -> None:
        self._fit = False
        self._graphs.clear()
        say_not_used("step_graphs", reason)

    def _chooses_the_same(self, written: torch.Tensor, search: Search) -> bool:
        """Whether the plain decoder, led along these captions, would choose each word, but for rounding."""
        count, start = search.prompt.shape
        images = AbsorbedAttention(StackedStates(search.states), self._decoder.cross_layers)
        cache = self._decoder.new_cache(written.shape[1], count)
        rounding = max(_LEAST_ROUNDING, _ROUNDING * torch.finfo(search.states.dtype).eps)
        tokens, ended = search.prompt, torch.zeros(count, dtype=torch.bool, device=written.device)
        for place in range(start, written.shape[1]):
            logits, chosen = self._decoder(tokens, cache, images), written[:, place]
            behind = logits.amax(-1) - logits.gather(1, chosen[:, None]).squeeze(1)
            as_good = behind <= rounding * logits.abs().amax(-1)
            if not torch.where(ended, chosen == self._decoder.padding, as_good).all():
                return False
            ended = ended | (chosen == self._decoder.end)
            tokens = chosen[:, None]
        return written.shape[1] == search.total or bool(ended.all())


def step_graphs(decoder: BlipDecoder, device: torch.device) -> StepGraphs | None:
    """The recorded steps of a decoder; None without an NVIDIA GPU, and, with a warning, for an old torch."""
    if device.type != "cuda":
        return None
    if torch.__version__ < _OLDEST_TORCH:
        say_not_used("step_graphs", f"torch {torch.__version__} is older than {_OLDEST_TORCH}")
        return None
    return StepGraphs(decoder)


def _recorded(step: Callable[[], None], stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    """A step, warmed up and recorded. Other threads may use the GPU meanwhile."""
    cuda: Any = torch.cuda
    here = cuda.current_stream(stream.device)
    with cuda.stream(here):  # torch does not go back to it where recording fails
        stream.wait_stream(here)
        try:
            with cuda.stream(stream):
                for _ in range(_WARM_UP):
                    step()
        finally:
            here.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            step()
    return graph


def _shortest_seconds(ways: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """What each way takes at best; they take turns."""
    stream: Any = torch.cuda.current_stream(device)
    shortest = [float("inf")] * len(ways)
    for _ in range(_ROUNDS):
        for index, way in enumerate(ways):
            stream.synchronize()
            start = time.perf_counter()
            way()
            stream.synchronize()
            shortest[index] = min(shortest[index], time.perf_counter() - start)
    return shortest
