from __future__ import annotations

import tracemalloc

import numpy as np

from autotag.learning.events import events, folds, near_copies


def apart(count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)


def same(groups: np.ndarray) -> list[set[int]]:
    return sorted((set(np.flatnonzero(groups == name).tolist()) for name in set(groups.tolist())), key=min)


def test_a_pause_ends_an_event_and_a_folder_does():
    taken = ["2020-05-17T10:00:00", "2020-05-17T12:30:00", "2020-05-17T18:00:00", "2020-05-17T10:01:00"]
    assert same(events(["a", "a", "a", "b"], taken, apart(4))) == [{0, 1}, {2}, {3}]


def test_the_order_of_the_photographs_does_not_matter():
    taken = ["2020-05-17T14:00:00.5", "2020-05-17T10:00:00", "2020-05-17T12:00:00"]
    assert same(events(["a"] * 3, taken, apart(3))) == [{0, 1, 2}]


def test_photographs_without_a_time_are_apart_unless_they_are_near_copies():
    vectors = apart(4)
    vectors[3] = vectors[1]
    assert same(events(["a"] * 4, [None] * 4, vectors)) == [{0}, {1, 3}, {2}]


def test_near_copies_are_joined_across_blocks_and_their_pairs_are_not_all_held():
    vectors = np.repeat(apart(3), [1, 2499, 1500], axis=0)
    tracemalloc.start()
    groups = near_copies(vectors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert same(groups) == [{0}, set(range(1, 2500)), set(range(2500, 4000))]
    assert peak < 150_000_000  # all 4 million pairs in lists take more than twice this


def test_a_chain_of_near_copies_is_one_event():
    angles = np.linspace(0, np.pi / 2, 20)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert same(near_copies(vectors)) == [set(range(20))]


def test_a_copy_in_another_folder_joins_two_events():
    vectors = apart(4)
    vectors[2] = vectors[1]
    taken = ["2020-05-17T10:00:00", "2020-05-17T10:01:00", "2021-01-01T10:00:00", "2021-01-01T10:01:00"]
    assert same(events(["a", "a", "b", "b"], taken, vectors)) == [{0, 1, 2, 3}]


def test_folds_keep_groups_whole_and_are_of_about_one_size():
    groups = np.repeat(np.arange(40), np.arange(40) % 4 + 1)
    found = folds(groups, 3)
    assert all(len(set(found[groups == name].tolist())) == 1 for name in range(40))
    sizes = np.bincount(found, minlength=3)
    assert sizes.max() - sizes.min() <= 4
