from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import autotag
from autotag import api
from autotag.errors import ConfigError, ImageReadError, UnknownNameError, UrlRefusedError
from autotag.pipeline.pipeline import Pipeline
from autotag.testing import FakeEncoder, make_image
from autotag.vocabularies.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGES = """
import autotag

runs = []

@autotag.stage(provides={"prompt"})
def say(sample):
    runs.append(sample.source)
    sample.prompt = f"{sample.size[0]} wide"
"""


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A preset of one stage that needs no model."""
    (tmp_path / "stages_of_mine.py").write_text(STAGES)
    (tmp_path / "mine.toml").write_text('[[stages]]\nstage = "stages_of_mine:say"\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(api, "_pipelines", {})
    yield tmp_path / "mine.toml"
    sys.modules.pop("stages_of_mine", None)


def test_one_image_is_tagged(preset: Path) -> None:
    assert autotag.tag(make_image(size=(20, 10)), preset=preset).prompt == "20 wide"


def test_the_pipeline_is_kept_between_calls(preset: Path) -> None:
    for _ in range(3):
        autotag.tag(make_image(), preset=preset)
    (kept,) = api._pipelines.values()
    autotag.tag(make_image(), preset=str(preset))
    assert list(api._pipelines.values()) == [kept]


@pytest.mark.parametrize(
    "made", [lambda: {"a", "b"}, lambda: np.array([[0.1, 0.2]]), lambda: np.float32(0.5)]
)
def test_equal_sets_arrays_and_numbers_are_the_same_options(made) -> None:
    assert api._by_value({"option": made()}) == api._by_value({"option": made()})
    assert hash(api._by_value(made())) == hash(api._by_value(made()))
    assert api._by_value(made()) != api._by_value(np.array([0.1, 0.3]))


def test_other_settings_are_another_pipeline(preset: Path) -> None:
    autotag.tag(make_image(), preset=preset)
    autotag.tag(make_image(), preset=preset, device="cpu")
    assert sorted(pipeline.device for pipeline in api._pipelines.values()) == ["auto", "cpu"]


def test_the_presets_own_device_is_kept_unless_told_otherwise(preset: Path) -> None:
    preset.write_text('device = "cpu"\n' + preset.read_text())
    autotag.tag(make_image(), preset=preset)
    assert [pipeline.device for pipeline in api._pipelines.values()] == ["cpu"]


def test_several_images_give_a_list_even_one(preset: Path) -> None:
    results = autotag.tag([make_image(size=(5, 4)), make_image(size=(6, 4))], preset=preset)
    assert [result.prompt for result in results] == ["5 wide", "6 wide"]
    assert len(autotag.tag((make_image(),), preset=preset)) == 1
    assert autotag.tag([], preset=preset) == []


def test_it_takes_what_load_takes_and_equal_changes_are_one_pipeline(preset: Path) -> None:
    for size in (1, 1, 2):
        autotag.tag(make_image(), preset=preset, stage_batch_sizes={"say": size}, device=None)
    sizes = [pipeline.stage_batch_sizes for pipeline in api._pipelines.values()]
    assert sizes == [{"say": 1}, {"say": 2}]
    with pytest.raises(ConfigError, match="batch_size = True does not fit"):
        autotag.tag(make_image(), preset=preset, batch_size=True)
    with pytest.raises(UnknownNameError, match="Did you mean 'say'"):
        autotag.tag(make_image(), preset=preset, sya={"loud": True})


def test_objects_are_compared_by_identity(preset: Path) -> None:
    first, second = FakeEncoder(), FakeEncoder()
    for encoder in (first, first, second):
        autotag.tag(make_image(), preset=preset, encoder=encoder)
    assert [pipeline.encoder for pipeline in api._pipelines.values()] == [first, second]


def test_threads_share_one_pipeline_and_get_their_own_results(preset: Path) -> None:
    prompts: dict[int, str] = {}

    def work(width: int) -> None:
        prompts[width] = autotag.tag(make_image(size=(width, 4)), preset=preset).prompt

    workers = [threading.Thread(target=work, args=(width,)) for width in range(1, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=600)
    assert prompts == {width: f"{width} wide" for width in range(1, 20)}
    assert len(api._pipelines) == 1


def test_base_is_the_default_and_never_mini(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(preset: str, **settings: object) -> None:
        asked.append(preset)
        raise UnknownNameError("preset", preset, [])

    monkeypatch.setattr(api, "_pipelines", {})
    monkeypatch.setattr(api, "load", refuse)
    with pytest.raises(UnknownNameError):
        autotag.tag(make_image())
    assert asked == ["base"]


def test_a_bad_image_raises(preset: Path) -> None:
    with pytest.raises(ImageReadError):
        autotag.tag("no such file.jpg", preset=preset)


@pytest.mark.parametrize("wrong", [None, ["mini"], 3])
def test_a_preset_that_is_neither_name_nor_path_is_refused(wrong: Any) -> None:
    for use in (lambda: autotag.tag(make_image(), preset=wrong), lambda: autotag.load(wrong)):
        with pytest.raises(ConfigError, match="give a preset's name, or the path of a TOML file"):
            use()


def test_an_object_that_is_no_image_is_named_by_its_type(preset: Path) -> None:
    with pytest.raises(ImageReadError, match="an object of type int is not an image: pass a path"):
        autotag.tag(3, preset=preset)  # type: ignore[call-overload]


def test_a_url_is_refused_unless_allowed(preset: Path) -> None:
    with pytest.raises(UrlRefusedError, match="allow_urls=True"):
        autotag.tag("https://example.org/a.jpg", preset=preset)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'mini'"):
        autotag.tag(make_image(), preset="mni")


def test_a_file_that_changed_is_read_again(preset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = autotag.tag(make_image(size=(20, 10)), preset=preset).prompt
    (preset.parent / "other_stages.py").write_text(STAGES.replace("wide", "broad"))
    preset.write_text('[[stages]]\nstage = "other_stages:say"\n')
    assert [before, autotag.tag(make_image(size=(20, 10)), preset=preset).prompt] == ["20 wide", "20 broad"]
    sys.modules.pop("other_stages")
    elsewhere = preset.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / preset.name).write_text('[[stages]]\nstage = "stages_of_mine:say"\n')
    monkeypatch.chdir(preset.parent)
    assert autotag.tag(make_image(size=(20, 10)), preset=preset.name).prompt == "20 broad"
    monkeypatch.chdir(elsewhere)
    assert autotag.tag(make_image(size=(20, 10)), preset=preset.name).prompt == "20 wide"


def test_other_options_of_a_stage_use_the_loaded_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_pipelines", {})
    monkeypatch.chdir(tmp_path)
    Path("v.txt").write_text("cat\n")
    loads: list[str] = []
    make_pool = Pipeline._make_pool

    def counted(pipeline: Pipeline) -> Any:
        loads.append("pool")
        return make_pool(pipeline)

    monkeypatch.setattr(Pipeline, "_make_pool", counted)
    image, found = make_image(), []
    for vocabulary in ("v.txt", "v.txt", Vocabulary(["dog"]), Vocabulary(["dog"])):
        result = autotag.tag(
            image,
            preset="mini",
            match_vocabulary={"vocabulary": vocabulary, "threshold": -1.0},
            caption_images=False,
            choose_caption=False,
            extract_keyphrases=False,
            filter_tags={"threshold": -1.0},
        )
        found.append(result.tag_texts)
    Path("v.txt").write_text("bird\n")
    autotag.tag(image, preset="mini", match_vocabulary={"vocabulary": "v.txt"}, filter_tags={"top_k": 2})
    assert found == [("cat",), ("cat",), ("dog",), ("dog",)]
    assert loads == ["pool"]
    assert len(api._pipelines) == 3
    for pipeline in api._pipelines.values():
        pipeline.close()


def test_what_cannot_be_hashed_is_compared_by_identity_and_long_lists_name_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Holder:
        held: dict[str, int]

    one, other = Holder({}), Holder({})
    assert api._by_value(one) == api._by_value(one) != api._by_value(other)
    monkeypatch.chdir(tmp_path)
    few, many = [f"label {number}" for number in range(9)], [f"label {number}" for number in range(900)]
    before = api._by_value(few), api._by_value(many)
    Path("label 3").touch()
    assert (api._by_value(few) != before[0], api._by_value(many) == before[1]) == (True, True)


@pytest.mark.slow
def test_first_calls_in_threads_load_the_models_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_pipelines", {})
    photo = Path(__file__).parents[1] / "docs" / "examples" / "cat.jpg"
    found: dict[int, tuple[str, ...]] = {}

    def work(top_k: int) -> None:
        found[top_k] = autotag.tag(photo, preset="mini", filter_tags={"top_k": top_k}).tag_texts

    def work_alone() -> None:
        with autotag.load("mini") as pipeline:
            found[-1] = pipeline(photo).tag_texts

    workers = [threading.Thread(target=work, args=(top_k,)) for top_k in (1, 2, 3)]
    workers += [threading.Thread(target=work_alone)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=600)
    assert {top_k: tags[:1] for top_k, tags in found.items()} == dict.fromkeys((1, 2, 3, -1), ("cat",))
    assert len({id(pipeline._engine._pool) for pipeline in api._pipelines.values()}) == 1
    for pipeline in api._pipelines.values():
        pipeline.close()
