"""Shards: every image once, whatever machines see, whenever a run dies."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autotag.distributed import shards
from autotag.distributed.shards import RUN_FILE, Shard, ShardWriter, read_shards
from autotag.errors import ConfigError
from autotag.records import Result, Tag
from autotag.writers.arrow_rows import schema
from autotag.writers.parquet_writer import write_parquet

CONFIG = {"stages": [{"stage": "merge_tags"}], "encoder": "clip-mini"}
ONE = Shard(1, 1)
IMAGES = [f"photos/{number:03}.jpg" for number in range(20)]


def result_of(source: str, *, error: str | None = None) -> Result:
    return Result(source, (4, 3), tags=(Tag("dog", 0.5, "x", {"x": 0.5}),), error=error)


def writer_of(folder: Path, shard: Shard = ONE, **options: object) -> ShardWriter:
    return ShardWriter(folder, shard, **{"config": CONFIG, "paths": ["photos"], "block_size": 4, **options})


def tag(folder: Path, images: list[str] = IMAGES, shard: Shard = ONE, **options: object) -> list[str]:
    """One run to its end; the images that it worked on."""
    writer = writer_of(folder, shard, **options)
    missing = writer.missing(images)
    for image in missing:
        writer.write(result_of(image))
    writer.close()
    return missing


def sources(folder: Path) -> list[str]:
    return sorted(result.source for result in read_shards(folder))


def blocks(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_shards_are_written_as_numbers_from_one():
    assert Shard.parse("3/10") == Shard(3, 10)
    for text in ("0/10", "11/10", "0/0", "3", "3/", "-1/2", "a/b", "1/2/3"):
        with pytest.raises(ConfigError, match="shard"):
            Shard.parse(text)


def test_every_image_is_in_exactly_one_shard_and_shards_are_about_even():
    images = [f"photos/{number}.jpg" for number in range(10_000)] + ["caf\udce9.jpg"]
    held = [[image for image in images if Shard(number, 7).holds(image)] for number in range(1, 8)]
    assert sorted(image for part in held for image in part) == sorted(images)
    assert all(abs(len(part) - 10_001 / 7) < 150 for part in held)


def test_the_rule_is_the_same_in_every_process_and_for_ever():
    assert [number for number in range(8) if Shard(1, 3).holds(f"{number}.jpg")] == [0, 6]


def test_results_come_back_each_once_over_all_shards(tmp_path):
    for number in (1, 2, 3):
        tag(tmp_path, shard=Shard(number, 3))
    assert list(read_shards(tmp_path)) != []
    assert {result.source: result for result in read_shards(tmp_path)} == {
        image: result_of(image) for image in IMAGES
    }
    assert sources(tmp_path) == IMAGES


def test_a_machine_that_sees_another_list_changes_nothing_for_the_other_images(tmp_path):
    tag(tmp_path, ["photos/000a.jpg", *IMAGES], Shard(1, 2))
    tag(tmp_path, IMAGES[5:], Shard(2, 2))
    tag(tmp_path, IMAGES, Shard(2, 2))
    assert [image for image in sources(tmp_path) if image in IMAGES] == IMAGES


def test_a_second_run_has_nothing_to_do_and_touches_nothing(tmp_path):
    tag(tmp_path)
    before = blocks(tmp_path)
    assert tag(tmp_path) == []
    assert blocks(tmp_path) == before
    assert len(before) == 5


def test_a_list_that_grew_is_completed_and_rows_of_images_that_went_stay(tmp_path):
    tag(tmp_path)
    before = blocks(tmp_path)
    assert tag(tmp_path, ["photos/000a.jpg", *IMAGES[3:]]) == ["photos/000a.jpg"]
    assert before.items() <= blocks(tmp_path).items()
    assert sources(tmp_path) == sorted([*IMAGES, "photos/000a.jpg"])


def test_images_are_done_once_however_often_they_are_listed(tmp_path):
    assert tag(tmp_path, ["b.jpg", "a.jpg", "b.jpg"]) == ["a.jpg", "b.jpg"]


def test_two_images_of_one_name_are_refused(tmp_path):
    images = ["data:image/png;base64,AAAA", "data:image/png;base64,BBBB"]
    with pytest.raises(ConfigError, match="two images are called"):
        writer_of(tmp_path).missing(images)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"config": {**CONFIG, "encoder": "clip-vit-b-32"}},
            "encoder was 'clip-mini' and is 'clip-vit-b-32'",
        ),
        ({"config": {"stages": []}}, "stages was"),
        ({"paths": ["./photos"]}, "paths"),
        ({"shard": Shard(1, 2)}, "other shards: 1, not 2"),
    ],
)
def test_results_of_another_run_are_refused_and_left_alone(tmp_path, change, words):
    tag(tmp_path)
    before = blocks(tmp_path)
    with pytest.raises(ConfigError, match="another folder") as caught:
        writer_of(tmp_path, **{"shard": ONE, **change})
    assert words in str(caught.value)
    assert blocks(tmp_path) == before


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_image(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(ConfigError, match=f"nothing can be written in '{re.escape(str(tmp_path))}'"):
        writer_of(tmp_path / "new" / "shards")


def test_a_first_result_that_cannot_be_written_is_kept_for_the_next_try(tmp_path):
    folder = tmp_path / "shards"
    writer = writer_of(folder)
    folder.touch()
    with pytest.raises(ConfigError, match="cannot use"):
        writer.write(result_of("a.jpg"))
    folder.unlink()
    writer.close()
    assert sources(folder) == ["a.jpg"]


def test_a_run_that_another_came_before_writes_nothing_into_its_folder(tmp_path):
    writer = writer_of(tmp_path, config={})
    tag(tmp_path)
    before = blocks(tmp_path)
    for late in (lambda: writer.write(result_of("late.jpg")), writer.close):
        with pytest.raises(ConfigError, match="another folder"):
            late()
    assert blocks(tmp_path) == before


def test_what_changes_no_answer_may_change_between_runs(tmp_path):
    tag(tmp_path)
    config = {**CONFIG, "device": "cuda", "batch_size": 64, "fast_paths": "off", "decode_threads": 3}
    assert tag(tmp_path, config=config) == []


def test_an_image_with_an_error_is_done_and_is_tried_again_only_on_request(tmp_path):
    writer = writer_of(tmp_path)
    for image in writer.missing(IMAGES):
        writer.write(result_of(image, error="unlucky" if image in IMAGES[1:7] else None))
    writer.close()
    names = set(blocks(tmp_path))
    again = writer_of(tmp_path)
    assert (again.done, again.failed) == (20, 6)
    assert again.missing(IMAGES) == []
    assert again.missing([*IMAGES, "photos/new.jpg"], retry_errors=True) == [*IMAGES[1:7], "photos/new.jpg"]
    for image in [*IMAGES[1:7], "photos/new.jpg"]:
        again.write(result_of(image, error="unlucky again" if image == IMAGES[2] else None))
    again.close()
    found = {result.source: result.error for result in read_shards(tmp_path)}
    assert sorted(found) == [*IMAGES, "photos/new.jpg"]
    assert {source: error for source, error in found.items() if error} == {IMAGES[2]: "unlucky again"}
    assert names < set(blocks(tmp_path))
    assert writer_of(tmp_path).failed == 1


@pytest.mark.parametrize("block_sizes", [(4, 4), (3, 5), (1, 1)])
def test_two_runs_of_one_shard_at_once_write_each_image_once(tmp_path, block_sizes):
    images = [f"{number:03}.jpg" for number in range(60)]
    runs = [writer_of(tmp_path, block_size=size) for size in block_sizes]
    lists = [run.missing(images) for run in runs]
    barrier = threading.Barrier(len(runs))

    def work(run: ShardWriter, images: list[str]) -> None:
        for image in images:
            if image.endswith("0.jpg"):
                barrier.wait(timeout=60)
            run.write(result_of(image))
        run.close()

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, runs, lists))
    assert rows_in(tmp_path) == images


def test_a_run_that_another_one_overtakes_while_it_writes_leaves_out_what_that_wrote(tmp_path, monkeypatch):
    slow, quick = writer_of(tmp_path, block_size=6), writer_of(tmp_path, block_size=3)
    slow.missing(IMAGES)
    left = iter(quick.missing(IMAGES)[:9])

    def overtaken(stream, results, facts):
        monkeypatch.setattr(shards, "write_parquet", write_parquet)
        for image in left:
            quick.write(result_of(image))
        write_parquet(stream, results, facts)

    monkeypatch.setattr(shards, "write_parquet", overtaken)
    for image in IMAGES[:5] + IMAGES[9:10]:
        slow.write(result_of(image))
    assert rows_in(tmp_path) == IMAGES[:10]


def test_two_runs_that_retry_errors_at_once_keep_each_others_success(tmp_path, monkeypatch):
    writer = writer_of(tmp_path)
    for image in writer.missing(IMAGES[:4]):
        writer.write(result_of(image, error="unlucky"))
    one, other = writer_of(tmp_path, block_size=2), writer_of(tmp_path, block_size=2)
    for run in (one, other):
        run.missing(IMAGES[:4], retry_errors=True)

    def overtaken(stream, results, facts):
        monkeypatch.setattr(shards, "write_parquet", write_parquet)
        other.write(result_of(IMAGES[1]))
        other.write(result_of(IMAGES[2]))
        write_parquet(stream, results, facts)

    monkeypatch.setattr(shards, "write_parquet", overtaken)
    one.write(result_of(IMAGES[0]))
    one.write(result_of(IMAGES[1], error="unlucky again"))
    assert rows_in(tmp_path) == IMAGES[:4]
    assert [result.source for result in read_shards(tmp_path) if result.error] == [IMAGES[3]]


def test_runs_of_one_shard_that_cut_their_blocks_differently_leave_each_image_once(tmp_path):
    slow, quick = writer_of(tmp_path), writer_of(tmp_path, block_size=3)
    for image in slow.missing(IMAGES)[:3]:
        slow.write(result_of(image))
    for image in quick.missing(IMAGES):
        quick.write(result_of(image))
    quick.close()
    slow.write(result_of(IMAGES[3]))
    assert rows_in(tmp_path) == IMAGES


FULL_DISK = """
import resource, sys
from autotag.distributed.shards import Shard, ShardWriter
from autotag.errors import ConfigError
from autotag.records import Result

