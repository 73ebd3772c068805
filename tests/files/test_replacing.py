import errno
import os
import stat
import subprocess
import sys
import time

import pytest

from autotag.errors import FileBusyError, FileChangedError, MetadataError
from autotag.files import system_calls
from autotag.files.file_states import read_with_state, sha256, state_of
from autotag.files.hidden_files import clear_leftovers
from autotag.files.replacing import appearing, remove_file, replace_file
from autotag.files.system_calls import SystemCalls, is_there


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


def test_an_error_of_the_system_names_the_file(old):
    class Full(SystemCalls):
        def write(self, descriptor, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        replace_file(old, b"new", expected=state_of(old), calls=Full())
    assert caught.value.filename == str(old)


def test_a_full_disk_while_a_file_is_streamed_names_the_file(tmp_path):
    with pytest.raises(OSError, match="No space") as caught, appearing(tmp_path / "out.png"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "out.png")


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


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="two files are exchanged on Linux only")


class EditedInTheLastMoment(SystemCalls):
    """Another program writes a file between the last look at it and its replacement."""

    def __init__(self, edit, *, at):
        own = getattr(SystemCalls, at)
        self.edits = [edit]

        def late(source, target):
            if self.edits and not source.name.endswith("part"):
                self.edits.pop()()
            return own(self, source, target)

        setattr(self, at, late)


def edit_in_place(path):
    path.write_bytes(b"edited")


def edit_by_renaming(path):
    path.with_name("by the editor").write_bytes(b"edited")
    path.with_name("by the editor").rename(path)


