"""Save a pipeline as one folder, and read it back: the config, its files, local models, a model card.

The folder holds ``autotag.toml``, in which ``{here}`` stands for the folder itself, so that it can be moved,
sent or uploaded to the hub.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotag.config import options, registry
from autotag.errors import ConfigError, ModelUnavailableError
from autotag.files.bounded_files import is_folder, named_path
from autotag.files.toml_files import read_toml
from autotag.files.toml_text import toml_text
from autotag.models.names import SAVED_CONFIG, SAVED_MODELS, ModelName, check_model
from autotag.pipeline import stage_tables
from autotag.vocabularies.vocabulary import BUNDLED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from autotag.protocols import Stage

CONFIG_FILE = SAVED_CONFIG
CARD_FILE = "README.md"
LARGEST = 500_000_000
"""The most bytes of local models that are copied unless told otherwise."""

_HERE = "{here}"


@dataclass(frozen=True, slots=True)
class Saved:
    """What is saved of a pipeline.

    Attributes:
        name: of the folder or the hub's repository, for the model card.
        config: of the pipeline.
        stages: of the pipeline, in the order of the config.
        description: of the pipeline, for the model card.
        largest: the most bytes of files and models to copy.
    """

    name: str
    config: dict[str, Any]
    stages: Sequence[Stage]
    description: str
    largest: int


def save(pipeline: Saved, folder: str | os.PathLike[str]) -> Path:
    """Write a pipeline into a new folder; see ``Pipeline.save``."""
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{str(target)!r} is not an empty folder; a pipeline is saved into a new one.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ConfigError(f"cannot save into {str(target)!r}: {error.strerror}.") from error
    try:
        _fill(pipeline, part)
        part.chmod(0o755)
        with suppress(FileNotFoundError):
            target.rmdir()
        part.rename(target)
    except OSError as error:
        raise ConfigError(f"cannot save into {str(target)!r}: {error.strerror}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def read(name: str | os.PathLike[str], *, revision: str | None, trust_code: bool) -> dict[str, Any]:
    """Return the config in a folder or a hub repository; see ``Pipeline.from_pretrained``."""
    folder = Path(name)
    if not folder.is_dir():
        folder = _downloaded(os.fspath(name), revision)
    elif revision is not None:
        raise ConfigError(f"{str(folder)!r} is a folder, which has no revision {revision!r}.")
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise ConfigError(f"{os.fspath(name)!r} is not a saved pipeline: it has no {CONFIG_FILE}.")
    config = read_toml(file, what="saved pipeline")
    if not trust_code:
        _refuse_code(config, os.fspath(name))
    placed = partial(_placed, folder=folder.resolve())
    if isinstance(config.get("encoder"), str):
        config["encoder"] = placed(config["encoder"])
    config["stages"] = [
        _with_places(table, stage_tables.stage_class(table), lambda text, _: placed(text), placed)
        for table in stage_tables.tables_of(config)
    ]
    return config


def push_to_hub(pipeline: Saved, repository: str, *, private: bool, message: str) -> str:
    """Save a pipeline and upload the folder; see ``Pipeline.push_to_hub``."""
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as parent:
        folder = save(pipeline, Path(parent) / "pipeline")
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    return str(done.commit_url)


def _fill(pipeline: Saved, folder: Path) -> None:
    copies = _Copies(folder, pipeline.largest)
    config = dict(pipeline.config)
    if "encoder" in config:
        config["encoder"] = copies.model(config["encoder"], "encoder")
    kinds = map(type, pipeline.stages)
    config["stages"] = [
        _with_places(table, kind, copies.model, copies.vocabulary)
        for kind, table in zip(kinds, config["stages"], strict=True)
    ]
    (folder / CONFIG_FILE).write_text(toml_text(config), encoding="utf-8")
    (folder / CARD_FILE).write_text(_card(pipeline), encoding="utf-8")


@dataclass(slots=True)
class _Copies:
    """Copy files and models into a folder, each once, and return how the config names the copies."""

    folder: Path
    largest: int
    _names: dict[Path, str] = field(default_factory=dict)
    _size: int = 0

    def model(self, text: str, kind: Any) -> str:
        """Return a model's name, with its folder, if it is one, replaced by the copy."""
        if text == options.NONE:
            return text
        model = check_model(text, kind)
        assert isinstance(model, ModelName)  # noqa: S101 - a text was given
        address = model.address
        if address.folder is None:
            return text
        if address.card is not None:  # a bundled model, which every machine has
            return address.card.name
        copied = self._copy(address.folder, SAVED_MODELS)
        return copied if is_folder(named_path(text)) else f"{address.factory}:{copied}"

    def vocabulary(self, text: str) -> str:
        """Return a vocabulary's name, or the place of its copied file."""
        if text in BUNDLED or not os.path.isfile(named_path(text)):  # noqa: PTH113 - any name may come
            return text
        return self._copy(Path(named_path(text)), "vocabularies")

    def _copy(self, source: Path, room: str) -> str:
        resolved = source.resolve()
        if resolved not in self._names:
            inside = (
                [resolved] if resolved.is_file() else [path for path in resolved.rglob("*") if path.is_file()]
            )
            self._size += sum(path.stat().st_size for path in inside)
            if self._size > self.largest:
                raise ConfigError(
                    f"{str(source)!r} makes the saved pipeline larger than {self.largest / 1e6:g} MB; name "
                    "the model by its id on the hub instead, or allow more: largest=..."
                )
            place = Path(room) / f"{len(self._names)}-{resolved.name}"
            (self.folder / room).mkdir(exist_ok=True)
            if resolved.is_file():
                shutil.copyfile(resolved, self.folder / place)
            else:
                shutil.copytree(resolved, self.folder / place)
            self._names[resolved] = f"{_HERE}/{place.as_posix()}"
        return self._names[resolved]


