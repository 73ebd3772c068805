"""The files that a model's folder must hold, and checks of a folder. Does not import torch."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotag.errors import ModelLoadError

if TYPE_CHECKING:
    from autotag.protocols import ModelKind

Needs = Mapping[str, tuple[str, ...]]
"""Part of a model -> file names; at least one must exist."""

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_TOKENIZER = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
_TOKENIZER_FILES = frozenset({*_TOKENIZER, "merges.txt", "added_tokens.json", "special_tokens_map.json"})
_ADAPTERS = "adapter_config.json"
_PICKLED_WEIGHTS = "*pytorch_model*.bin"
_OLDER_PICKLE = b"\x80"
"""First byte of weights that torch before 1.6 wrote; later ones are zip archives."""
_POINTER = b"version https://git-lfs.github.com/spec/v1"
_WEIGHT_ENDINGS = frozenset({".safetensors", ".bin", ".pt", ".pth"})
TRANSFORMERS: Needs = {
    "configuration": ("config.json",),
    "weights": _WEIGHTS,
    "image processor": ("processor_config.json", "preprocessor_config.json"),
    "tokenizer": _TOKENIZER,
}
TRANSFORMERS_IMAGES: Needs = {part: names for part, names in TRANSFORMERS.items() if part != "tokenizer"}
"""The parts of a model that looks at images only."""
SENTENCE_TRANSFORMERS: Needs = {
    "configuration": ("modules.json", "config.json"),
    "weights": (*_WEIGHTS, "0_StaticEmbedding/model.safetensors"),
    "tokenizer": (*_TOKENIZER, "0_StaticEmbedding/tokenizer.json"),
}
OPEN_CLIP_WEIGHTS: Needs = {
    "weights": (
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.safetensors",
        "open_clip_pytorch_model.bin",
    ),
}
OPEN_CLIP: Needs = {
    "configuration": ("open_clip_config.json",),
    "weights": (*OPEN_CLIP_WEIGHTS["weights"], *_WEIGHTS),
}
TRANSLATOR: Needs = {
    "configuration": ("config.json",),
    "weights": _WEIGHTS,
    "vocabulary": ("vocab.json",),
    "sentencepiece model": ("source.spm", "sentencepiece.bpe.model"),
}
TIMM: Needs = {"configuration": ("config.json",), "weights": ("model.safetensors", "pytorch_model.bin")}
ONNX_TAGGER: Needs = {"weights": ("model.onnx",), "tags": ("selected_tags.csv",)}
TOKENIZER: Needs = {"tokenizer": _TOKENIZER}
CONFIGURATION: Needs = {"configuration": ("config.json",)}


def looks_like_folder(location: str) -> bool:
    """Return whether a location can only be a folder, not a hub id or an open_clip name."""
    return (
        location.startswith((".", "~", "/", "local-dir:"))
        or "\\" in location
        or Path(location).is_absolute()
        or location.count("/") > 1
    )


def needs_of(factory: str, kind: ModelKind) -> Needs:
    """Return the files that one of autotag's own factories needs from a hub repository or folder."""
    if factory == "hf" and kind in {"detector", "classifier"}:
        return TRANSFORMERS_IMAGES
    if kind == "translator":
        return TRANSLATOR
    return {
        "hf": TRANSFORMERS,
        "keybert": SENTENCE_TRANSFORMERS,
        "open_clip": OPEN_CLIP_WEIGHTS,
        "class_activation": OPEN_CLIP,
        "timm": TIMM,
        "onnx": ONNX_TAGGER,
    }[factory]


def missing_parts(folder: Path, needs: Needs) -> list[str]:
    """Return the parts that a folder lacks, each with the file names that were looked for."""
    missing = [
        f"{part} ({' or '.join(names)})"
        for part, names in needs.items()
        if not any((folder / name).is_file() for name in names)
    ]
    return [*missing, *_missing_shards(folder, needs)]


