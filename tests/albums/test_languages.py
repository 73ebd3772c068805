"""An album whose keywords are in other languages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from io import BytesIO

import pytest

from autotag.albums import WriterChoice, tag_folder, undo_album
from autotag.albums.rules import AlbumRules
from autotag.metadata import read_existing
from autotag.pipeline.presets import from_config, with_language
from autotag.records import Result, Tag
from autotag.testing import make_image

EMBED = WriterChoice("xmp", options={"embed": True})


@pytest.fixture
def named(photos):
    """Run the album with keywords in these languages."""

    def named(*languages, **more):
        config = {"stages": [{"stage": "colour_stages:NameColours"}]}
        with from_config(with_language(config, languages)) as pipeline:
            return tag_folder(photos, pipeline=pipeline, writers=(EMBED,), **more)

    yield named
    sys.modules.pop("colour_stages", None)


def with_keyword(file, keyword):
    """The file as another program writes it, with a keyword of a person."""
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>'
        f"<rdf:li>{keyword}</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    written = BytesIO()
    make_image("red").save(written, "JPEG", xmp=packet.encode())
    return written.getvalue()


def keywords(file):
    return read_existing(file.read_bytes()).keywords.flat


def test_several_languages_are_plain_items_of_one_bag_and_undo_restores_every_byte(photos, named, tree):
    before = tree(photos)
    assert named("de", "fr", "en").failed == 0
    assert {"Rot", "rouge", "red"} <= set(keywords(photos / "d.jpg"))
    assert (
        b"rdf:Alt"
        not in (photos / "d.jpg").read_bytes().partition(b"<dc:subject>")[2].partition(b"</dc:s")[0]
    )
    undo_album(photos)
    assert tree(photos) == before


def test_another_language_replaces_the_machines_words_and_no_word_of_a_person(photos, named, tree):
    (photos / "d.jpg").write_bytes(with_keyword(photos / "d.jpg", "Rot wie Mohn"))
    before = tree(photos)
    named("de")
    assert {"Rot", "Rot wie Mohn"} <= set(keywords(photos / "d.jpg"))
    named("fr")
    after = set(keywords(photos / "d.jpg"))
    assert {"rouge", "Rot wie Mohn"} <= after
    assert not {"Rot", "red"} & after
    undo_album(photos)
    undo_album(photos)
    assert tree(photos) == before


def test_the_hierarchy_of_things_is_in_the_language_of_the_tag(photos, named):
    named("de", rules=AlbumRules(hierarchy=("things",)))
    paths = read_existing((photos / "d.jpg").read_bytes()).keywords.paths
    assert ("Farbe", "Rot") in set(paths)


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs exiftool")
def test_exiftool_reads_them_as_plain_keywords_also_where_there_is_iptc(photos, named):
    file = photos / "d.jpg"
    program = str(shutil.which("exiftool"))
    subprocess.run([program, "-q", "-overwrite_original", "-IPTC:Keywords=mine", str(file)], check=True)
    named("de", "fr")
    command = [program, "-j", "-XMP-dc:Subject", "-IPTC:Keywords", str(file)]
    [found] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert {"Rot", "rouge"} <= set(found["Subject"])
    assert {"Rot", "rouge", "mine"} <= set(found["Keywords"])


def german(*concepts):
    names = {"dog": "Hund", "cat": "Katze", "golden retriever": "Golden Retriever"}
    return Result(
        "a.jpg",
        (1, 1),
        tags=tuple(Tag(names[one], 0.5, "test", concept=one, language="de") for one in concepts),
    )


def texts(rules, result):
    return [tag.text for tag in rules.applied(result).tags]


def test_rules_know_a_tag_by_its_name_and_by_its_concept():
    assert texts(AlbumRules(deny=("dog",)), german("dog", "cat")) == ["Katze"]
    assert texts(AlbumRules(deny=("hund",)), german("dog", "cat")) == ["Katze"]
    assert texts(AlbumRules(replacements={"dog": "Bello"}), german("dog")) == ["Bello"]
    assert texts(AlbumRules(replacements={"Hund": "Bello", "dog": "x"}), german("dog")) == ["Bello"]
    assert texts(AlbumRules(replacements={"dog": "Bello"}, deny=("dog",)), german("dog")) == ["Bello"]
    assert texts(AlbumRules(synonyms={"dog": ("Vierbeiner",)}), german("dog")) == ["Hund", "Vierbeiner"]


def test_what_a_tag_belongs_to_is_named_in_its_language():
    [tag] = AlbumRules(hierarchy="things").applied(german("golden retriever")).tags
    assert tag.path == ("Tier", "Hund", "Retriever", "Golden Retriever")


def test_a_hierarchy_of_ones_own_knows_a_tag_by_its_concept_and_comes_before_a_persons_tree():
    rules = AlbumRules(hierarchy=("things", "pet|dog"), prefer_my_keywords=True, parent="AI")
    [tag] = rules.applied(german("dog"), {}, {"hund": "Familie|Hund"}).tags
    assert tag.path == ("AI", "pet", "Hund")


def test_words_of_rules_are_not_placed_where_the_tag_was_but_another_spelling_is():
    rules = AlbumRules(hierarchy="things", synonyms={"dog": ("Bello",)}, prefer_my_keywords=True)
    paths = {tag.text: tag.path for tag in rules.applied(german("dog"), {"hund": "HUND"}).tags}
    assert paths == {"HUND": ("Tier", "HUND"), "Bello": ()}
