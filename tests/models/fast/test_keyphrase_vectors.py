from __future__ import annotations

import threading
from typing import Any

import numpy as np

from autotag.models.fast.keyphrase_vectors import SentenceVectors


def _counting(capacity: int) -> tuple[SentenceVectors, list[str]]:
    """Vectors that say what was calculated, in order."""
    calculated: list[str] = []

    def encode(texts: list[str]) -> Any:
        calculated.extend(texts)
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)

    return SentenceVectors(encode, capacity=capacity), calculated


def test_a_text_is_calculated_once_while_it_is_kept() -> None:
    vectors, calculated = _counting(3)

    vectors(["a", "b", "a"])
    vectors(["b", "c"])
    assert calculated == ["a", "b", "c"]
    vectors(["a", "d"])  # b was used before a and c
    vectors(["a", "d", "c"])
    assert calculated == ["a", "b", "c", "d"]
    vectors(["b"])
    assert calculated == ["a", "b", "c", "d", "b"]


def test_a_batch_larger_than_what_is_kept_is_answered_whole() -> None:
    vectors, _ = _counting(2)

    assert vectors(["a", "b", "c", "d"]).keys() == {"a", "b", "c", "d"}


def test_threads_get_what_one_thread_gets() -> None:
    vectors, calculated = _counting(5)
    texts = [f"{'x' * number}" for number in range(40)]
    wrong: list[str] = []

    def ask(first: int) -> None:
        for _ in range(50):
            found = vectors(texts[first : first + 8])
            wrong.extend(text for text, row in found.items() if round(float(row[0] / row[1])) != len(text))

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(0, 32, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calculated
    assert wrong == []
