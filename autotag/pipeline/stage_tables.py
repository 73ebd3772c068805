"""Convert stages to tables of a config and back: ``{"stage": "filter_tags", "top_k": 5}``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from typing import Any, cast

from autotag.config import options, registry
from autotag.errors import ConfigError
from autotag.pipeline.function_stage import FunctionStage
from autotag.protocols import Stage


def tables_of(config: Mapping[str, object]) -> list[dict[str, object]]:
    """Return copies of the stage tables of a config.

    Raises:
        ConfigError: the config has no stages, or they are not tables.
    """
    tables = config.get("stages")
    if not isinstance(tables, list | tuple) or not all(isinstance(table, Mapping) for table in tables):
        raise ConfigError("a config needs stages: an array of tables, each written under [[stages]].")
    return [dict(table) for table in tables]


def stage_from_table(table: Mapping[str, object]) -> Stage:
    """Build the stage that a config table describes: ``stage`` names it, the rest are its options.

    ``stage`` is a registered name, or ``"package.module:attribute"`` of a stage class or of a function
    decorated with ``@stage``. The named module is imported, so use only configs that you trust.

    Raises:
        ConfigError: the name, an option, or a value is wrong.
    """
    reference = stage_reference(table)
    found = _found(reference)
    given = {name: value for name, value in table.items() if name != "stage"}
    where = str(given.get("name", reference))
    if not isinstance(found, type):
        return _ready_made(found, given, reference)
    if given and not is_dataclass(found):
        raise ConfigError(
            f"stage {reference!r} is not a dataclass, so a config cannot set its {', '.join(given)}."
        )
    made = _constructed(found, options.checked(found, given, where=where), where)
    if not isinstance(made, Stage):
        raise ConfigError(f"{reference!r} makes {made!r}, which is not a stage.")
    return made


def changed_stage(stage: Stage, changes: Mapping[str, object]) -> Stage:
    """Return a stage with some options changed, or the same stage without changes.

    Raises:
        UnknownNameError: an option is unknown.
        ConfigError: a value is wrong, the changes are not a table, or the stage is not a dataclass.
    """
    check_changes(stage.name, changes)
    if not changes:
        return stage
    kind: type = type(stage)
    if not is_dataclass(kind):
        raise ConfigError(
            f"stage {stage.name!r} is not a dataclass, so its {', '.join(changes)} cannot change."
        )
    before = {name: getattr(stage, name) for name in options.option_fields(kind)}
    checked = options.checked(kind, options.with_defaults(kind, before, changes), where=stage.name)
    try:
        return cast("Stage", replace(cast("Any", stage), **checked))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{stage.name}: {error}") from error


def check_changes(name: str, changes: object) -> None:
    """Refuse changes of a stage's options that are not a table.

    Raises:
        ConfigError: they are something else, such as a text or True.
    """
    if not isinstance(changes, Mapping):
        raise ConfigError(
            f"{name}={changes!r}: write the options to change, {name}={{'option': value}}, "
            f"or {name}=False to leave the stage out."
        )


def stage_reference(table: Mapping[str, object]) -> str:
    """Return the ``stage`` entry of a config table.

    Raises:
        ConfigError: the entry is missing or not a text.
    """
    reference = table.get("stage")
    if not isinstance(reference, str):
        raise ConfigError(f'a [[stages]] table needs stage = "<name>"; this one has {sorted(table)}.')
    return reference


def table_name(table: Mapping[str, object]) -> str:
    """Return the name that the stage of a config table will have in its pipeline."""
    if "name" in table:
        return str(table["name"])
    reference = stage_reference(table)
    if ":" not in reference:
        return reference
    found = _found(reference)
    default = options.option_fields(found).get("name") if isinstance(found, type) else None
    return str(default.default if default else getattr(found, "name", reference))


def option_names(table: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the options that the stage of a config table has."""
    return frozenset(options.option_fields(stage_class(table)))


def stage_class(table: Mapping[str, object]) -> type:
    """Return the class of the stage of a config table."""
    found = _found(stage_reference(table))
    return found if isinstance(found, type) else type(found)


def table_from_stage(stage: Stage) -> dict[str, Any]:
    """Return the config table of a stage, with the options that differ from their defaults.

    Raises:
        ConfigError: the stage cannot be imported by name, or an option is an object.
    """
    if isinstance(stage, FunctionStage):
        return {"stage": _reference(stage, stage.import_string, stage.name)}
    kind = type(stage)
    if not is_dataclass(kind) and inspect.signature(kind).parameters:
        raise ConfigError(
            f"stage {stage.name!r} cannot be written to a config: {kind.__name__} is not a dataclass, "
            "so its options are unknown. Make it a dataclass."
        )
    reference = _reference(kind, f"{kind.__module__}:{kind.__qualname__}", stage.name)
    return {"stage": reference, **options.written(stage, where=stage.name)}


def _found(reference: str) -> Any:
    """Return the object of a registered name or an import string."""
    if ":" in reference:
        return registry.load(reference, what="a stage given")
    return registry.resolve("stage", reference)


def _ready_made(found: object, given: Mapping[str, object], reference: str) -> Stage:
    if not isinstance(found, Stage):
        raise ConfigError(
            f"{reference!r} is {found!r}, which is not a stage. Functions need @autotag.stage(...)."
        )
    if given:
        raise ConfigError(f"stage {reference!r} takes no options; remove {', '.join(given)}.")
    return found


def _constructed(kind: type, given: Mapping[str, object], where: str) -> object:
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _reference(target: object, import_string: str, name: str) -> str:
    """Return the registered name of a stage's class or function, else its import string."""
    for registered in registry.names("stage"):
        if registry.import_string("stage", registered) == import_string:
            return registered
    module, _, attribute = import_string.partition(":")
    if module == "__main__" or getattr(sys.modules.get(module), attribute, None) is not target:
        raise ConfigError(
            f"stage {name!r} cannot be written to a config: {import_string} cannot be imported elsewhere. "
            "Move it to the top level of a module, so that a config can name it as "
            'stage = "package.module:attribute", or register it as an entry point in "autotag.stages".'
        )
    return import_string
