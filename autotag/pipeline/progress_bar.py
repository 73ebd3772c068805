"""A progress bar around a stream of results: tqdm in notebooks, rich in terminals."""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from autotag.records import Result

_UNIT = "images"


def with_progress(results: Iterator[Result], total: int | None) -> Iterator[Result]:
    """Yield the results and show how many there are, how many have errors, and the time left.

    Args:
        results: a generator; it is closed with this one.
        total: their number, or None if it is not known.
    """
    failed = 0
    with closing(cast("Any", results)), _bar(total) as advance:
        for result in results:
            failed += result.error is not None
            advance(failed)
            yield result


@contextmanager
def _bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar until the block ends; yield a function that counts one image and sets the failures."""
    if _in_notebook():
        with _tqdm_bar(total) as advance:
            yield advance
    elif sys.stderr.isatty():
        with _rich_bar(total) as advance:
            yield advance
    else:
        yield lambda _failed: None


@contextmanager
def _tqdm_bar(total: int | None) -> Iterator[Callable[[int], None]]:
    from tqdm.auto import tqdm

    with tqdm(total=total, unit=f" {_UNIT}") as bar:

        def advance(failed: int) -> None:
            if failed:
                bar.set_postfix(failed=failed, refresh=False)
            bar.update()

        yield advance


@contextmanager
def _rich_bar(total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,  # it would send what the program prints to stderr
    ) as bar:
        task = bar.add_task(_UNIT, total=total)

        def advance(failed: int) -> None:
            bar.update(task, advance=1, description=f"{_UNIT}, {failed} failed" if failed else _UNIT)

        yield advance


def _in_notebook() -> bool:
    """Return True in the kernel of a notebook."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and hasattr(get_ipython(), "kernel")
