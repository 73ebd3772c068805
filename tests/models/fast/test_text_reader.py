"""What an encoder does not read is said, once."""

from __future__ import annotations

import logging

import pytest

from autotag.models.pool import ModelPool
from autotag.stages import MatchVocabulary, RankLabels
from autotag.testing import FakeModels
from autotag.vocabularies.vocabulary import Vocabulary

LONG = "a dog and " * 100


@pytest.fixture(scope="module")
def pool() -> ModelPool:
    return ModelPool(encoder="clip-mini", device="cpu")


def test_labels_that_are_cut_are_named_once(pool: ModelPool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="autotag"):
        for _ in range(2):
            MatchVocabulary(["cat", LONG, f"{LONG} and a cat"], name="rooms").setup(pool)
            RankLabels([Vocabulary(["cat", LONG], name="houses")]).setup(pool)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("rooms: encoder")
    assert "so it ignores the end of 'a photo of a dog and a dog" in first
    assert first.endswith("...' and 1 others")
    assert second.startswith("rank_labels, houses: encoder")


def test_nothing_is_said_of_labels_that_are_read(pool: ModelPool, caplog: pytest.LogCaptureFixture) -> None:
    MatchVocabulary(["cat", "a very long label, yet one that the encoder reads to its end: dog"]).setup(pool)
    MatchVocabulary([LONG]).setup(FakeModels())  # no limit is known of this encoder
    assert not caplog.records
