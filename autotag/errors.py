"""Every error that autotag raises on purpose, in one tree.

::

    AutotagError
    |-- ConfigError                  a preset, option or setting is wrong
    |   |-- UnknownNameError         a name that nothing is registered under (also a KeyError)
    |   |-- DuplicateNameError       one name claimed twice
    |   `-- WiringError              a stage needs a field that no earlier stage writes
    |-- ImageReadError               one image cannot be read: ``source``, ``reason``
    |   `-- UrlRefusedError          a URL that must not or may not be fetched
    |-- ModelError                   something about a model: ``model``
    |   |-- ModelUnavailableError    weights are neither on this machine nor to be had
    |   `-- ModelLoadError           weights are there but do not load
    |-- StageError                   a stage failed: ``stage``, ``source``
    |   `-- StageBrokenError         a stage failed on many images in a row
    |-- PipelineClosedError          a closed pipeline was used
    |-- ForkedProcessError           models were used, and then the process was forked
    |-- SearchIndexError             an index cannot be used: ``path``, ``reason``
    `-- MetadataError                a photograph's metadata cannot be read or written: ``path``, ``reason``
        |-- FileChangedError         the file changed since it was read
        `-- FileBusyError            another run is writing the file

Errors carry their facts as attributes, name the thing, and say the way out.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class AutotagError(Exception):
    """The root of every error raised on purpose by autotag."""


class ConfigError(AutotagError):
    """A preset, option or setting is wrong."""


class UnknownNameError(ConfigError, KeyError):
    """Nothing is registered under this name.

    Attributes:
        kind: what was looked for, e.g. ``"stage"``.
        name: the name as given.
        known: the names that would have worked.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(sorted(known))
        super().__init__(f"unknown {kind} {name!r}. {suggestion(name, self.known)}")

    def __str__(self) -> str:
        """The message itself; ``KeyError`` would print its ``repr``."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.kind, self.name, self.known)


class DuplicateNameError(ConfigError):
    """One name is claimed by two things.

    Attributes:
        kind: what the name stands for, e.g. ``"stage"``.
        name: the name.
        claims: both claimants, e.g. import strings with their distribution.
    """

    def __init__(self, kind: str, name: str, claims: tuple[str, str]) -> None:
        self.kind = kind
        self.name = name
        self.claims = claims
        super().__init__(
            f"two {kind}s are called {name!r}: {claims[0]} and {claims[1]}. "
            "Rename one, or uninstall the package that brings it."
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.kind, self.name, self.claims)


class WiringError(ConfigError):
    """The stages of a pipeline do not fit together in this order."""


class ImageReadError(AutotagError):
    """One image cannot be read.

    Attributes:
        source: the path, URL or id of the image.
        reason: what is wrong with it, in words.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(f"cannot read image {source!r}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.source, self.reason)


class UrlRefusedError(ImageReadError):
    """A URL that is not fetched: not allowed, not http(s), or not a public address."""


class ModelError(AutotagError):
    """Something about a model.

    Attributes:
        model: the model's name as given.
    """

    def __init__(self, model: str, message: str) -> None:
        self.model = model
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.model, str(self)), vars(self)


class ModelUnavailableError(ModelError):
    """The weights are neither on this machine nor within reach.

    Attributes:
        model: the model's name as given.
        looked_in: the folder that was searched, or None.
        download_size: size of the download in bytes, or None when unknown.
    """

    def __init__(
        self,
        model: str,
        message: str,
        *,
        looked_in: Path | None = None,
        download_size: int | None = None,
    ) -> None:
        self.looked_in = looked_in
        self.download_size = download_size
        super().__init__(model, message)


class ModelLoadError(ModelError):
    """The weights are there but do not load: damaged, incomplete, or of another kind."""


class StageError(AutotagError):
    """A stage raised; the cause is chained as ``__cause__``.

    Attributes:
        stage: name of the stage.
        source: the image that it failed on.
    """

    def __init__(self, stage: str, source: str, message: str) -> None:
        self.stage = stage
        self.source = source
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.stage, self.source, str(self))


class StageBrokenError(StageError):
    """A stage failed on many images in a row: the stage is broken, not the images."""


class PipelineClosedError(AutotagError):
    """A pipeline was used after ``close()``."""


class ForkedProcessError(AutotagError):
    """Models are asked for in a forked copy of a process that had used models already.

    The copy has the locks of the threads that it does not have, so it would wait for ever.
    """

    def __init__(self) -> None:
        super().__init__(
            "this process was forked from one that had used models, and they hang in a copy of it. Start "
            "processes by multiprocessing.get_context('spawn'), or fork before models are first used."
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), ()


class SearchIndexError(AutotagError):
    """An index cannot be opened, read, written or asked.

    Attributes:
        path: the index's file.
        reason: what is in the way, and the way out, in words.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"index {path}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.reason)


class MetadataError(AutotagError):
    """The metadata of a photograph, or its sidecar, cannot be read or written; the file is as it was.

    Attributes:
        path: the file.
        reason: what is in the way, in words.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.reason)


class FileChangedError(MetadataError):
    """A file changed since it was read, so what was meant for it does not fit any more."""


class FileBusyError(MetadataError):
    """Another run is writing the file at this moment."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """``"Did you mean 'threshold'?"`` for a near miss, else the list of what is known."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {', '.join(names)}." if names else "Nothing is registered."
