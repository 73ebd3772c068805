"""Check that stages fit together in their order, before models are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Literal

from autotag.config import options, registry
from autotag.errors import ConfigError, WiringError, suggestion
from autotag.protocols import Stage, WritesRankings, fields_in_use
from autotag.records import Sample

ALWAYS_THERE = frozenset({"source", "image", "size"})
FIELDS = frozenset(field.name for field in fields(Sample)) - {"extras"}

_NOT_RUN_BY_CALLS = (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)
_Side = Literal["requires", "provides"]


def check_wiring(stages: Sequence[object]) -> None:
    """Refuse stages that cannot work together in this order.

    Raises:
        WiringError: the list is empty; an object is not a stage; two have the same name, or write the same
            ranking; a field does not exist; or a stage needs a field that no earlier stage writes.
    """
    if not stages:
        raise WiringError("a pipeline needs at least one stage.")
    good = [_checked(candidate, position) for position, candidate in enumerate(stages, 1)]
    _check_names(good)
    _check_rankings(good)
    written: set[str] = set(ALWAYS_THERE)
    for position, stage in enumerate(good, 1):
        for missing in sorted(set(stage.requires) - written):
            raise WiringError(_missing_field(missing, position, good))
        written |= stage.provides


def check_encoder(stages: Sequence[Stage]) -> None:
    """Refuse stages that use their pipeline's encoder, for a pipeline without an encoder.

    An option with ``metadata={"model": "encoder"}`` that is None stands for the pipeline's, unless the
    stage's ``borrows`` leaves it out.

    Raises:
        WiringError: names the stage and how to fix it.
    """
    for position, stage in enumerate(stages, 1):
        kinds = options.model_fields(type(stage))
        for name in fields_in_use(stage, kinds):
            if kinds[name] == "encoder" and getattr(stage, name) is None:
                raise WiringError(
                    f"stage {stage.name!r} (position {position}) needs the pipeline's encoder, which is not "
                    f"set; name one: Pipeline(encoder=...) or {stage.name}.{name}=..."
                )


def describe(stages: Sequence[Stage]) -> str:
    """Return one line per stage: its position, its name, and the fields that it reads and writes."""
    width = max(len(stage.name) for stage in stages)
    needs = [", ".join(sorted(stage.requires)) or "the image" for stage in stages]
    needs_width = max(map(len, needs))
    return "\n".join(
        f"{position}. {stage.name:<{width}}  needs {need:<{needs_width}}  "
        f"writes {', '.join(sorted(stage.provides)) or 'nothing'}"
        for position, (stage, need) in enumerate(zip(stages, needs, strict=True), 1)
    )


def check_stage_fields(stage: Stage) -> None:
    """Refuse a stage that declares a field that samples do not have.

    Raises:
        WiringError: names the stage and the field, and suggests a near miss.
    """
    sides: dict[str, object] = {"requires": stage.requires, "provides": stage.provides}
    for side, declared in sides.items():
        if not isinstance(declared, AbstractSet):
            raise WiringError(
                f"stage {stage.name!r}: {side} is {declared!r}; write a set of field names, "
                'such as {"tags"}.'
            )
        for name in sorted(declared, key=str):
            _check_field(stage.name, side, name)


def _check_field(stage: str, side: str, name: object) -> None:
    if isinstance(name, str) and (name in FIELDS or name.removeprefix("extras.") not in {name, ""}):
        return
    where = f"stage {stage!r} {side} {name!r}, which is not a field of a Sample."
    if name in {"extras", "extras."}:
        raise WiringError(f'{where} Name the key, such as "extras.<key>".')
    raise WiringError(f'{where} {suggestion(str(name), FIELDS)} A field of your own is "extras.<key>".')


def _checked(candidate: object, position: int) -> Stage:
    """Return the candidate if it is a stage; otherwise raise ``WiringError``."""
    if isinstance(candidate, type):
        raise WiringError(
            f"stage {position} is the class {candidate.__name__}, not a stage object. "
            f"Call it: {candidate.__name__}(...)."
        )
    if not isinstance(candidate, Stage):
        raise WiringError(f"stage {position} is {candidate!r}, which is not a stage. {_remedy(candidate)}")
    if any(test(type(candidate).__call__) for test in _NOT_RUN_BY_CALLS):
        raise WiringError(
            f"stage {candidate.name!r} (position {position}) is async or a generator, whose body a call does "
            "not run; write a __call__ that returns nothing."
        )
    check_stage_fields(candidate)
    return candidate


def _remedy(candidate: object) -> str:
    if isinstance(candidate, str):
        return "A pipeline is built from stage objects; presets are loaded by name with autotag.load(...)."
    if callable(candidate) and hasattr(candidate, "__code__"):
        return "Decorate the function: @autotag.stage(requires={...}, provides={...})."
    lacking = [name for name in ("name", "requires", "provides") if not hasattr(candidate, name)]
    if not callable(candidate):
        lacking.append("__call__(samples)")
    return f"It lacks {', '.join(lacking)}."


def _check_names(stages: Sequence[Stage]) -> None:
    seen: dict[str, int] = {}
    for position, stage in enumerate(stages, 1):
        first = seen.setdefault(stage.name, position)
        if first != position:
            raise WiringError(
                f"two stages are called {stage.name!r} (positions {first} and {position}). "
                f"Give one of them another name, such as name={stage.name + '_2'!r}."
            )


def _check_rankings(stages: Sequence[Stage]) -> None:
    writers: dict[str, str] = {}
    for stage in stages:
        for ranking in stage.ranking_names if isinstance(stage, WritesRankings) else ():
            first = writers.setdefault(ranking, stage.name)
            if first != stage.name:
                raise WiringError(
                    f"stages {first!r} and {stage.name!r} both write the ranking {ranking!r}, and the second "
                    "would replace the first. Leave the vocabulary out of one of them, or give it another "
                    "name there: a copy of its file, or Vocabulary(..., name=...)."
                )


def _missing_field(missing: str, position: int, stages: Sequence[Stage]) -> str:
    """Return a message that names the missing field and the fix: a stage to move, or a stage to add."""
    stage = stages[position - 1]
    problem = f"stage {stage.name!r} (position {position}) needs {missing!r}, which no earlier stage writes."
    for place, later in enumerate(stages[position:], position + 1):
        if missing in later.provides and missing not in later.requires:
            return f"{problem} Move {later.name!r} (position {place}) in front of {stage.name!r}."
    makers = [repr(name) for name in registry.names("stage") if _makes(name, missing)]
    if not makers:
        return f"{problem} No registered stage creates it; write a stage with @autotag.stage(...)."
    return f"{problem} Put {' or '.join(makers)} in front of {stage.name!r}."


def _makes(name: str, field: str) -> bool:
    """Return True if a registered stage's class declares that it writes a field without reading it.

    A stage that cannot be imported is not suggested; its import error is not the subject of the message.
    """
    try:
        found = registry.resolve("stage", name)
    except ConfigError:
        return False
    return field in _declared(found, "provides") and field not in _declared(found, "requires")


def _declared(found: object, side: _Side) -> AbstractSet[str]:
    """Return the fields that a class declares for all its instances; empty if they depend on the instance."""
    declared = getattr(found, side, None)
    return declared if isinstance(declared, AbstractSet) else frozenset()


def needed_for(field: str, stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages, in order, that a field of the result comes from."""
    needed: list[Stage] = []
    wanted = {field}
    for stage in reversed(stages):
        if wanted & set(stage.provides):
            needed.insert(0, stage)
            wanted |= set(stage.requires)
    return needed
