"""A second run with the same result changes no byte, whatever programs left; undo brings every byte back.

A file is put together at random from what programs write: which fields, flat or nested, with or without
prefixes, separators inside keywords, composed or decomposed accents, other case.
"""

from __future__ import annotations

import random
import unicodedata
from xml.sax.saxutils import escape

import pytest

from autotag.metadata import apply_change, plan_tags, undo_change
from autotag.metadata.existing import read_existing
from autotag.metadata.keywords import fold
from autotag.metadata.splicing import spliced
from autotag.metadata.xmp import MachineTag, read_packet, with_machine_tags

TAGS = [
    MachineTag("dog", 0.9, "clip", "1", path=("Animal", "dog")),
    MachineTag("Paris", 0.8, "clip", "1"),
    MachineTag("AC/DC", 0.7, "clip", "1"),
    MachineTag("sea", 0.6, "clip", "1"),
]
FIELDS = {
    "dc:subject": ("Bag", ""),
    "lr:hierarchicalSubject": ("Bag", "|"),
    "digiKam:TagsList": ("Seq", "/"),
    "MicrosoftPhoto:LastKeywordXMP": ("Bag", "/"),
    "mediapro:CatalogSets": ("Bag", "|"),
}
NAMESPACES = (
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:lr="http://ns.adobe.com/lightroom/1.0/" '
    'xmlns:digiKam="http://www.digikam.org/ns/1.0/" '
    'xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/" '
    'xmlns:mediapro="http://ns.iview-multimedia.com/mediapro/1.0/" '
    'xmlns:acdsee="http://ns.acdsee.com/iptc/1.0/"'
)


def packet(fields, more=""):
    """XMP with these entries: {"dc:subject": ["Anna"]}."""
    properties = "".join(
        f"<{name}><rdf:{FIELDS[name][0]}>"
        + "".join(f"<rdf:li>{escape(value)}</rdf:li>" for value in values)
        + f"</rdf:{FIELDS[name][0]}></{name}>"
        for name, values in fields.items()
    )
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {NAMESPACES}>{properties}{more}</rdf:Description>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


PARIS = ("Places", "Europe", "Paris")
SHAPES = {
    "plain": packet({"dc:subject": ["Anna", "garden"]}),
    "Lightroom": packet({
        "dc:subject": ["Europe", "Paris", "Places"],
        "lr:hierarchicalSubject": ["Places", "Places|Europe", "Places|Europe|Paris"],
    }),
    "leaf-only hierarchies": packet({
        "dc:subject": ["Paris"], "lr:hierarchicalSubject": ["Places|Europe|Paris"],
    }),
    "digiKam alone": packet({"digiKam:TagsList": ["Places/Europe/Paris"]}),
    "digiKam": packet({name: [(FIELDS[name][1] or "/").join(PARIS if FIELDS[name][1] else ("Paris",))]
                       for name in FIELDS}),
    "slash": packet({"dc:subject": ["AC/DC", "Taken By/Ann", "Orte/Paris"]}),
    "bar": packet({"dc:subject": ["Orte|Paris"]}),
    "Windows": packet({
        "dc:subject": ["Places/Europe/Paris"], "MicrosoftPhoto:LastKeywordXMP": ["Places/Europe/Paris"],
    }),
    "ACDSee": packet({}, "<acdsee:categories>" + escape(
        '<Categories><Category Assigned="0">Places<Category Assigned="1">Paris</Category></Category>'
        "</Categories>"
    ) + "</acdsee:categories>"),
}  # fmt: skip


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check(path, tags=TAGS, **options):
    """Runs twice and undoes; answers with the keywords after the first run."""
    before = files(path.parent)
    people = read_existing(path.read_bytes()).by_people
    change = plan_tags(path, tags, "a caption", date="2026", **options)
    apply_change(change)
    once = files(path.parent)
    again = plan_tags(path, tags, "a caption", date="2027", **options)
    assert again.kind == "unchanged", [one.path for one in again.files]
    assert files(path.parent) == once
    now = read_existing(path.read_bytes()).by_people
    assert now == people, "what counts as people's must not depend on what was copied"
    typed = {fold(word) for word in (*change.keywords_before, *(tag.text for tag in tags))}
    assert {fold(word) for word in change.keywords_after} <= typed, "a keyword that nobody typed"
    undo_change(change)
    assert files(path.parent) == before
    return change


