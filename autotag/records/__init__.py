"""The data classes: stages write a ``Sample``, the pipeline returns a ``Result``.

Import them from ``autotag.records``; ``drawing`` is for the classes here and for commands that draw. Of
autotag they import only ``errors``.
"""

from __future__ import annotations

from autotag.records.result import Explains, Explanation, Result, TagHistory
from autotag.records.sample import Caption, Detection, ModerationLabel, Sample, Tag, TextMaps

__all__ = [
    "Caption",
    "Detection",
    "Explains",
    "Explanation",
    "ModerationLabel",
    "Result",
    "Sample",
    "Tag",
    "TagHistory",
    "TextMaps",
]