@LINUX
@pytest.mark.parametrize("edit", [edit_in_place, edit_by_renaming])
def test_an_edit_in_the_last_moment_before_replacing_survives(old, tmp_path, edit):
    calls = EditedInTheLastMoment(lambda: edit(old), at="exchange")
    with pytest.raises(FileChangedError, match="changed since it was read"):
        replace_file(old, b"new", expected=state_of(old), calls=calls)
    assert calls.edits == []
    assert old.read_bytes() == b"edited"
    assert names(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize("edit", [edit_in_place, edit_by_renaming])
def test_an_edit_in_the_last_moment_before_removing_survives(old, tmp_path, edit):
    calls = EditedInTheLastMoment(lambda: edit(old), at="rename_new")
    with pytest.raises(FileChangedError, match="changed since it was read"):
        remove_file(old, expected=state_of(old), calls=calls)
    assert calls.edits == []
    assert old.read_bytes() == b"edited"
    assert names(tmp_path) == ["a.jpg"]


def test_a_file_that_goes_in_the_last_moment_is_not_made_again(old, tmp_path):
    calls = EditedInTheLastMoment(old.unlink, at="exchange")
    with pytest.raises(FileChangedError, match="no longer exists"):
        replace_file(old, b"new", expected=state_of(old), calls=calls)
    assert names(tmp_path) == []


def test_a_file_that_appears_in_the_last_moment_is_not_replaced(tmp_path):
    class Appears(SystemCalls):
        def rename_new(self, source, target):
            target.write_bytes(b"somebody's")
            super().rename_new(source, target)

    with pytest.raises(FileChangedError, match="another program made a file"):
        replace_file(tmp_path / "a.txt", b"new", expected=None, calls=Appears())
    assert (tmp_path / "a.txt").read_bytes() == b"somebody's"
    assert names(tmp_path) == ["a.txt"]


def test_without_an_exchange_a_file_is_replaced_after_a_last_look(old, tmp_path, monkeypatch):
    monkeypatch.setattr(system_calls, "_linux_renameat2", lambda: None)
    replace_file(old, b"new", expected=state_of(old))
    replace_file(tmp_path / "b.jpg", b"new", expected=None)
    assert old.read_bytes() == (tmp_path / "b.jpg").read_bytes() == b"new"
    remove_file(old, expected=state_of(old))
    assert names(tmp_path) == ["b.jpg"]


@pytest.mark.parametrize("links", [True, False], ids=["with hard links", "without"])
@pytest.mark.parametrize("linux", [True, False], ids=["renameat2", "no renameat2"])
def test_a_name_that_is_taken_is_never_taken_again(tmp_path, monkeypatch, linux, links):
    if not linux:
        monkeypatch.setattr(system_calls, "_linux_renameat2", lambda: None)
    if not links:
        monkeypatch.setattr(os, "link", lambda *_, **__: fail(errno.EPERM))
    for name in "ab":
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        SystemCalls().rename_new(tmp_path / "a", tmp_path / "b")
    SystemCalls().rename_new(tmp_path / "a", tmp_path / "c")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b": "b", "c": "a"}


def fail(number):
    raise OSError(number, os.strerror(number))


def test_hidden_files_have_names_that_nobody_can_guess_and_follow_no_link(tmp_path):
    opened = []

    class Watched(SystemCalls):
        def open(self, path, flags, mode):
            opened.append((path, flags))
            return super().open(path, flags, mode)

    for name in ("a", "b"):
        replace_file(tmp_path / name, b"new", expected=None, calls=Watched())
    (first, flags), (second, _) = opened
    assert first.parent == tmp_path
    assert first.name.removeprefix(".a.") != second.name.removeprefix(".b.")
    assert flags & os.O_EXCL
    assert flags & os.O_NOFOLLOW


def test_a_link_to_nothing_is_not_written_through(tmp_path):
    link = tmp_path / "a.xmp"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MetadataError, match="link to a file that does not exist"):
        replace_file(link, b"new", expected=None)
    assert names(tmp_path) == ["a.xmp"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(MetadataError, match="not a regular file"):
        read_with_state(tmp_path / "a.jpg")


def test_the_time_of_change_can_be_given(old):
    replace_file(old, b"new", expected=state_of(old), mtime_ns=10**18 + 11)
    assert old.stat().st_mtime_ns == 10**18 + 11


def test_a_broken_disk_is_not_an_absent_file(tmp_path, monkeypatch):
    assert not is_there(tmp_path / "a")
    assert not is_there(tmp_path / "a" / "b")
    monkeypatch.setattr(os, "lstat", lambda _: fail(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        is_there(tmp_path / "a")


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
from autotag.files.file_states import state_of
from autotag.files.replacing import replace_file
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
    assert all(process.wait(600) == 0 for process in running)
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
        assert all(name.endswith(("-part", "-swap")) for name in names(tmp_path) if name != "a.jpg")
    clear_leftovers({old: {sha256(letter * 200_000) for letter in (b"x", b"y")} | {sha256(b"old")}})
    assert names(tmp_path) == ["a.jpg"]


class TestAppearing:
    def test_the_old_file_stays_until_the_new_one_is_whole(self, tmp_path):
        path = tmp_path / "a.bin"
        path.write_bytes(b"old")
        with appearing(path) as stream:
            stream.write(b"new")
            stream.flush()
            assert path.read_bytes() == b"old"
        assert path.read_bytes() == b"new"
        assert list(tmp_path.iterdir()) == [path]

    def test_after_an_error_nothing_is_left(self, tmp_path):
        def write_half():
            with appearing(tmp_path / "a.bin") as stream:
                stream.write(b"half")
                raise ValueError("midway")

        with pytest.raises(ValueError, match="midway"):
            write_half()
        assert list(tmp_path.iterdir()) == []

    def test_it_is_on_the_disk_before_it_takes_the_name(self, tmp_path, monkeypatch):
        done = []
        for name in ("fsync", "replace", "sync_folder"):
            original = getattr(SystemCalls, name)

            def call(calls, *given, name=name, original=original):
                done.append(name)
                return original(calls, *given)

            monkeypatch.setattr(SystemCalls, name, call)
        with appearing(tmp_path / "a.bin") as stream:
            stream.write(b"new")
        assert done == ["fsync", "replace", "sync_folder"]
