"""The decorator ``@stage`` makes a stage from a function on one sample."""

from __future__ import annotations

import sys
from functools import update_wrapper
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Never

from autotag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from autotag.records import Sample


class FunctionStage:
    """Call a function on each sample in turn. Made by ``@stage``.

    Attributes:
        function: writes one sample in place and returns None.
        name: the stage's name; by default the function's.
        requires: fields that the function reads.
        provides: fields that the function writes.
    """

    __module__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[[Sample], None],
        name: str,
        requires: frozenset[str],
        provides: frozenset[str],
    ) -> None:
        update_wrapper(self, function)
        self.__qualname__ = getattr(function, "__qualname__", name)
        self.function = function
        self.name = name
        self.requires = requires
        self.provides = provides

    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample in samples:
            returned: object = self.function(sample)
            if returned is not None:
                raise TypeError(
                    f"it returned {type(returned).__name__}; a stage returns nothing, and writes the fields "
                    "of its sample instead, such as sample.tags"
                )

    def __repr__(self) -> str:
        return f"<stage {self.name!r} from {self.import_string}>"

    @property
    def import_string(self) -> str:
        """The function's ``"package.module:attribute"``, which names this stage in a config."""
        return f"{self.__module__}:{self.__qualname__}"

    def __reduce__(self) -> str | tuple[object, ...]:
        # The decorator replaced the function by this object, so pickle must find it by the function's name.
        if getattr(sys.modules.get(self.__module__), self.__qualname__, None) is self:
            return str(self.__qualname__)
        return FunctionStage, (self.function, self.name, self.requires, self.provides)


def stage(
    *bare: Never,
    requires: Collection[str] = frozenset(),
    provides: Collection[str] = frozenset(),
    name: str | None = None,
) -> Callable[[Callable[[Sample], None]], FunctionStage]:
    """Make a stage from a function that writes one sample in place.

    ::

        @autotag.stage(requires={"tags"}, provides={"tags"})
        def only_long_words(sample):
            sample.tags = [tag for tag in sample.tags if len(tag.text) > 3]

    Args:
        bare: nothing; a function here means that the parentheses were left out.
        requires: fields of ``Sample`` that the function reads, or ``"extras.<key>"``.
        provides: fields that it writes.
        name: the stage's name in a pipeline; None for the function's name.

    Returns:
        A decorator that turns the function into a ``FunctionStage``.

    Raises:
        ConfigError: the decorator has no parentheses, ``requires`` or ``provides`` is one string instead of
            a set of them, the function is a coroutine or a generator, whose body a call does not run, or it
            has no name (a ``functools.partial``) and none is given.
    """
    if bare:
        raise ConfigError("write the decorator as @autotag.stage(requires={...}, provides={...}).")
    for side, declared in (("requires", requires), ("provides", provides)):
        if isinstance(declared, str):
            raise ConfigError(f'@stage: {side} is the string {declared!r}; write {{"{declared}"}}.')

    def decorate(function: Callable[[Sample], None]) -> FunctionStage:
        own_name = name or getattr(function, "__name__", None)
        if own_name is None:
            raise ConfigError(f"@stage: {function!r} has no name of its own; write @autotag.stage(name=...).")
        if any(test(function) for test in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)):
            raise ConfigError(
                f"@stage: {own_name} is async or a generator; write a function that returns nothing."
            )
        return FunctionStage(function, own_name, frozenset(requires), frozenset(provides))

    return decorate
