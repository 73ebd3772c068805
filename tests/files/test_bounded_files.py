"""Files that somebody names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autotag.files.bounded_files import is_file, is_folder, named_path, read_bounded

STRANGE = ["\0", "x" * 5000, "\ud800"]


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    file = tmp_path / "some"
    file.write_bytes(b"12345")
    assert read_bounded(file, most=5) == b"12345"
    with pytest.raises(OSError, match="it has more than 4 bytes"):
        read_bounded(file, most=4)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero")
def test_a_device_is_refused_and_a_pipe_is_read() -> None:
    with pytest.raises(OSError, match="it is a device"):
        read_bounded("/dev/zero", most=5)
    end, start = os.pipe()
    os.write(start, b"12345")
    os.close(start)
    assert read_bounded(f"/dev/fd/{end}", most=5) == b"12345"
    os.close(end)


@pytest.mark.parametrize("name", STRANGE, ids=ascii)
def test_a_name_that_no_file_can_have_is_a_file_that_is_not_there(name: str) -> None:
    assert not is_file(Path(name))
    assert not is_folder(Path(name))
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the name
        read_bounded(name, most=5)


def test_home_is_resolved_where_that_can_be_done() -> None:
    assert named_path("~/a") == Path.home() / "a"
    assert named_path("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
