"""A stage of our own for tests of clusters: says in which process it ran, and takes its time."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import ClassVar


@dataclass
class SayProcess:
    seconds: float = 0.0
    name: str = "say_process"
    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"prompt"})

    def __call__(self, samples) -> None:
        for sample in samples:
            time.sleep(self.seconds)
            sample.prompt = f"{os.getpid()} {sample.size} {sample.image.getpixel((0, 0))}"


@dataclass
class Break:
    name: str = "break"
    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"prompt"})

    def __call__(self, samples) -> None:
        raise ValueError("NaN in the weights")
