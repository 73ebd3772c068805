"""Loads open_clip models from a folder, the hub, or open_clip's own table, or raises one clear error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import open_clip
from open_clip.tokenizer import HFTokenizer

from autotag.errors import ConfigError, UnknownNameError
from autotag.models.loading import hub, model_folders
from autotag.models.loading.load_errors import loading
from autotag.protocols import ModelKind, ModelRequest

if TYPE_CHECKING:
    from pathlib import Path

_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "fp32"}
_EXAMPLES: dict[ModelKind, str] = {
    "captioner": "coca_ViT-L-14/mscoco_finetuned_laion2b_s13b_b90k",
    "encoder": "ViT-B-32/laion2b_s34b_b79k",
}

Check = Callable[[ModelRequest, dict[str, Any], str], None]
"""Called before weights are downloaded, with the request, the configuration, and where that was read."""


class LoadedOpenClip(NamedTuple):
    """A loaded open_clip model.

    Attributes:
        model: in eval mode, on its device, with its preprocessing attached.
        tokenizer: texts -> (T, L) token ids, cut at the model's limit.
        id: identifies the weights.
    """

    model: Any
    tokenizer: Any
    id: str


def any_model(request: ModelRequest, config: dict[str, Any], place: str) -> None:
    """Accept every model; a ``Check``."""


def load_open_clip(request: ModelRequest, kind: ModelKind, check: Check = any_model) -> LoadedOpenClip:
    """Load the model named ``"ViT-B-32/laion2b_s34b_b79k"``, ``"hf-hub:<id>"``, or in a folder.

    Args:
        request: the model's location, device and dtype.
        kind: what it is used as.
        check: raises if the configuration is of another kind of model.

    Raises:
        ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
        ModelLoadError: the weights are damaged, incomplete, or of another class.
        ConfigError: open_clip does not know the model or pretrained tag.
    """
    if request.folder is not None or request.location.startswith("hf-hub:"):
        return _from_folder(request, kind, check)
    return _from_tag(request, kind, check)


def _from_folder(request: ModelRequest, kind: ModelKind, check: Check) -> LoadedOpenClip:
    """Load from a folder, or a hub repository, that holds ``open_clip_config.json``."""
    folder = request.folder
    if folder is not None:
        model_folders.check_folder(request.name, folder, model_folders.OPEN_CLIP)
        identity = f"open_clip:{model_folders.fingerprint(folder)}"
    else:
        hub_id = request.location.removeprefix("hf-hub:")
        folder = hub.fetch(request.name, kind, hub_id, request.revision, model_folders.OPEN_CLIP)
        model_folders.check_folder(request.name, folder, model_folders.OPEN_CLIP)
        identity = f"open_clip:{hub_id}@{folder.name}"
    config = model_folders.read_json(request.name, folder / "open_clip_config.json").get("model_cfg", {})
    check(request, config, f"open_clip_config.json in folder {folder}")
    architecture = f"local-dir:{folder}"
    return _built(
        request,
        folder,
        identity,
        architecture=architecture,
        options=_text_tower(request, kind, config.get("text_cfg", {}), folder),
        tokenizer=partial(open_clip.get_tokenizer, architecture),
    )


def _from_tag(request: ModelRequest, kind: ModelKind, check: Check) -> LoadedOpenClip:
    """Load a model from open_clip's own table of architectures and pretrained tags.

    The weights are passed as a file, because open_clip would send a request to the hub each time. Therefore
    the tag's other settings (preprocessing and QuickGELU) are passed as well.
    """
    architecture, tag = _known_names(request, kind)
    config = open_clip.get_model_config(architecture)
    check(request, config, f"open_clip's architecture {architecture}")
    pretrained = open_clip.get_pretrained_cfg(architecture, tag)
    hub_id, _, file = pretrained["hf_hub"].rpartition("/")
    needs = {"weights": (file,)} if file else model_folders.OPEN_CLIP_WEIGHTS
    folder = hub.fetch(
        request.name, kind, hub_id, request.revision, needs, download_size=request.download_size
    )
    text = config["text_cfg"]
    return _built(
        request,
        folder,
        f"open_clip:{architecture}/{tag}@{folder.name}",
        architecture=architecture,
        options={
            "pretrained": str(next(folder / name for name in needs["weights"] if (folder / name).is_file())),
            "force_quick_gelu": bool(pretrained.get("quick_gelu")),
            "force_preprocess_cfg": {key: pretrained[key] for key in _PREPROCESSING if key in pretrained},
            **_text_tower(request, kind, text, None),
        },
        tokenizer=_tag_tokenizer(request, kind, architecture, text),
    )


def _known_names(request: ModelRequest, kind: ModelKind) -> tuple[str, str]:
    """Return architecture and pretrained tag; refuse names that open_clip does not know."""
    architecture, _, tag = request.location.rpartition("/")
    if not architecture:
        raise ConfigError(
            f"{kind} {request.name!r} must be 'open_clip:<architecture>/<pretrained tag>', "
            f"such as 'open_clip:{_EXAMPLES[kind]}', 'open_clip:hf-hub:<id>' or a folder"
        )
    if architecture not in open_clip.list_models():
        raise UnknownNameError("open_clip architecture", architecture, open_clip.list_models())
    if not open_clip.is_pretrained_cfg(architecture, tag):
        known = open_clip.list_pretrained_tags_by_model(architecture)
        raise UnknownNameError(f"pretrained tag of {architecture}", tag, known)
    return architecture, tag


def _text_tower(
    request: ModelRequest, kind: ModelKind, text: dict[str, Any], folder: Path | None
) -> dict[str, Any]:
    """Return options that load a transformers text tower from local files; {} for open_clip's own tower."""
    name = text.get("hf_model_name")
    if not name:
        return {}
    if folder is not None and (folder / "config.json").is_file():
        place = folder
    else:
        place = hub.fetch(request.name, kind, name, hub.HUB_BRANCH, model_folders.CONFIGURATION)
    return {"text_cfg": {**text, "hf_model_name": str(place), "hf_model_pretrained": False}}


def _tag_tokenizer(
    request: ModelRequest, kind: ModelKind, architecture: str, text: dict[str, Any]
) -> Callable[[], Any]:
    """Return a function that makes the tokenizer: open_clip's own, or a downloaded one of transformers."""
    name = text.get("hf_tokenizer_name")
    if not name:
        return partial(open_clip.get_tokenizer, architecture)
    return partial(
        HFTokenizer,
        str(hub.fetch(request.name, kind, name, hub.HUB_BRANCH, model_folders.TOKENIZER)),
        context_length=text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
        tokenizer_mode=text.get("tokenizer_mode"),
        **text.get("tokenizer_kwargs", {}),
    )


def _built(
    request: ModelRequest,
    folder: Path,
    identity: str,
    *,
    architecture: str,
    options: dict[str, Any],
    tokenizer: Callable[[], Any],
) -> LoadedOpenClip:
    """Create the model; turn any error of open_clip into one ``ModelLoadError``."""
    with loading(request.name, folder, "in open_clip"):
        model = open_clip.create_model(
            architecture,
            precision=_PRECISIONS[request.dtype],
            device=request.device,
            require_pretrained=True,
            **options,
        )
        words = tokenizer()
    return LoadedOpenClip(model.eval(), words, identity)
