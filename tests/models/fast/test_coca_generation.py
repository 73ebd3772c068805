from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch

from autotag.config.fast_paths import FastPaths
from autotag.models.fast.coca_decoder import CachedDecoder, PlainDecoder
from autotag.models.fast.coca_generation import Written, _drawn, write
from autotag.models.pool import ModelPool
from autotag.protocols import CaptionOptions

if TYPE_CHECKING:
    from collections.abc import Callable

START, END, PADDING = 1, 2, 0
SCRIPT = Path(__file__).with_name("record_coca_references.py")
CASES: list[dict[str, Any]] = json.loads(SCRIPT.with_name("coca_references.json").read_text())["cases"]
BEAMS, GREEDY = "beam_search", "top_k"


@pytest.fixture(scope="module")
def recording(import_file: Callable[[Path], ModuleType]) -> ModuleType:
    """The script that recorded the references."""
    return import_file(SCRIPT)


@pytest.fixture(scope="module")
def captioner(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float, str], Any]:
    """``captioner(ends, plain)``: the tiny CoCa whose captions are recorded."""
    made: dict[tuple[float, str], Any] = {}

    def make(ends: float, plain: str) -> Any:
        if (ends, plain) not in made:
            folder = tiny.coca(tmp_path_factory.mktemp("coca") / "model", ends=ends)
            off = [plain] if plain else []
            made[ends, plain] = ModelPool(device="cpu", fast_paths=FastPaths.parse(off)).captioner(
                f"open_clip:{folder}"
            )
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


@pytest.mark.slow
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


VOCABULARY = 24


