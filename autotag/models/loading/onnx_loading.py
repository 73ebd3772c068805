"""Opens a network in an ONNX file with onnxruntime, or raises one clear error."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError, ModelLoadError, ModelUnavailableError, install_hint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from autotag.protocols import ModelKind, ModelRequest

_logger = logging.getLogger("autotag")
_CUDA = "CUDAExecutionProvider"


def onnx_session(request: ModelRequest, kind: ModelKind, file: Path) -> Any:
    """Return an ``onnxruntime.InferenceSession`` of a file, on the request's device if onnxruntime can.

    Without CUDA in onnxruntime, a request for it gets the processor, and a warning is logged once.

    Raises:
        ConfigError: onnxruntime is not installed.
        ModelUnavailableError: there is no such file.
        ModelLoadError: the file is not an ONNX network.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"{kind} {request.name!r} needs onnxruntime: {install_hint('onnx')}") from error
    if not file.is_file():
        raise ModelUnavailableError(
            request.name, f"model {request.name!r}: there is no file {file}", looked_in=file.parent
        )
    try:
        return onnxruntime.InferenceSession(
            file, providers=_providers(request.device, onnxruntime.get_available_providers())
        )
    except Exception as error:
        raise ModelLoadError(
            request.name, f"model {request.name!r}: {file} is not an ONNX network: {error}"
        ) from error


def _providers(device: str, available: Sequence[str]) -> list[Any]:
    """Return onnxruntime's execution providers for a device such as "cpu", "cuda" or "cuda:1"."""
    kind, _, number = device.partition(":")
    if kind == "cuda" and _CUDA not in available:
        _warn_of_processor()
        kind = "cpu"
    return [*([(_CUDA, {"device_id": int(number or 0)})] if kind == "cuda" else []), "CPUExecutionProvider"]


@cache
def _warn_of_processor() -> None:
    _logger.warning(
        "this onnxruntime has no CUDA, so ONNX networks run on the processor; "
        "for the graphics card, install onnxruntime-gpu instead of onnxruntime"
    )
