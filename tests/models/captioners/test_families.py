"""What every family of captioners promises; what is their own stands in the files beside this one."""

from __future__ import annotations

import json
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from autotag.errors import ConfigError, ModelLoadError
from autotag.models.captioners import families
from autotag.models.pool import ModelPool
from autotag.protocols import Captioner, CaptionOptions
from autotag.testing import check_captioner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHATS = ["idefics3", "smolvlm", "qwen2_vl", "qwen2_5_vl"]
FAMILIES = ["florence2", "vit_gpt2", *CHATS]
OPTIONS = [
    CaptionOptions(max_new_tokens=10),
    CaptionOptions(max_new_tokens=8, num_beams=3),
    CaptionOptions(max_new_tokens=8, num_beams=3, num_captions=2),
    CaptionOptions(max_new_tokens=8, repetition_penalty=1.5),
]


@pytest.fixture(scope="module")
def captioner(tiny_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    pool = ModelPool(device="cpu")
    return lambda family: pool.captioner(str(tiny_folder(family)))


@pytest.fixture(scope="module")
def shapes(images: list[Image.Image]) -> list[Image.Image]:
    """Also very wide and very tall ones, which some models cut into other numbers of tiles."""
    random = np.random.default_rng(1)
    sides = ((24, 120), (130, 30))
    return [
        *images,
        *(Image.fromarray(random.integers(0, 255, (*side, 3), dtype=np.uint8)) for side in sides),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_it_keeps_the_contract_of_captioners(captioner: Callable[[str], Any], family: str) -> None:
    check_captioner(captioner(family))


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_gives_token_for_token_what_its_images_give_alone(
    captioner: Callable[[str], Any],
    shapes: list[Image.Image],
    family: str,
    options: CaptionOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = captioner(family).model
    generate, sequences = model.generate, []

    def recorded(**given: Any) -> Any:
        written = generate(**given)
        begin = given["input_ids"].shape[1] if family in CHATS else 0
        sequences.extend(row[begin:].tolist() for row in written.sequences)
        return written

    monkeypatch.setattr(model, "generate", recorded)

    together = captioner(family).caption(shapes, options)
    alone = [captioner(family).caption([image], options)[0] for image in shapes]

    half = len(sequences) // 2
    padding = {0} if family not in CHATS else {captioner(family).processor.tokenizer.pad_token_id}
    ended = _eos(captioner(family))
    assert [_written(row, ended, padding) for row in sequences[:half]] == [
        _written(row, ended, padding) for row in sequences[half:]
    ]
    assert _texts(together) == _texts(alone)
    scores = [[caption.score for row in rows for caption in row] for rows in (together, alone)]
    if options.num_beams > 1:
        np.testing.assert_allclose(*scores, atol=1e-4)


def _eos(captioner: Any) -> set[int]:
    ends = captioner.model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}


def _written(tokens: list[int], ends: set[int], padding: set[int]) -> list[int]:
    """The tokens without the padding behind them."""
    while tokens and tokens[-1] in ends | padding:
        tokens = tokens[:-1]
    return tokens


def _texts(rows: Any) -> list[list[str]]:
    return [[caption.text for caption in row] for row in rows]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_image_is_what_is_captioned(
    captioner: Callable[[str], Any], images: list[Image.Image], family: str
) -> None:
    rows = captioner(family).caption(images, CaptionOptions(num_beams=2, max_new_tokens=8))

    assert np.ptp(np.array([row[0].score for row in rows], dtype=float)) > 0.01


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_caption_does_not_end_before_min_new_tokens(
    captioner: Callable[[str], Any],
    images: list[Image.Image],
    family: str,
    beams: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = captioner(family).model
    ends = _eos(captioner(family))
    monkeypatch.setattr(model.generation_config, "forced_bos_token_id", None)
    monkeypatch.setattr(model.generation_config, "forced_eos_token_id", None)
    generate, written = model.generate, []
    monkeypatch.setattr(model, "generate", lambda **given: written.append(generate(**given)) or written[-1])

    captioner(family).caption(images, CaptionOptions(max_new_tokens=7, min_new_tokens=7, num_beams=beams))

    assert "min_new_tokens" in captioner(family).extra_options
    assert not {int(token) for row in written[0].sequences for token in row[-7:]} & ends


@pytest.mark.parametrize("family", FAMILIES)
def test_several_captions_come_best_first_with_scores(
    captioner: Callable[[str], Any], images: list[Image.Image], family: str
) -> None:
    rows = captioner(family).caption(images, CaptionOptions(max_new_tokens=8, num_beams=4, num_captions=3))

    assert [len(row) for row in rows] == [3] * len(images)
    for row in rows:
        scores = [caption.score for caption in row]
        assert scores == sorted(scores, reverse=True)
        assert all(score < 0 for score in scores)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_captions_have_no_score_and_name_their_source(
    captioner: Callable[[str], Any],
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    family: str,
) -> None:
    [[caption]] = captioner(family).caption(images[:1], CaptionOptions(max_new_tokens=4))

    assert caption.score is None
    assert caption.source == str(tiny_folder(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_more_captions_than_beams_are_refused(
    captioner: Callable[[str], Any], images: list[Image.Image], family: str
) -> None:
    with pytest.raises(ConfigError, match="num_captions=2"):
        captioner(family).caption(images, CaptionOptions(num_captions=2))


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_loads_and_captions(
    tiny_folder: Callable[[str], Path], images: list[Image.Image], family: str
) -> None:
    captioner: Any = ModelPool(device="cpu", dtype="bfloat16").captioner(str(tiny_folder(family)))

    assert captioner.model.dtype == torch.bfloat16
    assert not captioner.model.training
    assert len(captioner.caption(images, CaptionOptions(max_new_tokens=4))) == len(images)


@pytest.mark.parametrize("family", FAMILIES)
def test_loading_and_captioning_say_nothing_and_leave_no_settings(
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    family: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = str(tiny_folder(family))
    settings = (logging.root.handlers[:], warnings.filters[:], transformers.logging.get_verbosity())
    capfd.readouterr()

    captioner = ModelPool(device="cpu").captioner(folder)
    for options in OPTIONS:
        captioner.caption(images, options)

    assert capfd.readouterr() == ("", "")
    assert settings == (logging.root.handlers, warnings.filters, transformers.logging.get_verbosity())


@pytest.mark.parametrize("family", [*FAMILIES, "blip", "git", "blip2_opt"])
def test_a_folder_is_served_by_the_captioner_of_its_family(
    captioner: Callable[[str], Any], family: str
) -> None:
    served = captioner(family)

    assert isinstance(served, Captioner)
    assert type(served.model).__name__ in families.CLASSES.values()


def test_a_type_that_no_family_serves_lists_what_is_supported(tiny_folder: Callable[[str], Path]) -> None:
    with pytest.raises(
        ModelLoadError, match="'clip'.*Florence2ForConditionalGeneration.*VisionEncoderDecoder"
    ):
        ModelPool(device="cpu").captioner(str(tiny_folder("clip")))


@pytest.mark.parametrize("family", FAMILIES)
def test_another_class_of_a_supported_type_is_refused(
    tiny_folder: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    for file in tiny_folder(family).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["AnotherClass"]}))

    with pytest.raises(ModelLoadError, match="holds a AnotherClass") as caught:
        ModelPool(device="cpu").captioner(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
