"""Runs functions in several processes at once.

On a few cores this is faster than one process with as many threads, which synchronise at every small
operation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from multiprocessing import parent_process
from threading import Thread

import torch
from torch.multiprocessing.spawn import spawn


def run_each(functions: Sequence[Callable[[], None]], *, threads: int) -> None:
    """Call each function in its own process, all at the same time, and wait for all.

    The processes end with this one, even if it is killed: a second run must not write beside them.

    Tensors in their arguments are shared, not copied. A single function runs in this process.

    Args:
        functions: the functions; they must be picklable.
        threads: number of torch threads in each process.

    Raises:
        torch.multiprocessing.ProcessRaisedException: a function raised; the others are stopped.
    """
    if len(functions) == 1:
        torch.set_num_threads(threads)
        functions[0]()
    elif functions:
        spawn(_call, (list(functions), threads), nprocs=len(functions))  # type: ignore[no-untyped-call]


def _call(number: int, functions: list[Callable[[], None]], threads: int) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    functions[number]()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
