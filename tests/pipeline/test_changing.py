"""What users do with a pipeline at hand: several images, its stages by name, other options, progress."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

import autotag
from autotag.errors import ConfigError, UnknownNameError, WiringError
from autotag.pipeline import progress_bar
from autotag.pipeline.presets import parse_overrides
from autotag.pipeline.stage_tables import changed_stage
from autotag.records import Caption, Result, Tag
from autotag.stages import MatchVocabulary
from autotag.testing import make_image


@dataclass
class Measure:
    times: int = 1
    name: str = "measure"
    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"prompt"})

    def __call__(self, samples) -> None:
        for sample in samples:
            sample.prompt = f"{sample.size[0] * self.times}"


@dataclass
class Shout:
    name: str = "shout"
    requires: ClassVar[frozenset[str]] = frozenset({"prompt"})
    provides: ClassVar[frozenset[str]] = frozenset({"prompt"})

    def __call__(self, samples) -> None:
        for sample in samples:
            sample.prompt += "!"


@pytest.fixture
def pipeline() -> autotag.Pipeline:
    return autotag.Pipeline([Measure(), Shout()], encoder=None)


def images(*widths: int):
    return [make_image(size=(width, 4)) for width in widths]


def test_several_images_give_a_list_in_their_order(pipeline) -> None:
    assert [result.prompt for result in pipeline(images(3, 5))] == ["3!", "5!"]
    assert [result.prompt for result in pipeline(image for image in images(3))] == ["3!"]
    assert pipeline([]) == []
    assert pipeline(images(7)[0]).prompt == "7!"


def test_a_stage_is_found_by_name(pipeline) -> None:
    assert pipeline["measure"] == Measure()
    assert "shout" in pipeline
    assert "whisper" not in pipeline
    with pytest.raises(KeyError, match="Did you mean 'measure'"):
        pipeline["mesure"]
    with pytest.raises(TypeError, match="not iterable"):
        list(pipeline)


def test_replace_changes_options_and_drops_stages_of_a_new_pipeline(pipeline) -> None:
    [image] = images(4)
    other = pipeline.replace(measure={"times": 3}, shout=False)
    assert other(image).prompt == "12"
    assert pipeline(image).prompt == "4!"


def test_replace_refuses_what_does_not_fit(pipeline) -> None:
    with pytest.raises(UnknownNameError, match="option of measure"):
        pipeline.replace(measure={"time": 3})
    with pytest.raises(UnknownNameError, match="stage of this pipeline"):
        pipeline.replace(measures={"times": 3})
    with pytest.raises(ConfigError, match="measure=True: write the options"):
        pipeline.replace(measure=True)
    with pytest.raises(WiringError, match="needs 'prompt'"):
        pipeline.replace(measure=False)
    with pytest.raises(ConfigError, match="device is a setting of the pipeline"):
        pipeline.replace(device={"x": 1})


def test_load_drops_a_stage_in_python_and_on_the_command_line() -> None:
    names = [stage.name for stage in autotag.load("mini", merge_tags=False).stages]
    assert "merge_tags" not in names
    assert parse_overrides(["merge_tags=false"]) == {"merge_tags": False}
    with pytest.raises(ConfigError, match="both changed and left out"):
        parse_overrides(["merge_tags=false", "merge_tags.broader=add"])
    with pytest.raises(ConfigError, match="both changed and left out"):
        parse_overrides(["merge_tags.broader=add", "merge_tags=false"])
    with pytest.raises(ConfigError, match="not an override"):
        parse_overrides(["merge_tags=true"])


def test_an_option_without_its_stage_is_told_where_it_belongs() -> None:
    with pytest.raises(ConfigError, match=r"threshold is an option of .*filter_tags={'threshold': 0.3}"):
        autotag.load("mini", threshold=0.3)
    with pytest.raises(UnknownNameError, match="unknown stage of this preset"):
        autotag.load("mini", nothing_like_it=3)
    with pytest.raises(UnknownNameError, match="Did you mean 'device'"):
        autotag.load("mini", devise="cpu")


def test_tag_texts_and_a_short_repr() -> None:
    tags = tuple(Tag(f"t{number}", 1 / (number + 1), "x") for number in range(7))
    result = Result("a.jpg", (4, 3), (Caption("a dog", "blip"),), tags=tags)
    assert result.tag_texts[:2] == ("t0", "t1")
    shown = "Result('a.jpg', caption='a dog', tags=[t0 1.00, t1 0.50, t2 0.33, t3 0.25, t4 0.20, +2 more])"
    assert repr(result) == shown
    assert repr(Result("b.jpg", (0, 0), error="gone")) == "Result('b.jpg', error='gone')"


class Screen:
    """A stderr that says whether it is a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        self.text = ""
        self.terminal = terminal

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return self.terminal


