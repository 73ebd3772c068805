from __future__ import annotations

import pytest

from autotag.pipeline.batch_sizes import BatchSize


def used(size: BatchSize, *, batches: int, count: int) -> list[int]:
    """The sizes of so many batches that succeed."""
    sizes = []
    for _ in range(batches):
        sizes.append(size.of(count))
        size.worked()
    return sizes


def test_whole_batches_unless_a_size_is_fixed() -> None:
    assert used(BatchSize(), batches=4, count=16) == [16] * 4
    assert used(BatchSize(3), batches=4, count=8) == [3] * 4


def test_a_batch_is_never_exceeded() -> None:
    assert BatchSize(64).of(8) == 8


def test_too_little_memory_halves_and_is_remembered() -> None:
    size = BatchSize()
    size.ran_out(8)
    assert used(size, batches=20, count=8) == [4] * 20
    size.ran_out(4)
    size.ran_out(2)
    assert size.of(8) == 1


def test_it_grows_back_after_a_while_but_not_to_what_failed_twice() -> None:
    size = BatchSize()
    size.ran_out(8)
    assert used(size, batches=40, count=8)[-1] == 8
    size.ran_out(8)
    assert set(used(size, batches=200, count=8)) == {4}


@pytest.mark.parametrize("fixed", [None, 16])
def test_a_size_that_failed_below_keeps_larger_ones_out(fixed: int | None) -> None:
    size = BatchSize(fixed)
    for failing in (16, 8, 8):
        size.ran_out(failing)
    assert set(used(size, batches=200, count=16)) == {4}