writer = ShardWriter(sys.argv[1], Shard(1, 1), config={}, block_size=2)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
for name in "abc":
    try:
        writer.write(Result(name, (4, 3)))
    except ConfigError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.close()
"""


def test_a_file_that_cannot_be_written_is_an_error_and_its_results_wait_for_the_next_try(tmp_path):
    pytest.importorskip("resource", reason="Windows has no limit on the size of files")
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    ran = subprocess.run(command, timeout=600, check=True, capture_output=True, text=True)
    assert ran.stdout.count("cannot write results into") == 2
    assert "are safe: mend this and run the same again" in ran.stdout
    assert rows_in(tmp_path) == ["a", "b", "c"]
    assert {path.name for path in tmp_path.iterdir()} == {RUN_FILE, *blocks(tmp_path)}


def rows_in(folder: Path) -> list[str]:
    """The images of all rows in all files, as any reader of Parquet sees them."""
    return sorted(row for path in folder.glob("*.parquet") for row in _sources_in(path))


def _sources_in(path: Path) -> list[str]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    assert table.schema.remove_metadata() == schema()
    return table.column("source").to_pylist()


CRASHING = """
import os, sys, traceback
from autotag.records import Result
from autotag.distributed.shards import Shard, ShardWriter
from autotag.writers.arrow_rows import to_table
import pyarrow.parquet

