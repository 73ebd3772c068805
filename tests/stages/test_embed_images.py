from __future__ import annotations

import json

import numpy as np
import pytest

from autotag.records import Result
from autotag.relevance.embeddings import read_embedding
from autotag.stages import EmbedImages
from autotag.testing import FakeEncoder, FakeModels, check_stage, make_sample


def test_it_keeps_the_contract():
    check_stage(EmbedImages())
    check_stage(EmbedImages(encoder="clip-mini"))


def test_the_vector_is_in_the_result_also_after_json():
    stage = EmbedImages()
    encoder = FakeEncoder({"a dog": 0.5})
    stage.setup(FakeModels(fake_encoder=encoder))
    sample = make_sample()
    stage([sample])
    row = json.loads(json.dumps(Result.from_sample(sample).to_dict()))
    encoder_id, vector = read_embedding(Result.from_dict(row).extras)
    assert encoder_id == encoder.id
    assert np.allclose(vector, sample.embeddings[encoder.id], atol=1e-3)


@pytest.mark.parametrize(
    "broken", ["text", {"encoder": "e"}, {"encoder": "e", "vector": "%"}, {"encoder": "e", "vector": ""}]
)
def test_what_is_not_a_vector_is_refused(broken):
    with pytest.raises(ValueError, match="embedding"):
        read_embedding({"embedding": broken})


def test_a_result_without_a_vector_has_none():
    assert read_embedding({}) is None
