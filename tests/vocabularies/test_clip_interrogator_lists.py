from __future__ import annotations

import sys

import pytest

from autotag.errors import ConfigError, UnknownNameError
from autotag.vocabularies.clip_interrogator_lists import PARTS, clip_interrogator_labels

SOURCE = """
class Interrogator:
    def load_clip_model(self):
        sites = ['Artstation', 'cg society']
        trending_list = [site for site in sites]
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that is laid out as clip-interrogator 0.6.0 is; importing it fails."""
    folder = tmp_path / "clip_interrogator"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('nothing of it is imported')\n")
    (folder / "clip_interrogator.py").write_text(SOURCE)
    for name in ("mediums", "movements", "negative"):
        (folder / "data" / f"{name}.txt").write_text(f"a {name}\n", encoding="utf-8")
    (folder / "data" / "artists.txt").write_text("Ann\nÉmile\n", encoding="utf-8")
    (folder / "data" / "flavors.txt").write_bytes(b" 8 k \r\n\n8k\n8k\nbad \xff\nlast")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_every_line_keeps_its_place_blank_repeated_or_damaged(package):
    assert clip_interrogator_labels("flavors") == ("8 k", "", "8k", "8k", "bad \ufffd", "last")


def test_artists_come_twice_all_with_by_first(package):
    wanted = ("by Ann", "by Émile", "inspired by Ann", "inspired by Émile")
    assert clip_interrogator_labels("artists") == wanted


def test_negatives_are_in_a_file_of_another_name(package):
    assert clip_interrogator_labels("negatives") == ("a negative",)
    assert clip_interrogator_labels("mediums") == ("a mediums",)


def test_trendings_are_made_of_the_sites_in_its_source_phrase_by_phrase(package):
    assert clip_interrogator_labels("trendings") == (
        "Artstation",
        "cg society",
        "trending on Artstation",
        "trending on cg society",
        "featured on Artstation",
        "featured on cg society",
        "Artstation contest winner",
        "cg society contest winner",
    )


def test_nothing_of_the_package_is_imported(package):
    for part in PARTS:
        assert clip_interrogator_labels(part)
    assert "clip_interrogator" not in sys.modules


def test_an_unknown_part_is_refused_with_the_near_miss(package):
    with pytest.raises(UnknownNameError, match="'negative'. Did you mean 'negatives'"):
        clip_interrogator_labels("negative")


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("autotag.vocabularies.clip_interrogator_lists.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed; install it: pip install clip-interrogator"):
        clip_interrogator_labels("flavors")


@pytest.mark.parametrize(
    ("part", "file"), [("flavors", "data/flavors.txt"), ("trendings", "clip_interrogator.py")]
)
def test_a_package_of_another_layout_is_refused_with_the_missing_file(package, part, file):
    (package / file).unlink()
    with pytest.raises(ConfigError, match=f"{file} cannot be read"):
        clip_interrogator_labels(part)


def test_a_source_without_sites_is_refused(package):
    (package / "clip_interrogator.py").write_text("pages = []\n")
    with pytest.raises(ConfigError, match="lists no sites"):
        clip_interrogator_labels("trendings")
