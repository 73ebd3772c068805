"""Opens a network in an ONNX file with onnxruntime, or raises one clear error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError, ModelLoadError, ModelUnavailableError, install_hint

if TYPE_CHECKING:
    from pathlib import Path

    from autotag.protocols import ModelKind, ModelRequest


def onnx_session(request: ModelRequest, kind: ModelKind, file: Path) -> Any:
    """Return an ``onnxruntime.InferenceSession`` of a file, on the request's device if onnxruntime can.

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
    available = onnxruntime.get_available_providers()
    wanted = ["CUDAExecutionProvider"] if request.device.startswith("cuda") else []
    try:
        return onnxruntime.InferenceSession(
            file, providers=[*(one for one in wanted if one in available), "CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelLoadError(
            request.name, f"model {request.name!r}: {file} is not an ONNX network: {error}"
        ) from error
