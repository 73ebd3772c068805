"""Photographs named by what is in them."""

from __future__ import annotations

import re

import pytest

from autotag.albums.writers.rename_writer import RenameWriter, safe_name
from autotag.errors import ConfigError, MetadataError
from autotag.records import Caption, Result

WINDOWS = ["con", "CON.old", "nul", "com1", "LPT9", "aux"]


def result(prompt: str = "", caption: str = "") -> Result:
    return Result("x", (1, 1), prompt=prompt, captions=(Caption(caption, "test"),) if caption else ())


def new_names(writer, photo, found):
    return [target.name for change in writer.changes(photo, found) for _, target in change.moves]


@pytest.mark.parametrize(
    "text",
    [
        "a dog, on grass", "a/b\\c:d*e?f\"g<h>i|j", "..hidden", "ends with dots...", " spaces  and\nlines ",
        "x" * 500, "ä" * 300, "日本" * 200, "tab\tand \x00\x1f", "right\u202eto left", "lone \udc80", "-rf",
        *WINDOWS,
    ],
)  # fmt: skip
def test_names_are_fit_for_every_file_system(text):
    name = safe_name(text)
    assert name
    assert len(name) <= 128
    assert len(name.encode("utf-8")) <= 200
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f\u202e]', name)
    assert name == name.strip(" .")
    assert not name.startswith(("-", "."))
    assert not re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name, re.IGNORECASE)


@pytest.mark.parametrize("text", ["", "...", "???", "\u200b"])
def test_nothing_is_left_of_what_is_no_name(text):
    assert safe_name(text) == ""


def test_a_long_text_is_cut_between_words():
    name = safe_name("word " * 40)
    assert name.endswith("word")
    assert 100 < len(name) <= 128


def test_a_taken_name_gets_a_number_and_also_one_that_is_only_planned(tmp_path):
    for name in ("a.jpg", "b.jpg", "A Dog.JPG"):
        (tmp_path / name).touch()
    writer = RenameWriter()
    assert new_names(writer, tmp_path / "a.jpg", result("a dog")) == ["a dog (2).jpg"]
    assert new_names(writer, tmp_path / "b.jpg", result("a dog")) == ["a dog (3).jpg"]


@pytest.mark.parametrize("name", ["a dog.jpg", "a dog (7).jpg", "A DOG.jpg"])
def test_a_photograph_that_has_such_a_name_keeps_it(tmp_path, name):
    (tmp_path / name).touch()
    assert RenameWriter().changes(tmp_path / name, result("a dog")) == []


def test_what_belongs_to_a_photograph_moves_along(tmp_path):
    for name in ("a.jpg", "a.jpg.xmp", "a.xmp", "a.txt", "a.jpg.txt", "ab.txt", "b.jpg"):
        (tmp_path / name).touch()
    names = new_names(RenameWriter(), tmp_path / "a.jpg", result("a dog"))
    assert names[0] == "a dog.jpg"
    assert sorted(names) == ["a dog.jpg", "a dog.jpg.txt", "a dog.jpg.xmp", "a dog.txt", "a dog.xmp"]


def test_what_is_shared_stays_and_a_raw_file_owns_its_sidecar(tmp_path):
    for name in ("a.jpg", "a.cr2", "a.xmp", "a.txt"):
        (tmp_path / name).touch()
    assert new_names(RenameWriter(), tmp_path / "a.jpg", result("a dog")) == ["a dog.jpg"]
    assert sorted(new_names(RenameWriter(), tmp_path / "a.cr2", result("a cat"))) == [
        "a cat.cr2",
        "a cat.xmp",
    ]


