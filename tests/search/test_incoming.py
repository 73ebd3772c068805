from __future__ import annotations

import pytest
from test_index import result

from autotag.search import Index, incoming
from autotag.search.incoming import groups_of


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

    assert list(map(len, groups_of(stream([0, 0])))) == [6]
    assert list(map(len, groups_of(stream([0, 3, 3])))) == [4, 1, 1, 1, 1, 1]