def _missing_shards(folder: Path, needs: Needs) -> list[str]:
    """Return the weight files that a folder's index names and the folder lacks; or the index, if damaged."""
    present = next((name for name in needs.get("weights", ()) if (folder / name).is_file()), "")
    if not present.endswith(".index.json"):
        return []
    try:
        shards = sorted(
            set(json.loads((folder / present).read_text(encoding="utf-8"))["weight_map"].values())
        )
        lacking = [name for name in shards if not (folder / name).is_file()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        shards = lacking = []
    return [f"weights ({name})" for name in lacking] if shards else [f"weights ({present} is damaged)"]


def check_folder(model: str, folder: Path, needs: Needs) -> None:
    """Check a folder before anything is loaded from it.

    Raises:
        ModelLoadError: a part is missing, the folder holds only LoRA adapters, a file is a pointer of Git
            LFS, or weights are damaged; the message names the file.
    """
    if (folder / _ADAPTERS).is_file() and not (folder / "config.json").is_file():
        base = read_json(model, folder / _ADAPTERS).get("base_model_name_or_path")
        raise ModelLoadError(
            model,
            f"model {model!r}: folder {folder} holds LoRA adapters; merge them into their base model "
            f"{base!r} first (merge_and_unload of PEFT, then save_pretrained)",
        )
    missing = missing_parts(folder, needs)
    if missing:
        raise ModelLoadError(model, f"model {model!r}: folder {folder} has no {', no '.join(missing)}")
    tensors = sorted(folder.rglob("*.safetensors"))
    pickles = [file for file in sorted(folder.rglob(_PICKLED_WEIGHTS)) if not _is_second_choice(file)]
    parts = [next(folder / name for name in names if (folder / name).is_file()) for names in needs.values()]
    for file in (*tensors, *pickles, *parts):
        if _head(model, file).startswith(_POINTER):
            raise ModelLoadError(
                model,
                f"model {model!r}: {file.name} in folder {file.parent} is a Git LFS pointer; "
                "run `git lfs pull` there",
            )
    for file in tensors:
        _check_safetensors(model, file)
    for file in pickles:
        if not zipfile.is_zipfile(file) and not _head(model, file).startswith(_OLDER_PICKLE):
            raise ModelLoadError(model, f"model {model!r}: {file.name} in folder {file.parent} is damaged")


def _is_second_choice(pickled: Path) -> bool:
    """Return whether the weights in a ``.bin`` file are there as safetensors, too, which are loaded then."""
    return any(pickled.parent.glob("*.safetensors"))


def _head(model: str, file: Path) -> bytes:
    """Return the first bytes of a file."""
    try:
        with file.open("rb") as stream:
            return stream.read(len(_POINTER))
    except OSError as error:
        raise ModelLoadError(
            model, f"model {model!r}: {file.name} in folder {file.parent} cannot be read: {error.strerror}"
        ) from error


def _check_safetensors(model: str, file: Path) -> None:
    """Read the header, which also detects a truncated file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelLoadError(
            model, f"model {model!r}: {file.name} in folder {file.parent} is damaged: {error}"
        ) from error


def read_json(model: str, file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ModelLoadError: the file cannot be read, or does not hold a JSON object.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            model, f"model {model!r}: {file.name} in folder {file.parent} cannot be read: {error}"
        ) from error
    if not isinstance(found, dict):
        raise ModelLoadError(
            model, f"model {model!r}: {file.name} in folder {file.parent} is not a JSON object"
        )
    return found


def fingerprint(folder: Path) -> str:
    """Return 16 hex digits that identify the model in a folder, and stay the same when it is moved.

    They are a SHA-256 of the contents of its configuration, weights and tokenizer.
    """
    digest = hashlib.sha256()
    files = sorted(folder.iterdir())
    weights = [file for file in files if file.suffix in _WEIGHT_ENDINGS]
    tokenizer = [file for file in files if file.name in _TOKENIZER_FILES]
    for file in (*sorted(folder.glob("*config.json")), *weights, *tokenizer):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
