"""Draws the charts of a report as SVG, without a chart library or scripts.

Each chart function returns HTML with a complete ``<svg>``. Colours are the page's variables ``--c0`` to
``--c7``, ``--ink``, ``--faint`` and ``--line``, so that charts adapt to dark mode. Text is escaped.
"""

from __future__ import annotations

import base64
import html
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

WIDTH, HEIGHT = 640, 320
COLOURS = 8

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 16, 48
_CHARACTER = 0.62  # mean width of a letter, relative to the font size
_LOW = np.array([250, 250, 252])
_HIGH = np.array([20, 50, 130])


@dataclass(frozen=True, slots=True)
class Point:
    """One model in a scatter chart.

    Attributes:
        name: label beside the point.
        x: horizontal value, above 0.
        y: vertical value.
        low: lower end of the interval of ``y``, or None.
        high: upper end of the interval of ``y``, or None.
    """

    name: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None


def escaped(text: object) -> str:
    """Escape text for HTML and SVG; control characters become spaces."""
    kept = "".join(sign if sign.isprintable() or sign in "\n\t" else " " for sign in str(text))
    return html.escape(kept, quote=True)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return about ``about`` round numbers from ``low`` to ``high``."""
    if not high > low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / about))
    factor = next((factor for factor in (1, 2, 5) if (high - low) / (factor * step) <= about), 10)
    step *= factor
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def histogram(
    series: Mapping[str, NDArray[np.floating]], *, label: str, of: str, first: int = 0, whole: bool = False
) -> str:
    """Draw histograms of several series, as outlines on top of each other.

    Args:
        series: name -> numbers, each (N,).
        label: of the x axis.
        of: what is counted, such as "images".
        first: index of the first colour.
        whole: whether the numbers are integers, such as counts of words; each bin then covers the same
            number of integers.
    """
    every = np.concatenate([np.asarray(values, dtype=np.float64) for values in series.values()])
    low, high = float(every.min()), float(every.max())
    bins = _bins(min(len(values) for values in series.values()))
    if whole:
        width = max(1, math.ceil((high - low + 1) / bins))
        edges = np.arange(low - 0.5, high + width, width)
    else:
        edges = np.linspace(low, high if high > low else low + 1e-3, bins + 1)
    shares = {name: np.histogram(values, edges)[0] / len(values) for name, values in series.items()}
    top = max(float(share.max()) for share in shares.values())
    frame = _Frame((float(edges[0]), float(edges[-1])), (0.0, top * 1.08))
    parts = [frame.axes(label, f"share of {of}", percent=True)]
    for number, share in enumerate(shares.values(), first):
        path = " ".join(
            f"L{frame.x(left):.1f},{frame.y(height):.1f}L{frame.x(right):.1f},{frame.y(height):.1f}"
            for left, right, height in zip(edges[:-1], edges[1:], share, strict=True)
        )
        start, end = frame.x(float(edges[0])), frame.x(float(edges[-1]))
        ground = frame.y(0)
        parts.append(
            f'<path d="M{start:.1f},{ground:.1f}{path}L{end:.1f},{ground:.1f}" {_stroke(number)} '
            f'style="fill:{_colour(number)};fill-opacity:.12"/>'
        )
    return _svg(parts, f"distribution of {label}") + legend(list(series), first)


def quality_against_time(points: Sequence[Point], *, label: str, first: int = 0) -> str:
    """Draw models by speed (images per second, logarithmic axis) and a figure with its interval."""
    ys = [edge for point in points for edge in (point.y, point.low, point.high) if edge is not None]
    margin = max(0.02, 0.15 * (max(ys) - min(ys)))
    speeds = [math.log10(point.x) for point in points]
    frame = _Frame((min(speeds) - 0.35, max(speeds) + 0.35), (min(ys) - margin, max(ys) + margin))
    parts = [frame.axes("images per second (faster to the right)", label, powers=True)]
    for number, (point, speed) in enumerate(zip(points, speeds, strict=True), first):
        x, y = frame.x(speed), frame.y(point.y)
        if point.low is not None and point.high is not None:
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{frame.y(point.low):.1f}" '
                f'y2="{frame.y(point.high):.1f}" {_stroke(number)}/>'
            )
        at_right = x > 0.7 * WIDTH
        anchor, shift = ("end", -10) if at_right else ("start", 10)
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" style="fill:{_colour(number)}"/>'
            f'<text x="{x + shift:.1f}" y="{y - 8:.1f}" text-anchor="{anchor}">{escaped(point.name)}</text>'
        )
    return _svg(parts, f"{label} against speed")


def projection(true: NDArray[np.floating], generated: NDArray[np.floating], names: Sequence[str]) -> str:
    """Draw two sets of points, with a line from each generated point to its true one.

    Args:
        true: (N, 2).
        generated: (N, 2).
        names: of the images, shown as tooltips.
    """
    both = np.concatenate([true, generated])
    (left, low), (right, high) = both.min(axis=0), both.max(axis=0)
    frame = _Frame(_widened(left, right), _widened(low, high))
    parts = [frame.border()]
    for start, end in zip(true, generated, strict=True):
        parts.append(
            f'<line x1="{frame.x(start[0]):.1f}" y1="{frame.y(start[1]):.1f}" x2="{frame.x(end[0]):.1f}" '
            f'y2="{frame.y(end[1]):.1f}" style="stroke:var(--faint);stroke-width:.6;stroke-opacity:.6"/>'
        )
    for number, cloud in enumerate((true, generated)):
        parts += [
            f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3" '
            f'style="fill:{_colour(number)};fill-opacity:.8"><title>{escaped(name)}</title></circle>'
            for (x, y), name in zip(cloud, names, strict=True)
        ]
    return _svg(parts, "texts in a plane") + legend(["true", "generated"])


def word_cloud(counts: Mapping[str, int], *, words: int = 60) -> str:
    """Draw the most frequent words, sized by frequency, placed along a spiral from the centre."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:words]
    if not ranked:
        return "<p>No words.</p>"
    most = ranked[0][1]
    taken: list[tuple[float, float, float, float]] = []
    parts = []
    for number, (word, count) in enumerate(ranked):
        size = 11 + 33 * math.sqrt(count / most)
        place = _free_place(_CHARACTER * size * len(word) + 8, size * 1.05, taken)
        if place is None:
            continue
        x, y = place
        parts.append(
            f'<text x="{x:.1f}" y="{y + size * 0.35:.1f}" text-anchor="middle" '
            f'style="font-size:{size:.1f}px;fill:{_colour(number)}">{escaped(word)}'
            f"<title>{count}</title></text>"
        )
    return _svg(parts, "frequent words")


