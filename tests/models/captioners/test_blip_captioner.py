from __future__ import annotations

import json
import logging
import re
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from autotag.config.fast_paths import FastPaths
from autotag.errors import ConfigError, ModelLoadError, ModelUnavailableError
from autotag.models.captioners.blip_captioner import T5_PROMPT, HfCaptioner
from autotag.models.fast import packed_attention, packed_linears
from autotag.models.fast.blip_attention import FastBlipAttention
from autotag.models.fast.packed_attention import head_by_head
from autotag.models.fast.packed_linears import PackedLinear
from autotag.models.pool import ModelPool
from autotag.protocols import Captioner, CaptionOptions, ViewsImages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    from autotag.records import Caption

FAMILIES = ["blip", "git", "blip2_opt", "blip2_t5"]
CONTINUES = ["blip", "git", "blip2_opt"]
OPTIONS = [
    CaptionOptions(max_new_tokens=12),
    CaptionOptions(max_new_tokens=8, num_beams=3),
    CaptionOptions(max_new_tokens=8, num_beams=3, num_captions=2),
    CaptionOptions(max_new_tokens=6, prompt="a photo of"),
    CaptionOptions(max_new_tokens=6, prompt="a photo of", num_beams=2),
    CaptionOptions(max_new_tokens=6, repetition_penalty=1.5),
    CaptionOptions(max_new_tokens=6, min_new_tokens=5),
]


