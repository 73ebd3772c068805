from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from transformers.models.blip import modeling_blip_text

from autotag.config import fast_paths
from autotag.models.fast import blip_generation, packed_attention
from autotag.models.fast.blip_generation import BlipGenerator, blip_generator
from autotag.models.fast.cross_attention import AbsorbedAttention, ProjectedAttention
from autotag.models.fast.packed_attention import PackedStates, StackedStates
from autotag.protocols import CaptionOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

END = 3
SEEDS = (13, 26)  # captions as various as a test below wants them, and no two nearly as likely
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def _blip(seed: int, *, image_size: int = 24, **text: Any) -> Any:
    """A BLIP with seeded weights whose captions depend on the image and end at different lengths."""
    config = transformers.BlipConfig(
        vision_config={**SIZES, "hidden_size": 24, "image_size": image_size, "patch_size": 4},
        text_config={
            **SIZES,
            "vocab_size": 50,
            "encoder_hidden_size": 24,
            "max_position_embeddings": 32,
            "bos_token_id": 1,
            "eos_token_id": END,
            "sep_token_id": END,
            "pad_token_id": 0,
            **text,
        },
        projection_dim=8,
    )
    model: Any = transformers.BlipForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name.lower():
                std = 1.2 if "crossattention" in name else 1.0 if "position" in name else 0.3
                parameter.normal_(std=std, generator=generator)
        model.text_decoder.cls.predictions.decoder.bias[END] += 4
    model.eval()
    return model


def _inputs(
    model: Any, count: int, prompt: list[int] | None = None, seed: int = 0
) -> dict[str, torch.Tensor]:
    side = model.config.vision_config.image_size
    pixels = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
    inputs = {"pixel_values": pixels.to(model.dtype)}
    if prompt is not None:
        inputs["input_ids"] = torch.tensor([[2, *prompt, END]]).repeat(count, 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return inputs


@torch.inference_mode()
def _generated(model: Any, inputs: dict[str, torch.Tensor], options: CaptionOptions) -> Any:
    """What transformers itself writes."""
    return model.generate(
        **{name: values.clone() for name, values in inputs.items()},
        max_new_tokens=options.max_new_tokens,
        num_beams=options.num_beams,
        num_return_sequences=options.num_captions,
        repetition_penalty=options.repetition_penalty,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )


def _written(model: Any, inputs: dict[str, torch.Tensor], options: CaptionOptions) -> Any:
    generator = BlipGenerator(model)
    with torch.inference_mode():
        return generator.write(inputs, options)


def _lengths(sequences: torch.Tensor) -> set[int]:
    """Positions of the first end; the length where there is none."""
    return {([*row, END]).index(END) for row in sequences.tolist()}


OPTIONS = [
    CaptionOptions(max_new_tokens=12),
    CaptionOptions(max_new_tokens=1),
    CaptionOptions(max_new_tokens=12, repetition_penalty=1.6),
    CaptionOptions(max_new_tokens=12, num_beams=3),
    CaptionOptions(max_new_tokens=1, num_beams=3),
    CaptionOptions(max_new_tokens=12, num_beams=3, num_captions=2, repetition_penalty=1.6),
    CaptionOptions(max_new_tokens=12, num_beams=20, num_captions=20),
]


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["absorbed", "packed", "projected", "the cheaper"])
@pytest.mark.parametrize("prompt", [None, [7, 8, 9]])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_captions_are_those_of_generate(
    options: CaptionOptions, prompt: list[int] | None, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: dict[str, Callable[..., Any]] = {
        "absorbed": lambda states, layers: AbsorbedAttention(StackedStates(states), layers),
        "packed": lambda states, layers: AbsorbedAttention(PackedStates(states), layers),
        "projected": ProjectedAttention,
    }
    if attention in kinds:

        def attend_to(self: Any, states: torch.Tensor, tokens: int, **named: Any) -> Any:
            return kinds[attention](states, list(self.layers))

        monkeypatch.setattr(blip_generation.BlipDecoder, "attend_to", attend_to)
    for seed in SEEDS:
        model = _blip(seed)
        inputs = _inputs(model, 5, prompt, seed)
        expected = _generated(model, inputs, options)
        given = _written(model, inputs, options)

        assert given.sequences.tolist() == expected.sequences.tolist()
        if options.num_beams > 1:
            torch.testing.assert_close(
                given.sequences_scores, expected.sequences_scores, atol=1e-4, rtol=1e-4
            )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[3]], ids=str)