def test_the_caption_is_the_name_where_there_is_no_prompt_or_it_is_asked_for(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert new_names(RenameWriter(), tmp_path / "a.jpg", result("", "a cat")) == ["a cat.jpg"]
    found = new_names(RenameWriter(by="caption"), tmp_path / "a.jpg", result("a dog", "a cat"))
    assert found == ["a cat.jpg"]


def test_without_any_text_nothing_is_renamed(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert RenameWriter().changes(tmp_path / "a.jpg", result()) == []


def test_a_move_never_takes_a_name_that_somebody_took_meanwhile(tmp_path):
    (tmp_path / "a.jpg").write_text("a")
    [change] = RenameWriter().changes(tmp_path / "a.jpg", result("a dog"))
    (tmp_path / "a dog.jpg").write_text("another")
    with pytest.raises(Exception, match="another file is called"):
        change.apply()
    assert (tmp_path / "a.jpg").read_text() == "a"
    assert (tmp_path / "a dog.jpg").read_text() == "another"


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="max_length = 500"):
        RenameWriter(max_length=500)
    with pytest.raises(ConfigError, match="Did you mean 'prompt'"):
        RenameWriter(by="promt")  # type: ignore[arg-type]


def test_what_other_programs_put_beside_it_and_its_film_move_along(tmp_path):
    for name in ("a.jpg", "a.jpg.pp3", "a.jpg.dop", "a.MOV", "a.jpgx", "b.jpg.pp3", "b.mov"):
        (tmp_path / name).write_text("x")
    found = new_names(RenameWriter(), tmp_path / "a.jpg", result("dog"))
    assert sorted(found) == ["dog.MOV", "dog.jpg", "dog.jpg.dop", "dog.jpg.pp3"]


def test_a_photograph_that_a_link_leads_to_keeps_its_name(tmp_path):
    (tmp_path / "a.jpg").write_text("x")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    writer = RenameWriter()
    writer.linked = frozenset({str(tmp_path.resolve() / "a.jpg")})
    with pytest.raises(MetadataError, match="a link in the album leads to it"):
        writer.changes(tmp_path / "a.jpg", result("dog"))
    assert new_names(writer, tmp_path / "link.jpg", result("dog")) == ["dog.jpg"]


def test_pictures_whose_names_differ_in_case_only_take_their_own_sidecars_along(tmp_path):
    for name in ("IMG.jpg", "img.JPG", "img.JPG.xmp"):
        (tmp_path / name).write_text(name)
    if (tmp_path / "img.jpg").exists():
        pytest.skip("this file system does not tell letter case apart")
    writer = RenameWriter()
    [first] = writer.changes(tmp_path / "IMG.jpg", result("a cat"))
    [second] = writer.changes(tmp_path / "img.JPG", result("a tower"))
    assert [target.name for _, target in first.moves] == ["a cat.jpg"]
    assert [target.name for _, target in second.moves] == ["a tower.JPG", "a tower.JPG.xmp"]


TAKEOUT = (
    ".supplemental-metadata.json", ".supplemental-metadat.json", ".supplemental-meta.json", ".suppl.json",
    ".s.json", "..json", ".json",
)  # fmt: skip


@pytest.mark.parametrize("ending", TAKEOUT)
def test_what_google_takeout_puts_beside_it_moves_along(tmp_path, ending):
    for name in (
        "IMG_1.jpg",
        "IMG_1.jpg" + ending,
        "IMG_11.jpg" + ending,
        "IMG_1.jpg.supplemental-metadata(1).json",
    ):
        (tmp_path / name).write_text("x")
    found = new_names(RenameWriter(), tmp_path / "IMG_1.jpg", result("dog"))
    assert sorted(found) == sorted(["dog.jpg", "dog.jpg" + ending])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("IMG_1.jpg.supplemental-metadata(2).json", "dog.jpg.supplemental-metadata.json"),
        ("IMG_1.jpg.supplemental-me(2).json", "dog.jpg.supplemental-me.json"),
        ("IMG_1.jpg(2).json", "dog.jpg.json"),
        ("IMG_1(2).jpg.supplemental-metadata.json", "dog.jpg.supplemental-metadata.json"),
    ],
)
def test_a_numbered_photograph_of_takeout_takes_its_own_file_along(tmp_path, old, new):
    for name in ("IMG_1(2).jpg", "IMG_1.jpg", "IMG_1.jpg.supplemental-metadata.json", old):
        (tmp_path / name).write_text("x")
    assert new_names(RenameWriter(), tmp_path / "IMG_1(2).jpg", result("dog")) == ["dog.jpg", new]


def test_two_files_of_takeout_for_one_photograph_do_not_get_one_name(tmp_path):
    for name in (
        "IMG_1(2).jpg", "IMG_1(2).jpg.supplemental-metadata.json", "IMG_1.jpg.supplemental-metadata(2).json",
    ):  # fmt: skip
        (tmp_path / name).write_text("x")
    [change] = RenameWriter().changes(tmp_path / "IMG_1(2).jpg", result("dog"))
    targets = [target.name for _, target in change.moves]
    assert len(set(targets)) == len(targets)
    assert (tmp_path / "IMG_1(2).jpg.supplemental-metadata.json") in [old for old, _ in change.moves]


