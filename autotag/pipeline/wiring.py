"""Whether stages fit together in their order: checked before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields
from typing import Literal

from autotag import options, registry
from autotag.errors import ConfigError, WiringError, suggestion
from autotag.protocols import ImageTextEncoder, Stage
from autotag.records import Sample

ALWAYS_THERE = frozenset({"source", "image", "size"})
FIELDS = frozenset(field.name for field in fields(Sample)) - {"extras"}

_Side = Literal["requires", "provides"]


def check_wiring(stages: Sequence[object]) -> None:
    """Refuses stages that cannot work together in this order.

    Raises:
        WiringError: there is no stage; an object is no stage; two share a name; a field does not
            exist; or a stage needs a field that no earlier stage writes.
    """
    if not stages:
        raise WiringError("a pipeline needs at least one stage.")
    good = [_checked(candidate, position) for position, candidate in enumerate(stages, 1)]
    _check_names(good)
    written: set[str] = set(ALWAYS_THERE)
    for position, stage in enumerate(good, 1):
        for missing in sorted(set(stage.requires) - written):
            raise WiringError(_missing_field(missing, position, good))
        written |= stage.provides


def check_encoder(stages: Sequence[Stage]) -> None:
    """Refuses stages that borrow the encoder of their pipeline, for a pipeline that has none.

    Told by a stage's options: one that admits an ``ImageTextEncoder`` and is None stands for the pipeline's,
    unless the stage's ``borrows`` leaves it out.

    Raises:
        WiringError: naming the stage and the ways out.
    """
    for position, stage in enumerate(stages, 1):
        borrowed = getattr(stage, "borrows", None)
        for name, option in options.option_fields(type(stage)).items():
            named = borrowed is None or name in borrowed
            if named and ImageTextEncoder.__name__ in str(option.type) and getattr(stage, name) is None:
                raise WiringError(
                    f"stage {stage.name!r} (position {position}) needs the pipeline's encoder, and there is "
                    f"none; name one: Pipeline(encoder=...) or {stage.name}.{name}=..."
                )


def describe(stages: Sequence[Stage]) -> str:
    """One line per stage: its place, its name, what it needs and what it writes."""
    width = max(len(stage.name) for stage in stages)
    needs = [", ".join(sorted(stage.requires)) or "the image" for stage in stages]
    needs_width = max(map(len, needs))
    return "\n".join(
        f"{position}. {stage.name:<{width}}  needs {need:<{needs_width}}  "
        f"writes {', '.join(sorted(stage.provides)) or 'nothing'}"
        for position, (stage, need) in enumerate(zip(stages, needs, strict=True), 1)
    )


def check_stage_fields(stage: Stage) -> None:
    """Refuses a stage that declares a field which no sample has.

    Raises:
        WiringError: naming the stage, the field and the near miss.
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
    where = f"stage {stage!r} {side} {name!r}, which is no field of a Sample."
    if name in {"extras", "extras."}:
        raise WiringError(f'{where} Name the key, such as "extras.<key>".')
    raise WiringError(f'{where} {suggestion(str(name), FIELDS)} A field of your own is "extras.<key>".')


def _checked(candidate: object, position: int) -> Stage:
    """The candidate, if it is a stage."""
    if isinstance(candidate, type):
        raise WiringError(
            f"position {position} holds the class {candidate.__name__}, not a stage. "
            f"Call it: {candidate.__name__}(...)."
        )
    if not isinstance(candidate, Stage):
        raise WiringError(f"position {position} holds {candidate!r}, which is no stage. {_remedy(candidate)}")
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
                f"Tell them apart: give one of them another name, such as name={stage.name + '_2'!r}."
            )


def _missing_field(missing: str, position: int, stages: Sequence[Stage]) -> str:
    """What is missing, and the way out: a stage to move, or a registered stage to add."""
    stage = stages[position - 1]
    problem = (
        f"stage {stage.name!r} (position {position}) needs {missing!r}, which no stage before it writes."
    )
    for place, later in enumerate(stages[position:], position + 1):
        if missing in later.provides and missing not in later.requires:
            return f"{problem} Move {later.name!r} (position {place}) in front of {stage.name!r}."
    makers = [repr(name) for name in registry.names("stage") if _makes(name, missing)]
    if not makers:
        return f"{problem} No registered stage writes it from nothing; write one with @autotag.stage(...)."
    return f"{problem} Put {' or '.join(makers)} in front of {stage.name!r}."


def _makes(name: str, field: str) -> bool:
    """Whether a registered stage writes a field without needing it, as far as its class says so.

    A stage that does not import is no way out, and its failure is not what this message is about.
    """
    try:
        found = registry.resolve("stage", name)
    except ConfigError:
        return False
    return field in _declared(found, "provides") and field not in _declared(found, "requires")


def _declared(found: object, side: _Side) -> AbstractSet[str]:
    """What a class says about all its instances; nothing where that depends on the instance."""
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