@pytest.mark.parametrize("embed", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_second_run_changes_no_byte_for_what_programs_leave(tmp_path, photograph, shape, embed):
    path = tmp_path / "a.jpg"
    path.write_bytes(spliced(photograph("jpeg"), SHAPES[shape]))
    change = check(path, embed=embed)
    assert "\u2215" not in "".join(change.keywords_after)


@pytest.mark.parametrize("shape", ["Windows", "digiKam alone", "leaf-only hierarchies"])
def test_hierarchies_of_programs_are_read_as_such(shape):
    assert read_packet(SHAPES[shape]).by_people.paths == (PARIS,)
    assert read_packet(SHAPES["ACDSee"]).by_people.paths == (("Places", "Paris"),)


def test_look_alikes_of_earlier_runs_are_taken_out_again():
    record = "".join(
        f"<a:{label} xmlns:a='https://github.com/autotag/autotag/xmp/1.0/'><rdf:Bag>"
        f"<rdf:li>AC\u2215DC</rdf:li></rdf:Bag></a:{label}>"
        for label in ("SubjectCopied", "TagsListCopied")
    )
    before = packet({"dc:subject": ["AC/DC", "AC\u2215DC"], "digiKam:TagsList": ["AC\u2215DC"]}, record)
    after = with_machine_tags(before, TAGS, date="2026")
    assert after is not None
    assert "\u2215" not in after.decode()
    assert read_packet(after).by_people.flat == ("AC/DC",)


@pytest.mark.parametrize(
    ("name", "keyword"), [("jpeg_iptc_bar", "Orte|Paris"), ("jpeg_iptc_utf8", "K\u00f6ln")]
)
def test_a_second_run_changes_no_byte_beside_iptc(tmp_path, photograph, name, keyword):
    path = tmp_path / "a.jpg"
    path.write_bytes(photograph(name))
    assert check(path).keywords_before == (keyword,)


WORDS = (
    "Anna", "anna", "caf\u00e9", "CAF\u00c9", "AC/DC", "a|b", "x/y|z", "Paris", "dog", "Dog", "sea",
    "New York, NY",     "Stra\u00dfe", "strasse", "A\u2215B", "  spaced   out ", "<&>",
)  # fmt: skip
PARENTS = ("Places", "Europe", "Animal", "a/b", "People", "pl\u00e4tze")


def keyword(chance):
    word = chance.choice(WORDS)
    return unicodedata.normalize(chance.choice(("NFC", "NFD")), word)


def entries(chance, separator):
    """Entries of one field, as some program writes them."""
    found = []
    for _ in range(chance.randint(0, 4)):
        path = [*chance.sample(PARENTS, chance.randint(0, 3) if separator else 0), keyword(chance)]
        if separator and chance.random() < 0.4:
            found += [separator.join(path[:length]) for length in range(1, len(path))]
        found.append((separator or chance.choice("/|")).join(path) if len(path) > 1 else path[0])
    return found


def mixture(chance):
    names = chance.sample(list(FIELDS), chance.randint(0, len(FIELDS)))
    return packet({name: entries(chance, FIELDS[name][1]) for name in names})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_a_second_run_changes_no_byte_for_any_mixture(tmp_path, photograph, seed):
    chance = random.Random(seed)  # noqa: S311 - the same every time
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "a.jpg"
        path.write_bytes(spliced(photograph("jpeg"), mixture(chance)))
        for name in chance.sample(("a.jpg.xmp", "a.xmp"), chance.randint(0, 2)):
            (folder / name).write_bytes(mixture(chance))
        check(path, chance.sample(TAGS, chance.randint(0, len(TAGS))), embed=chance.random() < 0.5)
