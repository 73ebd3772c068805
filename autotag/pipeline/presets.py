"""Load pipelines from presets, TOML files and overrides.

A config is a table of settings of ``Pipeline`` and an array of stages, each with its options::

    encoder = "clip-vit-b-32"

    [[stages]]
    stage = "filter_tags"        # a registered name, or "package.module:attribute"
    name = "filter_tags"         # only needed if two stages are of the same kind
    score = "cosine"
    threshold = 0.25

TOML has no null, so the word ``"none"`` stands for None where an option may be None. A config may name
code to import, so only use configs that you trust as much as a program.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotag.config import options, registry
from autotag.config.checks import shown
from autotag.errors import ConfigError, UnknownNameError
from autotag.files.bounded_files import is_file, named_path
from autotag.files.toml_files import parse_toml, read_toml, toml_file_text
from autotag.pipeline import saving, stage_tables
from autotag.pipeline.pipeline import Pipeline
from autotag.vocabularies.vocabulary import BUNDLED, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from autotag.protocols import ImageTextEncoder

MATCHING = "match_vocabulary"
NAMING = "name_tags"
_ADDED_BY = {
    "moderate_images": "--moderate of `autotag tag` and `autotag album`",
    "suggest_keywords": "--learn of `autotag album`",
    NAMING: "--language",
}
"""The options of the command line that add stages."""
_PRESETS = Path(__file__).resolve().parent.parent / "presets"


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets that come with autotag, sorted."""
    return tuple(sorted(path.stem for path in _PRESETS.glob("*.toml")))


def read_preset(preset: str | PathLike[str]) -> dict[str, Any]:
    """Return the config of a preset, a TOML file or a saved pipeline, unchecked.

    A vocabulary or file of keywords that the TOML file names is looked for in the file's folder, then in the
    current folder.

    Args:
        preset: a preset's name, the path of a TOML file, or the folder of a saved pipeline. A file called
            ``autotag.toml`` is that of a saved pipeline.

    Raises:
        UnknownNameError: ``preset`` is neither a preset nor a file.
        ConfigError: the file cannot be read or is not TOML; the message names the place. Or it is that of a
            saved pipeline that would import code.
    """
    path = _preset_path(preset)
    if path.name == saving.CONFIG_FILE and is_file(path):
        config = saving.read(path.parent, revision=None, trust_code=False)
    else:
        config = read_toml(path, what="preset")
    if path.parent != _PRESETS and isinstance(config.get("stages"), list):
        beside = partial(_file_beside, folder=path.parent.resolve())
        config["stages"] = [_with_files(table, beside) for table in config["stages"]]
    return config


def is_preset(name: str) -> bool:
    """Return whether a name, which may be a model's, is a preset's, a TOML file's or a saved pipeline's."""
    return name in preset_names() or name.endswith(".toml") or is_file(Path(name) / saving.CONFIG_FILE)


def check_preset(preset: object) -> None:
    """Refuse what is neither a name nor a path.

    Raises:
        ConfigError: it is of another type.
    """
    if not isinstance(preset, str | PathLike):
        raise ConfigError(f"preset={shown(preset)}: give a preset's name, or the path of a TOML file.")


def preset_text(preset: str | PathLike[str]) -> str:
    """Return the TOML text of a preset, comments and all; raises what ``read_preset`` raises."""
    return toml_file_text(_preset_path(preset), what="preset")


