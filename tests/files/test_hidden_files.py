import os

import pytest

from autotag.files.file_states import sha256
from autotag.files.hidden_files import clear_leftovers, clear_old_parts
from autotag.files.replacing import PartFile


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"old")
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def left_behind(path, kind, content):
    """A hidden file as a killed run leaves it."""
    part = PartFile(path)
    part.write(content)
    os.close(part.descriptor)
    hidden = part.path.with_name(part.path.name.removesuffix("part") + kind)
    part.path.rename(hidden)
    return hidden


def test_what_killed_runs_left_behind_goes(old, tmp_path):
    left_behind(old, "part", b"half of")
    left_behind(old, "swap", b"old")
    left_behind(tmp_path / ("n" * 250), "part", b"")
    assert clear_leftovers({old: {sha256(b"old")}, tmp_path / ("n" * 250): ()}) == ()
    assert names(tmp_path) == ["a.jpg"]


def test_a_part_that_nothing_writes_any_more_goes_alone(old, tmp_path):
    left, written = left_behind(old, "part", b"half of"), left_behind(old, "part", b"hal")
    other = left_behind(tmp_path / "b.jpg", "part", b"")
    for path in (left, other):
        os.utime(path, (0, 0))
    clear_old_parts(old)
    assert names(tmp_path) == sorted(["a.jpg", written.name, other.name])


def test_what_another_program_wrote_in_the_moment_of_the_kill_is_made_visible(old, tmp_path):
    left_behind(old, "swap", b"edited")
    [note] = clear_leftovers({old: {sha256(b"old"), sha256(b"new")}})
    assert "a (2).jpg" in note
    assert (tmp_path / "a (2).jpg").read_bytes() == b"edited"
    left_behind(tmp_path / "b.txt", "swap", b"edited")
    clear_leftovers({tmp_path / "b.txt": ()})
    assert (tmp_path / "b.txt").read_bytes() == b"edited"


def test_hidden_files_that_are_not_ours_stay(old, tmp_path):
    hidden = left_behind(tmp_path / "other.jpg", "part", b"")
    (tmp_path / ".a.jpg.autotag-part").write_bytes(b"named alike")
    (tmp_path / (hidden.name.replace("other", "a"))).symlink_to(old)
    before = names(tmp_path)
    clear_leftovers({old: ()})
    assert names(tmp_path) == before