def _with_places(
    table: Mapping[str, Any], kind: type, model: Callable[[str, str], str], file: Callable[[str], str]
) -> dict[str, Any]:
    """Return the table of a stage of this class with the names of its models and files changed."""
    changed = options.with_files(kind, table, file)
    for option, kind_of_model in options.model_fields(kind).items():
        value = table.get(option)
        if isinstance(value, str):
            changed[option] = model(value, kind_of_model)
        elif isinstance(value, list):
            changed[option] = [model(name, kind_of_model) for name in value]
    return changed


def _placed(text: str, folder: Path) -> str:
    """Return a text with ``{here}`` replaced by the folder.

    Raises:
        ConfigError: the path leads out of the folder.
    """
    if f"{_HERE}/" not in text:
        return text
    before, _, inner = text.partition(f"{_HERE}/")
    place = (folder / inner).resolve()
    # The hub's cache keeps files as links to blobs beside the snapshot, so the name is checked, not the link.
    if ".." in Path(inner).parts or Path(inner).is_absolute():
        raise ConfigError(f"{text!r} leads out of the folder of the saved pipeline.")
    if not place.exists():
        raise ConfigError(f"the saved pipeline lacks {inner!r}.")
    return f"{before}{folder / inner}"


def _refuse_code(config: Mapping[str, Any], name: str) -> None:
    """Refuse stages that would import code by name.

    Raises:
        ConfigError: a stage is not a registered one, or the stages are not tables.
    """
    for table in stage_tables.tables_of(config):
        reference = stage_tables.stage_reference(table)
        if reference not in registry.names("stage"):
            raise ConfigError(
                f"the pipeline {name!r} has the stage {reference!r}, which would import code; "
                "if you trust its author: from_pretrained(..., trust_code=True)."
            )


def _downloaded(name: str, revision: str | None) -> Path:
    """Return the hub's snapshot of a repository.

    Raises:
        ModelUnavailableError: it cannot be downloaded, and is not in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        return Path(snapshot_download(name, revision=revision))
    except (httpx.HTTPError, OSError, ValueError, HFValidationError) as error:
        raise ModelUnavailableError(
            name, f"{name!r} is neither a folder nor a pipeline that can be downloaded from the hub: {error}"
        ) from error


def _card(pipeline: Saved) -> str:
    """Return the model card: what the hub shows, and how to use the pipeline."""
    return f"""---
library_name: autotag
pipeline_tag: image-to-text
tags:
- autotag
- image-tagging
---

# {pipeline.name}

A pipeline of autotag: it turns an image into a caption, tags (best first) and a prompt.

```python
import autotag

tagger = autotag.Pipeline.from_pretrained("{pipeline.name}")
print(tagger("photo.jpg").tag_texts)
```

```text
{pipeline.description}
```

The licences of the models that it names are those of their authors.
"""
