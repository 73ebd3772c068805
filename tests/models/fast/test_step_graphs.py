"""Recorded steps, on a GPU that is pretended: what is replayed is what was recorded, without Python."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.torch_version import TorchVersion

from autotag.models.fast import blip_generation, fast_paths, step_graphs
from autotag.models.fast.blip_generation import BlipGenerator
from autotag.models.fast.step_graphs import StepGraph
from autotag.protocols import CaptionOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

START, END = 1, 2
PROMPTS = [None, [7], [5, END, 8]]


@pytest.fixture(autouse=True)
def _always_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """No timing decides, and what was said in other tests may be said again."""
    monkeypatch.setattr(step_graphs, "_GAIN", 0.0)
    monkeypatch.setattr(fast_paths, "_said", set())


@pytest.fixture
def gpu(pretended_gpu: ModuleType) -> Iterator[ModuleType]:
    with pretended_gpu.pretended(), torch.no_grad():
        yield pretended_gpu


def _inputs(count: int, prompt: list[int] | None, seed: int = 1) -> dict[str, torch.Tensor]:
    inputs = {"pixel_values": torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))}
    if prompt is not None:
        inputs["input_ids"] = torch.tensor([[START, *prompt, END]]).repeat(count, 1)
    return inputs


def _written(
    generator: BlipGenerator, inputs: dict[str, torch.Tensor], options: CaptionOptions, device: str
) -> list[list[int]]:
    there = {name: values.to(device) for name, values in inputs.items()}
    rows: list[list[int]] = generator.write(there, options).sequences.tolist()
    return rows


def _generators() -> tuple[BlipGenerator, BlipGenerator]:
    """On the CPU, and on the GPU with recorded steps."""
    cpu, gpu = blip_generation._tiny_model(), blip_generation._tiny_model().to("cuda")
    return BlipGenerator(cpu), BlipGenerator(gpu, recorded=True)


def _graphs(generator: BlipGenerator) -> dict[tuple[int, ...], StepGraph]:
    assert generator._graphs is not None
    return dict(generator._graphs._graphs)


@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
@pytest.mark.parametrize("count", [1, 3, 4])
def test_recorded_steps_write_what_the_plain_search_writes(
    gpu: ModuleType, caplog: pytest.LogCaptureFixture, count: int, prompt: list[int] | None
) -> None:
    plain, recorded = _generators()
    options = CaptionOptions(max_new_tokens=9)
    for seed in range(4):
        inputs = _inputs(count, prompt, seed)
        expected = _written(plain, inputs, options, "cpu")
        assert _written(recorded, inputs, options, "cuda") == expected

    (graph,) = _graphs(recorded).values()
    assert isinstance(graph._graph, gpu.Graph)
    assert graph._graph.replays > 4
    assert not caplog.records


def test_captions_end_as_soon_as_all_have_ended(gpu: ModuleType) -> None:
    plain, recorded = _generators()
    lengths = set()
    for seed in range(6):
        inputs, options = _inputs(2, None, seed), CaptionOptions(max_new_tokens=15)
        expected = _written(plain, inputs, options, "cpu")
        assert _written(recorded, inputs, options, "cuda") == expected
        lengths.add(len(expected[0]))
    assert len(lengths) > 1
    assert min(lengths) < 16


def test_other_numbers_of_images_and_lengths_share_what_is_recorded(gpu: ModuleType) -> None:
    plain, recorded = _generators()
    for count, tokens in [(4, 7), (3, 6), (4, 5), (1, 7), (4, 14)]:
        inputs, options = _inputs(count, None), CaptionOptions(max_new_tokens=tokens)
        assert _written(recorded, inputs, options, "cuda") == _written(plain, inputs, options, "cpu")
    assert [key[:2] for key in _graphs(recorded)] == [(4, 8), (1, 8), (4, 16)]


def test_what_was_used_longest_ago_is_let_go(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_graphs, "_MOST_GRAPHS", 2)
    _, recorded = _generators()
    for count in (1, 2, 1, 4):
        _written(recorded, _inputs(count, None), CaptionOptions(max_new_tokens=7), "cuda")
    assert [key[0] for key in _graphs(recorded)] == [1, 4]


@pytest.mark.parametrize(
    "options",
    [
        CaptionOptions(max_new_tokens=8, num_beams=3),
        CaptionOptions(max_new_tokens=8, repetition_penalty=1.5),
    ],
    ids=str,
)
def test_other_searches_are_not_recorded(gpu: ModuleType, options: CaptionOptions) -> None:
    plain, recorded = _generators()
    inputs = _inputs(3, None)
    assert _written(recorded, inputs, options, "cuda") == _written(plain, inputs, options, "cpu")
    assert not _graphs(recorded)


def test_steps_that_are_no_sooner_are_not_used(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_graphs, "_GAIN", float("inf"))
    tried = []
    seconds = step_graphs._shortest_seconds
    monkeypatch.setattr(step_graphs, "_shortest_seconds", lambda *given: tried.append(1) or seconds(*given))
    plain, recorded = _generators()
    inputs, options = _inputs(3, None), CaptionOptions(max_new_tokens=7)
    for _ in range(2):
        assert _written(recorded, inputs, options, "cuda") == _written(plain, inputs, options, "cpu")
    assert not _graphs(recorded)
    assert len(tried) == 1


def _asks_the_host(step: Callable[[StepGraph], None]) -> Callable[[StepGraph], None]:
    def asking(graph: StepGraph) -> None:
        step(graph)
        graph._finished.all().item()

    return asking


def _chooses_wrong(step: Callable[[StepGraph], None]) -> Callable[[StepGraph], None]:
    def choosing(graph: StepGraph) -> None:
        step(graph)
        graph._written.fill_(3)

    return choosing


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(_asks_the_host, "cannot be recorded: CUDA error"), (_chooses_wrong, "chooses other words")],
)
def test_a_fault_is_said_once_and_the_plain_search_writes(
    gpu: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Callable[[Any], Any],
    reason: str,
) -> None:
    monkeypatch.setattr(StepGraph, "_step", fault(StepGraph._step))
    plain, recorded = _generators()
    with caplog.at_level(logging.WARNING, "autotag"):
        for count in (3, 1, 3):
            inputs, options = _inputs(count, None), CaptionOptions(max_new_tokens=7)
            assert _written(recorded, inputs, options, "cuda") == _written(plain, inputs, options, "cpu")
    assert len(caplog.records) == 1
    assert "'step_graphs' is not used" in caplog.text
    assert reason in caplog.text


def test_without_memory_for_it_the_plain_search_writes_and_others_are_recorded(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = StepGraph.__init__

    def make(graph: StepGraph, decoder: Any, rows: int, *others: Any) -> None:
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        made(graph, decoder, rows, *others)

    monkeypatch.setattr(StepGraph, "__init__", make)
    plain, recorded = _generators()
    for count in (4, 2):
        inputs, options = _inputs(count, None), CaptionOptions(max_new_tokens=7)
        assert _written(recorded, inputs, options, "cuda") == _written(plain, inputs, options, "cpu")
    assert [key[0] for key in _graphs(recorded)] == [2]
    assert not caplog.records


def test_memory_that_runs_out_while_recording_is_no_fault(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step = StepGraph._step

    def fill(graph: StepGraph) -> None:
        step(graph)
        if gpu.Stream.recording is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StepGraph, "_step", fill)
    plain, recorded = _generators()
    inputs, options = _inputs(4, None), CaptionOptions(max_new_tokens=7)
    assert _written(recorded, inputs, options, "cuda") == _written(plain, inputs, options, "cpu")
    assert not _graphs(recorded)
    assert not caplog.records


def test_memory_that_runs_out_later_lets_go_of_what_was_recorded(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, recorded = _generators()
    inputs, options = _inputs(4, None), CaptionOptions(max_new_tokens=7)
    _written(recorded, inputs, options, "cuda")
    assert _graphs(recorded)

    def fill(graph: StepGraph, search: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StepGraph, "write", fill)
    with pytest.raises(torch.OutOfMemoryError):
        _written(recorded, inputs, options, "cuda")
    assert not _graphs(recorded)


def test_what_was_not_finite_does_not_reach_the_next_captions(gpu: ModuleType) -> None:
    plain, recorded = _generators()
    options = CaptionOptions(max_new_tokens=7)
    inputs = _inputs(2, None)
    _written(recorded, inputs, options, "cuda")
    _written(recorded, {"pixel_values": torch.full((2, 3, 12, 12), float("nan"))}, options, "cuda")
    assert _written(recorded, inputs, options, "cuda") == _written(plain, inputs, options, "cpu")


def test_torch_goes_back_to_its_stream(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    here = gpu.Stream.current
    for fault in (lambda step: step, _asks_the_host):
        monkeypatch.setattr(StepGraph, "_step", fault(StepGraph._step))
        _, recorded = _generators()
        _written(recorded, _inputs(2, None), CaptionOptions(max_new_tokens=7), "cuda")
        assert gpu.Stream.current is here


def test_an_old_torch_records_nothing(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.7.1+cu126"))
    model = blip_generation._tiny_model().to("cuda")
    assert BlipGenerator(model, recorded=True)._graphs is None
    assert "torch 2.7.1+cu126 is older than 2.8" in caplog.text


def test_rounding_may_choose_another_word_as_good(gpu: ModuleType) -> None:
    """In half precision two words are often equal; that is no fault."""
    _, recorded = _generators()
    assert recorded._graphs is not None
    states = torch.zeros(2, 36, 16, device="cuda")
    search = step_graphs.Search(states, torch.full((2, 1), START, device="cuda"), 8)
    decoder = recorded._decoder
    head: Any = decoder.head.predictions.decoder
    head.weight.zero_()
    head.bias.zero_()
    head.bias[4] = head.bias[5] = 1.0
    right = torch.tensor([[START, 4, 5, 4, 4, 5, 5, 4], [START, 5, 5, 5, 4, 4, 4, 4]], device="cuda")
    assert recorded._graphs._chooses_the_same(right, search)
    for place, word in ((6, 6), (6, END), (7, 0)):
        wrong = right.clone()
        wrong[1, place] = word
        assert not recorded._graphs._chooses_the_same(wrong, search)
    assert not recorded._graphs._chooses_the_same(right[:, :7], search)
    head.bias[END] = 1.0
    ended = right.clone()
    ended[:, 5], ended[:, 6:] = END, decoder.padding
    assert recorded._graphs._chooses_the_same(ended, search)
    assert recorded._graphs._chooses_the_same(ended[:, :6], search)
    ended[1, 7] = 4
    assert not recorded._graphs._chooses_the_same(ended, search)


def test_nothing_is_recorded_on_a_cpu_or_where_it_is_switched_off(gpu: ModuleType) -> None:
    assert BlipGenerator(blip_generation._tiny_model(), recorded=True)._graphs is None
    assert BlipGenerator(blip_generation._tiny_model().to("cuda"))._graphs is None


def test_threads_take_turns(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded has one memory; two searches at once would write into each other's."""
    _, recorded = _generators()
    assert recorded._graphs is not None
    inside, most = 0, 0
    write = StepGraph.write

    def counted(graph: StepGraph, search: Any) -> torch.Tensor:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            return write(graph, search)
        finally:
            inside -= 1

    monkeypatch.setattr(StepGraph, "write", counted)
    states = torch.zeros(2, 36, 16, device="cuda")
    search = step_graphs.Search(states, torch.full((2, 1), START, device="cuda"), 8)
    recorded._graphs.write(search, lambda: states)
    errors: list[Exception] = []

    def work() -> None:
        try:
            with gpu.in_another_thread(), torch.no_grad():
                for _ in range(5):
                    recorded._graphs.write(search, lambda: states)  # type: ignore[union-attr]
        except Exception as error:  # noqa: BLE001  reported below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert most == 1
