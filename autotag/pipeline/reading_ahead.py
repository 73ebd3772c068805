"""Threads read the next images while the stages work on the current ones, within a memory limit.

It uses threads because Pillow releases the GIL while it decodes and resizes; processes would copy pixels and
models.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from autotag.errors import ImageReadError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

Input = TypeVar("Input")
Read = TypeVar("Read")

BYTES_AHEAD = 2**30
"""Limit in bytes for images that are being decoded or wait to be taken, including the memory of codecs."""

_LOOK_UP = 0.1  # seconds after which an idle thread checks that the consumer's thread is alive


@dataclass(eq=False, slots=True)
class _Slot(Generic[Input, Read]):
    """One input and, once read, its outcome."""

    taken: Input | None
    size: int = 0
    done: bool = False
    outcome: Read | ImageReadError | None = None
    failure: BaseException | None = None


class _DroppedError(Exception):
    """The reading was closed, so this read is abandoned."""


class ReadAhead(Generic[Input, Read]):
    """Read inputs in threads, ahead of their consumer by a limited number of inputs and bytes.

    One thread is the consumer: ``ready()`` returns the next finished read, ``wait()`` waits for it.
    ``inputs`` is iterated in the consumer's thread, at most ``ahead`` inputs beyond the reads that were taken
    out. ``close()`` drops reads that have not started and waits for the running ones.

    Args:
        inputs: may be endless.
        read: called in a thread with an input and a function ``reserve(size)``. It calls ``reserve`` with
            the number of bytes that it is about to allocate, which waits until they fit in ``room``, and in
            the end with the number of bytes that it keeps. The next image in line never waits, so an image
            larger than ``room`` is read, too.
        workers: threads, at least 1.
        ahead: most inputs taken beyond the reads that were taken out, at least 1.
        room: limit in bytes for running reads and for finished ones that wait to be taken out.
        ordered: True for reads in the order of the inputs, False for reads as soon as they are done.
        weigh: returns the bytes that an input itself holds. No more inputs are taken while the unread
            ones hold ``room``.

    Attributes:
        error: the error that the iteration of ``inputs`` raised, which ended it; else None.
    """

    def __init__(
        self,
        inputs: Iterable[Input],
        read: Callable[[Input, Callable[[int], None]], Read],
        *,
        workers: int,
        ahead: int,
        room: int = BYTES_AHEAD,
        ordered: bool = True,
        weigh: Callable[[Input], int] = lambda _: 0,
    ) -> None:
        self.error: Exception | None = None
        self._source = _one_by_one(inputs)
        self._read = read
        self._workers = workers
        self._ahead = ahead
        self._most_bytes = room
        self._ordered = ordered
        self._weigh = weigh
        self._ended = self._closed = False
        self._held = 0
        self._slots: deque[_Slot[Input, Read]] = deque()
        self._unread: deque[_Slot[Input, Read]] = deque()
        self._threads: list[threading.Thread] = []
        self._consumer = threading.current_thread()
        self._idle = 0
        lock = threading.RLock()
        self._something_to_read = threading.Condition(lock)
        self._something_done = threading.Condition(lock)
        self._room = threading.Condition(lock)

    def ready(self) -> Read | ImageReadError | None:
        """Return the next finished read or its ``ImageReadError``, or None; raise its other errors."""
        self._top_up()
        with self._room:
            slot = self._first_done()
            if slot is None:
                return None
            self._slots.remove(slot)
            self._held -= slot.size
            self._room.notify_all()
        if slot.failure is not None:
            raise slot.failure
        return slot.outcome

    def wait(self, until: Callable[[], bool] = lambda: False) -> None:
        """Wait until a read is done, or none is left, or ``until()`` is True; ``wake()`` checks again."""
        with self._something_done:
            self._something_done.wait_for(lambda: self._first_done() or not self._slots or until())

    def wake(self) -> None:
        """Make ``wait`` check again; from any thread."""
        with self._something_done:
            self._something_done.notify_all()

    @property
    def exhausted(self) -> bool:
        """Return whether the inputs ended and every read was taken out."""
        return self._ended and not self._slots

    @property
    def waiting(self) -> tuple[int, int]:
        """The number of inputs that wait to be read, and of reads that wait to be taken out."""
        with self._room:
            done = sum(slot.done for slot in self._slots)
            return len(self._slots) - done, done

    def close(self) -> None:
        """End the threads, and close the inputs if they are a generator."""
        with self._room:
            self._closed = self._ended = True
            self._slots.clear()
            self._unread.clear()
            for condition in (self._something_to_read, self._something_done, self._room):
                condition.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():  # the garbage collector may call this in any thread
                thread.join()
        self._source.close()

    def _top_up(self) -> None:
        self._consumer = threading.current_thread()
        while not self._ended and len(self._slots) < self._ahead and not self._is_heavy():
            try:
                taken = next(self._source)
            except StopIteration:
                self._end()
            except Exception as error:  # noqa: BLE001 - raised later, after the reads before it
                self.error = error
                self._end()
            else:
                self._add(_Slot(taken))

    def _is_heavy(self) -> bool:
        with self._room:
            held = sum(self._weigh(slot.taken) for slot in self._unread if slot.taken is not None)
        return held >= self._most_bytes

    def _add(self, slot: _Slot[Input, Read]) -> None:
        with self._something_to_read:
            self._slots.append(slot)
            self._unread.append(slot)
            self._something_to_read.notify()
            if self._idle >= len(self._unread):
                return
            self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) < self._workers:
            thread = threading.Thread(target=self._work, name="autotag-read")
            self._threads.append(thread)
            thread.start()

    def _end(self) -> None:
        with self._something_to_read:
            self._ended = True
            self._something_to_read.notify_all()

    def _first_done(self) -> _Slot[Input, Read] | None:
        if self._ordered:
            return self._slots[0] if self._slots and self._slots[0].done else None
        return next((slot for slot in self._slots if slot.done), None)

    def _work(self) -> None:
        while (slot := self._next_unread()) is not None:
            try:
                slot.outcome = self._read(slot.taken, partial(self._reserve, slot))  # type: ignore[arg-type]
            except ImageReadError as error:
                slot.outcome = error
            except BaseException as error:  # noqa: BLE001 - raised where the read is taken out
                slot.failure = error
            with self._something_done:
                slot.taken = None
                slot.done = True
                self._something_done.notify_all()
            del slot

    def _next_unread(self) -> _Slot[Input, Read] | None:
        """Wait for an input to read; return None at the end."""
        with self._something_to_read:
            while not self._unread:
                if self._ended or not self._consumer.is_alive():
                    return None
                self._idle += 1
                self._something_to_read.wait(_LOOK_UP)
                self._idle -= 1
            return self._unread.popleft()

    def _reserve(self, slot: _Slot[Input, Read], size: int) -> None:
        with self._room:
            while not (size <= slot.size or self._has_room(slot, size)):
                if self._closed or not self._consumer.is_alive():
                    raise _DroppedError
                self._room.wait(_LOOK_UP)
            self._held += size - slot.size
            slot.size = size
            self._room.notify_all()

    def _has_room(self, slot: _Slot[Input, Read], size: int) -> bool:
        others = self._held - slot.size
        return (
            not others or others + size <= self._most_bytes or (bool(self._slots) and slot is self._slots[0])
        )


def _one_by_one(inputs: Iterable[Input]) -> Generator[Input, None, None]:
    """Yield the inputs; closing this also closes ``inputs`` if it is a generator."""
    yield from inputs
