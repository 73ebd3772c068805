from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from autotag.evaluation.projection import principal_plane
from autotag.evaluation.report.charts import (
    HEIGHT,
    WIDTH,
    Point,
    escaped,
    histogram,
    matrix_picture,
    projection,
    quality_against_time,
    ticks,
    word_cloud,
)

SVG = "{http://www.w3.org/2000/svg}"
NASTY = '<script>"&\x00'


def tree(page: str) -> ET.Element:
    """The picture, which has to be well-formed XML; what stands after it is its legend."""
    return ET.fromstring(page[: page.index("</svg>") + 6])  # noqa: S314  our own


@pytest.mark.parametrize(
    "picture",
    [
        histogram({NASTY: np.array([0.1, 0.2]), "b": np.array([0.3])}, label=NASTY, of=NASTY),
        histogram({"same": np.ones(5)}, label="one value", of="images"),
        histogram({"words": np.array([3, 3, 900])}, label="words", of="texts", whole=True),
        quality_against_time([Point(NASTY, 0.01, 0.5)], label="one"),
        quality_against_time([Point("a", 0.01, -1, -2, 0), Point("b", 9000, 1, 0.5, 2)], label="two"),
        projection(np.zeros((1, 2)), np.zeros((1, 2)), [NASTY]),
        word_cloud({NASTY: 3, "w" * 300: 2}),
    ],
)
def test_pictures_are_well_formed_and_stay_in_their_frame(picture: str) -> None:
    assert "<script" not in picture
    assert "nan" not in picture
    for element in tree(picture).iter():
        for name, most in (("x", WIDTH), ("cx", WIDTH), ("y", HEIGHT), ("cy", HEIGHT)):
            if element.get(name) is not None:
                assert 0 <= float(element.get(name)) <= most


def test_a_histogram_shows_shares_of_each_name() -> None:
    picture = histogram({"a": np.arange(100.0), "b": np.arange(100.0)}, label="size", of="images")
    assert len(tree(picture).findall(f"{SVG}path")) == 2
    assert re.findall(r"</i>(\w)<", picture) == ["a", "b"]


def test_faster_is_further_right_and_better_is_higher() -> None:
    picture = tree(quality_against_time([Point("slow", 1, 0.2), Point("fast", 100, 0.8)], label="f"))
    slow, fast = picture.findall(f"{SVG}circle")
    assert float(fast.get("cx")) > float(slow.get("cx"))
    assert float(fast.get("cy")) < float(slow.get("cy"))


def test_frequent_words_are_larger_and_words_do_not_overlap() -> None:
    counts = {f"word{number}": 2000 // (number + 1) for number in range(80)}
    texts = tree(word_cloud(counts, words=50)).findall(f"{SVG}text")
    sizes = [float(re.search(r"font-size:([\d.]+)", text.get("style"))[1]) for text in texts]
    assert 30 < len(texts) <= 50
    assert sizes == sorted(sizes, reverse=True)
    places = {(text.get("x"), text.get("y")) for text in texts}
    assert len(places) == len(texts)
    assert word_cloud(counts) == word_cloud(counts)
    assert "No words" in word_cloud({})


def test_a_matrix_has_a_pixel_for_each_cell_dark_where_it_is_high() -> None:
    picture = matrix_picture(np.eye(3), low=0, high=1)
    encoded = re.search(r"base64,([^\"]+)", picture)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    assert pixels.shape == (3, 3, 3)
    assert pixels[0, 0].sum() < 300 < 700 < pixels[0, 1].sum()


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(0.433, 0.561) == [0.45, 0.5, 0.55]
    assert ticks(3, 3) == [3]


def test_text_of_strangers_is_escaped() -> None:
    assert escaped('<a href="x">&\x07\u202e') == "&lt;a href=&quot;x&quot;&gt;&amp;  "


def test_the_plane_is_where_vectors_differ_most() -> None:
    chance = np.random.default_rng(0)
    vectors = chance.normal(size=(200, 6)) * [0.1, 5, 0.1, 0.1, 2, 0.1] + 3
    mean, plane = principal_plane(vectors)
    assert mean == pytest.approx(vectors.mean(axis=0))
    assert np.abs(plane).argmax(axis=1).tolist() == [1, 4]
    assert plane @ plane.T == pytest.approx(np.eye(2), abs=1e-9)
    assert plane.max(axis=1).min() > 0.9


def test_the_plane_of_one_vector_is_a_point() -> None:
    assert not principal_plane(np.ones((1, 4)))[1].any()