def load(
    preset: str | PathLike[str] = "base",
    *,
    encoder: str | ImageTextEncoder | None = None,
    device: str | None = None,
    dtype: str | None = None,
    batch_size: int | Literal["auto"] | None = None,
    stage_batch_sizes: Mapping[str, int] | None = None,
    decode: Literal["fast", "exact"] | None = None,
    decode_size: int | Literal["auto", "full"] | None = None,
    decode_threads: int | Literal["auto"] | None = None,
    decode_ahead: int | Literal["auto"] | None = None,
    allow_urls: bool | None = None,
    allow_truncated: bool | None = None,
    max_pixels: int | Literal["auto"] | None = None,
    fast_paths: Literal["auto", "off"] | Sequence[str] | None = None,
    deterministic: bool | None = None,
    language: str | Sequence[str] | None = None,
    **stages: Mapping[str, object] | Literal[False],
) -> Pipeline:
    """Return the pipeline of a preset, with changes. The weights are loaded later.

    ::

        autotag.load("base", device="cuda", filter_tags={"top_k": 5}, merge_tags=False)

    Args:
        preset: a preset's name (see ``preset_names``), the path of a TOML file, or the folder of a saved
            pipeline, which may not name code to import; for that see ``Pipeline.from_pretrained``.
        encoder: a model's name, a folder or an object. For this and all other settings see ``Pipeline``;
            None keeps the preset's value.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:<n>"`` or ``"mps"``.
        dtype: ``"auto"``, ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"int8"`` (on a CPU).
        batch_size: images that go through the stages together.
        stage_batch_sizes: stage name -> number of images that it gets at once.
        decode: ``"fast"`` or ``"exact"``.
        decode_size: side in pixels down to which files may be decoded at a smaller size.
        decode_threads: threads that read images.
        decode_ahead: images read beyond the current batch.
        allow_urls: fetch http(s) inputs.
        allow_truncated: use the readable part of an image file that ends too early.
        max_pixels: refuse images with more pixels.
        fast_paths: ``"auto"`` for all, ``"off"`` for none, or the names of those to switch off.
        deterministic: do not choose by measurement, so that the same images give the same results.
        language: one or several codes such as ``"de"``, which tags are named in; see ``with_language``.
        **stages: stage name -> the options to change, or False to leave the stage out.

    Raises:
        UnknownNameError: the preset, a stage or an option is unknown; the message suggests a near miss.
        ConfigError: a value is wrong, or the stages do not fit together (``WiringError``).
    """
    settings = {
        "encoder": encoder,
        "device": device,
        "dtype": dtype,
        "batch_size": batch_size,
        "stage_batch_sizes": stage_batch_sizes,
        "decode": decode,
        "decode_size": decode_size,
        "decode_threads": decode_threads,
        "decode_ahead": decode_ahead,
        "allow_urls": allow_urls,
        "allow_truncated": allow_truncated,
        "max_pixels": max_pixels,
        "fast_paths": fast_paths,
        "deterministic": deterministic,
    }
    changes = {name: value for name, value in settings.items() if value is not None}
    table = {**read_preset(preset), **changes}
    if language is not None:
        table = with_language(table, language, stages)
    return from_config(overridden(table, stages, settings=[*settings, "language"]))


def with_language(
    config: dict[str, Any],
    language: str | Sequence[str],
    overrides: Mapping[str, Mapping[str, object] | Literal[False]] | None = None,
) -> dict[str, Any]:
    """Return a config whose stage ``name_tags`` names tags in other languages.

    A stage that is there already gets these languages. A new one is put after the last stage, or before the
    first ``suggest_keywords``, whose keywords are people's own; it knows the vocabularies of
    ``match_vocabulary`` and ``"things"``.

    Args:
        config: as ``from_config`` takes it.
        language: codes such as ``"de"`` or ``"pt-br"``: one, or several.
        overrides: what ``overridden`` will change afterwards, perhaps the vocabulary of ``match_vocabulary``.

    Raises:
        ConfigError: the config has no stages.
    """
    tables = stage_tables.tables_of(config)
    codes = [language] if isinstance(language, str) else list(language)
    kinds = [table.get("stage") for table in tables]
    if NAMING in kinds:
        tables[kinds.index(NAMING)]["languages"] = codes
        return {**config, "stages": tables}
    own: list[object] = []
    for table in tables:
        if table.get("stage") == MATCHING:
            changes = (overrides or {}).get(stage_tables.table_name(table))
            matched = {**table, **(changes if isinstance(changes, Mapping) else {})}.get("vocabulary")
            if isinstance(matched, str | PathLike | Vocabulary) and matched not in BUNDLED:
                own.append(matched)
    naming = {
        "stage": NAMING,
        "languages": codes,
        "vocabularies": list(dict.fromkeys([*own, "things"])),
    }
    place = kinds.index("suggest_keywords") if "suggest_keywords" in kinds else len(tables)
    return {**config, "stages": [*tables[:place], naming, *tables[place:]]}


def from_config(config: Mapping[str, object] | str | PathLike[str]) -> Pipeline:
    """Build the pipeline that a config describes: the inverse of ``to_config``.

    Args:
        config: the config itself, or what ``read_preset`` takes.

    Raises:
        UnknownNameError: a stage, option or setting is unknown; the message suggests a near miss.
        ConfigError: a value is wrong, or the stages do not fit together (``WiringError``).
    """
    if isinstance(config, str | PathLike):
        config = read_preset(config)
    return Pipeline.from_config(config)


def checked_config(config: Mapping[str, object] | str | PathLike[str]) -> dict[str, Any]:
    """Return a config of its own for other processes, of what ``from_config`` takes; raises what that raises.

    Raises:
        ConfigError: it is a pipeline.
    """
    if isinstance(config, Pipeline):
        raise ConfigError("the config is a pipeline; give its config: pipeline.to_config().")
    pipeline = from_config(config)
    return deepcopy(dict(config)) if isinstance(config, Mapping) else pipeline.to_config()


def to_config(pipeline: Pipeline) -> dict[str, Any]:
    """Return the pipeline as plain data that TOML and JSON can hold, to store or to send to a process.

    Raises:
        ConfigError: a stage cannot be imported by name, or a model was given as an object.
    """
    return pipeline.to_config()


