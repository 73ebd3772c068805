"""Runs over albums: what is done, what is not done twice, and that nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from autotag.albums import WriterChoice, undo_album
from autotag.albums.rules import AlbumRules
from autotag.albums.state.ledger import locked, state_folder
from autotag.errors import ConfigError, ImageReadError, UnknownNameError
from autotag.files.system_calls import SystemCalls
from autotag.metadata import plan_tags, read_existing, read_packet
from autotag.testing import make_image

ALL = ("xmp", WriterChoice("txt", options={"naming": "full"}), "jsonl", "csv", "rename")
EMBED = WriterChoice("xmp", options={"embed": True})


class Log:
    """Keeps what a run reports."""

    def __init__(self) -> None:
        self.counts: list[tuple[int, int]] = []
        self.reports: list = []

    def started(self, due: int, unchanged: int) -> None:
        self.counts.append((due, unchanged))

    def done(self, report) -> None:
        self.reports.append(report)


def keywords(sidecar: Path) -> set[str]:
    return set(read_packet(sidecar.read_bytes()).keywords.flat)


def test_every_photograph_gets_its_tags_in_a_sidecar(tagged, photos):
    summary = tagged(photos)
    assert (summary.photos, summary.written, summary.failed) == (7, 7, 0)
    assert keywords(photos / "more" / "f.jpg.xmp") >= {"picture"}
    assert keywords(photos / "b.jpg.xmp") == {"blue", "picture"}


@pytest.mark.parametrize(
    "writers", [("xmp",), (EMBED,), ALL, ("jsonl",)], ids=["xmp", "embed", "all", "jsonl"]
)
def test_a_second_run_changes_no_byte_and_asks_no_model(tagged, photos, writers, tree):
    tagged(photos, *writers)
    before, log = tree(photos), Log()
    times = {path: path.stat().st_mtime_ns for path in photos.rglob("*")}
    summary = tagged(photos, *writers, listener=log)
    assert tree(photos) == before
    assert {path: path.stat().st_mtime_ns for path in photos.rglob("*")} == times
    assert log.counts == [(0, 7)]
    assert (summary.unchanged, summary.outputs) == (7, [])


@pytest.mark.parametrize("writers", [("xmp",), (EMBED,), ALL], ids=["xmp", "embed", "all"])
def test_even_when_everything_is_done_again_no_byte_changes(tagged, photos, writers, tree):
    tagged(photos, *writers)
    before = tree(photos)
    tagged(photos, *writers, redo=True)
    assert tree(photos) == before


@pytest.mark.parametrize("writers", [("xmp",), (EMBED,), ALL], ids=["xmp", "embed", "all"])
def test_undo_restores_every_byte_and_name(tagged, photos, writers, tree):
    before = tree(photos)
    tagged(photos, *writers)
    assert tree(photos) != before
    summary = undo_album(photos)
    assert tree(photos) == before
    assert summary.errors == []


def test_undo_takes_back_several_runs_with_different_writers(tagged, photos, tree):
    before = tree(photos)
    tagged(photos, "xmp")
    tagged(photos, EMBED, "jsonl")
    tagged(photos, WriterChoice("txt", options={"mode": "append", "naming": "full"}), "rename")
    undo_album(photos)
    assert tree(photos) == before


def test_after_undo_a_run_does_everything_again(tagged, photos, tree):
    tagged(photos, *ALL)
    once = tree(photos)
    undo_album(photos)
    tagged(photos, *ALL)
    assert tree(photos).keys() == once.keys()


def test_results_do_not_depend_on_which_writers_are_on(tagged, photos, tmp_path, tree):
    tables = []
    for number, others in enumerate([(), ("xmp",), (EMBED,), ("csv", "xmp")]):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(photos, copy)
        tagged(copy, "jsonl", *others)
        tables.append((copy / "metadata.jsonl").read_bytes())
    assert len(set(tables)) == 1


def test_only_what_changed_is_done_again(tagged, photos):
    tagged(photos)
    make_image("green").save(photos / "b.jpg")
    log = Log()
    tagged(photos, listener=log)
    assert log.counts == [(1, 6)]
    assert [report.file for report in log.reports] == ["b.jpg"]
    assert keywords(photos / "b.jpg.xmp") == {"green", "picture"}


def test_a_changed_time_and_changed_metadata_alone_are_no_change(tagged, photos):
    tagged(photos)
    from autotag.metadata import MachineTag, apply_change

    sidecar = photos / "d.jpg.xmp"
    content, facts = sidecar.read_bytes(), sidecar.stat()
    apply_change(plan_tags(photos / "d.jpg", [MachineTag("mine", 1.0)], embed=True), touch=True)
    sidecar.write_bytes(content)
    os.utime(sidecar, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    os.utime(photos / "b.jpg")
    log = Log()
    tagged(photos, listener=log)
    assert log.counts == [(0, 7)]


def test_a_picture_turned_by_its_camera_is_a_changed_one(tagged, photos):
    tagged(photos)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(photos / "b.jpg").save(photos / "b.jpg", quality="keep", exif=turned)
    log = Log()
    tagged(photos, listener=log)
    assert [report.file for report in log.reports] == ["b.jpg"]


def test_changed_settings_are_done_again_and_other_ways_of_working_are_not(tagged, photos):
    tagged(photos)
    log = Log()
    tagged(photos, options={"top_k": 1}, listener=log)
    assert log.counts == [(7, 0)]
    assert keywords(photos / "b.jpg.xmp") == {"blue"}


def test_other_writers_and_rules_need_no_model(tagged, photos, tree):
    tagged(photos)
    summary = tagged(
        photos, WriterChoice("txt", options={"naming": "full"}), options={"top_k": 3, "refuse": "\0"}
    )
    assert (summary.written, summary.failed) == (7, 0)
    shutil.rmtree(photos / "more")
    for path in photos.glob("*.png"):
        path.chmod(0o644)
    assert (photos / "b.jpg.txt").read_text() == "blue, picture\n"


def test_a_bad_file_costs_one_error_and_is_tried_again(tagged, photos):
    (photos / "bad.jpg").write_text("no picture")
    for _ in range(2):
        summary = tagged(photos, "xmp", "jsonl")
        assert [file for file, _ in summary.errors] == ["bad.jpg"]
        assert summary.failed == 1
    rows = [json.loads(line) for line in (photos / "metadata.jsonl").read_text().splitlines()]
    assert [row["file_name"] for row in rows] == sorted(
        ["a red.png", "b.jpg", "c.webp", "d.jpg", "e.jpg", "e.png", "more/f.jpg"]
    )


def test_stopping_writes_what_is_in_hand_and_the_next_run_goes_on(tagged, photos):
    log = Log()
    summary = tagged(photos, "xmp", options={"pause": 0.0}, stop=lambda: True, listener=log)
    assert summary.stopped == "interrupted"
    done = len(log.reports)
    assert 0 < done < 7
    assert len(list(photos.rglob("*.xmp"))) == done
    again = tagged(photos, "xmp")
    assert (again.unchanged, again.written) == (done, 7 - done)


def test_a_dry_run_says_what_it_would_do_and_does_nothing(tagged, photos, state, tree):
    before, log = tree(photos), Log()
    summary = tagged(photos, *ALL, dry_run=True, listener=log)
    assert tree(photos) == before
    assert not state.exists()
    assert summary.written == 7
    adds = 'adds to b.jpg.xmp: blue, picture; description "a blue picture"'
    assert any(adds in report.changes for report in log.reports)


def test_a_file_of_results_that_is_not_ours_is_not_replaced(tagged, photos):
    (photos / "metadata.jsonl").write_text("mine\n")
    with pytest.raises(ConfigError, match="autotag did not write this version"):
        tagged(photos, "jsonl")
    assert (photos / "metadata.jsonl").read_text() == "mine\n"


def test_two_runs_at_once_are_refused_also_in_folders_inside_and_around(tagged, photos):
    with locked(photos, state_folder(photos)):
        for folder in (photos, photos / "more", photos.parent):
            with pytest.raises(ConfigError, match="another run"):
                tagged(folder)
    assert tagged(photos).failed == 0


def test_albums_side_by_side_may_run_at_once(tagged, photos):
    with locked(photos / "more", state_folder(photos / "more")):
        other = photos.parent / "other"
        other.mkdir()
        make_image().save(other / "x.png")
        assert tagged(other).written == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such folders")
def test_a_read_only_folder_is_reported_and_left_alone(tagged, photos, monkeypatch, tree):
    before = tree(photos)
    monkeypatch.setattr(os, "access", lambda path, mode: "more" not in str(path))  # root may write anywhere
    summary = tagged(photos, "xmp")
    assert [file for file, _ in summary.errors] == ["more/f.jpg"]
    assert "read-only" in summary.errors[0][1]
    assert {name: digest for name, digest in tree(photos).items() if not name.endswith(".xmp")} == before


def test_a_full_disk_stops_the_run_and_harms_no_file(tagged, photos, monkeypatch, tree):
    before = tree(photos)

    def full(self, descriptor, content):
        if b"xmpmeta" in bytes(content):
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(descriptor, content)

    monkeypatch.setattr(SystemCalls, "write", full)
    summary = tagged(photos, EMBED)
    assert summary.stopped == "the disk is full"
    assert tree(photos) == before
    monkeypatch.undo()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder],  # noqa: S607
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)  # noqa: S607


def test_a_disk_that_fills_up_loses_nothing_and_undo_gets_by_with_it(tagged, small_disk, tree):
    for number in range(40):
        make_image("red", (8 + number, 8)).save(small_disk / f"{number}.png")
    before = tree(small_disk)
    summary = tagged(small_disk, "xmp", WriterChoice("txt"))
    assert summary.stopped == "the disk is full"
    assert before.items() <= tree(small_disk).items()
    undo_album(small_disk)
    assert tree(small_disk) == before


def test_a_photograph_that_changes_while_it_is_looked_at_is_left_for_the_next_run(tagged, photos):
    class Edits(Log):
        def started(self, due: int, unchanged: int) -> None:
            self.edited = False

    log = Edits()
    from colour_stages import NameColours

    looked = NameColours.__call__

    def meddling(self, samples):
        looked(self, samples)
        make_image("green").save(photos / "d.jpg")

    NameColours.__call__ = meddling  # type: ignore[method-assign]
    try:
        summary = tagged(photos, listener=log)
    finally:
        NameColours.__call__ = looked  # type: ignore[method-assign]
    assert ("d.jpg", "it changed during the run; run again") in summary.errors
    assert not (photos / "d.jpg.xmp").exists()


def test_pictures_of_one_stem_keep_their_own_files(tagged, photos):
    summary = tagged(photos, "xmp", WriterChoice("txt"))
    assert keywords(photos / "e.jpg.xmp") == {"blue", "picture"}
    assert keywords(photos / "e.png.xmp") == {"green", "picture"}
    assert sorted(file for file, _ in summary.errors) == ["e.jpg", "e.png"]
    assert not (photos / "e.txt").exists()


def test_links_are_followed_and_stay_links(tagged, photos, tmp_path, tree):
    make_image("red").save(tmp_path / "elsewhere.jpg")
    (photos / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    os.link(photos / "d.jpg", photos / "hard.jpg")
    (photos / "inside.jpg").symlink_to("b.jpg")
    before, outside = tree(photos), (tmp_path / "elsewhere.jpg").read_bytes()
    log = Log()
    tagged(photos, EMBED, listener=log)
    assert (photos / "link.jpg").is_symlink()
    assert (photos / "inside.jpg").is_symlink()
    assert "picture" in read_existing((photos / "b.jpg").read_bytes()).keywords.flat
    assert (tmp_path / "elsewhere.jpg").read_bytes() == outside
    assert "picture" in keywords(photos / "link.jpg.xmp")
    assert any("outside the album" in warning for report in log.reports for warning in report.warnings)
    assert any("hard links" in warning for report in log.reports for warning in report.warnings)
    undo_album(photos)
    assert tree(photos) == before


def test_renaming_breaks_no_link_in_the_album(tagged, photos):
    (photos / "more" / "link.jpg").symlink_to("../d.jpg")
    summary = tagged(photos, "rename")
    assert [file for file, _ in summary.errors] == ["d.jpg"]
    [link] = [path for path in (photos / "more").iterdir() if path.is_symlink()]
    assert link.read_bytes() == (photos / "d.jpg").read_bytes()


def test_a_name_as_long_as_can_be_is_embedded(tagged, photos, tree):
    name = "a" * 251 + ".jpg"
    (photos / "d.jpg").rename(photos / name)
    before = tree(photos)
    assert tagged(photos, EMBED).failed == 0
    assert "picture" in read_existing((photos / name).read_bytes()).keywords.flat
    undo_album(photos)
    assert tree(photos) == before


def test_files_that_somebody_edited_since_are_not_overwritten_by_undo(tagged, photos):
    tagged(photos, "xmp", WriterChoice("txt", options={"naming": "full"}))
    (photos / "d.jpg.txt").write_text("edited")
    summary = undo_album(photos)
    assert (photos / "d.jpg.txt").read_text() == "edited"
    assert [Path(file).name for file, _ in summary.errors] == ["d.jpg.txt"]


def test_rules_hold_for_every_writer(tagged, photos):
    rules = AlbumRules(deny=("picture",), replacements={"blue": "azure"}, hierarchy=("colour|azure",))
    tagged(photos, "xmp", "jsonl", rules=rules)
    packet = read_packet((photos / "b.jpg.xmp").read_bytes())
    assert "azure" in packet.keywords.flat
    assert ("colour", "azure") in packet.keywords.paths
    rows = {
        row["file_name"]: row for row in map(json.loads, (photos / "metadata.jsonl").read_text().splitlines())
    }
    assert [tag["text"] for tag in rows["b.jpg"]["tags"]] == ["azure"]


def test_my_own_spelling_is_used_in_the_whole_album(tagged, photos):
    from autotag.metadata import MachineTag, apply_change

    apply_change(plan_tags(photos / "d.jpg", [MachineTag("machine", 1.0)], embed=True))
    shutil.copy(photos / "d.jpg", photos / "z.jpg")
    sidecar = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>'
        "<rdf:li>BLUES</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    (photos / "c.webp.xmp").write_text(sidecar)
    tagged(photos, rules=AlbumRules(prefer_my_keywords=True))
    assert "BLUES" in keywords(photos / "b.jpg.xmp")
    assert "blue" not in keywords(photos / "b.jpg.xmp")


def test_a_tag_goes_to_its_place_in_my_tree(tagged, photos):
    sidecar = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:lr="http://ns.adobe.com/lightroom/1.0/"><lr:hierarchicalSubject>'
        "<rdf:Bag><rdf:li>Colours</rdf:li><rdf:li>Colours|Blue</rdf:li></rdf:Bag></lr:hierarchicalSubject>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    (photos / "c.webp.xmp").write_text(sidecar)
    tagged(photos, rules=AlbumRules(prefer_my_keywords=True))
    assert "<rdf:li>Colours|Blue</rdf:li>" in (photos / "b.jpg.xmp").read_text(encoding="utf-8")
    assert tagged(photos, rules=AlbumRules(prefer_my_keywords=True)).written == 0


def test_an_unknown_writer_and_option_are_refused_with_the_near_miss(tagged, photos):
    with pytest.raises(UnknownNameError, match="Did you mean 'xmp'"):
        tagged(photos, "xnp")
    with pytest.raises(UnknownNameError, match="Did you mean 'mode'"):
        tagged(photos, WriterChoice("txt", options={"moode": "skip"}))
    with pytest.raises(ConfigError, match="twice"):
        tagged(photos, "xmp", "xmp")


def test_state_is_in_the_album_if_it_has_a_folder_for_it(tagged, photos, state):
    (photos / ".autotag").mkdir()
    tagged(photos)
    assert (photos / ".autotag" / "ledger.sqlite").exists()
    assert not state.exists()


def test_csv_in_the_layout_of_clip_interrogator(tagged, photos):
    tagged(photos, WriterChoice("csv", options={"layout": "image_prompt"}))
    lines = (photos / "desc.csv").read_text().splitlines()
    assert lines[:2] == ["image,prompt", 'a red.png,"red, picture"']


def test_a_picture_of_a_list_that_is_gone_costs_one_error(tagged, photos):
    summary = tagged([photos / "b.jpg", photos / "gone.jpg", photos / "d.jpg"])
    assert (summary.written, [file for file, _ in summary.errors]) == (2, ["gone.jpg"])
    with pytest.raises(ImageReadError, match="no such file"):
        tagged([photos / "gone.jpg", photos / "gone too.jpg"])


def test_what_no_writer_would_write_is_not_looked_for(tagged, photos):
    for name in ("d.jpg", "c.webp"):
        (photos / f"{name}.txt").write_text("mine")
    log, txt = Log(), WriterChoice("txt", options={"naming": "full"})
    summary = tagged(photos, txt, listener=log)
    assert log.counts == [(5, 0)]
    assert {report.file for report in log.reports}.isdisjoint({"d.jpg", "c.webp"})
    assert (summary.photos, summary.written, summary.nothing_to_do) == (7, 5, 2)
    log = Log()
    tagged(photos, txt, listener=log, redo=True)
    assert log.counts == [(0, 0)]
    tagged(photos, WriterChoice("txt", options={"naming": "full", "mode": "append"}), "csv", listener=log)
    assert log.counts[-1] == (7, 0)


def test_options_are_seen_beside_a_stage_that_is_made_in_a_script(photos, tmp_path):
    import colour_stages

    import autotag
    from autotag.albums import tag_folder

    @autotag.stage(requires={"tags"}, provides={"tags"})
    def nothing_more(sample):
        pass

    def run(top_k):
        stages = [colour_stages.NameColours(top_k=top_k), nothing_more]
        with autotag.Pipeline(stages, encoder=None) as pipeline:
            return tag_folder(photos, pipeline=pipeline)

    assert (run(3).written, run(3).unchanged, run(1).written) == (7, 7, 7)
    assert keywords(photos / "b.jpg.xmp") == {"blue"}


def test_what_cannot_be_seen_of_a_pipeline_is_looked_at_again_and_a_line_says_why(photos):
    import autotag
    from autotag.albums import tag_folder
    from autotag.stages import CaptionImages
    from autotag.testing import FakeCaptioner

    for _ in range(2):
        with autotag.Pipeline([CaptionImages(FakeCaptioner())], encoder=None) as pipeline:
            summary = tag_folder(photos, pipeline=pipeline)
        assert summary.unchanged == 0
        [note] = summary.notes
        assert "FakeCaptioner was given as an object that has no id" in note


@pytest.mark.parametrize("call", ["claim", "ledger", "journal"])
def test_a_state_that_cannot_be_written_is_a_documented_error_and_changes_nothing(
    tagged, photos, tree, monkeypatch, call
):
    from autotag.albums.state.ledger import Ledger

    before, keep = tree(photos), Ledger.keep

    def keep_read_only(self, *arguments):
        self._rows("PRAGMA query_only = ON", ())
        keep(self, *arguments)

    if call == "ledger":
        monkeypatch.setattr(Ledger, "keep", keep_read_only)
    elif call == "journal":
        monkeypatch.setattr("autotag.albums.state.journal.SYSTEM.fsync", lambda _: fail_with(errno.ENOSPC))
    else:
        monkeypatch.setattr("autotag.files.system_calls.SYSTEM.write", lambda *_: fail_with(errno.EROFS))
    with pytest.raises(OSError, match="readonly database|No space|Read-only"):
        tagged(photos)
    monkeypatch.undo()
    monkeypatch.setenv("AUTOTAG_STATE", str(photos.parent / "state"))
    if call == "ledger":
        undo_album(photos)  # what was written before the ledger failed is in the journal
    assert tree(photos) == before
    assert tagged(photos).failed == 0


def fail_with(number):
    raise OSError(number, os.strerror(number))


def test_a_photograph_replaced_by_one_of_the_same_size_is_looked_at_again(photos, tagged):
    photo = photos / "z.bmp"  # whose length does not depend on its colour
    make_image("blue").save(photo)
    tagged(photos, "xmp")
    before = photo.stat()
    make_image("red").save(photo)
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert photo.stat().st_size == before.st_size
    summary = tagged(photos, "xmp")
    assert (summary.written, summary.unchanged) == (1, 7)
    assert keywords(photos / "z.bmp.xmp") == {"red", "picture"}


def test_a_sidecar_that_was_edited_alone_is_planned_afresh_without_the_models(tagged, photos, monkeypatch):
    tagged(photos)
    assert tagged(photos).unchanged == 7
    monkeypatch.setattr("colour_stages.NameColours.__call__", lambda *_: pytest.fail("a model was asked"))
    edited, deleted = photos / "b.jpg.xmp", photos / "d.jpg.xmp"
    more = re.sub(rb"<dc:subject>\s*<rdf:Bag>", rb"\g<0><rdf:li>Oma</rdf:li>", edited.read_bytes())
    edited.write_bytes(more)
    written = keywords(deleted)
    deleted.unlink()

    assert tagged(photos).unchanged == 5

    assert "Oma" in keywords(edited)
    assert keywords(deleted) == written
    assert tagged(photos).unchanged == 7
    texts = WriterChoice("txt", options={"naming": "full"})
    assert tagged(photos, texts).unchanged == 0, "another writer looks at every photograph"
    edited.write_bytes(edited.read_bytes() + b"\n")
    assert tagged(photos, texts).unchanged == 7, "a sidecar is nothing to a writer of texts"


@pytest.mark.skipif(os.name == "nt", reason="Windows has other limits")
def test_what_keeps_a_sidecar_from_being_written_is_said_with_the_way_out(tagged, photos):
    long = photos / f"{'n' * 251}.jpg"
    (photos / "b.jpg").rename(long)
    (photos / "d.jpg.xmp").touch()
    log = Log()
    summary = tagged(photos, listener=log)
    assert (summary.written, summary.failed) == (5, 2)
    told = " ".join(report.error or "" for report in log.reports)
    assert "File name too long; embed the tags (--embed), or give the photograph a shorter name" in told
    assert "d.jpg.xmp: this sidecar is damaged; repair or delete it: it is empty" in told
    assert tagged(photos, EMBED).failed == 1
