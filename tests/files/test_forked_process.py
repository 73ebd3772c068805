"""Models in a forked copy of a process that used them: an error at once, and no hang."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes are forked")

START = """
import os, sys, threading, warnings
import autotag
from autotag.errors import ForkedProcessError
from autotag.pipeline.pipeline import Pipeline
from autotag.stages import CaptionImages
from autotag.testing import FakeCaptioner, make_image

def pipeline():
    return Pipeline([CaptionImages(FakeCaptioner())], encoder=None)

def in_child(act):
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on, about threads
        child = os.fork()
    if child == 0:
        try:
            print(act())
        except ForkedProcessError as error:
            print("refused:", error)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""


def said(program: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "2"}  # the second thread is what a forked process hangs on
    ran = subprocess.run(
        [sys.executable, "-c", START + program],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment,
    )
    assert ran.stderr == ""
    return ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "act",
    [
        "lambda: used(make_image())",
        "lambda: list(used.stream([make_image()]))",
        "used.load",
        "lambda: pipeline()(make_image())",
        "lambda: autotag.tag(make_image(), preset='mini')",
    ],
)
def test_what_would_hang_in_a_forked_process_is_refused(act: str) -> None:
    out = said(f"used = pipeline(); used(make_image())\nin_child({act})\nprint(used(make_image()).caption)\n")
    refusal, here = out.splitlines()
    assert refusal.startswith("refused: this process was forked")
    assert "spawn" in refusal
    assert here == "a red picture", "the process itself goes on"


@pytest.mark.slow
def test_it_is_refused_at_once_though_a_thread_of_the_other_process_was_in_the_middle_of_a_batch() -> None:
    program = """
started, go = threading.Event(), threading.Event()
class Slow(FakeCaptioner):
    def caption(self, images, options):
        started.set(); go.wait(600)
        return super().caption(images, options)
used = Pipeline([CaptionImages(Slow())], encoder=None)
thread = threading.Thread(target=lambda: used(make_image()))
thread.start(); started.wait(600)
in_child(lambda: used(make_image()))
in_child(used.close)
go.set(); thread.join()
"""
    refusal, closed = said(program).splitlines()
    assert refusal.startswith("refused:")
    assert closed == "None"


def test_a_stream_that_is_gone_on_with_in_a_forked_process_is_refused() -> None:
    program = """
@autotag.stage(provides={"prompt"})
def say(sample):
    sample.prompt = "said"
for make in (pipeline, lambda: Pipeline([say])):
    stream = make().stream([make_image()] * 50)
    next(stream)
    in_child(lambda: next(stream))
    print(len(list(stream)))
"""
    out = said(program).splitlines()
    assert [line.startswith("refused:") for line in out] == [True, False, True, False]
    assert out[1::2] == ["49", "49"]


def test_a_pipeline_that_was_built_but_not_used_works_in_a_forked_process() -> None:
    assert said("built = pipeline()\nin_child(lambda: built(make_image()).caption)\n") == "a red picture\n"


def test_stages_without_models_work_in_a_forked_process() -> None:
    program = """
@autotag.stage(provides={"prompt"})
def say(sample):
    sample.prompt = "said"
used = Pipeline([say]); used(make_image())
in_child(lambda: used(make_image()).prompt)
"""
    assert said(program) == "said\n"