to_table([])

def run(folder, left):
    def count(event, arguments):
        nonlocal left
        if event.startswith(("os.", "open")) and any(folder in str(argument) for argument in arguments):
            left -= 1
            if left < 0:
                os._exit(9)

    sys.addaudithook(count)
    writer = ShardWriter(folder, Shard(1, 1), config={}, block_size=2)
    for image in writer.missing(["a", "b", "c", "d"]):
        writer.write(Result(image, (4, 3)))
    writer.close()

ended = 9
for step in range(60):
    if ended != 9:
        break
    child = os.fork()
    if child == 0:
        try:
            run(os.path.join(sys.argv[1], str(step)), step)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(ended, flush=True)
"""
"""Runs that die before the first, the second, ... thing they ask of the file system, until one gets through.

Each is a fork of one program, so that modules are imported once.
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_a_run_killed_between_any_two_steps_leaves_whole_blocks_and_is_completed(tmp_path):
    command = [sys.executable, "-c", CRASHING, str(tmp_path)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=True).stdout
    ends = [int(line) for line in told.split()]
    assert len(ends) > 9
    assert ends == [9] * (len(ends) - 1) + [0]
    for step in range(len(ends)):
        folder = tmp_path / str(step)
        if (folder / RUN_FILE).exists():
            assert sources(folder) in ([], ["a", "b"], ["a", "b", "c", "d"])
        for again in range(2):
            writer = ShardWriter(folder, ONE, config={}, block_size=2)
            missing = writer.missing(["a", "b", "c", "d"])
            assert not (again and missing)
            for image in missing:
                writer.write(Result(image, (4, 3)))
        assert sources(folder) == ["a", "b", "c", "d"]
        assert len(blocks(folder)) == 2