def test_progress_is_a_bar_in_a_terminal_and_silent_in_a_log(pipeline, monkeypatch) -> None:
    screen = Screen(terminal=True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    results = list(pipeline.stream([*images(3, 4), b"no image"], on_error="record", progress=True))
    assert [result.prompt for result in results] == ["3!", "4!", ""]
    assert "3/3" in screen.text
    assert "1 failed" in screen.text
    log = Screen(terminal=False)
    monkeypatch.setattr(sys, "stderr", log)
    assert len(list(pipeline.stream(images(3, 4), progress=True))) == 2
    assert log.text == ""


def test_what_the_program_prints_beside_the_bar_stays_on_stdout(pipeline, monkeypatch) -> None:
    screen, stdout = Screen(terminal=True), sys.stdout
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    assert all(sys.stdout is stdout for _ in pipeline.stream(images(3, 4), progress=True))


def test_progress_in_a_notebook_is_tqdms(pipeline, monkeypatch, capsys) -> None:
    notebook = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    assert progress_bar._in_notebook()
    list(pipeline.stream(images(3, 4), progress=True))
    assert "2/2" in capsys.readouterr().err


def test_a_stream_with_progress_that_is_left_early_ends_its_threads(pipeline) -> None:
    import threading

    before = threading.active_count()
    stream = pipeline.stream(iter(images(*range(1, 40))), progress=True)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_labels_that_a_preset_leaves_out_go_with_its_vocabulary() -> None:
    for vocabulary in (["cat", "dog"], {"dog": ["hound"]}):
        with autotag.load("mini", match_vocabulary={"vocabulary": vocabulary}) as pipeline:
            assert pipeline["match_vocabulary"].leave_out == ()
    with autotag.load("mini", match_vocabulary={"vocabulary": "things", "top_k": 3}) as pipeline:
        assert "animal" in pipeline["match_vocabulary"].leave_out
        changed = pipeline.replace(match_vocabulary={"vocabulary": ["cat"]})["match_vocabulary"]
        assert (changed.vocabulary, changed.leave_out, changed.top_k) == (("cat",), (), 3)
        series = pipeline.replace(match_vocabulary={"vocabulary": np.array(["cat", "dog"])})
        assert series["match_vocabulary"].vocabulary == ("cat", "dog")
        kept = changed_stage(MatchVocabulary(["a", "b"], leave_out=["b"]), {"vocabulary": ["a", "b"]})
        assert kept.leave_out == ("b",), "the vocabulary is the same"
        with pytest.raises(ConfigError, match="leave_out holds 'dog'"):
            pipeline.replace(match_vocabulary={"vocabulary": ["cat"], "leave_out": ["dog"]})


def test_a_name_of_another_type_is_refused_in_words(pipeline) -> None:
    with pytest.raises(UnknownNameError, match="unknown stage of this pipeline: 0"):
        pipeline[0]
    with pytest.raises(ConfigError, match="dtype"):
        autotag.load("mini", dtype=float)
    with pytest.raises(ConfigError, match=r"write explain\(image, 'cat', 'dog'\)"):
        pipeline.explain(make_image(), ["cat", "dog"])
