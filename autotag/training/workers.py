"""Runs functions in several processes at once.

On a few cores this is faster than one process with as many threads, which synchronise at every small
operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.multiprocessing.spawn import spawn


def run_each(functions: Sequence[Callable[[], None]], *, threads: int) -> None:
    """Call each function in its own process, all at the same time, and wait for all.

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
    torch.set_num_threads(threads)
    functions[number]()
