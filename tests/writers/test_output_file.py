import errno
import os
import threading
from pathlib import Path

import pytest

from autotag.errors import ConfigError
from autotag.writers.output_file import check_replaceable, open_output


@pytest.mark.parametrize("streams", [True, False])
def test_what_is_written_ends_up_in_the_file(tmp_path, streams):
    path = tmp_path / "out.json"
    path.write_text("former")
    with open_output(path, streams=streams) as stream:
        stream.write("été\n")
    assert path.read_bytes() == "été\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_the_former_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "out.json"
    path.write_text("former")
    with open_output(path, streams=False) as stream:
        stream.write("new")
        stream.flush()
        assert path.read_text() == "former"
    assert path.read_text() == "new"


@pytest.mark.parametrize("former", [None, "former"])
def test_what_another_program_writes_meanwhile_stays_and_the_results_go_beside_it(tmp_path, caplog, former):
    path = tmp_path / "out.json"
    if former:
        path.write_text(former)
    with open_output(path, streams=False) as stream:
        stream.write("results")
        path.write_text("by somebody else")
    assert path.read_text() == "by somebody else"
    assert (tmp_path / "out (2).json").read_text() == "results"
    assert len(list(tmp_path.iterdir())) == 2
    assert "the results are in out (2).json" in caplog.text


def test_a_stream_is_in_the_file_at_once(tmp_path):
    path = tmp_path / "out.jsonl"
    with open_output(path, streams=True) as stream:
        stream.write("new")
        stream.flush()
        assert path.read_text() == "new"


def _write_half(stream):
    stream.write("half")
    raise KeyboardInterrupt


def test_a_block_that_does_not_end_well_leaves_the_former_file(tmp_path):
    path = tmp_path / "out.json"
    path.write_text("former")
    with pytest.raises(KeyboardInterrupt), open_output(path, streams=False) as stream:
        _write_half(stream)
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path):
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("former")
    link.symlink_to(target)
    with open_output(link, streams=False) as stream:
        stream.write("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with open_output(pipe, streams=False) as stream:
        stream.write("new")
    reader.join(timeout=600)
    assert read == ["new"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("streams", [True, False])
def test_a_file_that_cannot_be_opened_is_named_with_the_reason(tmp_path, streams):
    opened = open_output(tmp_path / "gone" / "out.json", streams=streams)
    with pytest.raises(ConfigError, match=r"out\.json.*No such file"), opened:
        pytest.fail("the block must not be entered")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has this device")
def test_an_output_without_space_is_named_with_the_reason():
    path = Path("/dev/full")
    with (
        pytest.raises(ConfigError, match="cannot write '/dev/full': No space left"),
        open_output(path, streams=False) as stream,
    ):
        stream.write("results")


def test_a_full_disk_is_named_and_the_former_file_stays(tmp_path):
    path = tmp_path / "out.json"
    path.write_text("former")
    with pytest.raises(ConfigError, match=r"out\.json'?: No space left"), open_output(path, streams=False):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_a_pipe_that_went_away_is_told_apart(tmp_path):
    with pytest.raises(BrokenPipeError), open_output(tmp_path / "out.json", streams=False):
        raise BrokenPipeError


def test_bytes_end_up_in_the_file_as_they_are(tmp_path):
    path = tmp_path / "out.parquet"
    path.write_bytes(b"former")
    with open_output(path, streams=False, binary=True) as stream:
        stream.write(b"\xff\r\n")
        assert path.read_bytes() == b"former"
    assert path.read_bytes() == b"\xff\r\n"


@pytest.mark.parametrize("streams", [True, False])
def test_a_file_may_be_replaced_while_it_is_as_autotag_left_it(tmp_path, streams):
    path = tmp_path / "out.json"
    check_replaceable(path, overwrite=False)
    path.write_text("somebody's")
    with pytest.raises(ConfigError, match="autotag did not write this version.*--overwrite"):
        check_replaceable(path, overwrite=False)
    check_replaceable(path, overwrite=True)
    with open_output(path, streams=streams) as stream:
        stream.write("ours")
    check_replaceable(path, overwrite=False)
    path.write_text("ours, and a word of mine")
    with pytest.raises(ConfigError):
        check_replaceable(path, overwrite=False)


def test_what_an_interrupted_run_left_is_autotags_too(tmp_path):
    path = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt), open_output(path, streams=True) as stream:
        _write_half(stream)
    assert path.read_text() == "half"
    check_replaceable(path, overwrite=False)


def test_a_file_that_cannot_be_opened_stays_somebody_elses(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(ConfigError), open_output(path, streams=True):
        raise AssertionError
    (tmp_path / "empty").touch()
    check_replaceable(tmp_path / "empty", overwrite=False)
