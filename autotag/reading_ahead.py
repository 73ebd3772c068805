"""Bounded, ordered decode-ahead: threads read the next images while the stages work on these.

Threads, because Pillow lets go of the interpreter lock while it decodes and resizes; processes would
copy pixels and models.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from autotag.errors import ImageReadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Input = TypeVar("Input")
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class InputsFailed:
    """The user's iterable raised: the last thing that comes out, after all that it gave before.

    Attributes:
        error: what it raised.
    """

    error: Exception


def read_ahead(
    inputs: Iterable[Input], read: Callable[[Input], Read], *, workers: int, ahead: int
) -> Iterator[Read | ImageReadError | InputsFailed]:
    """Reads inputs in threads, a bounded number ahead, and yields in the order of the inputs.

    ``inputs`` is iterated in the thread of the consumer, and never more than ``ahead`` inputs beyond
    what was yielded are taken from it. When the consumer stops early, reads that have not begun are
    dropped and the threads end with the read they are at.

    Args:
        inputs: may be endless.
        read: called in a thread; what it raises other than ``ImageReadError`` is raised here.
        workers: threads, at least 1.
        ahead: inputs taken beyond what was yielded, at least 1.

    Yields:
        What ``read`` returns, or the ``ImageReadError`` it raised; ``InputsFailed`` last of all if
        ``inputs`` raised.
    """
    executor = ThreadPoolExecutor(workers, thread_name_prefix="autotag-read")
    source = _with_failure(inputs)
    waiting: deque[Future[Read | ImageReadError] | InputsFailed] = deque()
    try:
        while _fill(waiting, source, executor, read, ahead):
            first = waiting.popleft()
            yield first if isinstance(first, InputsFailed) else first.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _fill(
    waiting: deque[Future[Read | ImageReadError] | InputsFailed],
    source: Iterator[Input | InputsFailed],
    executor: ThreadPoolExecutor,
    read: Callable[[Input], Read],
    ahead: int,
) -> bool:
    """Tops up what is waiting; False when nothing is left."""
    while len(waiting) < ahead:
        try:
            taken = next(source)
        except StopIteration:
            break
        if isinstance(taken, InputsFailed):
            waiting.append(taken)
        else:
            waiting.append(executor.submit(_read_one, read, taken))
    return bool(waiting)


def _read_one(read: Callable[[Input], Read], taken: Input) -> Read | ImageReadError:
    try:
        return read(taken)
    except ImageReadError as error:
        return error


def _with_failure(inputs: Iterable[Input]) -> Iterator[Input | InputsFailed]:
    try:
        yield from inputs
    except Exception as error:  # noqa: BLE001 - handed on in its place, and raised there
        yield InputsFailed(error)