@pytest.fixture(scope="module")
def model() -> Any:
    """A CoCa with so few tokens that its beams meet, and whose captions end at different lengths."""
    tower = {"context_length": 20, "vocab_size": VOCABULARY, "width": 16, "heads": 2, "layers": 2}
    made = open_clip.CoCa(
        embed_dim=16,
        multimodal_cfg={**tower, "attn_pooler_heads": 2},
        text_cfg={**tower, "embed_cls": True, "output_tokens": True},
        vision_cfg={"image_size": 8, "patch_size": 4, "width": 16, "head_width": 8, "layers": 1},
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "ln_" not in name:
                parameter.normal_(std=1.2 if "cross_attn" in name else 0.5, generator=generator)
        made.text_decoder.ln_final.bias.fill_(0.5)
        made.text_decoder.text_projection[:, END] += 0.4
        made.text_decoder.text_projection[:, PADDING] -= 1
    return made.eval()


def ending(model: Any, by: float) -> Any:
    """The same model, with captions that end earlier."""
    copied = deepcopy(model)
    with torch.no_grad():
        copied.text_decoder.text_projection[:, END] += by
    return copied


@pytest.fixture(scope="module")
def states() -> torch.Tensor:
    """Of eight images."""
    return torch.randn(8, 5, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def captions(
    model: Any,
    states: torch.Tensor,
    options: CaptionOptions,
    *,
    seeds: Any = range(8),
    prefix: Any = (START,),
) -> list[list[Written]]:
    seeds = list(seeds)[: len(states)] if options.do_sample else ()
    return write(CachedDecoder(model), states, prefix, END, options, seeds=seeds)


@torch.no_grad()
def log_probabilities(model: Any, state: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """(V,) of what follows the tokens, by open_clip's own calls."""
    _, embeddings = model.text(torch.tensor([tokens]))
    return model.text_decoder(state[None], embeddings)[0, -1].log_softmax(-1)


def slow_beam_search(
    model: Any, state: torch.Tensor, prefix: list[int], options: CaptionOptions
) -> list[tuple[float, list[int]]]:
    """Best first: score, tokens. ``BeamSearchScorer`` of transformers 4 for one image, in plain Python."""
    beams, running, done = options.num_beams, [(0.0, list(prefix))], []
    for length in range(1, options.max_new_tokens + 1):
        found = []
        for total, tokens in running:
            scores = log_probabilities(model, state, tokens)
            if length - 1 < options.min_new_tokens:
                scores[END] = -torch.inf
            for token in set(tokens):
                scores[token] *= options.repetition_penalty
            found += [(total + float(score), tokens, token) for token, score in enumerate(scores)]
        found.sort(key=lambda candidate: -candidate[0])
        for total, tokens, token in found[:beams]:
            if token == END:
                done = sorted([*done, (total / length, tokens[len(prefix) :])], key=lambda one: -one[0])[
                    :beams
                ]
        running = [(total, [*tokens, token]) for total, tokens, token in found if token != END][:beams]
        if len(done) == beams and done[-1][0] >= found[0][0] / length:
            return done
    rest = [(total / options.max_new_tokens, tokens[len(prefix) :]) for total, tokens in running]
    return sorted([*done, *rest], key=lambda one: -one[0])[:beams]


@pytest.mark.slow
@pytest.mark.parametrize("prefix", [[START], [START, 7, 8]], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        CaptionOptions(num_beams=2, num_captions=2, max_new_tokens=8),
        CaptionOptions(num_beams=4, num_captions=4, max_new_tokens=10),
        CaptionOptions(num_beams=3, num_captions=3, max_new_tokens=8, min_new_tokens=4),
        CaptionOptions(num_beams=3, num_captions=3, max_new_tokens=8, repetition_penalty=1.3),
        CaptionOptions(num_beams=5, num_captions=5, max_new_tokens=1),
    ],
    ids=str,
)
def test_a_beam_search_finds_what_a_slow_one_finds(
    model: Any, states: torch.Tensor, options: CaptionOptions, prefix: list[int]
) -> None:
    for state, found in zip(states, captions(model, states, options, prefix=prefix), strict=True):
        expected = slow_beam_search(model, state, prefix, options)

        assert [caption.tokens for caption in found] == [tokens for _, tokens in expected]
        np.testing.assert_allclose(
            np.array([caption.score for caption in found], dtype=float),
            [score for score, _ in expected],
            atol=1e-4,
        )


def test_the_captions_of_these_tests_differ_and_end_at_different_lengths(
    model: Any, states: torch.Tensor
) -> None:
    for options in (CaptionOptions(max_new_tokens=10), CaptionOptions(max_new_tokens=10, num_beams=4)):
        tokens = [tuple(image[0].tokens) for image in captions(model, states, options)]

        assert len({len(row) for row in tokens}) >= 3
        assert len(set(tokens)) >= 5


SEARCHES = [
    CaptionOptions(max_new_tokens=10),
    CaptionOptions(max_new_tokens=10, num_beams=4, num_captions=2),
    CaptionOptions(max_new_tokens=10, num_beams=4, beam_scores="logits"),
    CaptionOptions(max_new_tokens=10, do_sample=True),
    CaptionOptions(max_new_tokens=10, do_sample=True, num_captions=3, top_k=8, top_p=0.9, temperature=1.5),
]


@pytest.mark.slow
@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_a_batch_gives_what_its_images_give_alone(
    model: Any, states: torch.Tensor, options: CaptionOptions
) -> None:
    together = captions(model, states, options)
    reversed_ = captions(model, states.flip(0), options, seeds=range(7, -1, -1))

    for index in range(len(states)):
        [alone] = captions(model, states[index : index + 1], options, seeds=[index])
        for other in (together[index], reversed_[-1 - index]):
            assert [caption.tokens for caption in other] == [caption.tokens for caption in alone]
            if alone[0].score is not None:
                np.testing.assert_allclose(
                    np.array([caption.score for caption in other], dtype=float),
                    np.array([caption.score for caption in alone], dtype=float),
                    atol=1e-4,
                )


def shorter(model: Any, options: CaptionOptions) -> Any:
    """A model by which some captions are short: sums of logits prefer long ones."""
    return ending(model, by=0.4) if options.beam_scores == "logits" else model


@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_finished_captions_leave_the_batch(
    model: Any, states: torch.Tensor, options: CaptionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    forward = CachedDecoder.forward

    def counted(self: Any, tokens: torch.Tensor, *more: Any) -> torch.Tensor:
        rows.append(len(tokens))
        return forward(self, tokens, *more)

    monkeypatch.setattr(CachedDecoder, "forward", counted)
    captions(shorter(model, options), states, options)

    assert rows[0] == len(states)
    assert rows[-1] < max(rows) <= len(states) * max(options.num_beams, options.num_captions)
    assert len(rows) <= options.max_new_tokens


@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_no_caption_is_longer_or_shorter_than_asked(
    model: Any, states: torch.Tensor, options: CaptionOptions
) -> None:
    free = captions(shorter(model, options), states, options)
    bounded = captions(shorter(model, options), states, replace(options, min_new_tokens=4, max_new_tokens=6))

    def lengths(found: list[list[Written]]) -> set[int]:
        return {len(caption.tokens) for image in found for caption in image}

    assert min(lengths(free)) < 4
    assert max(lengths(free)) > 6
    assert lengths(bounded) <= {4, 5, 6}
    assert not any(END in caption.tokens for image in free for caption in image)


def test_a_repetition_penalty_lowers_repetition(model: Any, states: torch.Tensor) -> None:
    def repeated(penalty: float, **more: Any) -> int:
        options = CaptionOptions(max_new_tokens=12, repetition_penalty=penalty, **more)
        rows = [image[0].tokens for image in captions(model, states, options)]
        return sum(len(row) - len(set(row)) for row in rows)

    for more in ({}, {"num_beams": 3}, {"do_sample": True}):
        assert repeated(2.5, **more) < repeated(1.0, **more)


@pytest.mark.slow
def test_sampled_captions_come_likeliest_first_with_their_mean_log_probability(
    model: Any, states: torch.Tensor
) -> None:
    options = CaptionOptions(max_new_tokens=10, do_sample=True, num_captions=4, temperature=2.0, top_k=12)
    for state, image in zip(states, captions(model, states, options), strict=True):
        scores = [caption.score or 0.0 for caption in image]
        assert scores == sorted(scores, reverse=True)
        for caption in image:
            tokens = [START, *caption.tokens, *([] if len(caption.tokens) == 10 else [END])]
            steps = [
                float(log_probabilities(model, state, tokens[:place])[tokens[place]])
                for place in range(1, len(tokens))
            ]
            np.testing.assert_allclose(np.mean(steps), caption.score, atol=1e-4)


def test_a_seed_gives_the_same_captions_and_another_seed_others(model: Any, states: torch.Tensor) -> None:
    def tokens(seed: int, seeds: Any = range(8)) -> list[list[int]]:
        options = CaptionOptions(max_new_tokens=10, do_sample=True, seed=seed)
        return [image[0].tokens for image in captions(model, states, options, seeds=seeds)]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)
    assert tokens(1) != tokens(1, range(8, 16))


def test_the_candidates_of_an_image_are_drawn_apart(model: Any, states: torch.Tensor) -> None:
    options = CaptionOptions(max_new_tokens=10, do_sample=True, num_captions=5)

    for image in captions(model, states, options):
        assert len({tuple(caption.tokens) for caption in image}) >= 3


def draws(logits: list[float], **given: Any) -> np.ndarray:
    """How often each token is drawn, of 4,000 times."""
    generators = [np.random.default_rng(number) for number in range(4_000)]
    options = CaptionOptions(do_sample=True, **given)
    drawn = _drawn(torch.tensor([logits]).repeat(len(generators), 1), generators, options)
    return np.bincount(drawn.numpy(), minlength=len(logits)) / len(generators)


PROBABILITIES = np.array([0.05, 0.4, 0.15, 0.3, 0.1])
LOGITS = np.log(PROBABILITIES).tolist()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [0.05, 0.4, 0.15, 0.3, 0.1]),
        ({"temperature": 0.5}, PROBABILITIES**2 / (PROBABILITIES**2).sum()),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7, 0]),
        ({"top_k": 1}, [0, 1, 0, 0, 0]),
        ({"top_k": 9}, [0.05, 0.4, 0.15, 0.3, 0.1]),
        ({"top_p": 0.65}, [0, 4 / 7, 0, 3 / 7, 0]),
        ({"top_p": 0.75}, [0, 8 / 17, 3 / 17, 6 / 17, 0]),
        ({"top_p": 0.01}, [0, 1, 0, 0, 0]),
        ({"top_p": 1.0}, [0.05, 0.4, 0.15, 0.3, 0.1]),
        ({"top_k": 3, "top_p": 0.6}, [0, 4 / 7, 0, 3 / 7, 0]),
    ],
    ids=str,
)
def test_tokens_are_drawn_by_their_probability(given: dict[str, Any], expected: Any) -> None:
    found = draws(LOGITS, **given)

    np.testing.assert_allclose(found, expected, atol=0.03)
    assert set(np.flatnonzero(found)) == set(np.flatnonzero(expected))


def test_an_image_that_ends_at_once_gets_an_empty_caption(model: Any, states: torch.Tensor) -> None:
    for options in SEARCHES:
        found = captions(ending(model, by=5), states, options)
        assert [len(image) for image in found] == [options.num_captions] * len(states)
        assert all(image[0].tokens == [] for image in found)


def test_the_plain_decoder_writes_the_same(model: Any, states: torch.Tensor) -> None:
    for options in SEARCHES:
        seeds = range(8) if options.do_sample else ()
        with torch.inference_mode():
            plain = write(PlainDecoder(model), states, [START, 5], END, options, seeds=list(seeds))

        assert [[caption.tokens for caption in image] for image in plain] == [
            [caption.tokens for caption in image]
            for image in captions(model, states, options, prefix=[START, 5])
        ]
