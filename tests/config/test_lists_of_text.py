"""One text where a list is meant is refused, and never taken letter by letter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import autotag
from autotag import Pipeline, Vocabulary
from autotag.albums import WriterChoice, tag_folder
from autotag.albums.thresholds import try_thresholds
from autotag.distributed.shards import Shard, ShardWriter
from autotag.errors import ConfigError
from autotag.evaluation.model_runs import pipelines_of
from autotag.testing import make_image
from autotag.vocabularies.mining import mine_phrases


@autotag.stage(provides={"tags"})
def nothing(sample: Any) -> None:
    """Find nothing."""


@pytest.fixture
def album(tmp_path: Path) -> Path:
    make_image("red").save(tmp_path / "a.png")
    return tmp_path


PIPELINE = Pipeline([nothing], encoder=None)
ONE_TEXT: dict[str, Callable[[Path], object]] = {
    "writers": lambda album: tag_folder(album, pipeline=PIPELINE, writers="xmp", dry_run=True),
    "include": lambda album: tag_folder(album, pipeline=PIPELINE, include="*.png", dry_run=True),
    "exclude": lambda album: tag_folder(album, pipeline=PIPELINE, exclude="*.png", dry_run=True),
    "include of images": lambda album: autotag.find_images(album, include="*.png"),
    "include of thresholds": lambda album: try_thresholds(album, pipeline=PIPELINE, include="*.png"),
    "labels": lambda _: Vocabulary("dog"),
    "synonyms": lambda _: Vocabulary(["dog"], synonyms={"dog": "hound"}),
    "synonyms of a mapping": lambda _: Vocabulary({"dog": "hound"}),
    "broader terms": lambda _: Vocabulary(["dog", "animal"], broader={"dog": "animal"}),
    "prompts": lambda _: mine_phrases("a dog, a cat"),
    "paths": lambda album: ShardWriter(album / "s", Shard(1, 1), config={}, paths="photos"),
    "names": lambda _: pipelines_of("mini"),
    "provides": lambda _: autotag.stage(provides="tags"),
}


@pytest.mark.parametrize("option", ONE_TEXT)
def test_one_text_in_place_of_a_list_is_refused_with_what_to_write(option: str, album: Path) -> None:
    with pytest.raises(ConfigError, match=r"(write|give) (a list|\{)") as caught:
        ONE_TEXT[option](album)
    assert option.split(maxsplit=1)[0] in str(caught.value)


def test_one_writer_in_place_of_a_list_is_refused(album: Path) -> None:
    with pytest.raises(ConfigError, match=r"writers is WriterChoice.*write a list: \[WriterChoice"):
        tag_folder(album, pipeline=PIPELINE, writers=WriterChoice("xmp"), dry_run=True)  # type: ignore[arg-type]
