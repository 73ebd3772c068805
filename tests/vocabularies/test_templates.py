from __future__ import annotations

import pytest

from autotag.errors import ConfigError
from autotag.vocabularies.templates import check_template, filled


def test_a_text_with_braces_stays_as_it_is():
    assert filled("a photo of {}", "{} {0} {x}") == "a photo of {} {0} {x}"


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "{0}", "", None])
def test_a_template_has_one_slot(template):
    with pytest.raises(ConfigError, match="filter_tags.template is .*exactly once"):
        check_template("filter_tags.template", template)
