"""Writes the report of an evaluation: ``report.html``, ``report.md`` and ``report.json``.

The page needs the extra ``autotag-images[report]``, the two others do not.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError, install_hint
from autotag.evaluation.report.text import markdown
from autotag.files.replacing import appearing

if TYPE_CHECKING:
    from pathlib import Path

    from autotag.evaluation.evaluate import Evaluation, Judged


def check_html() -> None:
    """Refuse to draw the page if matplotlib is missing; to be called before an evaluation, which takes time.

    Raises:
        ConfigError: matplotlib cannot be imported.
    """
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise ConfigError(
            f"report.html needs matplotlib for its charts: {install_hint('report')}. "
            "Without it, --no-html (in Python html=False) writes report.md and report.json."
        ) from error


def write_report(evaluation: Evaluation, folder: Path, *, html: bool = True) -> Path:
    """Write the report into a folder, which is created if missing; return the path of the file for people.

    Args:
        evaluation: what to report.
        folder: where the files go; those of an older report are replaced.
        html: write ``report.html``, whose path is returned, and not only ``report.md`` and ``report.json``.

    Raises:
        ConfigError: matplotlib is missing, or a file cannot be written.
    """
    files = {
        "report.json": json.dumps(to_dict(evaluation), ensure_ascii=False, indent=2) + "\n",
        "report.md": markdown(evaluation),
    }
    if html:
        check_html()
        from autotag.evaluation.report.page import page

        files["report.html"] = page(evaluation)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with appearing(folder / name) as stream:
                stream.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ConfigError(f"cannot write the report to {str(folder)!r}: {error.strerror}.") from error
    return folder / ("report.html" if html else "report.md")


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
