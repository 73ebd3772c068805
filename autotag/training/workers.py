"""Training in several processes, one thread each: they meet once a step, to average their gradients.

On a few cores this is faster than one process with as many threads, which meet at every small operation.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import nn
from torch.multiprocessing.spawn import spawn


def run_workers(count: int, function: Callable[..., None], *arguments: Any) -> None:
    """Calls ``function(*arguments)`` in ``count`` processes that know of each other, and waits for all.

    Tensors in the arguments are shared, not copied. With one worker the function runs in this process.

    Raises:
        torch.multiprocessing.ProcessRaisedException: a worker raised; the others are stopped.
    """
    if count == 1:
        function(*arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting_place = str(Path(folder) / "workers")
        spawn(_work, (count, meeting_place, function, arguments), nprocs=count)  # type: ignore[no-untyped-call]


def _work(
    rank: int, count: int, meeting_place: str, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    store = f"file://{meeting_place}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=count)
    try:
        function(*arguments)
        torch.distributed.barrier()  # a worker that leaves early can take the others down with it
    finally:
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    # Past the interpreter's end, at which a thread of torch's that still wants its lock may abort.
    os._exit(0)


def worker() -> tuple[int, int]:
    """This worker's number, and how many there are."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def average_gradients(modules: Iterable[nn.Module]) -> None:
    """Replaces every gradient by its mean over the workers."""
    _, count = worker()
    if count == 1:
        return
    gradients = [
        weight.grad for module in modules for weight in module.parameters() if weight.grad is not None
    ]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= count
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
