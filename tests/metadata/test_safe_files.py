import os
import stat
import subprocess
import sys
import time

import pytest

from autotag.errors import FileBusyError, FileChangedError, MetadataError
from autotag.metadata.safe_files import SystemCalls, part_path, remove_file, replace_file, state_of


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"old")
    os.utime(path, ns=(10**18, 10**18 + 7))
    path.chmod(0o640)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_content_changes_and_mode_and_time_stay(old, tmp_path):
    assert replace_file(old, b"new", expected=state_of(old)) == ()
    assert old.read_bytes() == b"new"
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert old.stat().st_mtime_ns == 10**18 + 7
    assert names(tmp_path) == ["a.jpg"]


def test_touch_gives_a_new_time(old):
    replace_file(old, b"new", expected=state_of(old), touch=True)
    assert old.stat().st_mtime_ns > 10**18 + 7


def test_extended_attributes_stay_where_there_are_any(old):
    try:
        os.setxattr(old, "user.comment", b"mine")
    except (OSError, AttributeError):
        pytest.skip("no extended attributes here")
    replace_file(old, b"new", expected=state_of(old))
    assert os.getxattr(old, "user.comment") == b"mine"


def test_a_new_file_has_the_usual_mode(tmp_path):
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_bytes(b"")
    replace_file(ours, b"new", expected=None)
    assert ours.stat().st_mode == plain.stat().st_mode


def test_a_link_stays_a_link(old, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.jpg"
    link.symlink_to(old)
    replace_file(link, b"new", expected=state_of(link))
    assert link.is_symlink()
    assert old.read_bytes() == b"new"
    assert names(link.parent) == ["link.jpg"]


def test_hard_links_part_ways_and_the_result_says_so(old, tmp_path):
    other = tmp_path / "b.jpg"
    other.hardlink_to(old)
    (warning,) = replace_file(old, b"new", expected=state_of(old))
    assert "2 hard links" in warning
    assert other.read_bytes() == b"old"


def test_a_file_that_changed_is_left_as_it_is(old, tmp_path):
    state = state_of(old)
    old.write_bytes(b"edited")
    with pytest.raises(FileChangedError):
        replace_file(old, b"new", expected=state)
    with pytest.raises(FileChangedError):
        replace_file(old, b"new", expected=None)
    with pytest.raises(FileChangedError):
        remove_file(old, expected=state)
    with pytest.raises(FileChangedError):
        replace_file(tmp_path / "gone", b"new", expected=state)
    assert old.read_bytes() == b"edited"
    assert names(tmp_path) == ["a.jpg"]


def test_a_file_that_changes_while_it_is_written_is_left_as_it_is(old, tmp_path):
    class EditedMeanwhile(SystemCalls):
        def fsync(self, descriptor):
            old.write_bytes(b"edited")

    with pytest.raises(FileChangedError):
        replace_file(old, b"new", expected=state_of(old), calls=EditedMeanwhile())
    assert old.read_bytes() == b"edited"
    assert names(tmp_path) == ["a.jpg"]


def test_what_does_not_read_back_is_not_put_in_place(old, tmp_path):
    class BadDisk(SystemCalls):
        def write(self, descriptor, content):
            return super().write(descriptor, memoryview(b"?" * len(content)))

    def refuse(content):
        raise MetadataError("a.jpg", "wrong")

    with pytest.raises(MetadataError, match="read back"):
        replace_file(old, b"new", expected=state_of(old), calls=BadDisk())
    with pytest.raises(MetadataError, match="wrong"):
        replace_file(old, b"new", expected=state_of(old), verify=refuse)
    assert old.read_bytes() == b"old"
    assert names(tmp_path) == ["a.jpg"]


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_them_all(old):
    class Slow(SystemCalls):
        def write(self, descriptor, content):
            return super().write(descriptor, content[:2])

    replace_file(old, b"new content", expected=state_of(old), calls=Slow())
    assert old.read_bytes() == b"new content"


def test_a_read_only_file_is_an_error_and_stays_read_only(old):
    old.chmod(0o444)
    with pytest.raises(MetadataError, match="read-only"):
        replace_file(old, b"new", expected=state_of(old))
    assert stat.S_IMODE(old.stat().st_mode) == 0o444


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_read_only_folder_is_an_error(old, tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(MetadataError, match="folder"):
            replace_file(old, b"new", expected=state_of(old))
    finally:
        tmp_path.chmod(0o755)


def test_what_a_killed_run_left_behind_is_taken_over(old, tmp_path):
    part_path(old).write_bytes(b"left behind, and longer")
    replace_file(old, b"new", expected=state_of(old))
    assert old.read_bytes() == b"new"
    assert names(tmp_path) == ["a.jpg"]


def test_a_link_in_the_place_of_the_hidden_file_is_not_followed(old, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"other")
    part_path(old).symlink_to(other)
    with pytest.raises(OSError, match="symbolic link|exists"):
        replace_file(old, b"new", expected=state_of(old))
    assert other.read_bytes() == b"other"
    assert old.read_bytes() == b"old"


def test_long_names_have_a_hidden_file_too(tmp_path):
    path = tmp_path / ("ü" * 123 + ".jpg")
    path.write_bytes(b"old")
    replace_file(path, b"new", expected=state_of(path))
    assert path.read_bytes() == b"new"


def test_of_two_runs_at_once_one_is_told_that_the_file_is_busy(old):
    class Meanwhile(SystemCalls):
        def fsync(self, descriptor):
            with pytest.raises(FileBusyError):
                replace_file(old, b"other", expected=state_of(old))

    replace_file(old, b"new", expected=state_of(old), calls=Meanwhile())
    assert old.read_bytes() == b"new"


WRITER = """
import sys
from pathlib import Path
from autotag.errors import FileBusyError, FileChangedError
from autotag.metadata.safe_files import replace_file, state_of
path, content = Path(sys.argv[1]), sys.argv[2].encode() * 200_000
print("ready", flush=True)
wins = refused = 0
while wins < int(sys.argv[3]):
    try:
        replace_file(path, content, expected=state_of(path))
        wins += 1
    except (FileBusyError, FileChangedError):
        refused += 1
print(wins, refused)
"""


def test_processes_that_write_one_file_never_mix_it_up(old, tmp_path):
    commands = [[sys.executable, "-c", WRITER, str(old), letter, "15"] for letter in "abc"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    assert all(process.wait(120) == 0 for process in running)
    for process in running:
        process.stdout.close()
    content = old.read_bytes()
    assert len(content) == 200_000
    assert len(set(content)) == 1
    assert names(tmp_path) == ["a.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_kill_9_at_any_moment_leaves_a_whole_file(old, tmp_path):
    for attempt in range(6):
        command = [sys.executable, "-c", WRITER, str(old), "xy"[attempt % 2], "100000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(0.003 * attempt)
            process.kill()
        content = old.read_bytes()
        assert content == b"old" or (len(content) == 200_000 and len(set(content)) == 1)
        assert set(names(tmp_path)) <= {"a.jpg", part_path(old).name}
    replace_file(old, b"new", expected=state_of(old))
    assert names(tmp_path) == ["a.jpg"]
