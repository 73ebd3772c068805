from __future__ import annotations

import numpy as np
import pytest

from autotag.models.fast.token_trie import in_chunks, token_trie

RANDOM = np.random.default_rng(0)
SEQUENCES = [tuple(RANDOM.integers(0, 4, RANDOM.integers(1, 7)).tolist()) for _ in range(200)]


def test_the_way_to_each_end_spells_its_sequence():
    trie = token_trie(SEQUENCES)
    ways = {int(way[-1]): way for level in trie.ancestors for way in level}
    for sequence, end in zip(SEQUENCES, trie.ends, strict=True):
        assert tuple(trie.tokens[ways[int(end)]].tolist()) == sequence


def test_there_is_one_node_per_distinct_beginning():
    trie = token_trie(SEQUENCES)
    beginnings = {sequence[:length] for sequence in SEQUENCES for length in range(1, len(sequence) + 1)}
    assert len(trie.tokens) == len(beginnings)
    assert trie.levels[-1] == len(beginnings)


def test_equal_sequences_end_at_one_node():
    assert token_trie([(1, 2), (1, 3), (1, 2)]).ends.tolist() == [1, 2, 1]


@pytest.mark.parametrize("most", [1, 10, 50, 10_000])
def test_chunks_hold_every_sequence_once_and_no_more_than_their_tokens(most):
    chunks = in_chunks(SEQUENCES, most)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(len(SEQUENCES)))
    assert all(len(chunk) == 1 or sum(len(SEQUENCES[place]) for place in chunk) <= most for chunk in chunks)
