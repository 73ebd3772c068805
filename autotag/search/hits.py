"""``Hit``: a photograph that a search found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autotag.records import Tag


@dataclass(frozen=True, slots=True)
class Hit:
    """A photograph that a search found.

    Attributes:
        id: the photograph's id in the index; ``like=id`` finds photographs that resemble it.
        path: where it is; a URL stays as it is.
        score: of the joined rankings, comparable within one search only.
        caption: the best one.
        tags: the models' tags, best first, then people's keywords, whose source is ``"keyword"`` and score 0.
        size: width, height of the upright original in pixels.
        taken: local time, ``"2020-05-17T14:03:59"``, or None.
        cosine: of its vector with the query's, in [-1, 1], or None where no vector was asked for; of several
            queries (words and an image) the greatest.
        words: words of its texts that the query's matched, as they stand there; empty when none did.
        offline: whether its folder was not there when the index was last brought up to date.
    """

    id: int
    path: str
    score: float
    caption: str
    tags: tuple[Tag, ...]
    size: tuple[int, int]
    taken: str | None = None
    cosine: float | None = None
    words: tuple[str, ...] = ()
    offline: bool = False

    @property
    def reason(self) -> str:
        """Why it was found: ``"both"``, ``"vector"``, ``"words"``, or ``"filter"``."""
        if self.words:
            return "words" if self.cosine is None else "both"
        return "filter" if self.cosine is None else "vector"

    def to_dict(self) -> dict[str, object]:
        """Return JSON types."""
        return {
            "id": self.id,
            "path": self.path,
            "score": round(self.score, 6),
            "reason": self.reason,
            "cosine": None if self.cosine is None else round(self.cosine, 6),
            "words": list(self.words),
            "caption": self.caption,
            "tags": [tag.text for tag in self.tags],
            "size": list(self.size),
            "taken": self.taken,
            "offline": self.offline,
        }
