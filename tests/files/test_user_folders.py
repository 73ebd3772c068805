from __future__ import annotations

import os
from pathlib import Path

from autotag.files.user_folders import delete_oldest


def write(folder: Path, name: str, *, size: int, used: int) -> None:
    path = folder / name
    path.write_bytes(b"x" * size)
    os.utime(path, (used, used))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_files_used_least_recently_go_when_there_are_too_many_bytes(tmp_path):
    for number in range(5):
        write(tmp_path, f"{number}.npy", size=10, used=1000 - number)
    write(tmp_path, "other.txt", size=1000, used=1)
    delete_oldest(tmp_path, "*.npy", above=50, down_to=30)
    assert names(tmp_path) == {*(f"{number}.npy" for number in range(5)), "other.txt"}
    delete_oldest(tmp_path, "*.npy", above=49, down_to=30)
    assert names(tmp_path) == {"0.npy", "1.npy", "2.npy", "other.txt"}


def test_the_latest_file_stays_however_large(tmp_path):
    write(tmp_path, "old.npy", size=10, used=1)
    write(tmp_path, "new.npy", size=100, used=2)
    delete_oldest(tmp_path, "*.npy", above=50, down_to=40)
    assert names(tmp_path) == {"new.npy"}


def test_a_folder_that_does_not_exist_is_empty(tmp_path):
    delete_oldest(tmp_path / "none", "*", above=0, down_to=0)
