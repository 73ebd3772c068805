from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import Any

import pytest

from autotag.errors import ImageReadError
from autotag.pipeline.reading_ahead import ReadAhead

Reserve = Callable[[int], None]


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("autotag-read")]


def read_ahead(
    inputs: Iterable[Any], read: Callable[[Any], Any], *, workers: int, ahead: int
) -> ReadAhead[Any, Any]:
    return ReadAhead(inputs, lambda taken, reserve: read(taken), workers=workers, ahead=ahead)


def outcomes(reads: ReadAhead[Any, Any]) -> Iterator[Any]:
    """What comes out, until all is out; then the threads are gone."""
    try:
        while True:
            read = reads.ready()
            if read is not None:
                yield read
            elif reads.exhausted:
                return
            else:
                reads.wait()
    finally:
        reads.close()
        assert reading_threads() == []


def read_slowly_when_even(number: int) -> int:
    time.sleep(0.01 if number % 2 == 0 else 0)
    return number


def same(number: int) -> int:
    return number


def test_order_is_kept_although_some_reads_take_longer() -> None:
    reads = read_ahead(range(20), read_slowly_when_even, workers=4, ahead=6)
    assert list(outcomes(reads)) == list(range(20))


def test_unordered_a_slow_read_holds_up_no_other() -> None:
    go = threading.Event()

    def read(number: int, reserve: Reserve) -> int:
        assert number or go.wait(600)
        return number

    found = outcomes(ReadAhead(range(6), read, workers=2, ahead=3, ordered=False))
    assert set(islice(found, 5)) == {1, 2, 3, 4, 5}
    go.set()
    assert list(found) == [0]


def test_nothing_gives_nothing_and_starts_no_thread() -> None:
    reads = read_ahead([], same, workers=4, ahead=6)
    assert reads.ready() is None
    assert reads.exhausted
    assert reading_threads() == []
    reads.close()


def test_an_unreadable_image_comes_out_as_its_error_in_its_place() -> None:
    def read(number: int) -> int:
        if number == 1:
            raise ImageReadError("one", "it is empty")
        return number

    zero, one, two = outcomes(read_ahead(range(3), read, workers=2, ahead=2))
    assert (zero, two) == (0, 2)
    assert isinstance(one, ImageReadError)
    assert one.source == "one"


def test_no_more_is_taken_from_an_endless_generator_than_the_bound() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    reads = read_ahead(numbers(), same, workers=2, ahead=5)
    assert taken == [], "nothing is taken before the first is asked for"
    for yielded, _ in enumerate(islice(outcomes(reads), 100)):
        assert len(taken) - yielded <= 5
    assert len(taken) < 110


def test_reads_run_side_by_side() -> None:
    together = threading.Barrier(3, timeout=600)

    def read(number: int) -> int:
        together.wait()
        return number

    assert list(outcomes(read_ahead(range(3), read, workers=3, ahead=3))) == [0, 1, 2]


def test_what_the_iterable_raises_ends_it_after_all_it_gave() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the card was pulled out")

    reads = read_ahead(numbers(), same, workers=2, ahead=8)
    assert list(outcomes(reads)) == [1, 2]
    assert str(reads.error) == "the card was pulled out"


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
def test_what_a_read_raises_other_than_a_read_error_is_raised(kind: type[BaseException]) -> None:
    def read(number: int) -> int:
        raise kind

    with pytest.raises(kind):
        list(outcomes(read_ahead(range(3), read, workers=1, ahead=2)))


def test_threads_end_when_the_consumer_stops_early() -> None:
    found: Any = outcomes(read_ahead(count(), read_slowly_when_even, workers=3, ahead=9))
    next(found)
    assert reading_threads()
    found.close()  # which looks for threads


def test_the_users_generator_is_closed_when_the_consumer_stops_early() -> None:
    closed = []

    def numbers() -> Iterator[int]:
        try:
            yield from count()
        finally:
            closed.append(True)

    mine = numbers()
    found: Any = outcomes(read_ahead(mine, same, workers=1, ahead=2))
    next(found)
    found.close()
    assert closed == [True]


