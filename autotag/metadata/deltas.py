"""Compact deltas that rebuild an earlier file from the later one.

A delta is a tuple of steps: ``(start, length)`` copies bytes from the later file, ``bytes`` are inserted. The
common beginning and end are found first; then, in the rest, long runs that only moved, such as the pixels of
a TIFF.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

from autotag.config.checks import shown
from autotag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

Step = tuple[int, int] | bytes
Delta = tuple[Step, ...]

_PROBE = 256  # bytes that must agree before a run counts as moved
_MOST_PROBES = 4000
_MOST_SEARCHED = 2**30  # bytes searched in vain for runs


def delta_between(later: bytes, earlier: bytes) -> Delta:
    """Return the steps that rebuild ``earlier`` from ``later``."""
    head = _common_prefix(later, earlier)
    tail = _common_suffix(later[head:], earlier[head:])
    steps: list[Step] = [(0, head)]
    steps += _moved(later, earlier[head : len(earlier) - tail])
    steps.append((len(later) - tail, tail))
    return tuple(step for step in steps if step and (isinstance(step, bytes) or step[1]))


def rebuilt(later: bytes, delta: Delta) -> bytes:
    """Return the earlier file, rebuilt from the later one."""
    return b"".join(step if isinstance(step, bytes) else later[step[0] : step[0] + step[1]] for step in delta)


def own_bytes(delta: Delta) -> int:
    """Return the number of bytes that the delta itself holds."""
    return sum(len(step) for step in delta if isinstance(step, bytes))


def delta_to_json(delta: Delta) -> list[Any]:
    """Return the delta as lists and base64 strings."""
    return [b64encode(step).decode() if isinstance(step, bytes) else list(step) for step in delta]


def delta_from_json(steps: Sequence[Any]) -> Delta:
    """Return the delta from the list that ``delta_to_json`` made.

    Raises:
        ConfigError: a step is neither text nor two numbers of 0 or more.
        ValueError: a text is not base64.
    """
    return tuple(map(_step_from_json, steps))


def _step_from_json(step: object) -> Step:
    if isinstance(step, str):
        return b64decode(step, validate=True)
    if not isinstance(step, list) or len(step) != 2 or not all(type(one) is int and one >= 0 for one in step):
        raise ConfigError(f"a step of a delta is {shown(step)}; expected base64 text or [start, length]")
    return step[0], step[1]


def _common_prefix(one: bytes, other: bytes) -> int:
    """Return the length of the common prefix, by binary search: comparing slices is fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_suffix(one: bytes, other: bytes) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[len(one) - middle : len(one) - low] == other[len(other) - middle : len(other) - low]:
            low = middle
        else:
            high = middle - 1
    return low


def _moved(later: bytes, wanted: bytes) -> list[Step]:
    """Return steps for the part that differs: runs found in ``later``, else the bytes themselves."""
    steps: list[Step] = []
    done = position = probes = searched = 0
    while position + _PROBE <= len(wanted) and probes < _MOST_PROBES and searched < _MOST_SEARCHED:
        probes += 1
        found = later.find(wanted[position : position + _PROBE])
        if found < 0:
            searched += len(later)
            position += _PROBE
            continue
        length = _common_run(later, found, wanted, position)
        steps += [wanted[done:position], (found, length)]
        done = position = position + length
    return [*steps, wanted[done:]]


def _common_run(one: bytes, start: int, other: bytes, begin: int) -> int:
    """Return how many bytes agree from these places on; steps double, then halve."""
    length, step, is_growing = 0, _PROBE, True
    while step:
        piece = one[start + length : start + length + step]
        is_same = len(piece) == step and piece == other[begin + length : begin + length + step]
        length += step if is_same else 0
        is_growing = is_growing and is_same
        step = step * 2 if is_growing else step // 2
    return length
