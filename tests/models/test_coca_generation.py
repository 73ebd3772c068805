from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch

from autotag.models.coca_generation import write
from autotag.models.pool import ModelPool
from autotag.protocols import CaptionOptions

if TYPE_CHECKING:
    from collections.abc import Callable

START, END, PADDING = 1, 2, 0
SCRIPT = Path(__file__).with_name("record_coca_references.py")
CASES: list[dict[str, Any]] = json.loads(SCRIPT.with_name("coca_references.json").read_text())["cases"]
BEAMS, GREEDY = "beam_search", "top_k"


@pytest.fixture(scope="module")
def recording() -> ModuleType:
    """The script that recorded the references; tests are no package that it could be imported from."""
    spec = importlib.util.spec_from_file_location("autotag_record_coca_references", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def captioner(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float, str], Any]:
    """``captioner(ends, plain)``: the tiny CoCa whose captions are recorded."""
    made: dict[tuple[float, str], Any] = {}

    def make(ends: float, plain: str) -> Any:
        if (ends, plain) not in made:
            folder = tiny.coca(tmp_path_factory.mktemp("coca") / "model", ends=ends)
            off = [plain] if plain else []
            made[ends, plain] = ModelPool(device="cpu", plain=off).captioner(f"open_clip:{folder}")
        return made[ends, plain]

    return make


def options_of(settings: dict[str, Any]) -> CaptionOptions:
    """What the settings of open_clip's ``generate`` are called here.

    Its lengths count the start token, and that of greedy captions also the end token that it puts last. Its
    groups are equal, so several groups of beams are one.
    """
    beams = settings.get("num_beams", 1) // settings.get("num_beam_groups", 1)
    return CaptionOptions(
        num_beams=beams,
        max_new_tokens=settings["seq_len"] - (1 if beams > 1 else 2),
        min_new_tokens=settings["min_seq_len"] - 1,
        repetition_penalty=settings.get("repetition_penalty", 1.0),
        beam_scores="logits" if beams > 1 else "log_probabilities",
    )


def tokens_of(captioner: Any, images: list[Any], options: CaptionOptions) -> list[list[int]]:
    """The best caption of each image as tokens."""
    pixels = torch.stack([captioner.preprocess(image) for image in images])
    with torch.inference_mode():
        _, states = captioner.visual(pixels)
        written = write(captioner.decoder, states, [49406], 49407, options)
    return [captions[0].tokens for captions in written]


@pytest.mark.parametrize("plain", ["", "coca_decoder"])
@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: "-".join(map(str, [case["ends"], *case["settings"].values()]))
)
def test_tokens_are_those_that_open_clip_writes(
    captioner: Callable[[float, str], Any], recording: ModuleType, case: dict[str, Any], plain: str
) -> None:
    options = options_of(case["settings"])

    assert tokens_of(captioner(case["ends"], plain), recording.images(), options) == case["tokens"]


@pytest.mark.parametrize("kind", [BEAMS, GREEDY])
def test_the_references_differ_between_images_and_end_at_different_lengths(kind: str) -> None:
    cases = [case for case in CASES if case["settings"]["generation_type"] == kind]

    assert len(cases) >= 16
    assert sum(len({len(tokens) for tokens in case["tokens"]}) >= 3 for case in cases) >= 6
    assert all(len({tuple(tokens) for tokens in case["tokens"]}) >= 4 for case in cases)
    assert len({json.dumps(case["tokens"]) for case in cases}) >= 8


def test_log_probabilities_find_other_captions_than_logits(
    captioner: Callable[[float, str], Any], recording: ModuleType
) -> None:
    logits = CaptionOptions(num_beams=4, max_new_tokens=12, beam_scores="logits")
    one = captioner(10.5, "")

    assert tokens_of(one, recording.images(), logits) != tokens_of(
        one, recording.images(), CaptionOptions(num_beams=4, max_new_tokens=12)
    )
