"""The command ``autotag``. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import click

from autotag.cli.accelerate import accelerate
from autotag.cli.album import album
from autotag.cli.analyze import analyze
from autotag.cli.apply import apply
from autotag.cli.calibrate import calibrate
from autotag.cli.demo import demo
from autotag.cli.detect import detect
from autotag.cli.download import download
from autotag.cli.duplicates import duplicates
from autotag.cli.evaluate import evaluate
from autotag.cli.explain import explain
from autotag.cli.export import export, import_
from autotag.cli.immich import immich
from autotag.cli.index import index
from autotag.cli.learn import learn
from autotag.cli.models import models
from autotag.cli.options import INTERRUPTED
from autotag.cli.prompt import prompt
from autotag.cli.review import review
from autotag.cli.search import search
from autotag.cli.serve import serve
from autotag.cli.signals import Interrupted
from autotag.cli.submission import submission
from autotag.cli.tag import tag
from autotag.cli.thresholds import thresholds
from autotag.cli.train import train
from autotag.cli.undo import undo
from autotag.cli.vocabulary import vocabulary
from autotag.errors import DISTRIBUTION, AutotagError

COULD_NOT_RUN = 2
READER_GONE = 141
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Commands(click.Group):
    """End a command that fails with one line and an exit code instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print an error of autotag as one line and exit with its code."""
        try:
            return super().invoke(ctx)
        except AutotagError as error:
            _complain(f"error: {error}")
            if not _is_stdout_writable():
                _drop_stdout()
            ctx.exit(COULD_NOT_RUN)
        except KeyboardInterrupt as error:
            _complain("interrupted")
            ctx.exit(error.exit_code if isinstance(error, Interrupted) else INTERRUPTED)
        except BrokenPipeError:
            _drop_stdout()
            ctx.exit(READER_GONE)
        except OSError as error:
            if not _is_stdout_writable():
                _drop_stdout()
                _complain(f"error: cannot write stdout: {error.strerror}.")
            elif error.errno in _NO_SPACE:
                file = "the output" if error.filename is None else repr(error.filename)
                _complain(f"error: cannot write {file}: {error.strerror}.")
            else:
                raise
            ctx.exit(COULD_NOT_RUN)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success; 1 some images failed; 2 it could not run; 130 interrupted; "
    "129 and 143 ended by SIGHUP and SIGTERM.",
)
@click.version_option(package_name=DISTRIBUTION, message="%(prog)s %(version)s")
def main() -> None:
    """Turn images into tags: captions, keyphrases, relevance, prompts."""


for command in (
    tag,
    detect,
    album,
    undo,
    apply,
    export,
    import_,
    review,
    index,
    search,
    duplicates,
    explain,
    accelerate,
    thresholds,
    prompt,
    analyze,
    serve,
    demo,
    immich,
    models,
    download,
    vocabulary,
    evaluate,
    calibrate,
    learn,
    train,
    submission,
):
    main.add_command(command)


def _complain(message: str) -> None:
    from autotag.writers.one_line import one_line

    click.echo(f"autotag: {one_line(message)}", err=True)


def _is_stdout_writable() -> bool:
    """Return False if something is still to be written to stdout and cannot be."""
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _drop_stdout() -> None:
    """Redirect stdout, which cannot be written, so that the interpreter's last flush succeeds."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