def parse_overrides(settings: Iterable[str]) -> dict[str, Any]:
    """Parse overrides in the form of the command line: ``"filter_tags.threshold=0.25"``.

    The value is read as a TOML value; a bare word is text. ``"merge_tags=false"`` leaves a stage out.

    Returns:
        Stage name -> options or False, for ``load(preset, **overrides)``.

    Raises:
        ConfigError: a setting is not ``stage.option=value`` or ``stage=false``, its value is not a TOML
            value, or a stage is both changed and left out.
    """
    overrides: dict[str, Any] = {}
    for setting in settings:
        target, _, value = setting.partition("=")
        stage, _, option = target.strip().rpartition(".")
        leaves_out = not stage and bool(option) and value.strip() == "false"
        if not leaves_out and not (stage and option and "=" in setting):
            raise ConfigError(f"{setting!r} is not an override; write stage.option=value, or stage=false.")
        name = stage or option
        if (overrides.get(name) is False) != leaves_out and name in overrides:
            raise ConfigError(f"{shown(setting)}: stage {name!r} is both changed and left out.")
        if leaves_out:
            overrides[name] = False
        else:
            overrides.setdefault(name, {})[option] = _parsed(value.strip(), setting)
    return overrides


def overridden(
    config: dict[str, Any],
    overrides: Mapping[str, Mapping[str, object] | Literal[False]],
    *,
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the config with some options of its stages replaced.

    Args:
        config: as ``from_config`` takes it.
        overrides: stage name -> options to change or False, as ``parse_overrides`` returns them.
        settings: what else the caller takes under a name, to suggest it where one is misspelt.

    Raises:
        UnknownNameError: no stage has this name.
        ConfigError: the stage is not in the config, the name is one of a stage's options, the config has no
            stages, or the changes are not a table.
    """
    tables = stage_tables.tables_of(config)
    names = [stage_tables.table_name(table) for table in tables]
    for name, changes in overrides.items():
        if name not in names:
            _refuse_option(name, changes, dict(zip(names, tables, strict=True)))
            _refuse_stage(name)
            kind = "stage of this preset, or setting:" if settings else "stage of this preset:"
            raise UnknownNameError(kind, name, [*names, *settings])
        if changes is not False:
            stage_tables.check_changes(name, changes)
            table = tables[names.index(name)]
            table.update(options.with_defaults(stage_tables.stage_class(table), table, changes))
    kept = [table for name, table in zip(names, tables, strict=True) if overrides.get(name) is not False]
    return {**config, "stages": kept}


def _refuse_option(name: str, value: object, tables: Mapping[str, Mapping[str, object]]) -> None:
    """Refuse an option that is given without its stage, and say which stages have it.

    Raises:
        ConfigError: at least one stage has an option of this name.
    """
    owners = [stage for stage, table in tables.items() if name in stage_tables.option_names(table)]
    if owners:
        ways = " or ".join(f"{stage}={{{name!r}: {value!r}}}" for stage in owners)
        raise ConfigError(
            f"{name} is an option of {' and of '.join(owners)} ({owners[0]}.{name}); write {ways}."
        )


def _refuse_stage(name: str) -> None:
    """Refuse a stage that autotag knows and the config does not have, and say what adds it.

    Raises:
        ConfigError: there is a stage of this name.
    """
    if name in registry.names("stage"):
        option = _ADDED_BY.get(name)
        way = f"{option} adds it, or write" if option else "to add it, write"
        raise ConfigError(
            f"{name} is not a stage of this preset; {way} [[stages]] with stage = {name!r} in a preset of "
            "your own."
        )


def _parsed(value: str, setting: str) -> Any:
    try:
        parsed = parse_toml(f"value = {value}")
    except ValueError as error:
        if value.startswith(("[", "{", '"', "'")):
            hint = ' Put texts in an array in quotes: ["one", "two"].' if value.startswith("[") else ""
            raise ConfigError(f"{shown(setting)}: the value is not a TOML value: {error}.{hint}") from error
        return value
    return parsed["value"] if len(parsed) == 1 else value


def _with_files(table: object, place: Callable[[str], str]) -> object:
    """Return the table of a stage with its files placed; a wrong table as it is, for a later check."""
    if not isinstance(table, Mapping):
        return table
    try:
        kind = stage_tables.stage_class(table)
    except ConfigError:
        return table
    return options.with_files(kind, table, place)


def _file_beside(text: str, folder: Path) -> str:
    """Return the path in the folder, unless the text is another name or a file of the current folder only."""
    path = named_path(text)
    if text in BUNDLED or path.is_absolute():
        return text
    beside = folder / path
    is_missing_file = path.suffix and not is_file(path)
    return str(beside) if is_file(beside) or is_missing_file else text


def _preset_path(preset: str | PathLike[str]) -> Path:
    check_preset(preset)
    if preset in preset_names():
        return _PRESETS / f"{fspath(preset)}.toml"
    path = Path(preset)
    if is_file(path / saving.CONFIG_FILE):
        return path / saving.CONFIG_FILE
    if path.suffix == ".toml" or is_file(path):
        return path
    raise UnknownNameError(
        "preset", fspath(preset), [*preset_names(), "<path>.toml", "<folder of a saved pipeline>"]
    )
