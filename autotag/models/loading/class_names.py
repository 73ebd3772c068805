"""The labels of a network's classes: in its configuration, or in ``labels.txt`` beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from autotag.errors import ModelLoadError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LABELS_FILE = "labels.txt"
_SHOWN = 80  # characters
_GENERIC = re.compile(r"(LABEL_|class)?\d+")


def is_generic(name: str) -> bool:
    """Return whether a name only repeats its number, such as "LABEL_0"."""
    return _GENERIC.fullmatch(name) is not None


def numbered(model: str, place: Path, names: object) -> dict[int, str]:
    """Return class number -> name, from names in order or by number, as configurations hold them.

    Args:
        model: its name, for messages.
        place: the file or folder of the names, likewise.
        names: a list, or a dictionary whose keys are numbers or digits.

    Raises:
        ModelLoadError: the names are neither, or a number is not one.
    """
    try:
        if isinstance(names, Mapping):
            return {int(number): str(name).strip() for number, name in names.items()}
        if isinstance(names, Sequence) and not isinstance(names, str):
            return {number: str(name).strip() for number, name in enumerate(names)}
    except (TypeError, ValueError):
        pass
    raise ModelLoadError(
        model,
        f"model {model!r}: {place} numbers its classes in another way than "
        f'{{"0": "person", "1": "dog"}} or ["person", "dog"]: {str(names)[:_SHOWN]}',
    )


def class_labels(model: str, folder: Path, names: object, count: int) -> tuple[str, ...]:
    """Return the label of each class, in the order of the classes.

    ``labels.txt``, with a label on each line, comes before the names in the configuration.

    Args:
        model: its name, for messages.
        folder: of the model.
        names: from the configuration, see ``numbered``.
        count: of the classes.

    Raises:
        ModelLoadError: there are no names, only such as "LABEL_0" and "0", or not one for each class.
    """
    beside = folder / LABELS_FILE
    if beside.is_file():
        labels = dict(enumerate(lines_of(model, beside)))
        _check_each(model, beside, labels, count)
        return tuple(labels.values())
    labels = numbered(model, folder / "config.json", names)
    if all(map(is_generic, labels.values())):
        shown = next(iter(labels.values()), None)
        found = f"has only names such as {shown!r}" if shown else "has none"
        raise ModelLoadError(
            model,
            f"model {model!r}: config.json in {folder} names no labels (it {found}). "
            f"Write one on each line of {LABELS_FILE} in a folder of its files",
        )
    _check_each(model, folder / "config.json", labels, count)
    return tuple(labels[number] for number in range(count))


def lines_of(model: str, file: Path) -> list[str]:
    """Return the labels in a ``labels.txt``, one on each line, without empty lines at the end.

    Raises:
        ModelLoadError: the file cannot be read, or is not UTF-8.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ModelLoadError(model, f"model {model!r}: {file} cannot be read: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.strip() for line in lines]


def _check_each(model: str, file: Path, labels: Mapping[int, str], count: int) -> None:
    """Refuse labels that are not exactly those of the classes 0 to ``count - 1``."""
    missing = _first(number for number in range(count) if not labels.get(number))
    if missing is None and len(labels) == count:
        return
    wrong = f"class {missing} has no label" if missing is not None else "there are too many labels"
    raise ModelLoadError(
        model, f"model {model!r}: {wrong}: {file} has {len(labels)}, and the model {count} classes"
    )


def _first(numbers: Iterable[int]) -> int | None:
    return next(iter(numbers), None)