def test_the_parity_tests_see_captions_that_differ_and_end_at_different_lengths(
    options: CaptionOptions, seed: int
) -> None:
    model = _blip(seed)
    sequences = _generated(model, _inputs(model, 5, None, seed), options).sequences

    assert len(_lengths(sequences)) >= 3
    assert len({tuple(row) for row in sequences.tolist()}) == 5


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[3]], ids=str)
def test_every_size_of_batch_is_right(count: int, options: CaptionOptions) -> None:
    model = _blip(26)
    inputs = _inputs(model, count, [7, 8])

    assert (
        _written(model, inputs, options).sequences.tolist()
        == _generated(model, inputs, options).sequences.tolist()
    )


def test_padding_that_is_not_zero_is_kept() -> None:
    model = _blip(0, pad_token_id=5)
    for options in (OPTIONS[0], OPTIONS[3]):
        inputs = _inputs(model, 5, None, 13)
        assert (
            _written(model, inputs, options).sequences.tolist()
            == _generated(model, inputs, options).sequences.tolist()
        )


def test_finished_captions_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = _blip(13), []
    forward = blip_generation.BlipDecoder.forward

    def counted(self: Any, tokens: torch.Tensor, *more: Any) -> torch.Tensor:
        rows.append(len(tokens))
        return forward(self, tokens, *more)

    monkeypatch.setattr(blip_generation.BlipDecoder, "forward", counted)
    for options in (OPTIONS[0], OPTIONS[3]):
        rows.clear()
        _written(model, _inputs(model, 5, None, 13), options)
        assert rows[0] == 5
        assert 0 < rows[-1] < options.num_beams * 5


def test_keys_and_values_are_projected_only_where_many_tokens_pay_for_it() -> None:
    decoder = BlipGenerator(_blip(13))._decoder
    states = torch.randn(2, 577, 24)

    few, many = (decoder.attend_to(states, tokens, packed=False) for tokens in (3, 1000))
    assert isinstance(few, AbsorbedAttention)
    assert isinstance(many, ProjectedAttention)


@pytest.mark.parametrize("packed", [False, True])
def test_images_are_packed_where_that_is_allowed_and_gains(
    packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def gains(tokens: int, _: torch.Tensor) -> bool:
        asked.append(tokens)
        return packed_attention._fits()

    monkeypatch.setattr(packed_attention, "_gains", gains)
    model = _blip(13)
    inputs = _inputs(model, 3)
    options = CaptionOptions(max_new_tokens=2, num_beams=3)
    with torch.inference_mode():
        given = BlipGenerator(model, packed=packed).write(inputs, options)

    assert given.sequences.tolist() == _generated(model, inputs, options).sequences.tolist()
    assert asked == ([37] if packed else [])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_writes_nearly_the_same_probabilities(dtype: torch.dtype) -> None:
    options = CaptionOptions(max_new_tokens=6, num_beams=3, num_captions=3)
    exact = _blip(13)
    expected = _written(exact, _inputs(exact, 4), options).sequences_scores
    reduced = _blip(13).to(dtype)

    given = _written(reduced, _inputs(reduced, 4), options).sequences_scores

    assert given.dtype == torch.float32
    torch.testing.assert_close(given, expected, atol=0.3, rtol=0.1)


def test_a_cpu_encodes_images_a_few_at_a_time_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = _blip(13), []
    inputs = _inputs(model, 5, None, 13)
    whole = _written(model, inputs, OPTIONS[0]).sequences
    monkeypatch.setattr(blip_generation, "_TOKENS_AT_ONCE", 80)  # of 37 tokens
    model.vision_model.register_forward_pre_hook(
        lambda _, given, named: sizes.append(len(named["pixel_values"])), with_kwargs=True
    )

    assert torch.equal(_written(model, inputs, OPTIONS[0]).sequences, whole)
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        ([7] * 20, CaptionOptions(max_new_tokens=20)),
        (None, CaptionOptions(max_new_tokens=4, num_beams=26)),
    ],
)
def test_what_only_generate_can_do_does_not_fit(prompt: list[int] | None, options: CaptionOptions) -> None:
    model = _blip(13)

    assert not BlipGenerator(model).fits(_inputs(model, 1, prompt), options)
    assert BlipGenerator(model).fits(_inputs(model, 1, [7]), CaptionOptions(max_new_tokens=20, num_beams=25))


