from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from autotag.config import options
from autotag.errors import ConfigError, UnknownNameError
from autotag.stages import ExtractKeyphrases
from autotag.testing import FakeCaptioner

if TYPE_CHECKING:
    from typing import Protocol

    import numpy as np
    from numpy.typing import NDArray

    class OnlyForTypeCheckers(Protocol): ...


@dataclass
class Everything:
    text: str = "a"
    number: int = 1
    share: float = 0.5
    switch: bool = True
    mode: Literal["plain", "fast"] = "plain"
    pair: tuple[int, int] = (1, 2)
    words: tuple[str, ...] = ()
    anything: Any = None
    lowest: float | None = None
    stop_words: str | tuple[str, ...] | None = "english"
    path: Path = Path("here")
    weights: Mapping[str, float] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    labels: Sequence[str] = ()
    kinds: AbstractSet[str] = frozenset()
    model: str | OnlyForTypeCheckers = "blip-base"
    name: str = "everything"
    _cache: dict[str, int] = field(init=False, default_factory=dict)
    made: int = field(init=False, default=0)
    secret: int = field(default=0, metadata={"option": False})


@dataclass
class WithArrays:
    threshold: float = 0.5
    _rows: NDArray[np.float32] = field(init=False)


GOOD: list[tuple[str, Any, Any]] = [
    ("text", "b", "b"),
    ("number", 7, 7),
    ("share", 1, 1.0),
    ("share", 0.25, 0.25),
    ("switch", False, False),
    ("mode", "fast", "fast"),
    ("pair", [3, 4], (3, 4)),
    ("words", ["a", "b"], ("a", "b")),
    ("anything", {"a": [1]}, {"a": [1]}),
    ("lowest", 0.2, 0.2),
    ("lowest", None, None),
    ("lowest", "none", None),
    ("stop_words", "none", None),
    ("stop_words", ["the", "a"], ("the", "a")),
    ("path", "there", Path("there")),
    ("weights", {"a": 1}, {"a": 1.0}),
    ("sizes", [1, 2], [1, 2]),
    ("labels", ["a"], ("a",)),
    ("kinds", ["a", "b"], frozenset({"a", "b"})),
    ("model", "blip-large", "blip-large"),
]

BAD: list[tuple[str, Any, str]] = [
    ("text", 1, "text"),
    ("text", None, "text"),
    ("number", 1.0, "a whole number"),
    ("number", True, "a whole number"),
    ("number", "1", "a whole number"),
    ("share", "0.5", "a number"),
    ("share", True, "a number"),
    ("switch", 1, "true or false"),
    ("switch", "true", "true or false"),
    ("mode", "slow", "one of 'plain', 'fast'"),
    ("pair", [1], r"an array of \(a whole number, a whole number\)"),
    ("pair", [1, "2"], r"an array of \(a whole number, a whole number\)"),
    ("words", "ab", r"an array of \(text\)"),
    ("lowest", "high", 'a number or "none"'),
    ("stop_words", 3, r'text or an array of \(text\) or "none"'),
    ("path", 3, "a path"),
    ("weights", ["a"], "a table"),
    ("weights", {"a": "b"}, "a table"),
    ("sizes", ["a"], r"an array of \(a whole number\)"),
    ("model", 3, "text or an object"),
]


@pytest.mark.parametrize(("name", "given", "expected"), GOOD)
def test_a_value_becomes_what_the_field_holds(name: str, given: Any, expected: Any) -> None:
    fit = options.checked(Everything, {name: given}, where="everything")[name]
    assert fit == expected
    assert type(fit) is type(expected)


@pytest.mark.parametrize(("name", "given", "words"), BAD)
def test_a_value_of_the_wrong_type_is_refused_saying_what_fits(name: str, given: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"everything: {name} = .* does not fit; it takes {words}\."):
        options.checked(Everything, {name: given}, where="everything")


def test_an_object_fits_where_a_model_does() -> None:
    captioner = FakeCaptioner()
    assert options.checked(Everything, {"model": captioner}, where="everything")["model"] is captioner


def test_what_is_inherited_is_read_with_the_names_of_its_own_module() -> None:
    """``ExtractKeyphrases`` says ``Candidates``, which this module does not know."""

    @dataclass
    class Own(ExtractKeyphrases):
        weight: float = 1.0

    made = Own(candidates="ngrams", stop_words=["der"], weight=2)  # type: ignore[arg-type]
    assert (made.candidates, made.stop_words, made.weight) == ("ngrams", ("der",), 2.0)
    with pytest.raises(ConfigError, match="candidates = 'words' does not fit; it takes one of 'phrases'"):
        Own(candidates="words")  # type: ignore[arg-type]


def test_an_unknown_option_is_refused_with_the_near_miss() -> None:
    with pytest.raises(UnknownNameError, match=r"option of everything: 'nmber'\. Did you mean 'number'\?"):
        options.checked(Everything, {"nmber": 1}, where="everything")


@pytest.mark.parametrize("hidden", ["_cache", "made", "secret"])
def test_what_is_no_argument_or_private_is_no_option(hidden: str) -> None:
    assert hidden not in options.option_fields(Everything)
    with pytest.raises(UnknownNameError):
        options.checked(Everything, {hidden: 1}, where="everything")


def test_only_what_differs_from_the_default_is_written() -> None:
    assert options.written(Everything(), where="everything") == {}
    assert options.written(Everything(number=2), where="everything") == {"number": 2}


@pytest.mark.parametrize(("name", "given", "expected"), GOOD)
def test_what_is_written_reads_back_the_same(name: str, given: Any, expected: Any) -> None:
    thing = Everything(**{name: expected})
    rows = options.written(thing, where="everything")
    assert Everything(**options.checked(Everything, rows, where="everything")) == thing


def test_values_are_written_as_reading_makes_them() -> None:
    thing = Everything(share=1, pair=[1, 2], stop_words=None)  # type: ignore[arg-type]
    assert options.written(thing, where="everything") == {"share": 1.0, "stop_words": "none"}


def test_an_object_is_not_written() -> None:
    with pytest.raises(ConfigError, match=r"everything: model is an object \(FakeCaptioner\)"):
        options.written(Everything(model=FakeCaptioner()), where="everything")


def test_the_text_none_is_not_written_where_it_would_mean_none() -> None:
    with pytest.raises(ConfigError, match="means None"):
        options.written(Everything(stop_words="none"), where="everything")
    assert options.written(Everything(text="none"), where="everything") == {"text": "none"}


def test_annotations_that_exist_only_for_type_checkers_do_no_harm() -> None:
    with pytest.raises(ConfigError, match="a number"):
        options.checked(WithArrays, {"threshold": "high"}, where="stage")
