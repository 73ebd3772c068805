"""Writes the report of an evaluation: ``report.html``, ``report.md`` and ``report.json``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError
from autotag.evaluation.report.page import page
from autotag.evaluation.report.text import markdown

if TYPE_CHECKING:
    from pathlib import Path

    from autotag.evaluation.evaluate import Evaluation, Judged


def write_report(evaluation: Evaluation, folder: Path) -> Path:
    """Write the three files into a folder, which is created if missing, and return the HTML file's path.

    Raises:
        ConfigError: a file cannot be written.
    """
    files = {
        "report.json": json.dumps(to_dict(evaluation), ensure_ascii=False, indent=2) + "\n",
        "report.md": markdown(evaluation),
        "report.html": page(evaluation),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(f"cannot write the report to {str(folder)!r}: {error.strerror}.") from error
    return folder / "report.html"


def to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Return all figures, and each model's output for each image, in JSON types."""
    dataset = evaluation.dataset
    return {
        "dataset": {
            "name": dataset.name,
            "images": len(dataset.examples),
            "without_truth": dataset.without_truth,
            "without_image": dataset.without_image,
        },
        "deciding": evaluation.deciding,
        "judges": dict(evaluation.judges),
        "seed": evaluation.seed,
        "models": [_model(judged) for judged in evaluation.judged],
        "comparisons": [asdict(comparison) for comparison in evaluation.comparisons],
        "images": [
            {"id": example.id, "texts": list(example.texts), "tags": list(example.tags)}
            for example in dataset.examples
        ],
    }


def _model(judged: Judged) -> dict[str, Any]:
    run = judged.run
    per_image = {name: judged.per_image(name) for name in judged.measures}
    return {
        "name": run.name,
        "members": list(judged.members),
        "figures": {name: asdict(figure) for name, figure in judged.figures.items()},
        "images_per_second": run.images_per_second,
        "load_seconds": run.load_seconds,
        "memory_bytes": run.memory,
        "failed": run.failed,
        "empty": run.empty,
        "texts": list(run.texts),
        "tags": None if run.tags is None else [[tag.text for tag in tags] for tags in run.tags],
        "errors": list(run.errors),
        "per_image": {name: scores.tolist() for name, scores in per_image.items() if scores is not None},
        "best_matches": None if judged.best_matches is None else judged.best_matches.tolist(),
    }
