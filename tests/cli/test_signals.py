"""Signals that end a run."""

from __future__ import annotations

import signal

import pytest

from autotag.cli.signals import Interrupted, like_ctrl_c, stoppable, whole

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _handlers_stay():
    under_nohup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # or the tests themselves would ignore it
    before = [signal.getsignal(number) for number in ENDING]
    yield
    after = [signal.getsignal(number) for number in ENDING]
    signal.signal(signal.SIGHUP, under_nohup)
    assert after == before


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_interrupts_as_ctrl_c_does(number):
    with pytest.raises(KeyboardInterrupt) as caught, like_ctrl_c():
        signal.raise_signal(number)
    assert caught.value.exit_code == 128 + number


@pytest.mark.parametrize("block", [like_ctrl_c, whole, stoppable])
def test_a_signal_that_is_ignored_stays_ignored(block):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with block() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert stop is None or not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_may_send_its_signal_twice():
    finished = []
    with like_ctrl_c():
        with pytest.raises(Interrupted), whole():
            _send(signal.SIGHUP, signal.SIGHUP, then=finished)
        _send(signal.SIGHUP, then=finished)
    assert finished == ["finished"] * 2


@pytest.mark.parametrize("number", ENDING)
def test_what_is_to_be_whole_is_finished_first(number):
    finished = []
    with pytest.raises(KeyboardInterrupt), whole():
        _send(number, then=finished)
    assert finished


@pytest.mark.parametrize("block", [whole, stoppable])
def test_a_second_signal_ends_a_run_at_once(block):
    finished = []
    with pytest.raises(Interrupted) as caught, block():
        _send(signal.SIGHUP, signal.SIGTERM, then=finished)
    assert not finished
    assert caught.value.exit_code == 143


def _send(*numbers, then):
    for number in numbers:
        signal.raise_signal(number)
    then.append("finished")


@pytest.mark.parametrize("number", ENDING)
def test_a_run_by_groups_is_told_to_stop(number, capfd):
    with stoppable() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
    assert stop.exit_code == 128 + number
    assert "stopping after the photographs in hand" in capfd.readouterr().err