@pytest.fixture(scope="module")
def captioner(tiny_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    pool = ModelPool(device="cpu")
    return lambda family: pool.captioner(str(tiny_folder(family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_a_captioner_that_looks_at_a_square(captioner: Callable[[str], Any], family: str) -> None:
    assert isinstance(captioner(family), Captioner)
    assert isinstance(captioner(family), ViewsImages)
    assert captioner(family).image_size == 32


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_gives_what_its_images_give_alone(
    captioner: Callable[[str], Any], images: list[Image.Image], family: str, options: CaptionOptions
) -> None:
    together = captioner(family).caption(images, options)

    alone = [captioner(family).caption([image], options)[0] for image in images]
    assert [[caption.text for caption in row] for row in together] == [
        [caption.text for caption in row] for row in alone
    ]
    if options.num_beams > 1:
        np.testing.assert_allclose(_scores(together), _scores(alone), atol=1e-4)


def _scores(rows: list[list[Caption]]) -> list[float | None]:
    return [caption.score for row in rows for caption in row]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_views_give_what_their_images_give(
    captioner: Callable[[str], Any],
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    family: str,
    options: CaptionOptions,
) -> None:
    """Of views, because a resize to uint8 differs from the processor's by rounding."""
    fast = captioner(family)
    assert fast.view_id is not None
    views = [fast.view(image) for image in images]
    shown = [PIL.Image.fromarray(view.transpose(1, 2, 0)) for view in views]

    given, expected = fast.caption_views(views, options), fast.caption(shown, options)

    assert views[0].shape == (3, 32, 32)
    assert [[caption.text for caption in row] for row in given] == [
        [caption.text for caption in row] for row in expected
    ]
    assert fast.caption_views([], options) == []


def test_views_can_be_switched_off(tiny_folder: Callable[[str], Path], images: list[Image.Image]) -> None:
    plain: Any = ModelPool(device="cpu", fast_paths=FastPaths.parse(["views"])).captioner(
        str(tiny_folder("blip"))
    )

    assert plain.view_id is None
    with pytest.raises(RuntimeError, match="makes no views"):
        plain.view(images[0])
    with pytest.raises(RuntimeError, match="makes no views"):
        plain.caption_views([np.zeros((3, 32, 32), dtype=np.uint8)], CaptionOptions())


@pytest.mark.slow
@pytest.mark.parametrize("options", [*OPTIONS, CaptionOptions(num_beams=20, num_captions=20)], ids=str)
def test_the_bundled_blip_writes_what_it_writes_without_fast_paths(options: CaptionOptions) -> None:
    from skimage import data

    pictures = [PIL.Image.fromarray(picture) for picture in (data.chelsea(), data.rocket(), data.astronaut())]
    fast, plain = (
        ModelPool(device="cpu", fast_paths=FastPaths.parse(off))
        .captioner("blip-mini")
        .caption(pictures, options)
        for off in ("auto", "off")
    )

    assert [[caption.text for caption in row] for row in fast] == [
        [caption.text for caption in row] for row in plain
    ]
    if options.num_beams > 1:
        np.testing.assert_allclose(_scores(fast), _scores(plain), atol=1e-4)


PARTS: dict[str, Callable[[Any], bool]] = {
    "blip_attention": lambda captioner: any(
        isinstance(module, FastBlipAttention) for module in captioner.model.modules()
    ),
    "blip_generation": lambda captioner: captioner._generator is not None,
    "packed_attention": lambda captioner: (
        any(getattr(module, "attend", None) is head_by_head for module in captioner.model.modules())
        or (captioner._generator is not None and captioner._generator._packed)
    ),
    "packed_linears": lambda captioner: any(
        isinstance(module, PackedLinear) for module in captioner.model.modules()
    ),
    "views": lambda captioner: captioner.view_id is not None,
}


@pytest.mark.parametrize("off", [*PARTS, "off"])
def test_each_fast_path_is_switched_off_by_name(
    tiny_folder: Callable[[str], Path], off: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_linears, "packing_gains", lambda: True)
    monkeypatch.setattr(packed_attention, "_gains", lambda *given: True)
    captioner = ModelPool(
        device="cpu", fast_paths=FastPaths.parse("off" if off == "off" else [off])
    ).captioner(str(tiny_folder("blip")))

    assert {name for name, used in PARTS.items() if used(captioner)} == (
        set() if off == "off" else PARTS.keys() - {off}
    )


@pytest.mark.parametrize("packed", [False, True])
def test_generate_takes_over_what_the_loop_does_not_fit(
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    packed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packed_linears, "packing_gains", lambda: packed)
    options = CaptionOptions(max_new_tokens=5, num_beams=30, num_captions=2)
    fast, plain = (
        ModelPool(device="cpu", fast_paths=FastPaths.parse(off)).captioner(str(tiny_folder("blip")))
        for off in ("auto", "off")
    )
    assert not fast._generator.fits({}, options)  # type: ignore[attr-defined]

    assert [[caption.text for caption in row] for row in fast.caption(images, options)] == [
        [caption.text for caption in row] for row in plain.caption(images, options)
    ]


@pytest.mark.parametrize("prompt", [None, "a photo of"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_image_is_what_is_captioned(
    captioner: Callable[[str], Any], images: list[Image.Image], family: str, prompt: str | None
) -> None:
    scores = _scores(captioner(family).caption(images, CaptionOptions(num_beams=2, prompt=prompt)))

    assert np.ptp(np.array(scores, dtype=float)) > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_captions_are_those_of_plain_transformers(
    captioner: Callable[[str], Any],
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    family: str,
) -> None:
    folder = tiny_folder(family)
    processor: Any = transformers.AutoProcessor.from_pretrained(folder)
    model = type(captioner(family).model).from_pretrained(folder, dtype=torch.float32)
    text = {"text": [T5_PROMPT] * len(images)} if family == "blip2_t5" else {}
    inputs = processor(images=images, return_tensors="pt", **text)

    for beams in (1, 3):
        expected = model.generate(**inputs, max_new_tokens=10, num_beams=beams)
        written = captioner(family).caption(images, CaptionOptions(max_new_tokens=10, num_beams=beams))
        decoded = processor.batch_decode(expected, skip_special_tokens=True)
        assert [row[0].text for row in written] == [" ".join(text.split()) for text in decoded]


@pytest.mark.parametrize("family", CONTINUES)
def test_a_prompt_is_continued_and_part_of_the_caption(
    captioner: Callable[[str], Any], images: list[Image.Image], family: str
) -> None:
    rows = captioner(family).caption(images, CaptionOptions(prompt="a photo of", max_new_tokens=6))

    assert all(row[0].text.startswith("a photo of") for row in rows)
    assert any(len(row[0].text) > len("a photo of") for row in rows)


def test_t5_answers_a_prompt_and_has_one_of_its_own(
    captioner: Callable[[str], Any], images: list[Image.Image]
) -> None:
    t5 = captioner("blip2_t5")

    unprompted, own, other = (
        [row[0].text for row in t5.caption(images, CaptionOptions(prompt=prompt, max_new_tokens=8))]
        for prompt in (None, T5_PROMPT, "the red bus in the street at night")
    )
    assert unprompted == own
    assert other != own
    assert not any(text.startswith(T5_PROMPT) for text in own)


@pytest.mark.parametrize("family", ["blip", "git"])
@pytest.mark.parametrize("prompt", [None, "a photo of"])
def test_max_new_tokens_counts_what_is_written_not_the_prompt(
    captioner: Callable[[str], Any], images: list[Image.Image], family: str, prompt: str | None
) -> None:
    rows = captioner(family).caption(images, CaptionOptions(prompt=prompt, max_new_tokens=2))

    prompt_words = len(prompt.split()) if prompt else 0
    assert max(len(row[0].text.split()) for row in rows) - prompt_words in {1, 2}


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


def test_greedy_captions_have_no_score_and_name_their_source(
    captioner: Callable[[str], Any], tiny_folder: Callable[[str], Path], images: list[Image.Image]
) -> None:
    [[caption]] = captioner("blip").caption(images[:1], CaptionOptions(max_new_tokens=4))

    assert caption.score is None
    assert caption.source == str(tiny_folder("blip"))


@pytest.mark.parametrize("family", ["blip", "git"])
def test_a_repetition_penalty_lowers_repetition(
    captioner: Callable[[str], Any], images: list[Image.Image], family: str
) -> None:
    def different(penalty: float) -> int:
        rows = captioner(family).caption(
            images, CaptionOptions(max_new_tokens=12, repetition_penalty=penalty)
        )
        return sum(len(set(row[0].text.split())) - len(row[0].text.split()) for row in rows)

    assert different(3.0) > different(1.0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beams", [1, 3])
def test_a_caption_does_not_end_before_min_new_tokens(
    captioner: Callable[[str], Any], images: list[Image.Image], family: str, beams: int
) -> None:
    one, options = captioner(family), CaptionOptions(max_new_tokens=8, min_new_tokens=8, num_beams=beams)
    with torch.inference_mode():
        written = one._written(one._inputs(images, None), options).sequences
    ends = {one.processor.tokenizer.eos_token_id, one.processor.tokenizer.sep_token_id} - {None}

    assert written.shape[1] > 8
    assert not any(int(token) in ends for row in written for token in row[-8:])


def test_more_captions_than_beams_are_refused(
    captioner: Callable[[str], Any], images: list[Image.Image]
) -> None:
    with pytest.raises(ConfigError, match="num_captions=2"):
        captioner("blip").caption(images, CaptionOptions(num_captions=2))


@pytest.mark.parametrize("family", ["blip", "git", "blip2_opt"])
@pytest.mark.parametrize("prompt", [None, "a photo of a dog"])
def test_a_caption_may_fill_all_the_model_reads_and_no_more(
    captioner: Callable[[str], Any], images: list[Image.Image], family: str, prompt: str | None
) -> None:
    model = captioner(family)
    with pytest.raises(ConfigError, match=r"reads \d+ tokens, but the prompt has \d+ and max") as caught:
        model.check_options(CaptionOptions(max_new_tokens=1000, prompt=prompt))
    most, written = (int(number) for number in re.findall(r"(?:reads|prompt has) (\d+)", str(caught.value)))
    room = most - written
    model.caption(images[:1], CaptionOptions(max_new_tokens=room, min_new_tokens=room, prompt=prompt))
    with pytest.raises(ConfigError, match="shorten one"):
        model.caption(images[:1], CaptionOptions(max_new_tokens=room + 1, prompt=prompt))


def test_a_t5_may_write_any_length(captioner: Callable[[str], Any]) -> None:
    captioner("blip2_t5").check_options(CaptionOptions(max_new_tokens=1000))


def test_no_images_give_no_captions(captioner: Callable[[str], Any]) -> None:
    assert captioner("blip").caption([], CaptionOptions()) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_loads_and_captions(
    tiny_folder: Callable[[str], Path], images: list[Image.Image], family: str
) -> None:
    captioner: Any = ModelPool(device="cpu", dtype="bfloat16").captioner(str(tiny_folder(family)))

    assert captioner.model.dtype == torch.bfloat16
    assert not captioner.model.training
    assert len(captioner.caption(images, CaptionOptions(max_new_tokens=4))) == len(images)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_loading_and_captioning_say_nothing_and_leave_no_settings(
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    family: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    settings = (logging.root.handlers[:], warnings.filters[:], transformers.logging.get_verbosity())
    bars = transformers.logging.is_progress_bar_enabled()
    capfd.readouterr()

    captioner = ModelPool(device="cpu").captioner(str(tiny_folder(family)))
    for options in OPTIONS:
        captioner.caption(images, options)

    assert capfd.readouterr() == ("", "")
    assert settings == (logging.root.handlers, warnings.filters, transformers.logging.get_verbosity())
    assert transformers.logging.is_progress_bar_enabled() == bars


@pytest.mark.parametrize("family", FAMILIES)
def test_a_length_in_the_checkpoint_changes_nothing_and_brings_no_warning(
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    family: str,
    tmp_path: Path,
    captioner: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = shutil.copytree(tiny_folder(family), tmp_path / family)
    config = folder / "generation_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_length": 5}))
    options = CaptionOptions(max_new_tokens=9)
    monkeypatch.setattr(transformers.generation.utils.logger, "warning", lambda text, *_: pytest.fail(text))
    found = ModelPool(device="cpu").captioner(str(folder)).caption(images, options)
    assert [[one.text for one in row] for row in found] == [
        [one.text for one in row] for row in captioner(family).caption(images, options)
    ]


@pytest.fixture
def copied(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """A BLIP folder to spoil."""
    return shutil.copytree(tiny_folder("blip"), tmp_path / "blip")


def _does_not_load(folder: Path, expected: str) -> None:
    with pytest.raises(ModelLoadError, match=expected) as caught:
        ModelPool(device="cpu").captioner(str(folder))
    assert str(folder) in str(caught.value)


def _edit_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("keep", [0, 4, 1000])
def test_weights_cut_short_are_named(copied: Path, keep: int) -> None:
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])

    _does_not_load(copied, "model.safetensors")


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("tokenizer.json", "no tokenizer"),
        ("config.json", "no configuration"),
        ("model.safetensors", "no weights"),
        ("processor_config.json", "no image processor"),
    ],
)
def test_a_missing_part_is_named(copied: Path, file: str, part: str) -> None:
    (copied / file).unlink()

    _does_not_load(copied, f"{part} .*{file}")


def test_a_configuration_that_is_no_json_is_named(copied: Path) -> None:
    (copied / "config.json").write_text("{")

    _does_not_load(copied, r"config\.json")


def test_weights_of_another_shape_are_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    _edit_config(copied, text_config={**config["text_config"], "intermediate_size": 48})

    _does_not_load(copied, "BlipForConditionalGeneration|another shape")


def test_weights_that_lack_a_layer_are_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    _edit_config(copied, text_config={**config["text_config"], "num_hidden_layers": 3})

    _does_not_load(copied, "parameters are missing")


def test_a_model_of_another_type_lists_what_is_supported(tiny_folder: Callable[[str], Path]) -> None:
    _does_not_load(tiny_folder("clip"), "'clip'.*BlipForConditionalGeneration")


def test_another_class_of_a_supported_type_is_refused(copied: Path) -> None:
    _edit_config(copied, architectures=["BlipForQuestionAnswering"])

    _does_not_load(copied, "holds a BlipForQuestionAnswering")


def test_a_folder_gone_since_it_was_named_is_reported(
    request_for: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(ModelUnavailableError, match="there is no folder"):
        HfCaptioner.load(request_for(tmp_path / "gone"))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["blip", "git"])
def test_the_older_layout_of_a_folder_gives_the_same_captions(
    captioner: Callable[[str], Any],
    tiny: Any,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    images: list[Image.Image],
    family: str,
) -> None:
    older = ModelPool(device="cpu").captioner(str(tiny.older_layout(tmp_path / "older", tiny_folder(family))))

    for options in OPTIONS:
        assert [[caption.text for caption in row] for row in older.caption(images, options)] == [
            [caption.text for caption in row] for row in captioner(family).caption(images, options)
        ]


@pytest.mark.weights
@pytest.mark.parametrize("name", ["blip-base", "git-base"])
def test_full_size_captions_say_what_is_in_the_picture(name: str) -> None:
    from PIL import Image
    from skimage import data

    [[caption]] = (
        ModelPool(device="cpu")
        .captioner(name)
        .caption([Image.fromarray(data.chelsea())], CaptionOptions(num_beams=3))
    )

    assert "cat" in caption.text
