from __future__ import annotations

import pytest

from autotag.albums.state.identity import JOURNAL, claim_state
from autotag.albums.state.journal import Journal
from autotag.albums.state.ledger import state_folder
from autotag.albums.writers.xmp_writer import XmpChange
from autotag.learning.photographs import in_files
from autotag.learning.written import with_runs, written_by_runs
from autotag.metadata import MachineTag, plan_tags
from autotag.testing import make_image


def album_of(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    make_image("red", size=(32, 32)).save(folder / "a.jpg")
    state = state_folder(folder.resolve(), tmp_path / "state")
    state.mkdir(parents=True)
    claim_state(state, folder.resolve())
    return folder


def run(folder, tmp_path, *words):
    """What a run of an album does; its state is beside the album."""
    change = plan_tags(folder / "a.jpg", [MachineTag(word, 0.9) for word in words])
    with Journal(state_folder(folder.resolve(), tmp_path / "state") / JOURNAL, album=folder) as journal:
        step = XmpChange(change)
        numbers = journal.begin([step])
        step.apply()
        journal.done(numbers)


@pytest.fixture
def album(tmp_path):
    """An album in which a run wrote dog, sea and car for one photograph."""
    folder = album_of(tmp_path)
    run(folder, tmp_path, "dog", "sea", "car")
    return folder


def rewritten(album, *words):
    """What a program leaves that keeps the keywords and drops what it does not know."""
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in words)
    (album / "a.jpg.xmp").write_text(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject>'
        f"<rdf:Bag>{items}</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>",
        encoding="utf-8",
    )


def read(album, tmp_path):
    written = written_by_runs(album, state=tmp_path / "state")
    [photo] = with_runs(in_files([album / "a.jpg"]), written)
    return photo


def test_a_record_that_is_there_is_believed(album, tmp_path):
    photo = read(album, tmp_path)
    assert (photo.keywords.flat, photo.removed, photo.left) == ((), (), ("dog", "sea", "car"))


def test_without_the_record_the_journal_says_what_people_did(album, tmp_path):
    rewritten(album, "Dog", "Anna")
    photo = read(album, tmp_path)
    assert photo.keywords.flat == ("Anna",)
    assert photo.left == ("dog",)
    assert photo.removed == ("sea", "car")


def test_metadata_that_is_lost_is_no_decision(album, tmp_path):
    (album / "a.jpg.xmp").unlink()
    assert not read(album, tmp_path).teaches


def test_an_album_without_runs_has_nothing_written(tmp_path):
    assert written_by_runs(tmp_path, state=tmp_path / "state") == {}


def test_a_keyword_that_the_run_found_there_is_a_persons(tmp_path):
    """The run says the same as a person and writes only the caption and a new tag."""
    folder = album_of(tmp_path)
    rewritten(folder, "Dog", "Anna")
    run(folder, tmp_path, "dog", "sea")
    assert read(folder, tmp_path).keywords.flat == ("Dog", "Anna")
    rewritten(folder, "Dog", "Anna", "sea")
    photo = read(folder, tmp_path)
    assert photo.keywords.flat == ("Dog", "Anna")
    assert (photo.left, photo.removed) == (("sea",), ())


def test_a_tag_that_an_earlier_run_added_is_still_a_runs(album, tmp_path):
    run(album, tmp_path, "dog", "tree")
    rewritten(album, "dog", "Anna")
    photo = read(album, tmp_path)
    assert (photo.keywords.flat, photo.left, photo.removed) == (("Anna",), ("dog",), ("tree",))
