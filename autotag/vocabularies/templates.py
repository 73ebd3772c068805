"""Sentences around a tag, for encoders that were trained on sentences: ``"a photo of {}"``."""

from __future__ import annotations

from autotag.errors import ConfigError

SLOT = "{}"
PHOTO = "a photo of {}"


def check_template(option: str, template: object) -> None:
    """Refuse a template without exactly one slot ``{}``.

    Raises:
        ConfigError: names the option and the template.
    """
    if not isinstance(template, str) or template.count(SLOT) != 1:
        raise ConfigError(f"{option} is {template!r}; allowed: a text with {SLOT!r} exactly once")


def filled(template: str, text: str) -> str:
    """Return the template with the text in its slot; braces in the text stay unchanged."""
    return template.replace(SLOT, text)
