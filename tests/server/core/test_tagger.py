from __future__ import annotations

import asyncio
from typing import Any

import pytest
from numbered_server import Numbers, numbered_png

from autotag.errors import ConfigError
from autotag.server.core.limits import Limits
from autotag.server.core.tagger import AsyncTagger


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"top_k": 0}, "top_k is 0; allowed"),
        ({"top_k": 0, "labels": ("cat",)}, "top_k is 0; allowed"),
        ({"top_k": 1000, "labels": ("cat",)}, "top_k is 1000; allowed"),
        ({"top_k": "3"}, "top_k is '3'"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"timeout": 61}, "timeout is 61; allowed: a number above 0 to 60"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": "x"}, "timeout is 'x'"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"vocabulary": "nope"}, "vocabulary is 'nope'; allowed: 'mediums'"),
        ({"vocabulary": ["things"]}, "vocabulary is"),
        ({"vocabulary": "things", "labels": ("cat",)}, "labels and vocabulary are both given"),
        ({"labels": "cat"}, "labels is the text 'cat'"),
        ({"labels": (1, 2)}, "write a list of texts"),
        ({"labels": None}, "write a list of texts"),
        ({"labels": (["a"],)}, "write a list of texts"),
    ],
)
def test_a_wrong_option_is_named_not_ignored(numbers: Numbers, options: dict[str, Any], words: str) -> None:
    async def test() -> None:
        async with AsyncTagger(numbers.pipeline(), "numbers", Limits()) as tagger:
            with pytest.raises(ConfigError, match=words):
                await tagger.tag(numbered_png(1), **options)
            assert (await tagger.tag(numbered_png(1), timeout=60)).caption == "number 1"

    asyncio.run(test())
