"""The errors that autotag raises on purpose, in one tree.

::

    AutotagError
    |-- ConfigError                  a preset, option or setting is wrong
    |   |-- UnknownNameError         a name is not registered (also a KeyError)
    |   |-- DuplicateNameError       two things have the same name
    |   `-- WiringError              a stage needs a field that no earlier stage writes
    |-- ImageReadError               one image cannot be read: ``source``, ``reason``, ``way_out``
    |   |-- ImageTooLargeError       an image has more pixels than ``max_pixels``
    |   `-- UrlRefusedError          a URL is not allowed or not safe to fetch
    |-- ModelError                   a model cannot be used: ``model``
    |   |-- ModelUnavailableError    weights are not on this machine and cannot be downloaded
    |   `-- ModelLoadError           weights are on this machine but do not load
    |-- StageError                   a stage failed: ``stage``, ``source``
    |   `-- StageBrokenError         a stage failed on many images in a row
    |-- PipelineClosedError          a closed pipeline was used
    |-- ForkedProcessError           the process was forked after models were used
    |-- RequestRefusedError          a server gives no answer: ``kind``, ``message``, ``retry_after``
    |-- SearchIndexError             an index cannot be used: ``path``, ``reason``
    |-- PhotoServerError             a photo server refuses or fails: ``server``, ``reason``, ``status``
    |-- ClusterError                 a job on a cluster ended early: a worker died, a disk is full
    `-- MetadataError                a photograph's metadata cannot be read or written: ``path``, ``reason``
        |-- FileChangedError         the file changed since it was read
        `-- FileBusyError            another run is writing the file

Each error names what is wrong and how to fix it, and has the facts as attributes.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


DISTRIBUTION = "autotag-images"  # what pip installs; ``autotag`` on PyPI is another project


def install_hint(extra: str) -> str:
    """Return the command that installs an extra: ``pip install 'autotag-images[heic]'`` for ``"heic"``."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


class AutotagError(Exception):
    """The base class of all errors that autotag raises on purpose."""


class ConfigError(AutotagError):
    """A preset, option or setting is wrong."""


class UnknownNameError(ConfigError, KeyError):
    """The name is not registered.

    Attributes:
        kind: what the name should stand for, e.g. ``"stage"``.
        name: the name as given.
        known: the registered names, sorted.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(sorted(known))
        super().__init__(f"unknown {kind} {name!r}. {suggestion(name, self.known)}")

    def __str__(self) -> str:
        """Return the message itself; ``KeyError`` would return its ``repr``."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.kind, self.name, self.known)


class DuplicateNameError(ConfigError):
    """Two things are registered under the same name.

    Attributes:
        kind: what the name stands for, e.g. ``"stage"``.
        name: the name.
        claims: the two things, e.g. import strings with their distribution.
    """

    def __init__(self, kind: str, name: str, claims: tuple[str, str]) -> None:
        self.kind = kind
        self.name = name
        self.claims = claims
        super().__init__(
            f"two {kind}s are called {name!r}: {claims[0]} and {claims[1]}. "
            "Rename one, or uninstall its package."
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.kind, self.name, self.claims)


class WiringError(ConfigError):
    """The stages of a pipeline do not fit together in this order."""


class ImageReadError(AutotagError):
    """One image cannot be read.

    Attributes:
        source: the path, URL or id of the image.
        reason: what is wrong with it, as text.
        way_out: what whoever runs autotag can do, such as an option to set; empty if there is nothing. A
            server does not tell it to its clients.
    """

    def __init__(self, source: str, reason: str, way_out: str = "") -> None:
        self.source = source
        self.reason = reason
        self.way_out = way_out
        hint = f"; {way_out}" if way_out else ""
        super().__init__(f"cannot read image {source!r}: {reason}{hint}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.source, self.reason, self.way_out)


class ImageTooLargeError(ImageReadError):
    """An image has more pixels than ``max_pixels``."""


class UrlRefusedError(ImageReadError):
    """A URL is not fetched: not allowed, not http(s), or not a public address."""


class ModelError(AutotagError):
    """A model cannot be used.

    Attributes:
        model: the model's name as given.
    """

    def __init__(self, model: str, message: str) -> None:
        self.model = model
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.model, str(self)), vars(self)


class ModelUnavailableError(ModelError):
    """The weights are not on this machine and cannot be downloaded.

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
    """The weights are on this machine but do not load: damaged, incomplete, or of another kind."""


class StageError(AutotagError):
    """A stage raised an error, which is the ``__cause__`` of this one.

    Attributes:
        stage: the stage's name.
        source: the image on which it failed.
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
    """The process was forked from one that had already used models.

    A fork copies locks but not the threads that hold them, so it could wait for ever.
    """

    def __init__(self) -> None:
        super().__init__(
            "this process was forked from one that had already used models; models hang in a fork. Start "
            "processes with multiprocessing.get_context('spawn'), or fork before models are first used."
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), ()


class RequestRefusedError(AutotagError):
    """A server, or its batcher, gives no answer.

    Attributes:
        kind: what is wrong, one of ``autotag.server.core.refusals.STATUS``, such as ``"overloaded"``.
        message: the same in words, with the way out.
        retry_after: seconds after which it is worth asking again, or None.
    """

    def __init__(self, kind: str, message: str, retry_after: int | None = None) -> None:
        self.kind = kind
        self.message = message
        self.retry_after = retry_after
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.kind, self.message, self.retry_after)


class SearchIndexError(AutotagError):
    """An index cannot be opened, read, written or asked.

    Attributes:
        path: the index's file, or the server and table, without a password.
        reason: what is in the way, and the way out, in words.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"index {path}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.reason)


class PhotoServerError(AutotagError):
    """A photo server cannot be reached, refuses, or answers in another way than its API says.

    Attributes:
        server: its URL.
        reason: what is wrong, and the way out, in words.
        status: of its answer, where that is what is wrong; else None.
    """

    def __init__(self, server: str, reason: str, status: int | None = None) -> None:
        self.server = server
        self.reason = reason
        self.status = status
        super().__init__(f"photo server {server}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.server, self.reason, self.status)


class ClusterError(AutotagError):
    """A job on a cluster ended early: a worker died, or a disk or memory is full.

    The error of the cluster's engine is the ``__cause__`` of this one.
    """


class MetadataError(AutotagError):
    """The metadata of a photograph, or its sidecar, cannot be read or written; the file is unchanged.

    Attributes:
        path: the file.
        reason: why, as text.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.reason)


class FileChangedError(MetadataError):
    """A file changed after it was read, so the planned change no longer fits."""


class FileBusyError(MetadataError):
    """Another run is writing the file now."""


def suggestion(name: object, known: Iterable[str]) -> str:
    """Return ``"Did you mean 'threshold'?"`` for a near miss, else a sentence with all known names."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {', '.join(names)}." if names else "Nothing is registered."
