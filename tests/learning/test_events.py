from __future__ import annotations

import numpy as np

from autotag.learning.events import events, folds


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
