from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from autotag.errors import ConfigError
from autotag.models.captioners.generate_options import captions_of, check_beams, generation_options, placed
from autotag.protocols import CaptionOptions
from autotag.records import Caption


def test_more_captions_than_beams_are_refused() -> None:
    check_beams(CaptionOptions(num_beams=2, num_captions=2))
    with pytest.raises(ConfigError, match="num_captions=3.*num_beams=2"):
        check_beams(CaptionOptions(num_beams=2, num_captions=3))


def test_what_a_checkpoint_says_of_sampling_and_repetition_does_not_count() -> None:
    """Published chat models say ``do_sample`` and ``repetition_penalty=1.05``."""
    given = generation_options(CaptionOptions())

    assert given["do_sample"] is False
    assert given["repetition_penalty"] == 1.0
    assert {given[name] for name in ("temperature", "top_k", "top_p")} == {None}


def test_several_captions_are_asked_for_with_scores() -> None:
    given = generation_options(CaptionOptions(num_beams=3, num_captions=2, min_new_tokens=4))

    assert (given["num_return_sequences"], given["output_scores"], given["min_new_tokens"]) == (2, True, 4)
    assert "num_return_sequences" not in generation_options(CaptionOptions())


def test_only_pixels_take_the_dtype_of_the_model() -> None:
    model = SimpleNamespace(device="cpu", dtype=torch.bfloat16)

    inputs = placed({"pixel_values": torch.ones(1), "input_ids": torch.ones(1, dtype=torch.int64)}, model)

    assert {name: values.dtype for name, values in inputs.items()} == {
        "pixel_values": torch.bfloat16,
        "input_ids": torch.int64,
    }


def test_captions_stand_by_image_in_order() -> None:
    written = SimpleNamespace(sequences=torch.zeros(4, 1), sequences_scores=torch.tensor([-1.0, -2, -3, -4]))
    texts = ["a  cat", " a dog\n", "", "d"]

    rows = captions_of(texts, written, CaptionOptions(num_beams=2, num_captions=2), "mine")

    assert rows == [
        [Caption("a cat", "mine", -1.0), Caption("a dog", "mine", -2.0)],
        [Caption("", "mine", -3.0), Caption("d", "mine", -4.0)],
    ]


def test_greedy_captions_have_no_score() -> None:
    written = SimpleNamespace(sequences=torch.zeros(1, 1))

    assert captions_of(["a cat"], written, CaptionOptions(), "mine") == [[Caption("a cat", "mine", None)]]