def matrix_picture(matrix: NDArray[np.floating], *, low: float, high: float) -> str:
    """Draw a matrix (N, M) as an ``<img>``, one pixel per cell, from light (``low``) to dark (``high``)."""
    shade = np.clip((np.asarray(matrix) - low) / max(high - low, 1e-9), 0, 1)[..., None]
    pixels = (_LOW + shade * (_HIGH - _LOW)).round().astype(np.uint8)
    return f'<img class="matrix" alt="similarity matrix" src="{png_uri(Image.fromarray(pixels))}">'


def png_uri(picture: Image.Image) -> str:
    """Return a picture as a PNG data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def legend(names: Sequence[str], first: int = 0) -> str:
    """Return a legend with each name's colour, starting at colour ``first``."""
    items = "".join(
        f'<span><i style="background:{_colour(number)}"></i>{escaped(name)}</span>'
        for number, name in enumerate(names, first)
    )
    return f'<p class="legend">{items}</p>'


@dataclass(frozen=True, slots=True)
class _Frame:
    """Map numbers to pixels.

    Attributes:
        across: range of the x axis.
        up: range of the y axis.
    """

    across: tuple[float, float]
    up: tuple[float, float]

    def x(self, number: float) -> float:
        low, high = self.across
        return _LEFT + (number - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, number: float) -> float:
        low, high = self.up
        return HEIGHT - _BOTTOM - (number - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    def border(self) -> str:
        return (
            f'<rect x="{_LEFT}" y="{_TOP}" width="{WIDTH - _LEFT - _RIGHT}" '
            f'height="{HEIGHT - _TOP - _BOTTOM}" style="fill:none;stroke:var(--line)"/>'
        )

    def axes(self, x_label: str, y_label: str, *, percent: bool = False, powers: bool = False) -> str:
        """Draw both axes with round numbers; with ``powers``, x is the log10 of the number shown."""
        parts = [
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{self.y(tick):.1f}" y2="{self.y(tick):.1f}" '
            f'style="stroke:var(--line)"/><text x="{_LEFT - 6}" y="{self.y(tick) + 4:.1f}" '
            f'text-anchor="end">{f"{tick:.0%}" if percent else f"{tick:g}"}</text>'
            for tick in ticks(*self.up)
        ]
        for tick in self._powers() if powers else ticks(*self.across, about=8):
            shown = f"{10**tick:.2g}" if powers else f"{tick:g}"
            parts.append(
                f'<text x="{self.x(tick):.1f}" y="{HEIGHT - _BOTTOM + 18}" '
                f'text-anchor="middle">{shown}</text>'
            )
        parts.append(
            f'<text x="{(WIDTH + _LEFT) / 2:.0f}" y="{HEIGHT - 8}" '
            f'text-anchor="middle">{escaped(x_label)}</text>'
            f'<text transform="translate(13 {(HEIGHT - _BOTTOM + _TOP) / 2:.0f}) rotate(-90)" '
            f'text-anchor="middle">{escaped(y_label)}</text>'
        )
        return "".join(parts)

    def _powers(self) -> list[float]:
        low, high = self.across
        steps = [math.log10(factor) + power for power in range(-6, 7) for factor in (1, 2, 5)]
        return [step for step in steps if low <= step <= high]


def _free_place(
    width: float, height: float, taken: list[tuple[float, float, float, float]]
) -> tuple[float, float] | None:
    """Return the centre of the first free box along a spiral; None if the picture is full."""
    for step in range(1500):
        angle = 0.25 * step
        x = WIDTH / 2 + 1.9 * 0.35 * angle * math.cos(angle) * 2
        y = HEIGHT / 2 + 0.35 * angle * math.sin(angle) * 2
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= WIDTH and box[3] <= HEIGHT
        if inside and not any(_overlap(box, other) for other in taken):
            taken.append(box)
            return x, y
    return None


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _bins(numbers: int) -> int:
    """Return the number of bins: twice the cube root of the count (Rice's rule), from 6 to 30."""
    return min(30, max(6, math.ceil(2 * math.cbrt(numbers))))


def _widened(low: float, high: float) -> tuple[float, float]:
    margin = max(1e-6, 0.04 * (high - low))
    return low - margin, high + margin


def _colour(number: int) -> str:
    return f"var(--c{number % COLOURS})"


def _stroke(number: int) -> str:
    return f'stroke-width="2" stroke="{_colour(number)}"'


def _svg(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
