"""What an album's rules do with photographs that moderation flagged: skip, mark, or route."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from autotag.albums import AlbumSummary, apply_plan, tag_folder
from autotag.albums.reports import PhotoReport
from autotag.albums.rules import AlbumRules
from autotag.errors import ConfigError, UnknownNameError
from autotag.metadata import read_packet
from autotag.pipeline.presets import from_config
from autotag.records import Result

RED = ("a red.png", "d.jpg")


class Reports:
    """Keeps what is reported of each photograph."""

    def __init__(self) -> None:
        self.by_file: dict[str, PhotoReport] = {}

    def started(self, due: int, unchanged: int) -> None:
        """Not of interest."""

    def done(self, report: PhotoReport) -> None:
        self.by_file[report.file] = report


@pytest.fixture
def moderated(photos: Path) -> Callable[..., tuple[AlbumSummary, dict[str, PhotoReport]]]:
    """Tags the photographs with a pipeline that flags red ones."""

    def moderated(
        *writers: Any, flag: bool = True, **more: Any
    ) -> tuple[AlbumSummary, dict[str, PhotoReport]]:
        stages = [{"stage": "colour_stages:NameColours"}]
        stages += [{"stage": "colour_stages:FlagRed"}] if flag else []
        reports = Reports()
        with from_config({"stages": stages}) as pipeline:
            summary = tag_folder(
                photos, pipeline=pipeline, writers=writers or ("xmp",), listener=reports, **more
            )
        return summary, reports.by_file

    return moderated


def sidecars(photos: Path) -> set[str]:
    return {path.relative_to(photos).as_posix().removesuffix(".xmp") for path in photos.rglob("*.xmp")}


def test_without_rules_nothing_of_moderation_is_written(moderated: Any, photos: Path) -> None:
    moderated()
    assert set(RED) <= sidecars(photos)
    text = (photos / "a red.png.xmp").read_text(encoding="utf-8")
    assert "explicit" not in text
    assert "eyes" not in text


def test_flagged_photographs_are_skipped_and_the_user_is_told(moderated: Any, photos: Path) -> None:
    summary, reports = moderated(rules=AlbumRules(flagged_write=()))
    assert sidecars(photos) == set(reports) - set(RED)
    for name in RED:
        assert reports[name].status == "nothing to do"
        assert reports[name].warnings == ("flagged (explicit 0.90); left out by the rules: xmp",)
        assert reports[name].to_dict()["flagged"] is True
    again, _ = moderated(rules=AlbumRules(flagged_write=()))
    assert again.unchanged == summary.photos


def test_flagged_photographs_are_marked_before_other_tags(moderated: Any, photos: Path) -> None:
    moderated(rules=AlbumRules(flagged_tag="to be looked at", parent="AI"))
    marked = read_packet((photos / "a red.png.xmp").read_bytes())
    assert "to be looked at" in marked.keywords.flat
    assert ("AI", "to be looked at") not in marked.keywords.paths
    assert "to be looked at" not in read_packet((photos / "b.jpg.xmp").read_bytes()).keywords.flat


def test_flagged_photographs_go_to_some_writers_only(moderated: Any, photos: Path, tmp_path: Path) -> None:
    from autotag.albums import WriterChoice

    table = WriterChoice("csv", tmp_path / "flagged.csv", {})
    moderated("xmp", table, rules=AlbumRules(flagged_write=("csv",)))
    assert not set(RED) & sidecars(photos)
    with (tmp_path / "flagged.csv").open(encoding="utf-8") as lines:
        rows = {Path(row["image"]).name: row["moderation"] for row in csv.DictReader(lines)}
    assert {name: rows[name] for name in RED} == dict.fromkeys(RED, "explicit 0.9000!")
    table = WriterChoice("csv", tmp_path / "others.csv", {})
    moderated("xmp", table, rules=AlbumRules(flagged_write=("xmp",)), redo=True)
    assert set(RED) <= sidecars(photos)
    with (tmp_path / "others.csv").open(encoding="utf-8") as lines:
        assert not set(RED) & {Path(row["image"]).name for row in csv.DictReader(lines)}


class Index:
    """Keeps the names of the photographs that an index would hold."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.kept: set[str] = set()

    def found(self, path: Path, _result: Result) -> None:
        self.names.add(path.name)

    def left_out(self, path: Path) -> None:
        self.names.discard(path.name)

    def finish(self, earlier: Iterable[tuple[Path, Result]], _photos: Iterable[Path], _root: Path) -> None:
        self.kept = {path.name for path, _ in earlier}


@pytest.mark.parametrize(("writes", "indexed"), [((), False), (("index",), True), (None, True)])
def test_an_index_is_a_writer_to_the_rules(moderated: Any, writes: Any, indexed: bool) -> None:
    index = Index()
    moderated(rules=AlbumRules(flagged_tag="look", flagged_write=writes), indexer=index)
    assert index.names == index.kept
    assert (set(RED) <= index.kept) == indexed
    assert "b.jpg" in index.kept


def test_a_photograph_that_was_indexed_before_it_was_left_out_leaves_the_index(moderated: Any) -> None:
    index = Index()
    moderated(indexer=index)
    assert set(RED) <= index.names
    moderated(rules=AlbumRules(flagged_write=("xmp",)), indexer=index)
    assert not set(RED) & index.names
    assert "b.jpg" in index.names


def test_a_plan_follows_the_rules(moderated: Any, photos: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.jsonl"
    moderated(rules=AlbumRules(flagged_write=()), plan_file=plan)
    assert not any(f'"{name}"' in plan.read_text(encoding="utf-8") for name in RED)
    apply_plan(plan)
    assert not set(RED) & sidecars(photos)
    assert "b.jpg" in sidecars(photos)


def test_rules_without_moderation_and_unknown_writers_are_refused(moderated: Any) -> None:
    with pytest.raises(ConfigError, match="need moderation; add --moderate"):
        moderated(flag=False, rules=AlbumRules(flagged_write=()))
    with pytest.raises(UnknownNameError, match="flagged_write: 'xmpp'. Did you mean 'xmp'"):
        moderated(rules=AlbumRules(flagged_write=("xmpp",)))
    with pytest.raises(ConfigError, match="flagged_tag is empty"):
        AlbumRules(flagged_tag=" ")
    with pytest.raises(ConfigError, match="flagged_write"):
        AlbumRules(flagged_write="xmp")  # type: ignore[arg-type]
