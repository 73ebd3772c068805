"""How a classifier's outputs become probabilities: by softmax or by sigmoid, as the model declares it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from autotag.errors import ModelLoadError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from autotag.protocols import Head, ModelRequest

_logger = logging.getLogger("autotag")
_PROBLEM_TYPES: dict[str, Head] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
}


def declared_head(
    request: ModelRequest, folder: Path, config: Mapping[str, Any], count: int, *, known: Head | None = None
) -> Head:
    """Return the head of a classifier.

    It is the one that ``problem_type`` in config.json names, else that of the model's card, else ``known``.
    A model that says nothing gets what transformers' own pipeline gives it: softmax for two or more labels,
    sigmoid for one. A warning in the log says so.

    Args:
        request: names the model.
        folder: of the model.
        config: its config.json.
        count: of its labels.
        known: what its labels say about it, such as those of ImageNet; None for nothing.

    Raises:
        ModelLoadError: the model is of another problem type, such as regression.
    """
    declared = config.get("problem_type")
    if declared is not None:
        if declared not in _PROBLEM_TYPES:
            raise ModelLoadError(
                request.name,
                f"model {request.name!r}: config.json in {folder} says problem_type {declared!r}. "
                f"Supported: {', '.join(_PROBLEM_TYPES)}.",
            )
        return _PROBLEM_TYPES[declared]
    if request.head or known:
        return request.head or known or "softmax"
    head: Head = "softmax" if count > 1 else "sigmoid"
    _logger.warning(
        "model %r does not say whether its labels exclude each other; %s is used, as in transformers' "
        'pipeline. Write "problem_type" into its config.json: "single_label_classification" or '
        '"multi_label_classification"',
        request.name,
        head,
    )
    return head
