"""Turns the errors of libraries that load models into one ``ModelLoadError``. Does not import torch."""

from __future__ import annotations

from contextlib import contextmanager
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from autotag.errors import ModelLoadError
from autotag.models.loading.quiet import no_chatter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    AssertionError,
    EOFError,
)


@contextmanager
def loading(model: str, folder: Path, how: str) -> Iterator[None]:
    """Load a model of a library inside, without the library's messages.

    Args:
        model: its name, for messages.
        folder: of the model.
        how: what the folder is loaded with or as, for messages: ``"in open_clip"``.

    Raises:
        ModelLoadError: the library raised an error.
    """
    try:
        with no_chatter():
            yield
    except UnpicklingError as error:  # its message says how to load the file unsafely
        names = ", ".join(sorted(file.name for file in folder.glob("*.bin"))) or "a file of weights"
        raise ModelLoadError(
            model, f"model {model!r}: {names} in folder {folder} is damaged, or holds more than tensors"
        ) from error
    except _ERRORS as error:
        raise ModelLoadError(
            model,
            f"model {model!r}: folder {folder} does not load {how}: {error or type(error).__name__}",
        ) from error
