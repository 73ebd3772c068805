"""A recipe: results of ``autotag tag --format jsonl`` as a dataset of FiftyOne, and rejected tags back.

python to_fiftyone.py tags.jsonl my-photos              # then: fiftyone app launch
python to_fiftyone.py --rejected rejected.json my-photos  # tags that somebody labelled "reject" in the app
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def labels(row: dict) -> dict:
    """The fields of a sample, in FiftyOne's JSON for labels; boxes are left, top, width, height in [0, 1]."""
    width, height = row["size"]
    tags = [
        {"_cls": "Classification", "label": tag["text"], "confidence": tag["score"]} for tag in row["tags"]
    ]
    boxes = []
    for found in row["detections"]:
        left, top, right, bottom = found["box"]
        box = [left / width, top / height, (right - left) / width, (bottom - top) / height]
        named = {"label": found["label"], "confidence": found["score"], "bounding_box": box}
        boxes.append({"_cls": "Detection", **named})
    fields = {"autotag": {"_cls": "Classifications", "classifications": tags}, "caption": row["caption"]}
    return {**fields, "objects": {"_cls": "Detections", "detections": boxes}} if boxes else fields


def of_fiftyone(fo, label):
    """Return a label as FiftyOne's object."""
    if not isinstance(label, dict):
        return label
    values = {name: value for name, value in label.items() if name != "_cls"}
    for many in ("classifications", "detections"):
        if many in values:
            values[many] = [of_fiftyone(fo, one) for one in values[many]]
    return getattr(fo, label["_cls"])(**values)


def rejected(samples) -> dict[str, list[str]]:
    """Photograph -> the tags that have the label tag "reject"."""
    found = {
        one.filepath: [tag.label for tag in one.autotag.classifications if "reject" in tag.tags]
        for one in samples
    }
    return {path: tags for path, tags in found.items() if tags}


def main(arguments: list[str]) -> None:
    import fiftyone as fo

    if arguments[0] == "--rejected":
        Path(arguments[1]).write_text(json.dumps(rejected(fo.load_dataset(arguments[2])), indent=1))
        return
    rows = [json.loads(line) for line in Path(arguments[0]).read_text("utf-8").splitlines()]
    dataset = fo.Dataset(arguments[1], persistent=True)
    for row in rows:
        if row["error"] is None:
            fields = {name: of_fiftyone(fo, label) for name, label in labels(row).items()}
            dataset.add_sample(fo.Sample(filepath=str(Path(row["source"]).resolve()), **fields))
    print(f"{len(dataset)} samples in {arguments[1]}")


if __name__ == "__main__":
    main(sys.argv[1:])
