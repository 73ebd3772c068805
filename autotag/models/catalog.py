"""What autotag knows about models before loading them: no torch here.

A model is named by

- a catalog name: ``"blip-base"``;
- ``"<factory>:<location>"``: ``"hf:Salesforce/blip-image-captioning-base"``,
  ``"open_clip:ViT-B-32/laion2b_s34b_b79k"``, ``"keybert:sentence-transformers/all-MiniLM-L6-v2"``;
  ``@revision`` may follow a hub id;
- a folder on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autotag.protocols import ModelKind

BUNDLED = Path(__file__).resolve().parent.parent / "data" / "models"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Facts about published weights.

    Attributes:
        name: short name, unique over all kinds.
        kind: what it can be lent as.
        source: ``"<factory>:<location>"``; for bundled weights the location is a folder of this package.
        revision: commit, tag or branch on the hub.
        licence: SPDX id or words.
        download_size: bytes; 0 for bundled weights.
        default_thresholds: score name -> the cut that suits this encoder.
        origin: what it was trained by or on, one line, with its paper.
    """

    name: str
    kind: ModelKind
    source: str
    revision: str | None
    licence: str
    download_size: int
    origin: str
    default_thresholds: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def bundled(self) -> bool:
        """Whether the weights come with autotag."""
        return self.download_size == 0
