from __future__ import annotations

from collections.abc import Callable

import pytest

from autotag.pipeline.batch_sizes import NEGLIGIBLE, BatchSize


def tried(
    size: BatchSize, seconds_per_image: Callable[[int], float], *, batches: int, count: int
) -> list[int]:
    """The sizes of so many whole batches, where an image takes so long in a batch of a size."""
    sizes = []
    for _ in range(batches):
        sizes.append(size.of(count))
        size.worked(count, count * seconds_per_image(sizes[-1]), whole=True)
    return sizes


def test_a_fixed_size_stays() -> None:
    assert tried(BatchSize(3), lambda size: 1.0, batches=4, count=8) == [3, 3, 3, 3]


def test_a_batch_is_never_exceeded() -> None:
    assert BatchSize(64).of(8) == 8


def test_without_a_search_whole_batches_go_through_whatever_the_time() -> None:
    size = BatchSize(searches=False)
    assert tried(size, lambda at_once: at_once, batches=6, count=16) == [16] * 6


def test_the_fastest_size_is_found_and_kept() -> None:
    """Best at 4, as of a captioner on a CPU whose caches overflow."""
    seconds = {16: 1.5, 8: 1.3, 4: 1.0, 2: 1.05, 1: 2.0}
    found = tried(BatchSize(), seconds.__getitem__, batches=9, count=16)
    assert found == [16, 16, 8, 4, 2, 1, 4, 4, 4]


def test_on_a_near_tie_the_larger_size_stays() -> None:
    found = tried(BatchSize(), lambda size: 1.0 + 0.001 * size, batches=6, count=4)
    assert found[-1] == 4


def test_what_gets_slower_is_not_tried_further() -> None:
    found = tried(BatchSize(), lambda size: 1 / size, batches=5, count=64)
    assert found == [64, 64, 32, 64, 64]


def test_powers_of_two_are_tried_below_an_odd_batch() -> None:
    assert tried(BatchSize(), float, batches=6, count=12)[1:] == [12, 8, 4, 2, 1]


def test_stages_that_take_no_time_get_whole_batches() -> None:
    assert set(tried(BatchSize(), lambda size: NEGLIGIBLE / 2, batches=6, count=8)) == {8}


def test_the_rest_of_a_stream_is_not_compared() -> None:
    size = BatchSize()
    tried(size, lambda size: 1.0, batches=2, count=8)
    before = size.of(8)
    size.worked(3, 0.1, whole=False)
    assert size.of(8) == before


def test_too_little_memory_halves_and_is_remembered() -> None:
    size = BatchSize()
    size.ran_out(8)
    assert tried(size, lambda size: 1.0, batches=20, count=8) == [4] * 20
    size.ran_out(4)
    size.ran_out(2)
    assert size.of(8) == 1


def test_it_grows_back_after_a_while_but_not_to_what_failed_twice() -> None:
    size = BatchSize()
    size.ran_out(8)
    assert tried(size, lambda size: 1.0, batches=40, count=8)[-1] == 8
    size.ran_out(8)
    assert set(tried(size, lambda size: 1.0, batches=200, count=8)) == {4}


@pytest.mark.parametrize("fixed", [None, 16])
def test_a_size_that_failed_below_keeps_larger_ones_out(fixed: int | None) -> None:
    size = BatchSize(fixed)
    for failing in (16, 8, 8):
        size.ran_out(failing)
    assert set(tried(size, lambda size: 1.0, batches=200, count=16)) == {4}
