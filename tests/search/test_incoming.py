from __future__ import annotations

import pytest
from test_index import result

from autotag.errors import SearchIndexError
from autotag.search import Filter, Index, incoming
from autotag.search.incoming import put_in_groups, stored_path


def some(count, start=0):
    return [result(f"/{number}.jpg", "a dog") for number in range(start, start + count)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_was_finished_before_an_error_is_in_the_index(tmp_path, error):
    def stream():
        yield from some(70)
        raise error

    with Index.open(tmp_path / "i.db") as index:
        with pytest.raises(error):
            index.add(stream())
        assert len(index) == 70


def test_after_a_long_wait_no_result_waits_for_the_next(monkeypatch):
    now = 0.0
    monkeypatch.setattr(incoming.time, "monotonic", lambda: now)

    def stream(waits):
        nonlocal now
        for wait in waits:
            now += wait
            yield from some(3)

    def sizes(waits):
        groups = []
        assert put_in_groups(stream(waits), lambda group: groups.append(len(group))) == sum(groups)
        return groups

    assert sizes([0, 0]) == [6]
    assert sizes([0, 3, 3]) == [4, 1, 1, 1, 1, 1]


def test_the_error_of_the_stream_comes_out_when_the_last_results_cannot_be_kept():
    def stream():
        yield from some(2)
        raise KeyboardInterrupt

    def full(_group):
        raise SearchIndexError("i.db", "the disk is full.")

    with pytest.raises(KeyboardInterrupt) as caught:
        put_in_groups(stream(), full)
    [note] = caught.value.__notes__
    assert "2 results before it could not be kept" in note
    assert "the disk is full" in note


def test_two_slashes_at_the_beginning_of_a_path_are_one():
    assert stored_path("//photos/a.jpg") == stored_path("/photos/a.jpg") == b"/photos/a.jpg"
    assert Filter(folder="//photos").folder == "/photos"
