from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import PIL.Image
import pytest
import torch

from autotag.config.fast_paths import FastPaths
from autotag.errors import ConfigError, ModelLoadError, ModelUnavailableError, UnknownNameError
from autotag.models.captioners.coca_captioner import CocaCaptioner
from autotag.models.fast import packed_attention, packed_linears
from autotag.models.fast.coca_decoder import CachedDecoder, PlainDecoder
from autotag.models.fast.packed_linears import PackedLinear
from autotag.models.pool import ModelPool
from autotag.pipeline.pipeline import Pipeline
from autotag.protocols import Captioner, CaptionOptions, ViewsImages
from autotag.stages import CaptionImages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    from autotag.records import Caption

OPTIONS = [
    CaptionOptions(max_new_tokens=10),
    CaptionOptions(max_new_tokens=10, num_beams=3, num_captions=2),
    CaptionOptions(max_new_tokens=10, num_beams=2, beam_scores="logits"),
    CaptionOptions(max_new_tokens=6, prompt="a photo of", min_new_tokens=2),
    CaptionOptions(max_new_tokens=6, prompt="a photo of", num_beams=2, repetition_penalty=1.3),
    CaptionOptions(max_new_tokens=10, do_sample=True, top_k=50, num_captions=3),
    CaptionOptions(max_new_tokens=10, do_sample=True, top_p=0.8, temperature=0.7, seed=4),
]


