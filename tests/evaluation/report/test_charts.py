from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
from PIL import Image

from autotag.evaluation.report.charts import (
    COLOURS,
    frequent_words,
    histogram,
    printable,
    projection,
    quality_against_speed,
    similarities,
)

SVG = "{http://www.w3.org/2000/svg}"
NASTY = '<script>"&\x00$x_$'


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(picture).iter(f"{SVG}text")]  # noqa: S314  our own


def test_pictures_are_well_formed_and_take_their_colours_from_the_page() -> None:
    pictures = [
        histogram({NASTY: np.array([0.1, 0.2]), "b": np.array([0.3])}, label=NASTY),
        histogram({"same": np.ones(5)}, label="one value"),
        histogram({"words": np.array([3, 3, 900])}, label="words", whole=True),
        quality_against_speed([NASTY], [0.01], [0.5], [None], label="one"),
        quality_against_speed(["a", "猫"], [0.01, 9000], [-1, 1], [(-2, 0), (0.5, 2)], label="two"),
        projection(np.zeros((3, 2)), np.zeros((3, 2))),
        frequent_words({"true": {NASTY: 0.5, "w" * 300: 0.2, "猫": 0.1}}),
        frequent_words({"true": {}}),
        similarities(np.zeros((1, 1))),
    ]
    for picture in pictures:
        ET.fromstring(picture)  # noqa: S314  our own
        assert "<script" not in picture
        assert not re.search('nan[ ,"]', picture)
        assert f"var(--{'line'})" in picture
        assert not any(colour in picture for colour in COLOURS.values())


def test_names_of_strangers_are_shown_as_they_are_but_for_control_characters() -> None:
    picture = quality_against_speed([NASTY], [1], [0.5], [None], label="f")
    assert '<script>"& $x_$' in texts(picture)
    assert printable("a\x07\u202eb\n") == "a  b\n"


def test_faster_is_further_right_and_better_is_higher() -> None:
    picture = quality_against_speed(["slow", "fast"], [1, 100], [0.2, 0.8], [None, None], label="f")
    places = {}
    for element in ET.fromstring(picture).iter(f"{SVG}use"):  # noqa: S314  our own
        for name, number in (("slow", 1), ("fast", 2)):
            if f"fill: var(--c{number})" in element.get("style", ""):
                places[name] = float(element.get("x")), float(element.get("y"))
    assert places["fast"][0] > places["slow"][0]
    assert places["fast"][1] < places["slow"][1]


def test_the_words_of_most_texts_are_shown_most_frequent_first() -> None:
    shares = {"true": {"dog": 0.5, "cat": 0.1}, "model": {"tree": 0.9, "sun": 0.01}}
    shown = texts(frequent_words(shares, most=3))
    assert [text for text in shown if text.isalpha()] == ["tree", "dog", "cat"]


def test_a_matrix_has_a_pixel_for_each_cell_bright_where_it_is_high() -> None:
    encoded = re.search(r"base64,\s*([^\"]+)", similarities(np.eye(3)))[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"), dtype=int)
    assert pixels.shape == (3, 3, 3)
    diagonal = pixels[[0, 1, 2], [0, 1, 2]].sum(axis=1)
    assert {int(diagonal.min()), int(diagonal.max())} == {int(pixels.sum(axis=2).max())}
    assert (pixels.sum(axis=2) == pixels.sum(axis=2).max()).sum() == 3


def test_pictures_are_the_same_whatever_the_style_of_the_user() -> None:
    values = {"a": np.arange(10.0)}
    first = histogram(values, label="size")
    with mpl.rc_context({"axes.facecolor": "black", "svg.fonttype": "path", "font.size": 30}):
        assert histogram(values, label="size") == first
        assert mpl.rcParams["font.size"] == 30
