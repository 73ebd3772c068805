from __future__ import annotations

from dataclasses import asdict

import pytest

from autotag.config.fast_paths import AUTO, FAST_PATHS, FastPaths
from autotag.errors import ConfigError, UnknownNameError


def test_a_setting_says_all_none_or_which_are_off() -> None:
    assert FastPaths.parse("auto") == AUTO == FastPaths.parse([])
    assert asdict(AUTO) == dict.fromkeys(FAST_PATHS, True)
    assert asdict(FastPaths.parse("off")) == dict.fromkeys(FAST_PATHS, False)
    some = FastPaths.parse(["views", "packed_linears"])
    assert {name for name, used in asdict(some).items() if not used} == {"views", "packed_linears"}
    assert some.without("causal_text") == FastPaths.parse(["causal_text", "packed_linears", "views"])


def test_a_name_that_is_not_a_fast_paths_gets_the_near_miss() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'packed_linears'"):
        FastPaths.parse(["packed_linear"])
    with pytest.raises(ConfigError, match="give 'auto', 'off', or a list"):
        FastPaths.parse("views")