@pytest.fixture(scope="module")
def folder(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CoCa whose captions end; do not write into it."""
    made: Path = tiny.coca(tmp_path_factory.mktemp("coca") / "model", ends=10.5)
    return made


@pytest.fixture(scope="module")
def captioner(folder: Path) -> Any:
    return ModelPool(device="cpu").captioner(str(folder))


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A folder to spoil."""
    return shutil.copytree(folder, tmp_path / "coca")


def texts(rows: list[list[Caption]]) -> list[list[str]]:
    return [[caption.text for caption in row] for row in rows]


@pytest.mark.slow
def test_it_is_a_captioner_that_looks_at_a_square(captioner: Any) -> None:
    assert isinstance(captioner, CocaCaptioner)
    assert isinstance(captioner, Captioner)
    assert isinstance(captioner, ViewsImages)
    assert captioner.image_size == 32


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_batch_gives_what_its_images_give_alone(
    captioner: Any, images: list[Image.Image], options: CaptionOptions
) -> None:
    together = captioner.caption(images, options)

    assert texts(together) == texts([captioner.caption([image], options)[0] for image in images])
    assert [len(row) for row in together] == [options.num_captions] * len(images)
    assert len({tuple(row) for row in texts(together)}) > 1


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_views_give_what_their_images_give(
    captioner: Any, images: list[Image.Image], options: CaptionOptions
) -> None:
    views = [captioner.view(image) for image in images]

    assert views[0].shape == (3, 32, 32)
    assert captioner.caption_views(views, options) == captioner.caption(images, options)
    assert captioner.caption_views([], options) == captioner.caption([], options) == []


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_captions_without_fast_paths_are_the_same(
    captioner: Any, folder: Path, images: list[Image.Image], options: CaptionOptions
) -> None:
    """Of images as large as the model looks at, because a resize to uint8 differs by rounding."""
    plain: Any = ModelPool(device="cpu", fast_paths=FastPaths.parse("off")).captioner(str(folder))
    same_size = [image.resize((32, 32)) for image in images]
    if options.do_sample:  # what is drawn depends on the layout of the pixels that are hashed
        plain._view = captioner._view

    assert texts(plain.caption(same_size, options)) == texts(captioner.caption(same_size, options))


@pytest.mark.slow
def test_each_image_is_encoded_once(
    captioner: Any, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    forward = type(captioner.visual).forward

    def counted(self: Any, pixels: torch.Tensor) -> Any:
        encoded.append(len(pixels))
        return forward(self, pixels)

    monkeypatch.setattr(type(captioner.visual), "forward", counted)
    for options in OPTIONS:
        encoded.clear()
        captioner.caption(images, options)
        assert encoded == [len(images)]


PARTS: dict[str, Callable[[Any], bool]] = {
    "coca_decoder": lambda captioner: isinstance(captioner.decoder, CachedDecoder),
    "packed_linears": lambda captioner: any(
        isinstance(module, PackedLinear) for module in captioner.decoder.modules()
    ),
    "views": lambda captioner: captioner.view_id is not None,
}


@pytest.mark.parametrize("off", [*PARTS, "off"])
def test_each_fast_path_is_switched_off_by_name(
    folder: Path, off: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_linears, "packing_gains", lambda: True)
    captioner = ModelPool(
        device="cpu", fast_paths=FastPaths.parse("off" if off == "off" else [off])
    ).captioner(str(folder))

    assert {name for name, used in PARTS.items() if used(captioner)} == (
        set() if off == "off" else PARTS.keys() - {off}
    )


@pytest.mark.slow
def test_packed_attention_to_the_image_is_switched_off_by_name(folder: Path) -> None:
    by_default, plain = (
        ModelPool(device="cpu", fast_paths=FastPaths.parse(off)).captioner(str(folder))
        for off in ([], ["packed_attention"])
    )

    assert by_default.decoder._packed  # type: ignore[attr-defined]
    assert not plain.decoder._packed  # type: ignore[attr-defined]


@pytest.mark.slow
def test_packed_layers_and_images_write_the_same(
    captioner: Any, folder: Path, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_linears, "packing_gains", lambda: True)
    monkeypatch.setattr(packed_attention, "_gains", lambda *given: True)
    packed = ModelPool(device="cpu").captioner(str(folder))

    for options in OPTIONS[:3]:
        assert texts(packed.caption(images, options)) == texts(captioner.caption(images, options))


def test_views_can_be_switched_off(folder: Path, images: list[Image.Image]) -> None:
    plain: Any = ModelPool(device="cpu", fast_paths=FastPaths.parse(["views"])).captioner(str(folder))

    assert plain.view_id is None
    assert plain.caption([], CaptionOptions()) == []
    with pytest.raises(RuntimeError, match="makes no views"):
        plain.view(images[0])
    with pytest.raises(RuntimeError, match="makes no views"):
        plain.caption_views([np.zeros((3, 32, 32), dtype=np.uint8)], CaptionOptions())


def test_a_prompt_is_continued_and_part_of_the_caption(captioner: Any, images: list[Image.Image]) -> None:
    for more in ({}, {"num_beams": 2}, {"do_sample": True}):
        options = CaptionOptions(prompt="A photo of", max_new_tokens=6, min_new_tokens=1, **more)
        for [caption] in captioner.caption(images, options):
            assert caption.text.startswith("a photo of ")
            assert len(caption.text) > len("a photo of ")


@pytest.mark.slow
def test_scores_are_for_searches_and_draws_best_first(captioner: Any, images: list[Image.Image]) -> None:
    greedy, beams, _, _, _, drawn, _ = (captioner.caption(images, options) for options in OPTIONS)

    assert {caption.score for row in greedy for caption in row} == {None}
    for row in (*beams, *drawn):
        scores = [caption.score for caption in row]
        assert scores == sorted(scores, reverse=True)
        assert all(score < 0 for score in scores)
    assert beams[0][0].source == captioner.name


@pytest.mark.parametrize("options", [CaptionOptions(), CaptionOptions(num_beams=2)], ids=str)
def test_an_image_that_ends_at_once_gets_an_empty_caption(
    tiny: Any, tmp_path: Path, images: list[Image.Image], options: CaptionOptions
) -> None:
    ending = ModelPool(device="cpu").captioner(str(tiny.coca(tmp_path / "ending", ends=60.0)))

    assert texts(ending.caption(images, options)) == [[""]] * len(images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CaptionOptions(num_captions=2), "num_captions=2 needs as many beams, but num_beams=1, or do_sample"),
        (CaptionOptions(do_sample=True, num_beams=2), "do_sample needs num_beams=1, but num_beams=2"),
        (CaptionOptions(max_new_tokens=41), "reads 40 tokens, but the prompt has 0 and max_new_tokens=41"),
        (CaptionOptions(max_new_tokens=38, prompt="a photo of"), "reads 40 tokens, but the prompt has 3"),
        (CaptionOptions(num_beams=30_000), "num_beams=30000 is too many for a vocabulary of 49408 tokens"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_refused(
    captioner: Any, images: list[Image.Image], options: CaptionOptions, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        captioner.caption(images, options)
    with pytest.raises(ConfigError, match=message):
        captioner.check_options(options)


def test_captions_may_fill_all_the_model_reads(captioner: Any, images: list[Image.Image]) -> None:
    for more in ({}, {"num_beams": 2}):
        options = CaptionOptions(max_new_tokens=37, min_new_tokens=37, prompt="a photo of", **more)
        assert all(row[0].text for row in captioner.caption(images[:1], options))


@pytest.mark.slow
def test_a_pipeline_reaches_every_option(folder: Path, images: list[Image.Image]) -> None:
    stages = [
        CaptionImages(str(folder), max_new_tokens=8, num_beams=2, beam_scores="logits", name="beams"),
        CaptionImages(
            str(folder), max_new_tokens=8, do_sample=True, top_k=40, top_p=0.9, temperature=0.8, seed=3,
            min_new_tokens=2, candidates=2, name="drawn",
        ),
    ]  # fmt: skip
    with Pipeline(stages, device="cpu") as tagger:
        found = [caption.text for caption in tagger(images[0]).captions]

    captioner = ModelPool(device="cpu").captioner(str(folder))
    asked = [
        CaptionOptions(max_new_tokens=8, num_beams=2, beam_scores="logits"),
        CaptionOptions(
            max_new_tokens=8, do_sample=True, top_k=40, top_p=0.9, temperature=0.8, seed=3,
            min_new_tokens=2, num_captions=2,
        ),
    ]  # fmt: skip
    assert found == [
        caption.text for options in asked for caption in captioner.caption(images[:1], options)[0]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_loads_and_captions(folder: Path, images: list[Image.Image], dtype: str) -> None:
    cached, plain = (
        ModelPool(device="cpu", dtype=dtype, fast_paths=FastPaths.parse(off)).captioner(str(folder))
        for off in ("auto", "off")
    )

    assert cached.decoder.cross_layers[0].cross_key.weight.dtype == getattr(torch, dtype)  # type: ignore[attr-defined]
    for options in OPTIONS[:2]:
        for captioner in (cached, plain):
            rows = captioner.caption(images, replace(options, min_new_tokens=4))
            assert all(len(row[0].text.split()) > 1 for row in rows)


def test_loading_and_captioning_say_nothing(
    folder: Path,
    images: list[Image.Image],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    capfd.readouterr()

    captioner = ModelPool(device="cpu").captioner(f"open_clip:local-dir:{folder}")
    captioner.caption(images[:1], OPTIONS[0])

    assert logging.root.handlers == []
    assert capfd.readouterr() == ("", "")
    assert "not used" not in caplog.text


def test_a_clip_is_no_coca(tiny: Any, tmp_path: Path) -> None:
    clip = tiny.open_clip_folder(tmp_path / "clip")

    with pytest.raises(ModelLoadError, match=rf"is not a CoCa: open_clip_config.json in folder {clip}"):
        ModelPool(device="cpu").captioner(str(clip))


def test_an_architecture_without_a_decoder_is_refused_before_a_download(local_hub: Any) -> None:
    with pytest.raises(ModelLoadError, match="is not a CoCa: open_clip's architecture ViT-B-32 has no"):
        ModelPool(device="cpu").captioner("open_clip:ViT-B-32/laion2b_s34b_b79k")


def test_an_unknown_architecture_or_tag_gets_the_near_miss() -> None:
    pool = ModelPool(device="cpu")
    with pytest.raises(UnknownNameError, match="Did you mean 'coca_ViT-L-14'"):
        pool.captioner("open_clip:coca_ViT-L14/laion2b_s13b_b90k")
    with pytest.raises(UnknownNameError, match="Did you mean 'laion2b_s13b_b90k'"):
        pool.captioner("open_clip:coca_ViT-L-14/laion2b_s13b")
    with pytest.raises(ConfigError, match="captioner .* must be .*open_clip:coca_ViT-L-14/mscoco"):
        pool.captioner("open_clip:coca_ViT-L-14")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match=f"there is no folder {tmp_path / 'gone'}"):
        ModelPool(device="cpu").captioner(f"open_clip:{tmp_path / 'gone'}")


@pytest.mark.parametrize(
    ("file", "part"),
    [("open_clip_model.safetensors", "no weights"), ("open_clip_config.json", "no configuration")],
)
def test_a_missing_part_is_named(copied: Path, file: str, part: str) -> None:
    (copied / file).unlink()

    with pytest.raises(ModelLoadError, match=rf"{copied}.*{part} .*{file}"):
        ModelPool(device="cpu").captioner(f"open_clip:{copied}")


def test_damaged_weights_name_folder_and_file(copied: Path) -> None:
    weights = copied / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(ModelLoadError, match=f"open_clip_model.safetensors in folder {copied}"):
        ModelPool(device="cpu").captioner(str(copied))


def test_weights_of_another_shape_are_refused(copied: Path) -> None:
    config = json.loads((copied / "open_clip_config.json").read_text())
    config["model_cfg"]["multimodal_cfg"]["layers"] = 3
    (copied / "open_clip_config.json").write_text(json.dumps(config))

    with pytest.raises(ModelLoadError, match="does not load in open_clip"):
        ModelPool(device="cpu").captioner(str(copied))


def test_another_tokenizer_than_open_clips_own_is_refused(tiny: Any, copied: Path) -> None:
    tiny.bert_tokenizer().save_pretrained(copied)
    config = json.loads((copied / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "someone/unreachable"
    (copied / "open_clip_config.json").write_text(json.dumps(config))

    with pytest.raises(ModelLoadError, match="its tokenizer is a HFTokenizer, but must be open_clip's own"):
        ModelPool(device="cpu").captioner(str(copied))


def test_an_image_tower_without_tokens_is_refused(copied: Path) -> None:
    config = json.loads((copied / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["output_tokens"] = False
    (copied / "open_clip_config.json").write_text(json.dumps(config))

    with pytest.raises(ModelLoadError, match=r"does not return tokens \(vision_cfg.output_tokens\)"):
        ModelPool(device="cpu").captioner(str(copied))


@pytest.fixture
def tiny_architecture(monkeypatch: pytest.MonkeyPatch, folder: Path, local_hub: Any) -> Path:
    """An architecture and a tag that open_clip knows, with weights on the local hub."""
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-coca", config)
    tag = {"hf_hub": "someone/tiny-coca/", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-coca", {"noise": tag})
    weights = (folder / "open_clip_model.safetensors").read_bytes()
    local_hub.files["someone/tiny-coca"] = {"open_clip_model.safetensors": weights}
    return folder


@pytest.mark.slow
def test_an_architecture_and_tag_of_open_clip_load_from_the_hub(
    tiny_architecture: Path, captioner: Any, images: list[Image.Image]
) -> None:
    of_tag = ModelPool(device="cpu").captioner("open_clip:tiny-coca/noise")

    assert texts(of_tag.caption(images, OPTIONS[1])) == texts(captioner.caption(images, OPTIONS[1]))


@pytest.mark.slow
def test_a_hub_repository_loads_at_a_revision(
    folder: Path, captioner: Any, local_hub: Any, images: list[Image.Image]
) -> None:
    local_hub.files["someone/whole"] = {file.name: file.read_bytes() for file in folder.iterdir()}
    pool = ModelPool(device="cpu")

    whole = pool.captioner("open_clip:hf-hub:someone/whole@main")
    assert texts(whole.caption(images, OPTIONS[0])) == texts(captioner.caption(images, OPTIONS[0]))


def test_without_the_hub_the_error_names_size_and_bundled_captioner(local_hub: Any) -> None:
    local_hub.status = 503

    with pytest.raises(ModelUnavailableError, match=r"2\.6 GB.*'blip-mini'"):
        ModelPool(device="cpu").captioner("coca-l")


def test_a_model_handed_in_keeps_open_clips_calls_where_asked(folder: Path) -> None:
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    made = CocaCaptioner(model.eval(), tokenizer, "mine", fast_paths=FastPaths(coca_decoder=False))

    assert isinstance(made.decoder, PlainDecoder)
    noise = PIL.Image.fromarray(np.zeros((40, 40, 3), dtype=np.uint8))
    assert made.caption([noise], OPTIONS[0])[0][0].source == "mine"


@pytest.mark.weights
@pytest.mark.parametrize("name", ["coca-b", "coca-l"])
@pytest.mark.parametrize("scores", ["log_probabilities", "logits"])
def test_full_size_captions_say_what_is_in_the_picture(name: str, scores: Any) -> None:
    from skimage import data

    options = CaptionOptions(num_beams=3, min_new_tokens=4, beam_scores=scores)
    picture = PIL.Image.fromarray(data.chelsea())
    [[caption]] = ModelPool(device="cpu").captioner(name).caption([picture], options)

    assert "cat" in caption.text
