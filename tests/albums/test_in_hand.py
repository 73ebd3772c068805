"""Photographs are read once, and what was read is used only as long as it is true."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from autotag.albums.in_hand import Hand, PhotoInHand
from autotag.albums.sources import Photo
from autotag.errors import ImageReadError
from autotag.metadata import MachineTag, apply_change, plan_tags
from autotag.metadata.pixel_digest import pixel_digest
from autotag.testing import make_image

COUNTING = """
import json, os, sys
from collections import Counter

reads = Counter()

def count(event, arguments):
    if event == "open" and arguments[1] == "r" and isinstance(arguments[0], (str, os.PathLike)):
        reads[os.path.realpath(arguments[0])] += 1

sys.addaudithook(count)
from autotag.albums import WriterChoice, tag_folder
from autotag.pipeline.presets import from_config

found = []
for folder, writers, options in json.load(sys.stdin):
    chosen = [WriterChoice(name, options=given) for name, given in writers.items()]
    with from_config({"stages": [{"stage": "colour_stages:NameColours"}]}) as pipeline:
        for _ in range(2):
            reads.clear()
            tag_folder(folder, pipeline=pipeline, writers=chosen, redo=True, **options)
            if "plan_file" in options:
                os.remove(options["plan_file"])
            found.append({os.path.relpath(path, folder): count for path, count in reads.items()})
print(json.dumps(found))
"""
WAYS = {
    "xmp": ({"xmp": {}}, {}),
    "embed": ({"xmp": {"embed": True}}, {}),
    "several": ({"xmp": {}, "txt": {"naming": "full"}, "jsonl": {}, "csv": {}}, {}),
    "txt": ({"txt": {"naming": "full", "mode": "overwrite"}}, {}),
    "plan": ({"xmp": {}}, {"plan_file": "plan.jsonl"}),
    "dry": ({"xmp": {"embed": True}}, {"dry_run": True}),
}
"""What is written, and how."""


@pytest.mark.slow
def test_each_photograph_is_read_once_in_a_first_run_and_when_all_is_done_again(photos, tmp_path):
    names = {path.relative_to(photos).as_posix() for path in photos.rglob("*") if is_picture(path.name)}
    jobs = [
        (str(shutil.copytree(photos, tmp_path / way)), writers, options)
        for way, (writers, options) in WAYS.items()
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", COUNTING], input=json.dumps(jobs), capture_output=True, text=True,
        env=environment, cwd=tmp_path, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for run in json.loads(done.stdout):
        assert {name: count for name, count in run.items() if is_picture(name)} == dict.fromkeys(names, 1)


def is_picture(name):
    return name.endswith((".jpg", ".png", ".webp"))


def in_hand(path, **hand):
    held = PhotoInHand(Photo(path.name, path, path), Hand(**{"metadata": True, "contents": False, **hand}))
    held.read()
    return held


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a.jpg"
    make_image("red").save(path)
    return path


def test_what_is_read_is_the_file_its_digest_and_its_metadata(photo):
    apply_change(plan_tags(photo, [MachineTag("tower", 0.5)], embed=True))
    held = in_hand(photo)
    assert held.pixels == pixel_digest(photo.read_bytes())
    assert [tag.text for tag in held.facts.existing.machine_tags] == ["tower"]
    assert held.facts.content is None


def test_a_plan_from_what_was_read_is_the_plan_from_the_file(photo):
    tags, date = [MachineTag("tower", 0.5)], "2026-01-01T00:00:00Z"
    for embed in (False, True):
        facts = in_hand(photo, contents=embed).facts
        assert plan_tags(photo, tags, embed=embed, date=date, read=facts) == plan_tags(
            photo, tags, embed=embed, date=date
        )


def test_a_keyword_written_meanwhile_is_not_lost_even_if_size_and_times_are_as_before(photo):
    apply_change(plan_tags(photo, [MachineTag("tower", 0.5)], embed=True))
    facts, times = in_hand(photo, contents=True).facts, photo.stat()
    with photo.open("r+b") as file:
        content = file.read().replace(b"tower", b"power")
        file.seek(0)
        file.write(content)
    os.utime(photo, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert plan_tags(photo, [], read=facts).keywords_before == ("power",)


def test_what_was_read_of_another_file_is_not_used(photo, tmp_path):
    other = tmp_path / "b.jpg"
    make_image("blue").save(other)
    apply_change(plan_tags(other, [MachineTag("tower", 0.5)], embed=True))
    assert plan_tags(photo, [], read=in_hand(other).facts).keywords_before == ()


def test_bytes_are_kept_for_embedding_up_to_the_limit_and_free_it_again(photo):
    size = photo.stat().st_size
    hand = Hand(metadata=True, contents=True, most=size)
    first, second = (PhotoInHand(Photo(photo.name, photo, photo), hand) for _ in range(2))
    first.read()
    second.read()
    assert (first.facts.content, second.facts.content) == (photo.read_bytes(), None)
    assert plan_tags(photo, [MachineTag("tower", 0.5)], embed=True, read=second.facts).kind == "embedded"
    first.let_go()
    first.let_go()
    second.read()
    assert second.facts.content is not None


def test_a_raw_file_is_not_kept(photo):
    raw = photo.rename(photo.with_suffix(".nef"))
    assert in_hand(raw, contents=True).facts.content is None


def test_nothing_is_read_of_metadata_without_a_writer_that_needs_it(photo):
    held = in_hand(photo, metadata=False)
    assert (held.facts, bool(held.pixels)) == (None, True)


def test_a_photograph_that_is_gone_says_so_like_any_image(photo):
    held = PhotoInHand(Photo(photo.name, photo, photo), Hand(metadata=True, contents=False))
    photo.unlink()
    with pytest.raises(ImageReadError, match="no such file"):
        held.read()


def test_moments_differ_by_the_time_of_any_change(photo):
    facts = in_hand(photo).facts
    assert facts.is_of(photo)
    assert not replace(facts, moment=replace(facts.moment, changed_ns=0)).is_of(photo)
