"""Draws the charts of a report with matplotlib: SVG whose colours are variables of the page, for dark mode.

Needs the extra ``autotag-images[report]``. The same numbers give the same SVG.
"""

from __future__ import annotations

import io
import re
import warnings
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_HUES = ("#3366cc", "#e8710a", "#188038", "#a142f4", "#d01884", "#00808a", "#9a6700", "#c5221f")
SERIES = len(_HUES)
COLOURS = {"ink": "#1c1e26", "faint": "#5d6270", "line": "#d9dce4"} | {
    f"c{number}": colour for number, colour in enumerate(_HUES)
}
"""Variable of the page -> its colour in light mode. ``c0`` is for true texts, models have the others."""

_P = ParamSpec("_P")

_VARIABLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": COLOURS["line"],
    "axes.grid": True,
    "axes.labelcolor": COLOURS["ink"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.sans-serif": ["DejaVu Sans"],  # it comes with matplotlib and is wider than what browsers take
    "font.size": 9,
    "grid.color": COLOURS["line"],
    "svg.fonttype": "none",
    "svg.hashsalt": "autotag",
    "text.color": COLOURS["ink"],
    "text.parse_math": False,  # a dollar sign in a file's name
    "xtick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.color": COLOURS["line"],
    "ytick.labelcolor": COLOURS["ink"],
}


def printable(text: object) -> str:
    """Replace control characters, and characters that turn the direction of text, by spaces."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else " " for sign in str(text))


def _chart(draw: Callable[Concatenate[Axes, _P], None]) -> Callable[_P, Markup]:
    """Make a function that draws into axes one that returns the SVG."""

    @wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> Markup:
        """Draw on a figure of its own; return its SVG in the page's own colours."""
        page = io.StringIO()
        with style.context(["default", _STYLE]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # the browser has it
            figure = Figure(figsize=(6.4, 3.4), layout="constrained")
            draw(figure.add_subplot(), *args, **kwargs)
            kept = {"Date": None, "Creator": None, "Format": None, "Type": None}
            figure.savefig(page, format="svg", transparent=True, metadata=kept)
        svg = page.getvalue()
        svg = svg[svg.index("<svg") :]
        return Markup(  # noqa: S704  matplotlib escapes text
            re.sub(r"(?<=: )#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found[0], found[0]), svg)
        )

    return drawn


@_chart
def histogram(
    axes: Axes, series: Mapping[str, NDArray[np.floating]], *, label: str, first: int = 0, whole: bool = False
) -> None:
    """Draw histograms of several series (N,) over each other, as shares of each.

    Args:
        axes: given by the decorator.
        series: name -> numbers.
        label: of the x axis.
        first: number of the first colour.
        whole: whether the numbers are integers, such as counts of words.
    """
    every = np.concatenate(list(series.values()))
    edges = np.histogram_bin_edges(every, "rice")
    if whole:
        step = max(1, int(np.ceil(np.ptp(every) / 40)))
        edges = np.arange(every.min() - 0.5, every.max() + step, step)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for number, values in enumerate(series.values(), first):
        shares = np.full(len(values), 1 / len(values))
        fill, line = to_rgba(_colour(number), 0.12), _colour(number)
        axes.hist(values, edges.tolist(), weights=shares, histtype="stepfilled", fc=fill, ec=line, lw=1.5)
    axes.set(xlabel=printable(label), ylabel="share")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


@_chart
def quality_against_speed(
    axes: Axes,
    names: Sequence[str],
    speeds: Sequence[float],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    *,
    label: str,
) -> None:
    """Draw each model's figure with its interval against its images per second, on a logarithmic axis."""
    axes.set_xscale("log")
    axes.set_xlim(min(speeds) / 2, max(speeds) * 2)
    axes.margins(y=0.15)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    middle = (min(speeds) * max(speeds)) ** 0.5
    for number, (name, x, y, ends) in enumerate(zip(names, speeds, values, intervals, strict=True), 1):
        if ends:
            axes.vlines(x, *ends, color=_colour(number))
        axes.plot(x, y, "o", color=_colour(number))
        side, shift = ("right", -7) if x > middle else ("left", 7)
        axes.annotate(
            _short(name), (x, y), xytext=(shift, 5), textcoords="offset points", ha=side, annotation_clip=True
        )
    axes.set(xlabel="images per second (faster to the right)", ylabel=printable(label))


@_chart
def frequent_words(axes: Axes, shares: Mapping[str, Mapping[str, float]], *, most: int = 15) -> None:
    """Draw the words that the largest share of a series' texts contain, a row each, a dot for each series.

    Args:
        axes: given by the decorator.
        shares: name of a series -> word -> share of its texts that contain the word.
        most: number of words.
    """
    peaks: dict[str, float] = {}
    for of_words in shares.values():
        for word, share in of_words.items():
            peaks[word] = max(share, peaks.get(word, 0.0))
    words = sorted(peaks, key=lambda word: (-peaks[word], word))[:most]
    places = np.arange(len(words))
    for number, of_words in enumerate(shares.values()):
        axes.plot([of_words.get(word, 0.0) for word in words], places, "o", color=_colour(number), alpha=0.85)
    axes.set_yticks(places, [_short(word) for word in words])
    axes.invert_yaxis()
    axes.grid(axis="x", visible=False)
    axes.set_xlim(left=-0.01)
    axes.set_xlabel("share of the texts with the word")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


@_chart
def projection(axes: Axes, true: NDArray[np.floating], generated: NDArray[np.floating]) -> None:
    """Draw two sets of points (N, 2), with a line from each generated point to its true one."""
    for ends in zip(true, generated, strict=True):
        axes.plot(*np.transpose(ends), color=COLOURS["faint"], lw=0.5, alpha=0.6)
    for number, cloud in enumerate((true, generated)):
        axes.scatter(cloud[:, 0], cloud[:, 1], s=10, color=_colour(number), alpha=0.8, zorder=2)
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])


@_chart
def similarities(axes: Axes, matrix: NDArray[np.floating]) -> None:
    """Draw the similarity (N, N) of generated texts, the rows, with the true texts of images, the columns."""
    assert isinstance(axes.figure, Figure)  # noqa: S101  not a part of one
    axes.grid(visible=False)
    shown = axes.imshow(
        matrix, vmin=0, vmax=max(float(np.quantile(matrix, 0.999)), 1e-6), interpolation="none"
    )
    axes.figure.colorbar(shown, ax=axes, label="similarity")
    axes.set(xlabel="true texts of image", ylabel="generated text of image", xticks=[], yticks=[])


def _colour(number: int) -> str:
    return _HUES[number % SERIES]


def _short(name: str) -> str:
    """Cut a long name, such as a path, at its left."""
    name = " ".join(printable(name).split())
    return name if len(name) <= 40 else f"…{name[-39:]}"
