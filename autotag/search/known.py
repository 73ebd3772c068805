"""What an index knows of a photograph, and what it must be able to do to be brought up to date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from autotag.records import Result
    from autotag.search.photo_facts import PhotoFacts


@dataclass(frozen=True, slots=True)
class Known:
    """An index's facts about a path.

    Attributes:
        id: of the photograph.
        bytes: size of the file; None for a URL, as the two below.
        mtime_ns: when it was changed last.
        digest: of its pixels.
        has_vector: whether its vector is there.
        error: why it failed, or None.
        offline: whether its folder was not there.
        sidecars: stamp of its sidecars; empty without any, and where an earlier version indexed it.
    """

    id: int
    bytes: int | None
    mtime_ns: int | None
    digest: str | None
    has_vector: bool
    error: str | None
    offline: bool
    sidecars: str = ""


class Updatable(Protocol):
    """An index of photographs that ``updating`` fills: ``Index`` or ``StoreIndex``."""

    def add(
        self,
        results: Iterable[Result],
        *,
        facts: Mapping[str, PhotoFacts] | None = None,
        encoder_name: str | None = None,
    ) -> int:
        """Put results in, replacing what was there under the same path, and return how many."""
        ...

    def known(self, images: Sequence[str], roots: Sequence[Path]) -> dict[bytes, Known]:
        """Return at least what is known of these images and of all photographs below the roots, by path."""
        ...

    def change(
        self,
        *,
        gone: Sequence[int],
        offline: Sequence[int],
        back: Sequence[int],
        facts: Sequence[tuple[int, str, PhotoFacts]],
    ) -> None:
        """Change photographs by id.

        Args:
            gone: to be forgotten.
            offline: to be marked as offline.
            back: not to be marked so any more.
            facts: id, path and new facts of photographs whose results and vectors stay.
        """
        ...
