from __future__ import annotations

import pytest

from autotag.config.checks import check_choice, check_count, check_number
from autotag.errors import ConfigError


@pytest.mark.parametrize("value", [0, 4, 2.0, True, "2", None])
def test_a_count_is_a_whole_number_in_range(value):
    with pytest.raises(ConfigError, match=r"s\.n is .*; allowed: a whole number of at least 1 and at most 3"):
        check_count("s.n", value, most=3)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.5", None])
def test_a_number_is_in_range(value):
    with pytest.raises(ConfigError, match=r"s\.x is .*; allowed: a number from 0 to 1"):
        check_number("s.x", value, least=0, most=1)


def test_a_number_can_have_to_be_above_its_bound():
    check_number("s.x", 0.01, least=0, above=True)
    with pytest.raises(ConfigError, match="a number above 0"):
        check_number("s.x", 0, least=0, above=True)


def test_what_fits_passes():
    check_count("s.n", 1, most=1)
    check_number("s.x", 1, least=0, most=1)
    check_choice("s.mode", "plain", ["plain"])


def test_a_choice_is_one_of_the_choices():
    with pytest.raises(ConfigError, match=r"s\.mode is 'fast'; allowed: 'plain', 'best'"):
        check_choice("s.mode", "fast", ["plain", "best"])
