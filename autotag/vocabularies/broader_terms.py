"""Read and check broader terms of labels: "tabby cat" < "cat" < "animal"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotag.config.checks import check_list
from autotag.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def broader_terms(
    given: Mapping[str, Iterable[str]], labels: Iterable[str], place: Callable[[str, str], str]
) -> dict[str, tuple[str, ...]]:
    """Return label -> its broader terms, each once, all spelt as the labels are.

    Args:
        given: label -> its broader terms, in any case.
        labels: all labels; of labels that differ only in case, the first counts.
        place: returns where a label and its broader term were written, for messages.

    Raises:
        ConfigError: a label or a broader term is not in ``labels``, or a label is broader than itself.
    """
    spelt: dict[str, str] = {}
    for label in labels:
        spelt.setdefault(label.strip().casefold(), label.strip())
    found: dict[str, dict[str, None]] = {}
    for label, terms in given.items():
        check_list(f"the broader terms of {label!r}", terms)
        for term in terms:
            own = _known(label, spelt, f"{place(label, term)}: broader terms are given for")
            broader = _known(term, spelt, f"{place(label, term)}: the broader term of {own!r} is")
            found.setdefault(own, {})[broader] = None
    broader_of = {label: tuple(terms) for label, terms in found.items()}
    _check_no_circle(broader_of, place)
    return broader_of


def _known(term: str, spelt: Mapping[str, str], what: str) -> str:
    try:
        return spelt[term.strip().casefold()]
    except KeyError:
        near = suggestion(term.strip(), spelt.values())
        advice = near if near.startswith("Did") else "Write it on a line of its own."
        raise ConfigError(f"{what} {term.strip()!r}, which is not a label. {advice}") from None


def _check_no_circle(broader: Mapping[str, tuple[str, ...]], place: Callable[[str, str], str]) -> None:
    """Refuse a label that is broader than itself; visit every label once, without recursion."""
    done: set[str] = set()
    for start in broader:
        path: dict[str, None] = {}
        waiting = [(start, False)]
        while waiting:
            label, is_left = waiting.pop()
            if is_left:
                path.pop(label)
                done.add(label)
            elif label in path:
                circle = [*list(path)[list(path).index(label) :], label]
                raise ConfigError(
                    f"{place(*circle[:2])}: broader terms form a circle: {' < '.join(circle)}; "
                    "remove one of them"
                )
            elif label not in done:
                path[label] = None
                waiting.append((label, True))
                waiting.extend((term, False) for term in reversed(broader.get(label, ())))