def test_waiting_ends_when_the_caller_has_something_else_to_do() -> None:
    go, other = threading.Event(), threading.Event()
    reads = read_ahead([1], lambda number: go.wait(600) and number, workers=1, ahead=1)
    assert reads.ready() is None
    assert reads.waiting == (1, 0)

    def interrupt() -> None:
        other.set()
        reads.wake()

    thread = threading.Thread(target=interrupt)
    thread.start()
    reads.wait(other.is_set)
    assert reads.ready() is None
    thread.join()
    go.set()
    assert list(outcomes(reads)) == [1]


class Decoding:
    """Reads of so many pixels, and the most that were held at once before they were taken out."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held = self.most = 0

    def read(self, pixels: int, reserve: Reserve) -> int:
        reserve(pixels)
        with self.lock:
            self.held += pixels
            self.most = max(self.most, self.held)
        return pixels

    def take(self, pixels: int) -> None:
        with self.lock:
            self.held -= pixels


def test_pixels_that_wait_are_bounded() -> None:
    decoding = Decoding()
    reads = ReadAhead([40] * 30, decoding.read, workers=8, ahead=20, room=100)
    for pixels in outcomes(reads):
        decoding.take(pixels)
    # The next in line never waits, so one more may be held; and one that is out may not be counted yet.
    assert 40 <= decoding.most <= 4 * 40


@pytest.mark.parametrize("ordered", [True, False])
def test_an_image_larger_than_all_the_room_goes_when_it_is_the_next(ordered: bool) -> None:
    sizes = [10, 500, 10, 700, 700, 10]
    decoding = Decoding()
    reads = ReadAhead(sizes, decoding.read, workers=4, ahead=6, room=100, ordered=ordered)
    assert sorted(outcomes(reads)) == sorted(sizes)


def test_a_read_that_waits_for_room_goes_on_when_it_shrank() -> None:
    """What a read keeps in the end counts, not what it decoded."""
    together = threading.Barrier(3, timeout=600)

    def read(number: int, reserve: Reserve) -> int:
        reserve(90)
        reserve(10)
        together.wait()  # all three are held at once
        return number

    assert list(outcomes(ReadAhead(range(3), read, workers=3, ahead=3, room=110))) == [0, 1, 2]


def test_reads_that_wait_for_room_end_when_the_consumer_stops() -> None:
    found: Any = outcomes(ReadAhead([80] * 9, Decoding().read, workers=4, ahead=8, room=100))
    assert next(found) == 80
    found.close()


def test_the_interpreter_ends_although_a_stream_was_left_open() -> None:
    program = (
        "import itertools, time\n"
        "from autotag.pipeline.reading_ahead import ReadAhead\n"
        "def read(number, reserve):\n    reserve(80); time.sleep(0.02); return number\n"
        "reads = ReadAhead(itertools.count(1), read, workers=3, ahead=8, room=100)\n"
        "while (first := reads.ready()) is None: reads.wait()\n"
        "print(first)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_consumer_in_a_thread_outlives_the_main_thread() -> None:
    program = (
        "import threading, time\n"
        "from autotag.pipeline.reading_ahead import ReadAhead\n"
        "def consume():\n"
        "    reads = ReadAhead(range(1, 20), lambda n, r: time.sleep(0.03) or n, workers=2, ahead=4)\n"
        "    total = 0\n"
        "    while not reads.exhausted:\n"
        "        total += reads.ready() or 0\n"
        "        reads.wait()\n"
        "    reads.close(); print(total)\n"
        "threading.Thread(target=consume).start()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=True
    )
    assert (done.stdout, done.stderr) == ("190\n", "")


def test_inputs_that_hold_much_are_not_taken_far_ahead() -> None:
    taken: list[int] = []
    go = threading.Event()

    def inputs() -> Iterator[int]:
        for number in range(30):
            taken.append(number)
            yield number

    def read(number: int, reserve: Reserve) -> int:
        assert go.wait(600)
        return number

    reads = ReadAhead(inputs(), read, workers=1, ahead=30, room=100, weigh=lambda _number: 40)
    assert reads.ready() is None
    assert len(taken) <= 4, "one that is read, and three that wait"
    go.set()
    assert list(outcomes(reads)) == list(range(30))
