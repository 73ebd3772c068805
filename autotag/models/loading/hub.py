"""Folders of weights from the model hub: found in its cache, or downloaded. Does not import torch.

Files in the cache are used without a request to the hub, so a downloaded model loads offline and at once.
Before a download, one short request checks that the hub is reachable, so an unreachable hub costs seconds,
not minutes of retries.
"""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from autotag.errors import ModelUnavailableError
from autotag.models.loading.model_folders import Needs, check_folder, looks_like_folder, missing_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from autotag.protocols import ModelKind, ModelRequest

HUB_BRANCH = "main"
"""The branch of a hub repository that is downloaded when no revision is named."""

PATIENCE = 6.0
"""Seconds to wait for the hub's first answer, including name resolution, which has no timeout itself."""

_BUNDLED: dict[ModelKind, str] = {
    "captioner": "blip-mini",
    "encoder": "clip-mini",
    "extractor": "minilm-mini",
    "detector": "objects-mini",
}
_PRESET = dict.fromkeys(("captioner", "encoder", "extractor"), " (preset 'mini')")
_TEXT_SUFFIXES = {".json", ".txt", ".csv", ".model", ".spm", ".jinja"}
_OTHER_RUNTIMES = {"onnx", "openvino", "coreml", "flax", "tf"}

_Answer = TypeVar("_Answer")


def model_folder(request: ModelRequest, kind: ModelKind, needs: Needs) -> Path:
    """Return the folder with the model of a request: a local folder, or the hub's cache after a download.

    Raises:
        ModelUnavailableError: the folder does not exist, or the model cannot be downloaded.
        ModelLoadError: the folder lacks a part, or a safetensors file is damaged.
    """
    folder = request.folder
    if folder is None:
        if looks_like_folder(request.location):
            folder = Path(request.location)
            raise ModelUnavailableError(
                request.name, f"model {request.name!r}: there is no folder {folder}", looked_in=folder
            )
        folder = fetch(
            request.name, kind, request.location, request.revision, needs, download_size=request.download_size
        )
    check_folder(request.name, folder, needs)
    return folder


def fetch(
    model: str,
    kind: ModelKind,
    hub_id: str,
    revision: str | None,
    needs: Needs,
    *,
    download_size: int | None = None,
) -> Path:
    """Return the folder of a hub repository: from the cache when it is complete there, else downloaded.

    Raises:
        ModelUnavailableError: it is not in the cache and cannot be downloaded.
    """
    cached = cached_folder(hub_id, revision, needs)
    if cached is not None:
        return cached
    return download(model, kind, hub_id, revision, needs, download_size=download_size)


def cached_folder(hub_id: str, revision: str | None, needs: Needs) -> Path | None:
    """Return the snapshot in the hub's cache if every needed part is there, else None. Sends no request."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    names = [name for alternatives in needs.values() for name in alternatives]
    try:
        found = [try_to_load_from_cache(hub_id, name, revision=revision) for name in names]
    except HFValidationError:
        return None
    for name, file in zip(names, found, strict=True):
        if isinstance(file, str):
            folder = Path(file).parents[len(PurePosixPath(name).parts) - 1]
            return None if missing_parts(folder, needs) else folder
    return None


def download(
    model: str,
    kind: ModelKind,
    hub_id: str,
    revision: str | None,
    needs: Needs,
    *,
    download_size: int | None = None,
) -> Path:
    """Download the files that a model needs from a hub repository to the hub's cache, and return the folder.

    Downloads one format of weights only, safetensors if available, and no file that the cache already holds.
    Progress goes to stderr.

    Raises:
        ModelUnavailableError: the hub cannot be reached, or does not have the model.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        api = HfApi()
        info = _within(PATIENCE, lambda: api.model_info(hub_id, revision=revision, timeout=PATIENCE))
        files = _wanted([sibling.rfilename for sibling in info.siblings or []], needs)
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=files))
    except (httpx.HTTPError, OSError, ValueError) as error:
        place = f"{hub_id}@{revision}" if revision else hub_id
        raise _unavailable(model, kind, place, _reason(error), download_size=download_size) from error


