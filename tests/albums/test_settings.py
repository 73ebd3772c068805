"""What tells that a pipeline finds something else than before."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np
import pytest

import autotag
from autotag import Pipeline
from autotag.albums.settings import settings_of
from autotag.config import options
from autotag.distributed.shards import Shard, ShardWriter
from autotag.errors import ConfigError
from autotag.records import Result
from autotag.relevance.learned_keywords import LearnedKeyword, LearnedKeywords
from autotag.stages import CaptionImages, FilterTags, MatchVocabulary, NameTags, SuggestKeywords
from autotag.testing import FakeCaptioner, FakeEncoder

SCRIPT = """
import autotag
least = {least}
lists = [1, {{"a": (2, None)}}]

def helper(tag):
    return len(tag.text) > least

def made(longest):
    @autotag.stage(requires={{"tags"}}, provides={{"tags"}})
    def long_tags(sample, *, other={default}):
        sample.tags = [tag for tag in sample.tags if helper(tag) and longest and lists]
    return long_tags
"""


def script(tmp_path, least=3, default="1"):
    """A script of a user, as a module that cannot be imported by its name."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(least=least, default=default))
    spec = importlib.util.spec_from_file_location("__main__", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pipeline(*more, captioner="blip-base", beams=1, top_k=10, encoder=None):
    stages = [CaptionImages(captioner, num_beams=beams), Own(name="makes tags"), *more]
    if encoder is not None:
        stages.append(FilterTags(top_k=top_k))
    return Pipeline(stages, encoder=encoder)


def settings(*arguments, **options):
    found, unseen = settings_of(pipeline(*arguments, **options))
    assert unseen == []
    return found


class Named(FakeCaptioner):
    id = "named"


def test_the_same_pipeline_has_the_same_settings(tmp_path):
    assert settings() == settings()
    stage = script(tmp_path).made(9)
    assert settings(stage) == settings(script(tmp_path).made(9))


@pytest.mark.parametrize("change", [{"beams": 4}, {"captioner": "blip-large"}, {"captioner": Named()}])
def test_options_count_beside_a_stage_of_a_script(tmp_path, change):
    stage = script(tmp_path).made(9)
    assert settings(stage, **change) != settings(stage)


def test_options_count_beside_models_that_are_objects():
    given = {"captioner": Named(), "encoder": FakeEncoder()}
    assert settings(**given) == settings(**given)
    assert settings(**given, beams=4) != settings(**given)
    assert settings(**given, top_k=1) != settings(**given)


def test_how_it_works_does_not_count():
    one = settings_of(Pipeline([CaptionImages("blip-base")], encoder=None, batch_size=3, device="cpu"))
    assert one == settings_of(Pipeline([CaptionImages("blip-base")], encoder=None, decode_threads=2))
    assert one != settings_of(Pipeline([CaptionImages("blip-base")], encoder=None, decode="exact"))


HOW = {
    "device": "cuda", "batch_size": 3, "stage_batch_sizes": {"caption_images": 2}, "decode_threads": 2,
    "decode_ahead": 9, "allow_urls": True, "allow_truncated": True, "max_pixels": 10_000, "fast_paths":
    ("views",),
    "deterministic": True,
}  # fmt: skip
WHAT = {"encoder": "clip-mini", "dtype": "bfloat16", "decode": "exact", "decode_size": 384}


def test_albums_and_shards_agree_on_the_settings_that_change_no_result(tmp_path):
    """Every setting is on one of the lists, so that a new one has to be put on one."""
    assert HOW.keys() | WHAT.keys() == options.option_fields(Pipeline).keys()
    stages = [CaptionImages("blip-base")]
    plain = {"encoder": "clip-vit-b-32", "device": "cpu", "batch_size": 4}
    ShardWriter(tmp_path, Shard(1, 1), config=plain).write(Result("a.jpg", (1, 1)))
    before = settings_of(Pipeline(stages, **plain))
    for name, value in HOW.items():
        assert settings_of(Pipeline(stages, **{**plain, name: value})) == before, name
        ShardWriter(tmp_path, Shard(1, 1), config={**plain, name: value})
    for name, value in WHAT.items():
        assert settings_of(Pipeline(stages, **{**plain, name: value})) != before, name
        with pytest.raises(ConfigError, match=name):
            ShardWriter(tmp_path, Shard(1, 1), config={**plain, name: value})


@pytest.mark.parametrize(
    "change", [{"least": 4}, {"default": "2"}, {"longest": 8}], ids=["text", "default", "closure"]
)
def test_a_stage_of_a_script_counts_with_all_that_is_around_it(tmp_path, change):
    before = settings(script(tmp_path).made(9))
    longest = change.pop("longest", 9)
    assert settings(script(tmp_path, **change).made(longest)) != before


def test_a_value_that_a_script_sets_while_it_runs_counts(tmp_path):
    module = script(tmp_path)
    found = [settings(module.made(9))]
    module.lists = [2]
    found.append(settings(module.made(9)))
    module.least = 9  # which a function sees that the stage calls
    found.append(settings(module.made(9)))
    assert len(set(found)) == 3


def test_what_cannot_be_seen_is_named_and_never_the_same(tmp_path):
    (first, [why]), (second, _) = (settings_of(pipeline(captioner=FakeCaptioner())) for _ in range(2))
    assert first != second
    assert why == "caption_images: FakeCaptioner was given as an object that has no id"
    module = script(tmp_path)
    module.lists = object()
    _, [why] = settings_of(pipeline(module.made(9)))
    assert why.startswith("long_tags: ")


def test_a_stage_without_a_file_cannot_be_seen():
    names: dict[str, object] = {"autotag": autotag}
    exec(  # noqa: S102 - as in a session without a file
        "@autotag.stage(requires={'tags'}, provides={'tags'})\ndef typed(sample): pass", names
    )
    _, [why] = settings_of(pipeline(names["typed"]))
    assert why.startswith("typed: its source file cannot be read")


@dataclass
class Own:
    """A stage of a user."""

    _: KW_ONLY
    words: Sequence[str] = ()
    name: str = "own"
    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __call__(self, samples: Sequence[object], /) -> None:
        pass


class NotADataclass:
    """A stage whose options nobody can know."""

    name, requires, provides = "plain", frozenset(), frozenset({"tags"})

    def __init__(self, words: Sequence[str] = ()) -> None:
        self.words = words

    def __call__(self, samples: Sequence[object], /) -> None:
        pass


def test_a_dataclass_of_a_user_counts_with_its_options():
    assert settings(Own(words=["a"])) == settings(Own(words=("a",))) != settings(Own(words=["b"]))


def test_options_of_a_class_that_is_not_a_dataclass_cannot_be_seen():
    _, [why] = settings_of(pipeline(NotADataclass()))
    assert why == "plain: NotADataclass is not a dataclass, so its options are not known"


def test_a_file_counts_with_its_content(tmp_path):
    """Keywords that were learned again are other settings; the same ones written again are not."""
    file = tmp_path / "family.tags"

    def learned(threshold):
        keyword = LearnedKeyword(("beach",), 9, 0.7, 0.5, 0.9, threshold)
        rows, none = np.zeros((1, 4), dtype=np.float32), np.zeros(0, dtype=np.int64)
        LearnedKeywords("fake", 9, (keyword,), rows, rows[:, 0], rows[:0], none).save(file)
        return settings_of(Pipeline([SuggestKeywords(file)], encoder=FakeEncoder()))[0]

    first = learned(0.5)
    assert learned(0.5) == first
    assert learned(0.6) != first


@pytest.mark.parametrize(
    "stage",
    [
        lambda file: MatchVocabulary(file, name="own"),
        lambda file: NameTags("sv", vocabularies=("things", file)),
    ],
)
def test_a_vocabulary_in_a_file_counts_with_its_content(tmp_path, stage):
    file = tmp_path / "mine.txt"

    def settings(label):
        file.write_text(f"dog | label.sv: {label}\n", encoding="utf-8")
        return settings_of(Pipeline([MatchVocabulary("things"), stage(str(file))], encoder=FakeEncoder()))[0]

    first = settings("hund")
    assert settings("hund") == first
    assert settings("vovve") != first
