"""Boxes and tags on pictures: in the right place, in colours apart, and readable at any size."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autotag.errors import ConfigError
from autotag.records import Caption, Detection, Result, Tag
from autotag.records.drawing import _COLOURS, _on, font_for

GREY = Image.new("RGB", (800, 600), (128, 128, 128))


def result(*found: Detection, tags: tuple[Tag, ...] = (), size: tuple[int, int] = (800, 600)) -> Result:
    return Result("a.jpg", size, detections=found, tags=tags)


def pixels(image: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(row) for row in np.unique(np.asarray(image).reshape(-1, 3), axis=0).tolist()}


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))


def test_a_box_is_drawn_where_it_is_and_the_image_itself_stays() -> None:
    picture = result(Detection("dog", 0.9, (200, 150, 600, 450))).draw(GREY)
    changed = np.argwhere(np.asarray(picture) != np.asarray(GREY))[:, :2]
    assert pixels(GREY) == {(128, 128, 128)}
    assert picture.size == GREY.size
    assert 190 <= changed[:, 1].min() <= 200
    assert 600 <= changed[:, 1].max() <= 610
    assert 450 <= changed[:, 0].max() <= 460
    assert tuple(np.asarray(picture)[300, 400]) == (128, 128, 128)


def test_boxes_follow_an_image_of_another_size() -> None:
    picture = result(Detection("dog", 0.9, (200, 150, 600, 450))).draw(GREY.resize((1600, 1200)))
    changed = np.argwhere(np.asarray(picture) != 128)[:, :2]
    assert 380 <= changed[:, 1].min() <= 400
    assert 900 <= changed[:, 0].max() <= 920


def test_each_label_has_a_colour_of_its_own() -> None:
    found = [Detection(label, 0.9, (100 * n, 100, 100 * n + 60, 300)) for n, label in enumerate("abcdefg")]
    shown = pixels(result(*found).draw(GREY))
    assert {rgb(colour) for colour in _COLOURS} <= shown
    again = [Detection("a", 0.9, (100 * n, 100, 100 * n + 60, 300)) for n in range(3)]
    assert len({rgb(colour) for colour in _COLOURS} & pixels(result(*again).draw(GREY))) == 1


def test_letters_that_pillows_own_font_lacks_are_drawn() -> None:
    pytest.importorskip("matplotlib", reason="its font is there on every computer")
    for text in ("Käfer", "Straße", "Łódź", "собака"):
        font = font_for(text, 20)
        box = bytes(font.getmask("\uffff"))
        assert box
        assert [letter for letter in text if bytes(font.getmask(letter)) == box] == []
    assert font_for("beetle", 20).getname() == ("Aileron", "Regular")
    whole, empty = (
        result(Detection(label, 0.9, (200, 150, 600, 450))).draw(GREY) for label in ("Käfer", "K\uffffer")
    )
    assert whole != empty


@pytest.mark.parametrize("colour", _COLOURS)
def test_text_on_a_colour_has_a_contrast_of_at_least_4_5(colour: str) -> None:
    def luminance(one: str) -> float:
        parts = [c / 255 for c in rgb(one)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    dark, light = sorted((luminance(colour), luminance(_on(colour))))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_tags_are_in_a_band_below_with_their_counts() -> None:
    one = Tag("dog", 0.9, "detect_objects", count=3)
    with_band = result(tags=(one,)).draw(GREY)
    assert with_band.width == 800
    assert with_band.height > 600
    assert with_band.crop((0, 0, 800, 600)).tobytes() == GREY.tobytes()
    without_count = result(tags=(Tag("dog", 0.9, "detect_objects"),)).draw(GREY)
    assert with_band.tobytes() != without_count.tobytes()
    assert result(tags=(one,)).draw(GREY, tags=False).size == (800, 600)
    assert result(Detection("dog", 0.9, (1, 1, 5, 5))).draw(GREY, boxes=False).tobytes() == GREY.tobytes()


def test_the_score_stands_after_its_label_in_any_script_however_long_the_label_is() -> None:
    pytest.importorskip("matplotlib", reason="its font has Hebrew on every computer")
    box = (0.0, 300.0, 700.0, 500.0)

    def label(text: str, score: float) -> np.ndarray:
        shown = np.asarray(result(Detection(text, score, box)).draw(GREY).convert("RGB"))[:298]
        return shown[:, (shown != 128).any(axis=(0, 2))]

    for text in ("חתול", "a label " * 40):
        one, other = label(text, 0.11), label(text, 0.77)
        wide = min(one.shape[1], other.shape[1])
        differing = np.argwhere((one[:, :wide] != other[:, :wide]).any(axis=(0, 2)))
        assert differing.min() > one.shape[1] / 2, text


def test_each_tag_in_the_band_stands_where_its_place_is_in_any_script() -> None:
    pytest.importorskip("matplotlib", reason="its font has Hebrew on every computer")
    first, second = (Tag(text, 0.5, "x") for text in ("שלום", "חתול"))

    def ink(*tags: Tag) -> np.ndarray:
        band = np.asarray(result(tags=tags).draw(GREY).convert("L"))[600:].astype(int)
        return band - band[0, -1]

    alone = ink(first)
    right = np.argwhere(alone)[:, 1].max() + 1
    assert (ink(first, second)[:, :right] == alone[:, :right]).all()


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (30_000, 100), (100, 3_000)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_images_of_any_size_and_mode_can_be_drawn_on(size: tuple[int, int], mode: str) -> None:
    box = (0.0, 0.0, size[0] / 2, size[1] / 2)
    tags = tuple(Tag(f"a tag with many words {n}", 0.5, "x") for n in range(9))
    picture = result(Detection("a label " * 20, 0.5, box), tags=tags, size=size).draw(Image.new(mode, size))
    assert picture.mode == "RGB"
    assert picture.width >= 240 or size[0] >= 100
    assert max(picture.size) >= 100


def test_labels_do_not_cover_one_another_where_there_is_room() -> None:
    box = (200.0, 150.0, 600.0, 450.0)
    one = result(Detection("dog", 0.9, box)).draw(GREY)
    two = result(Detection("dog", 0.9, box), Detection("cat", 0.8, box)).draw(GREY)
    ground = rgb(_COLOURS[0])
    before = (np.asarray(one) == ground).all(axis=2).sum()
    above = (np.asarray(two)[:148] == ground).all(axis=2).sum()
    assert 0 < above <= before
    assert rgb(_COLOURS[1]) in pixels(two.crop((0, 152, 800, 200)))


def test_a_notebook_shows_the_photograph_with_its_boxes_and_escapes_words(tmp_path: Path) -> None:
    file = tmp_path / "a<b>.png"
    Image.new("RGB", (900, 600), (10, 200, 30)).save(file)
    found = Result(
        str(file),
        (900, 600),
        captions=(Caption("a <dog>", "x"),),
        detections=(Detection("dog", 0.9, (90, 60, 800, 500)),),
        tags=(Tag("<script>", 0.25, "x"),),
    )
    page = found._repr_html_()
    assert "<bdi>&lt;script&gt;</bdi></td><td>0.250" in page
    assert "<bdi>a &lt;dog&gt;</bdi>" in page
    assert "a&lt;b&gt;.png" in page
    encoded = page.partition("base64,")[2].partition('"')[0]
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as shown:
        assert max(shown.size) == 480
        assert len(shown.getcolors(100_000) or ()) > 1


@pytest.mark.parametrize("source", ["missing.jpg", "https://example.org/a.jpg", "<array>", "a\0b"])
def test_a_notebook_shows_a_result_without_its_file(source: str) -> None:
    page = Result(source, (0, 0), error="not an image")._repr_html_()
    assert "not an image" in page
    assert "<img" not in page


@pytest.fixture
def pyplot(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.setenv("MPLBACKEND", "agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    yield plt
    plt.close("all")


@pytest.mark.usefixtures("pyplot")
def test_a_plot_shows_the_photograph_with_boxes_caption_and_scores(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (900, 600), (10, 200, 30)).save(file)
    found = Result(
        str(file),
        (900, 600),
        captions=(Caption("a dog for $5 or $6", "x"),),
        detections=(Detection("dog", 0.9, (90, 60, 800, 500)),),
        tags=(Tag("dog", 0.25, "x"), Tag("grass", 0.2, "x")),
    )
    axes = found.plot()
    assert axes.get_title() == "a dog for $5 or $6"
    assert axes.get_xlabel() == "dog 0.25 · grass 0.20"
    (shown,) = axes.get_images()
    boxes = np.asarray(found.draw(Image.open(file), tags=False))
    assert (np.asarray(shown.get_array()) == boxes).all()
    axes.figure.savefig(io.BytesIO())


@pytest.mark.usefixtures("pyplot")
def test_plots_go_into_axes_that_are_given() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert result().plot(GREY, ax=axes) is axes


@pytest.mark.usefixtures("pyplot")
@pytest.mark.parametrize("size", [(800, 600), (60, 800)])
def test_a_plot_is_high_enough_for_its_words_and_breaks_lines_between_tags(size: tuple[int, int]) -> None:
    tags = tuple(Tag(f"tag number {n}", 0.5, "x") for n in range(80))
    axes = Result("a", size, captions=(Caption("many words " * 30, "x"),), tags=tags).plot(GREY.resize(size))
    axes.figure.canvas.draw()
    whole = axes.figure.bbox
    for words in (axes.title, axes.xaxis.label):
        box = words.get_window_extent()
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1
    assert max(axes.bbox.width, axes.bbox.height) > 500
    lines = axes.get_xlabel().splitlines()
    assert all(line.startswith("tag number ") and line.endswith(" 0.50") for line in lines)


@pytest.mark.filterwarnings("ignore:Glyph")
def test_words_in_axes_that_are_given_keep_out_of_the_axes_beside_them(pyplot) -> None:
    figure, both = pyplot.subplots(1, 2, figsize=(8, 4))
    for axes, caption in zip(both, ("many words " * 12, "毛色斑纹的猫" * 12), strict=True):
        Result("a", (800, 600), captions=(Caption(caption, "x"),)).plot(GREY, ax=axes)
    figure.canvas.draw()
    left, right = (axes.title.get_window_extent() for axes in both)
    assert left.x1 < right.x0
    assert right.x1 < figure.bbox.x1


@pytest.mark.usefixtures("pyplot")
def test_a_plot_of_an_image_that_failed_says_why() -> None:
    assert Result("a", (0, 0), error="it is empty").plot(GREY).get_title() == "it is empty"


def test_a_plot_needs_a_photograph_and_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"result\.plot\(image\)"):
        result().plot()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'autotag-images\[report\]'"):
        result().plot(GREY)
