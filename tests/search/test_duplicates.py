from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from autotag.errors import ConfigError
from autotag.records import Result
from autotag.relevance.embeddings import written_embedding
from autotag.search import Index, duplicates, find_duplicates, find_duplicates_in
from autotag.search.compression import LOSSLESS, UNKNOWN, coarseness
from autotag.search.duplicate_photos import PhotoFile
from autotag.search.picture_cache import cache_beside
from autotag.search.same_picture import SIDE, grey_thumbnail, same_pictures
from autotag.testing import make_image

TAKEN, FRACTION, EXIF, MODEL = 0x9003, 0x9291, 0x8769, 0x0110


def picture(seed, size=(320, 240)):
    """A photograph-like picture: coarse shapes and finer details."""
    random = np.random.default_rng(seed)
    layers = [(6, 120), (24, 60), (80, 30)]
    whole = np.full((size[1], size[0], 3), 110.0)
    for side, strength in layers:
        layer = Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8))
        whole += (np.asarray(layer.resize(size, Image.Resampling.BICUBIC)) - 127.0) * strength / 128
    return Image.fromarray(np.clip(whole, 0, 255).astype(np.uint8))


def save(path, image, *, taken=None, fraction=None, camera=None, quality=90):
    exif = Image.Exif()
    if camera:
        exif[MODEL] = camera
    if taken:
        exif.get_ifd(EXIF)[TAKEN] = taken
    if fraction:
        exif.get_ifd(EXIF)[FRACTION] = fraction
    path.parent.mkdir(exist_ok=True, parents=True)
    image.save(path, quality=quality, exif=exif)
    return path


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    for seed in range(5):
        save(folder / f"other{seed}.jpg", picture(100 + seed))
    return folder


def found(folder, **options):
    groups = find_duplicates(sorted(folder.rglob("*.*")), **options)
    return [(group.kind, [(Path(copy.path).name, copy.kind) for copy in group.photos]) for group in groups]


def test_nothing_is_found_among_different_photographs(album):
    assert found(album) == []


def test_the_same_bytes_pixels_and_pictures_are_told_apart(album):
    first = save(album / "a.jpg", picture(1))
    (album / "b.jpg").write_bytes(first.read_bytes())
    save(album / "c.jpg", picture(1), camera="later written in")
    save(album / "d.jpg", picture(1).resize((160, 120)))
    ((kind, members),) = found(album)
    assert kind == "copies"
    assert dict(members) == {members[0][0]: None, "b.jpg": "bytes", "c.jpg": "pixels", "d.jpg": "picture"} | (
        {} if members[0][0] != "b.jpg" else {"a.jpg": "bytes"}
    )
    assert sorted(name for name, _ in found(album, same="pixels")[0][1]) == ["a.jpg", "b.jpg", "c.jpg"]
    assert sorted(name for name, _ in found(album, same="bytes")[0][1]) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((128, 96)),
        lambda image: image.resize((640, 480)),
        lambda image: image.crop((16, 0, 320, 228)),
        lambda image: image.crop((5, 6, 309, 234)),
        lambda image: ImageEnhance.Brightness(image).enhance(1.4),
        lambda image: ImageEnhance.Contrast(image).enhance(0.7),
        lambda image: image.convert("L").convert("RGB"),
    ],
    ids=["smaller", "larger", "corner", "middle", "brighter", "flatter", "grey"],
)
def test_a_changed_copy_is_the_same_picture(album, change):
    save(album / "a.jpg", picture(1))
    save(album / "changed.jpg", change(picture(1)), quality=60)
    ((kind, members),) = found(album)
    assert (kind, {name for name, _ in members}) == ("copies", {"a.jpg", "changed.jpg"})


def page(name, amount):
    """A letter: all but name and amount is the same in every one."""
    sheet = Image.new("RGB", (620, 877), "white")
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((40, 40, 580, 100), fill="navy")
    for line in range(12):
        draw.rectangle((50, 300 + 35 * line, 570, 330 + 35 * line), outline="black", width=2)
        draw.text((60, 305 + 35 * line), f"Item {line}", fill="black", font=ImageFont.load_default(16))
    draw.text((50, 150), f"Dear {name},", fill="black", font=ImageFont.load_default(20))
    draw.text((50, 780), f"Total {amount}", fill="black", font=ImageFont.load_default(24))
    return sheet