def test_prompts_of_several_lengths_do_not_fit() -> None:
    model = _blip(13)
    inputs = _inputs(model, 2, [7, 8])
    inputs["attention_mask"][0, -1] = 0

    assert not BlipGenerator(model).fits(inputs, CaptionOptions())


def test_plain_generate_still_writes_the_same_beside_the_generator() -> None:
    model = _blip(13)
    before = _generated(model, _inputs(model, 3), OPTIONS[3])
    generator = BlipGenerator(model)

    after = _generated(model, _inputs(model, 3), OPTIONS[3])

    assert torch.equal(before.sequences, after.sequences)
    first = model.text_decoder.bert.encoder.layer[0].attention.self.query.weight
    shared: Any = generator._decoder.layers[0]
    assert first.data_ptr() == shared.qkv.weight.data_ptr()


@pytest.fixture
def _untried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new process: nothing was tried and nothing said."""
    monkeypatch.setattr(fast_paths, "_said", set())
    blip_generation._fault.cache_clear()
    yield
    monkeypatch.undo()
    blip_generation._fault.cache_clear()


@pytest.mark.usefixtures("_untried")
def test_the_installed_transformers_fits_and_the_random_state_stays(caplog: pytest.LogCaptureFixture) -> None:
    state = torch.get_rng_state()

    assert isinstance(blip_generator(_blip(13)), BlipGenerator)
    blip_generation._fault.cache_clear()
    torch.set_rng_state(state)
    assert blip_generation._fault() is None
    assert torch.equal(torch.get_rng_state(), state)
    assert not caplog.records


def _renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    init: Any = modeling_blip_text.BlipTextLayer.__init__

    def other_names(self: Any, *given: Any) -> None:
        init(self, *given)
        self.output_network = self.output

        def feed_forward_chunk(states: torch.Tensor) -> torch.Tensor:
            return self.output_network(self.intermediate(states), states)  # type: ignore[no-any-return]

        self.feed_forward_chunk = feed_forward_chunk
        del self.output

    monkeypatch.setattr(modeling_blip_text.BlipTextLayer, "__init__", other_names)


def _recalculated(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = modeling_blip_text.BlipTextIntermediate.forward

    def otherwise(self: Any, states: torch.Tensor) -> torch.Tensor:
        return -forward(self, states)

    monkeypatch.setattr(modeling_blip_text.BlipTextIntermediate, "forward", otherwise)


@pytest.mark.usefixtures("_untried")
@pytest.mark.parametrize(
    ("change", "reason"), [(_renamed, "has another structure"), (_recalculated, "other captions")]
)
def test_a_transformers_that_changed_is_noticed_once(
    change: Callable[[pytest.MonkeyPatch], None],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    models = [_blip(13), _blip(26)]
    change(monkeypatch)

    with caplog.at_level(logging.WARNING, "autotag"):
        assert [blip_generator(model) for model in models] == [None, None]

    [record] = caplog.records
    assert "'blip_generation' is not used" in record.message
    assert reason in record.message


@pytest.mark.usefixtures("_untried")
def test_a_model_with_generation_settings_of_its_own_is_left_to_generate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = _blip(13)
    model.text_decoder.generation_config.no_repeat_ngram_size = 2

    with caplog.at_level(logging.WARNING, "autotag"):
        assert blip_generator(model) is None

    [record] = caplog.records
    assert "no_repeat_ngram_size" in record.message
