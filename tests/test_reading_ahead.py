from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count, islice
from typing import Any

import pytest

from autotag.errors import ImageReadError
from autotag.reading_ahead import InputsFailed, read_ahead


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("autotag-read")]


def wait_until_threads_end() -> None:
    deadline = time.monotonic() + 10
    while reading_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reading_threads() == []


def read_slowly_when_even(number: int) -> int:
    time.sleep(0.01 if number % 2 == 0 else 0)
    return number


def test_order_is_kept_although_some_reads_take_longer() -> None:
    assert list(read_ahead(range(20), read_slowly_when_even, workers=4, ahead=6)) == list(range(20))


def test_an_unreadable_image_comes_out_as_its_error_in_its_place() -> None:
    def read(number: int) -> int:
        if number == 1:
            raise ImageReadError("one", "it is empty")
        return number

    zero, one, two = read_ahead(range(3), read, workers=2, ahead=2)
    assert (zero, two) == (0, 2)
    assert isinstance(one, ImageReadError)
    assert one.source == "one"


def test_no_more_is_taken_from_an_endless_generator_than_the_bound() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    with closing(read_ahead(numbers(), lambda number: number, workers=2, ahead=5)) as reads:  # type: ignore[type-var]
        assert taken == [], "nothing is taken before the first is asked for"
        for yielded, _ in enumerate(islice(reads, 100)):
            assert len(taken) - yielded <= 5
    assert len(taken) < 110


def test_reads_run_side_by_side() -> None:
    together = threading.Barrier(3, timeout=10)

    def read(number: int) -> int:
        together.wait()
        return number

    assert list(read_ahead(range(3), read, workers=3, ahead=3)) == [0, 1, 2]


def test_what_the_iterable_raises_comes_last_after_all_it_gave() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the card was pulled out")

    *reads, failed = read_ahead(numbers(), lambda number: number, workers=2, ahead=8)
    assert reads == [1, 2]
    assert isinstance(failed, InputsFailed)
    assert str(failed.error) == "the card was pulled out"


def test_what_a_read_raises_other_than_a_read_error_is_raised() -> None:
    def read(number: int) -> int:
        raise MemoryError

    with pytest.raises(MemoryError):
        list(read_ahead(range(3), read, workers=1, ahead=2))


def test_threads_end_when_the_consumer_stops_early() -> None:
    reads: Any = read_ahead(count(), read_slowly_when_even, workers=3, ahead=9)
    next(reads)
    assert reading_threads()
    reads.close()
    wait_until_threads_end()


def test_threads_end_when_the_consumer_forgets_the_generator() -> None:
    for _ in read_ahead(count(), read_slowly_when_even, workers=3, ahead=9):
        break
    wait_until_threads_end()


def test_threads_end_when_all_is_read() -> None:
    assert len(list(read_ahead(range(10), read_slowly_when_even, workers=3, ahead=9))) == 10
    wait_until_threads_end()


def test_the_users_generator_is_closed_when_the_consumer_stops_early() -> None:
    closed = []

    def numbers() -> Iterator[int]:
        try:
            yield from count()
        finally:
            closed.append(True)

    reads: Any = read_ahead(numbers(), lambda number: number, workers=1, ahead=2)
    next(reads)
    reads.close()
    del reads
    assert closed == [True]


def test_the_interpreter_ends_although_a_stream_was_left_open() -> None:
    program = (
        "import itertools, time\n"
        "from autotag.reading_ahead import read_ahead\n"
        "reads = read_ahead(itertools.count(), lambda n: time.sleep(0.05) or n, workers=2, ahead=8)\n"
        "print(next(reads))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
