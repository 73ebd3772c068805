"""Write boxes as one COCO JSON document, for programs that train and judge detectors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from autotag.records import Result


class CocoWriter:
    """Write the detections of all results in the format of COCO's instances (Lin et al. 2014).

    ``images`` have an id, ``file_name``, width and height; ``annotations`` an id, their image, category, box
    (left, top, width, height in pixels), area, score and ``iscrowd`` 0; ``categories`` are the labels found,
    numbered from 1 in alphabetical order. Images that could not be read are left out; those without objects
    are kept. The document is written by ``close``.

    Args:
        stream: the output; UTF-8.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._images: list[dict[str, Any]] = []
        self._found: list[tuple[int, str, float, tuple[float, float, float, float]]] = []

    def write(self, result: Result, /) -> None:
        """Keep one result's boxes."""
        if result.error is not None:
            return
        number = len(self._images) + 1
        width, height = result.size
        self._images.append({"id": number, "file_name": result.source, "width": width, "height": height})
        self._found += [(number, one.label, one.score, one.box) for one in result.detections]

    def close(self) -> None:
        """Write the document."""
        labels = sorted({label for _, label, _, _ in self._found})
        numbers = {label: number for number, label in enumerate(labels, 1)}
        annotations = [
            {
                "id": place,
                "image_id": image,
                "category_id": numbers[label],
                "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
                "area": round((right - left) * (bottom - top), 2),
                "iscrowd": 0,
                "score": score,
            }
            for place, (image, label, score, (left, top, right, bottom)) in enumerate(self._found, 1)
        ]
        categories = [{"id": number, "name": label} for label, number in numbers.items()]
        document = {"images": self._images, "annotations": annotations, "categories": categories}
        self._stream.write(f"{json.dumps(document)}\n")