def test_pages_with_other_words_are_no_copies(album):
    letters = [page("Anna Schmidt", "1234.00"), page("Bert Miller", "9876.00")]
    for number, letter in enumerate(letters):
        save(album / f"{number}.png", letter)
    assert found(album) == []
    small = letters[1].resize((465, 658))
    save(album / "small.jpg", small, quality=30)
    save(album / "bright.jpg", ImageEnhance.Brightness(letters[1]).enhance(1.3), quality=60)
    save(album / "cropped.png", letters[1].crop((12, 0, 620, 877)))
    ((_, members),) = found(album)
    assert [name for name, _ in members] == ["1.png", "bright.jpg", "cropped.png", "small.jpg"]


def test_something_that_moved_makes_it_another_picture(album):
    scene = picture(1)
    for number, place in enumerate([(60, 60), (150, 110)]):
        moved = scene.copy()
        moved.paste(picture(50, (70, 70)), place)
        save(album / f"scene{number}.jpg", moved)
    assert found(album) == []


def test_pictures_without_contrast_are_the_same_only_by_their_pixels(album):
    save(album / "black.png", Image.new("RGB", (64, 64)))
    save(album / "grey.png", Image.new("RGB", (64, 64), (90, 90, 90)))
    save(album / "black again.png", Image.new("RGB", (64, 64)))
    ((_, members),) = found(album)
    assert {name for name, _ in members} == {"black.png", "black again.png"}