def _within(seconds: float, question: Callable[[], _Answer]) -> _Answer:
    """Return the answer, or raise ``TimeoutError``; a thread that hangs in name resolution is abandoned."""
    future: Future[_Answer] = Future()

    def ask() -> None:
        try:
            future.set_result(question())
        except BaseException as error:  # noqa: BLE001  not handled here: raised again in the asking thread
            future.set_exception(error)

    Thread(target=ask, name="autotag-hub", daemon=True).start()
    try:
        return future.result(timeout=seconds)
    except FutureTimeoutError:
        raise TimeoutError(f"no answer within {seconds:g} s") from None


def _wanted(files: list[str], needs: Needs) -> list[str]:
    """Return the files of a repository to download: all small text files, and one format of weights."""
    weights = next((name for name in needs.get("weights", ()) if name in files), None)
    if "weights" in needs and weights is None:
        raise FileNotFoundError(f"the repository has no {' or '.join(needs['weights'])}")
    return [file for file in files if _is_wanted(PurePosixPath(file), weights)]


def _is_wanted(file: PurePosixPath, weights: str | None) -> bool:
    if file.parts[0] in _OTHER_RUNTIMES:
        return False
    if file.suffix in _TEXT_SUFFIXES:
        return True
    if weights is None:
        return False
    whole = PurePosixPath(weights.removesuffix(".index.json"))
    if file.suffix != whole.suffix:
        return False
    is_shard = weights.endswith(".index.json") and file.name.startswith(f"{whole.stem}-")
    return str(file) == weights or is_shard or len(file.parts) > 1


def _unavailable(
    model: str, kind: ModelKind, place: str, reason: str, *, download_size: int | None
) -> ModelUnavailableError:
    """Return the error with the place, the reason, the download size, and a bundled alternative."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    size = f" It is a download of about {size_in_words(download_size)}." if download_size else ""
    bundled = _BUNDLED.get(kind)
    instead = (
        f" {bundled!r}{_PRESET.get(kind, '')} comes with autotag and needs no download." if bundled else ""
    )
    return ModelUnavailableError(
        model,
        f"model {model!r} ({place}) is not on this machine, looked in {cache}, "
        f"and cannot be downloaded: {reason}.{size}{instead}",
        looked_in=cache,
        download_size=download_size,
    )


def size_in_words(size: int) -> str:
    """Return a number of bytes for people: ``"990 MB"``, ``"1.9 GB"``."""
    return f"{size / 1e9:.1f} GB" if size >= 1_000_000_000 else f"{size / 1e6:.0f} MB"


def _reason(error: Exception) -> str:
    """Return, in words, why the download failed."""
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    hub_name = constants.ENDPOINT
    reasons: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (  # the first that fits
        (errors.OfflineModeIsEnabled, "the hub is switched off by HF_HUB_OFFLINE"),
        (errors.HFValidationError, "that is not a hub id"),
        (errors.GatedRepoError, "it is gated: accept its terms on the hub, then run `hf auth login`"),
        (errors.RevisionNotFoundError, "the hub has the model, but not this revision"),
        (errors.RepositoryNotFoundError, "the hub has no such model, or it is private (run `hf auth login`)"),
        (errors.HfHubHTTPError, f"{hub_name} or a proxy before it answered {_status(error)}"),
        (httpx.ProxyError, f"the proxy before {hub_name} refuses ({error})"),
        (
            (httpx.HTTPError, TimeoutError, ConnectionError),
            f"{hub_name} cannot be reached ({error or type(error).__name__})",
        ),
    )
    return next((words for kinds, words in reasons if isinstance(error, kinds)), str(error))


def _status(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(getattr(response, "status_code", "an error"))