def test_takeouts_files_of_pictures_whose_names_differ_in_case_only_stay_apart(tmp_path):
    ending = ".supplemental-metadata.json"
    for name in ("IMG.jpg", f"IMG.jpg{ending}", "img.jpg", f"img.jpg{ending}"):
        (tmp_path / name).write_text(name)
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("this file system does not tell letter case apart")
    for name in ("IMG", "img"):
        [change] = RenameWriter().changes(tmp_path / f"{name}.jpg", result("dog"))
        assert [old.name for old, _ in change.moves] == [f"{name}.jpg", f"{name}.jpg{ending}"]


def test_a_name_that_takeout_cut_belongs_to_the_only_photograph_that_begins_so(tmp_path):
    long = "a" * 50
    (tmp_path / f"{long}.jpg").write_text("x")
    (tmp_path / f"{long[:46]}.json").write_text("x")
    assert new_names(RenameWriter(), tmp_path / f"{long}.jpg", result("dog")) == ["dog.jpg", "dog.jpg.json"]
    (tmp_path / f"{long}b.jpg").write_text("x")
    assert new_names(RenameWriter(), tmp_path / f"{long}.jpg", result("dog")) == ["dog.jpg"]


def test_duplicates_of_darktable_move_along_unless_they_are_another_photograph_s(tmp_path):
    for name in ("a.jpg", "a.jpg.xmp", "a_01.jpg.xmp", "a_02.jpg.xmp", "a_02.jpg", "a_03.png.xmp"):
        (tmp_path / name).write_text("x")
    found = new_names(RenameWriter(), tmp_path / "a.jpg", result("dog"))
    assert sorted(found) == ["dog.jpg", "dog.jpg.xmp", "dog_01.jpg.xmp"]


def keywords_by_hand(extension: str = "") -> bytes:
    named = (
        f' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:SidecarForExtension="{extension}"'
    )
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"{named if extension else ""}>'
        "<dc:subject><rdf:Bag><rdf:li>Anna</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


@pytest.mark.parametrize("other", ["IMG.CR2", "IMG.png"])
def test_a_photograph_stays_with_a_shared_sidecar_that_has_keywords_of_people(tmp_path, other):
    for name in ("IMG.jpg", other):
        (tmp_path / name).touch()
    sidecar = tmp_path / "IMG.xmp"
    sidecar.write_bytes(keywords_by_hand())
    for name in ("IMG.jpg", other):
        with pytest.raises(MetadataError, match=r"IMG\.xmp has keywords of people for other files"):
            RenameWriter().changes(tmp_path / name, result("a dog"))
        with pytest.raises(MetadataError, match=r"IMG\.xmp"):
            RenameWriter().renamed_to(tmp_path / name, f"new.{name[-3:]}")
    sidecar.write_bytes(keywords_by_hand(other[-3:]))
    assert new_names(RenameWriter(), tmp_path / "IMG.jpg", result("a dog")) == ["a dog.jpg"]
    sidecar.unlink()
    assert new_names(RenameWriter(), tmp_path / other, result("a cat")) == [f"a cat.{other[-3:]}"]


def test_a_raw_file_does_not_take_a_sidecar_along_that_names_its_jpeg(tmp_path):
    for name in ("IMG.jpg", "IMG.CR2"):
        (tmp_path / name).touch()
    (tmp_path / "IMG.xmp").write_bytes(keywords_by_hand("jpg"))
    with pytest.raises(MetadataError, match=r"IMG\.xmp"):
        RenameWriter().changes(tmp_path / "IMG.CR2", result("a dog"))


def test_the_film_of_a_live_photograph_and_its_sidecar_move_along(tmp_path):
    for name in ("IMG.heic", "IMG.mov"):
        (tmp_path / name).touch()
    (tmp_path / "IMG.xmp").write_bytes(keywords_by_hand())
    assert new_names(RenameWriter(), tmp_path / "IMG.heic", result("a dog")) == [
        "a dog.heic", "a dog.xmp", "a dog.mov",
    ]  # fmt: skip