def test_the_one_to_keep_is_large_then_good_then_with_keywords_then_old(album):
    def order(*names):
        return [name for name, _ in found(album)[0][1]] == list(names)

    save(album / "small.png", picture(1, (160, 120)))
    save(album / "large.jpg", picture(1), quality=40)
    assert order("large.jpg", "small.png")
    save(album / "large and good.jpg", picture(1), quality=95)
    assert order("large and good.jpg", "large.jpg", "small.png")
    old = album / "older.jpg"
    old.write_bytes((album / "large and good.jpg").read_bytes())
    os.utime(old, (1, 1))
    assert order("older.jpg", "large and good.jpg", "large.jpg", "small.png")
    (album / "large and good.jpg.xmp").write_text(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>Oma</rdf:li>'
        "</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    images = sorted(path for path in album.iterdir() if path.suffix != ".xmp")
    keep = find_duplicates(images)[0].keep
    assert (Path(keep.path).name, keep.keywords) == ("large and good.jpg", ("Oma",))


def test_of_equal_files_the_oldest_is_kept_whatever_the_year():
    times = {"1969.jpg": -(10**9), "2020.jpg": 1_600_000_000 * 10**9, "far.jpg": 300_000_000_000 * 10**9}
    photos = [PhotoFile(name, (8, 8), 1, time, "d", None, None, ()) for name, time in times.items()]
    photos.insert(1, replace(photos[0], path="taken.jpg", taken="1990-01-01T00:00:00.5"))
    assert duplicates._ranks(photos) == sorted(duplicates._ranks(photos))


def test_different_times_make_no_copies_but_a_burst(album):
    for second in (1, 2, 3, 30):
        save(album / f"{second}.jpg", picture(1), taken=f"2020:05:17 14:03:{second:02}", camera="X")
    assert found(album)[0][0] == "copies"  # the pixels are the same, whatever the clock said
    for second in (1, 2, 3, 30):
        image = ImageEnhance.Brightness(picture(1)).enhance(1 + second / 100)
        save(album / f"{second}.jpg", image, taken=f"2020:05:17 14:03:{second:02}", camera="X")
    ((kind, members),) = found(album)
    assert (kind, {name for name, _ in members}) == ("burst", {"1.jpg", "2.jpg", "3.jpg"})
    assert found(album, bursts=False) == []
    assert len(found(album, burst_seconds=60)[0][1]) == 4


def test_fractions_of_a_second_tell_pictures_apart(album):
    for fraction in ("10", "35"):
        image = ImageEnhance.Brightness(picture(1)).enhance(1 + int(fraction) / 100)
        save(album / f"{fraction}.jpg", image, taken="2020:05:17 14:03:01", fraction=fraction, camera="X")
    assert [kind for kind, _ in found(album)] == ["burst"]


def test_a_burst_is_of_one_camera_and_of_one_scene(album):
    save(album / "a.jpg", picture(1), taken="2020:05:17 14:03:01", camera="X")
    save(album / "b.jpg", picture(2), taken="2020:05:17 14:03:02", camera="X")
    brighter = ImageEnhance.Brightness(picture(1)).enhance(1.1)
    save(album / "c.jpg", brighter, taken="2020:05:17 14:03:02", camera="Y")
    assert found(album) == []


def test_two_cameras_of_one_model_may_shoot_at_once(album):
    for second in range(3):
        for name, seed in (("a", 1), ("b", 2)):
            scene = ImageEnhance.Brightness(picture(seed)).enhance(1 + second / 20)
            save(album / f"{name}{second}.jpg", scene, taken=f"2020:05:17 10:00:0{second}", camera="X")
    bursts = [sorted(name for name, _ in group) for kind, group in found(album) if kind == "burst"]
    assert bursts == [["a0.jpg", "a1.jpg", "a2.jpg"], ["b0.jpg", "b1.jpg", "b2.jpg"]]


def test_a_link_is_no_copy_and_its_target_is_read_under_its_own_name(album):
    save(album / "z.jpg", picture(1))
    (album / "a link.jpg").symlink_to(album / "z.jpg")
    os.link(album / "z.jpg", album / "z hard.jpg")
    assert found(album) == []
    (album / "z copy.jpg").write_bytes((album / "z.jpg").read_bytes())
    assert "a link.jpg" not in {name for name, _ in found(album)[0][1]}


def test_what_cannot_be_read_is_told_and_left_out(album):
    (album / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    failures = []
    assert found(album, failed=failures.append) == []
    assert [Path(failure.source).name for failure in failures] == ["torn.jpg"]


def test_names_that_are_not_utf8_come_back_as_they_are(album):
    for name in (b"a\xff.jpg", b"b\xff.jpg"):
        with open(os.path.join(os.fsencode(album), name), "wb") as file:  # noqa: PTH118, PTH123 - bytes
            picture(1).save(file, "JPEG")
    ((_, members),) = found(album)
    assert sorted(os.fsencode(name) for name, _ in members) == [b"a\xff.jpg", b"b\xff.jpg"]


@pytest.mark.parametrize("wrong", [{"same": "alike"}, {"burst_seconds": -1}, {"burst_seconds": "2"}])
def test_bad_options_are_refused(wrong):
    with pytest.raises(ConfigError):
        find_duplicates([], **wrong)


def test_no_chain_of_small_changes_leads_to_another_picture():
    scene = picture(1, (SIDE * 8, SIDE * 4))
    views = np.stack([grey_thumbnail(scene.crop((x, 0, x + 256, 256))) for x in range(0, 256, 8)])
    firsts = same_pictures(views, lambda ones, _: np.zeros(len(ones), dtype=bool))
    assert firsts
    assert all(other - first <= 4 for other, (first, _) in firsts.items())


def test_blocks_and_many_alike_pictures_make_no_difference(monkeypatch):
    views = np.stack([grey_thumbnail(picture(seed % 40)) for seed in range(120)])
    expected = {place: place % 40 for place in range(40, 120)}
    for rows, most in ((256, 100), (7, 100), (7, 2)):
        monkeypatch.setattr("autotag.search.same_picture._ROWS", rows)
        monkeypatch.setattr("autotag.search.same_picture._MOST_CANDIDATES", most)
        firsts = same_pictures(views, lambda ones, _: np.zeros(len(ones), dtype=bool))
        assert {place: first for place, (first, _) in firsts.items()} == expected


def test_coarseness_tells_qualities_apart(tmp_path):
    qualities = [
        coarseness(save(tmp_path / f"{q}.jpg", picture(1), quality=q).read_bytes()) for q in (95, 80, 30)
    ]
    assert LOSSLESS < qualities[0] < qualities[1] < qualities[2]
    assert coarseness(save(tmp_path / "a.png", picture(1)).read_bytes()) == LOSSLESS
    assert coarseness(b"\xff\xd8\xff\xdb\x00") == UNKNOWN


class TestInAnIndex:
    @pytest.fixture
    def index(self, album, tmp_path):
        save(album / "a.jpg", picture(1))
        save(album / "b.jpg", picture(1), quality=40)
        for second, seed in ((1, 7), (2, 8)):
            save(album / f"burst{second}.jpg", picture(seed), taken=f"2020:05:17 14:03:0{second}", camera="X")
        with Index.open(tmp_path / "index.db") as opened:
            opened.add(self.result(path) for path in sorted(album.iterdir()))
            yield opened

    def result(self, path):
        vector = np.ones(8, dtype=np.float32) if "burst" in path.name else np.arange(8, dtype=np.float32)
        with Image.open(path) as image:
            return Result(str(path), image.size, extras={"embedding": written_embedding("e", vector)})

    def groups(self, index, **options):
        return [
            (group.kind, [Path(copy.path).name for copy in group.photos])
            for group in find_duplicates_in(index, **options)
        ]

    def test_copies_are_found_by_pixels_and_bursts_by_vectors(self, index):
        assert self.groups(index) == [("copies", ["a.jpg", "b.jpg"]), ("burst", ["burst1.jpg", "burst2.jpg"])]

    def test_a_second_run_decodes_nothing(self, index, monkeypatch):
        first = self.groups(index)

        def refuse(*_args, **_options):
            raise AssertionError("it was decoded again")

        monkeypatch.setattr("autotag.search.duplicate_photos.read_image", refuse)
        assert self.groups(index) == first

    def test_what_changed_or_went_is_told_and_no_copy(self, index, album):
        failures = []
        save(album / "b.jpg", picture(3))
        (album / "burst2.jpg").unlink()
        assert self.groups(index, failed=failures.append) == []
        assert sorted(Path(failure.source).name for failure in failures) == ["b.jpg", "burst2.jpg"]

    def test_what_is_offline_is_left_out(self, index):
        index.execute("UPDATE photo SET offline = 1 WHERE CAST(path AS TEXT) LIKE '%/b.jpg'")
        assert [kind for kind, _ in self.groups(index)] == ["burst"]

    @pytest.mark.parametrize(
        "harm", [lambda raw: b"no database" * 100, lambda raw: raw[:5000], lambda raw: b""]
    )
    def test_a_damaged_cache_is_done_without(self, index, harm, caplog):
        first = self.groups(index)
        cache = cache_beside(index.path).path
        cache.write_bytes(harm(cache.read_bytes()))
        with caplog.at_level(logging.ERROR):
            assert self.groups(index) == first
            assert self.groups(index) == first

    def test_small_pictures_of_what_is_gone_are_dropped(self, index):
        self.groups(index)
        index.remove(
            *(photo for photo, path in index.execute("SELECT id, path FROM photo") if b"other" in path)
        )
        self.groups(index)
        with closing(sqlite3.connect(cache_beside(index.path).path)) as connection:
            assert connection.execute("SELECT count(*) FROM look").fetchone() == (4,)


def test_a_text_in_place_of_files_is_refused():
    for images in ("photos/", Path("photos")):
        with pytest.raises(ConfigError, match=r"for a folder write find_images\("):
            find_duplicates(images)


def test_documents_with_other_pages_are_no_copies(tmp_path):
    first = make_image("red", (64, 64))
    first.paste("blue", (0, 0, 20, 50))
    for name, colour in (("a", "white"), ("b", "black"), ("c", "black")):
        first.save(tmp_path / f"{name}.tif", save_all=True, append_images=[make_image(colour, (64, 64))])
    first.save(tmp_path / "first page.png")
    [group] = find_duplicates(sorted(tmp_path.iterdir()))
    assert {Path(copy.path).name for copy in group.others} <= {"b.tif", "c.tif", "first page.png"}
    kinds = {Path(copy.path).name: copy.kind for copy in group.others}
    assert "a.tif" not in kinds
    assert [kind for name, kind in kinds.items() if name.endswith("tif")] in ([], ["bytes"])


def test_a_motion_photo_is_kept_beside_its_still(tmp_path):
    still, motion, copy = (tmp_path / name for name in ("still.jpg", "motion.jpg", "motion copy.jpg"))
    save(still, picture(1))
    motion.write_bytes(still.read_bytes() + b"\0\0\0\x18ftypmp42" + bytes(100))
    os.utime(still, (1, 1))
    assert found(tmp_path) == []
    os.utime(motion, (0, 0))
    assert found(tmp_path) == [("copies", [("motion.jpg", None), ("still.jpg", "picture")])]
    copy.write_bytes(motion.read_bytes())
    ((_, members),) = found(tmp_path)
    assert sorted(members, key=str) == [
        ("motion copy.jpg", "bytes"),
        ("motion.jpg", None),
        ("still.jpg", "picture"),
    ]
