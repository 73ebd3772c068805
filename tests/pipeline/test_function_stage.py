from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest

import autotag
from autotag.errors import ConfigError
from autotag.pipeline.function_stage import FunctionStage, stage
from autotag.pipeline.pipeline import Pipeline
from autotag.protocols import Stage
from autotag.records import Sample
from autotag.testing import check_stage, make_image, make_sample


@stage(requires={"tags"}, provides={"tags"})
def only_long_words(sample: Sample) -> None:
    """Drops short tags."""
    sample.tags = [tag for tag in sample.tags if len(tag.text) > 3]


def shout(sample: Sample) -> None:
    sample.prompt = sample.prompt.upper()


shouting = stage(requires={"prompt"}, provides={"prompt"}, name="shouting")(shout)


def test_a_decorated_function_is_a_stage() -> None:
    assert isinstance(only_long_words, Stage)
    assert only_long_words.name == "only_long_words"
    assert only_long_words.requires == only_long_words.provides == {"tags"}
    assert only_long_words.__doc__ == "Drops short tags."
    check_stage(only_long_words)
    check_stage(shouting)


def test_the_function_is_called_on_each_sample() -> None:
    samples = [make_sample(tags={"dog": 0.5, "boat": 0.4}), make_sample(tags={"field": 0.3})]
    only_long_words(samples)
    assert [[tag.text for tag in sample.tags] for sample in samples] == [["boat"], ["field"]]


def test_autotag_stage_is_this_decorator() -> None:
    assert autotag.stage is stage


def test_the_repr_says_where_it_comes_from() -> None:
    assert repr(only_long_words) == f"<stage 'only_long_words' from {__name__}:only_long_words>"


def test_a_name_may_be_given() -> None:
    assert shouting.name == "shouting"


@pytest.mark.parametrize("original", [only_long_words, shouting])
def test_it_comes_back_from_pickle_and_copy(original: FunctionStage) -> None:
    for again in (pickle.loads(pickle.dumps(original)), copy.copy(original)):
        sample = make_sample(tags={"dog": 0.5, "boat": 0.4}, prompt="quiet")
        again([sample])
        assert (again.name, again.requires, again.provides) == (
            original.name,
            original.requires,
            original.provides,
        )
        assert (len(sample.tags) == 1) != (sample.prompt == "QUIET")


def test_a_string_instead_of_a_set_of_fields_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'requires is the string .tags.; write \{"tags"\}'):
        stage(requires="tags")


def test_a_function_that_returns_something_has_misunderstood_stages() -> None:
    @stage(provides={"tags"})
    def returning(sample: Sample) -> list[str]:  # type: ignore[misc]
        return [sample.source]

    with autotag.Pipeline([returning], encoder=None) as pipeline:
        [result] = pipeline.stream([make_image()], on_error="record")
    assert "'returning' failed" in str(result.error)
    assert "it returned list; a stage returns nothing" in str(result.error)


def test_a_coroutine_or_generator_is_refused() -> None:
    async def waits(sample: Sample) -> None: ...

    def yields(sample: Sample):  # type: ignore[no-untyped-def]
        yield sample

    for function in (waits, yields):
        with pytest.raises(ConfigError, match=f"{function.__name__} is async or a generator"):
            stage()(function)  # type: ignore[arg-type]


def test_the_decorator_without_parentheses_is_refused_with_the_way_to_write_it() -> None:
    with pytest.raises(ConfigError, match=r"write the decorator as @autotag\.stage\(requires="):
        stage(shout)  # type: ignore[arg-type]


def test_a_partial_is_a_stage_by_the_name_that_is_given() -> None:
    def write(text: str, sample: Sample) -> None:
        sample.prompt = text

    made = stage(provides={"prompt"}, name="fixed")(partial(write, "a cat"))
    with Pipeline([made], encoder=None) as pipeline:
        assert pipeline(make_image()).prompt == "a cat"
    with pytest.raises(ConfigError, match=r"has no name of its own; write @autotag.stage\(name="):
        stage(provides={"prompt"})(partial(write, "a cat"))