def test_a_result_that_cannot_be_stored_is_a_row_with_its_error(tmp_path):
    writer = writer_of(tmp_path)
    good, bad = result_of("a.jpg"), Result("bad.jpg", (4, 3), extras={"area": object()})
    assert writer.write(good) is good
    stored = writer.write(bad)
    writer.close()
    assert list(read_shards(tmp_path)) == [good, stored]
    assert "'bad.jpg' cannot be written as JSON" in stored.error


def test_a_damaged_block_is_named(tmp_path):
    tag(tmp_path)
    damaged = sorted(tmp_path.glob("*.parquet"))[1]
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(ConfigError, match=damaged.name):
        writer_of(tmp_path)
    with pytest.raises(ConfigError, match=damaged.name):
        list(read_shards(tmp_path))


def test_a_folder_of_something_else_is_no_folder_of_shards(tmp_path):
    with pytest.raises(ConfigError, match="not a folder of shards"):
        read_shards(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot use"):
        writer_of(tmp_path / "file")


def test_the_run_file_and_each_block_say_how_they_were_made(tmp_path):
    import pyarrow.parquet

    tag(tmp_path)
    run = json.loads((tmp_path / RUN_FILE).read_text())
    assert run == {"shards": 1, "paths": ["photos"], "config": CONFIG}
    for path in tmp_path.glob("*.parquet"):
        facts = json.loads(pyarrow.parquet.read_schema(path).metadata[b"autotag"])
        assert run.items() < facts.items()


def test_a_block_is_one_thousand_images_unless_said_otherwise(tmp_path):
    writer = ShardWriter(tmp_path, ONE, config=CONFIG)
    for number in range(1001):
        writer.write(Result(str(number), (1, 1)))
        assert len(blocks(tmp_path)) == (number >= 999)
    writer.close()
    assert len(blocks(tmp_path)) == 2


def test_columns_readers_of_folders_see_one_table(tmp_path):
    import pyarrow.dataset

    tag(tmp_path)
    assert pyarrow.dataset.dataset(tmp_path, format="parquet").to_table().num_rows == 20
