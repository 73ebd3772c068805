import itertools
import os
import time

import pytest

from autotag.errors import MetadataError
from autotag.metadata.sidecars import sidecar_stamp, sidecars_of
from autotag.metadata.xmp import MachineTag, with_machine_tags


@pytest.fixture
def folder(tmp_path):
    def make(*names, content=b"x"):
        for name in names:
            (tmp_path / name).write_bytes(content)
        return tmp_path

    return make


def sidecar(text="dog", extension=""):
    return with_machine_tags(None, [MachineTag(text, 1)], sidecar_for=extension, date="2026")


@pytest.mark.parametrize(
    ("photo", "naming", "name", "sidecar_for"),
    [
        ("a.jpg", "auto", "a.jpg.xmp", ""),
        ("a.b.PNG", "auto", "a.b.PNG.xmp", ""),
        ("a.CR2", "auto", "a.xmp", "CR2"),
        ("a.CR2", "ext", "a.CR2.xmp", ""),
        ("a.jpg", "adobe", "a.xmp", "jpg"),
    ],
)
def test_a_new_sidecar_s_name(folder, photo, naming, name, sidecar_for):
    root = folder(photo)
    found = sidecars_of(root / photo, naming=naming)
    assert found.targets == (root / name,)
    assert found.sidecar_for == sidecar_for


def test_existing_ones_of_either_name_are_updated_both_if_there_are_both(folder):
    root = folder("a.jpg", "b.jpg", "c.jpg")
    for name in ("a.jpg.xmp", "b.xmp", "c.jpg.XMP", "c.xmp"):
        folder(name, content=sidecar())
    assert sidecars_of(root / "a.jpg").targets == (root / "a.jpg.xmp",)
    assert sidecars_of(root / "b.jpg").targets == (root / "b.xmp",)
    assert sidecars_of(root / "c.jpg").targets == (root / "c.jpg.XMP", root / "c.xmp")


def test_a_shared_sidecar_belongs_to_the_raw(folder):
    root = folder("a.jpg", "a.png", "a.cr2")
    folder("a.xmp", content=sidecar())
    assert sidecars_of(root / "a.cr2").targets == (root / "a.xmp",)
    jpeg = sidecars_of(root / "a.jpg")
    assert jpeg.targets == (root / "a.jpg.xmp",)
    assert len(jpeg.seeds) == 1
    assert "a.xmp is shared with a.cr2, a.png" in jpeg.warnings[0]


def test_a_shared_sidecar_belongs_to_whom_it_names(folder):
    root = folder("a.jpg", "a.png")
    folder("a.xmp", content=sidecar(extension="PNG"))
    assert sidecars_of(root / "a.png").targets == (root / "a.xmp",)
    jpeg = sidecars_of(root / "a.jpg")
    assert jpeg.targets == (root / "a.jpg.xmp",)
    assert jpeg.seeds == ()


def test_two_photographs_never_get_one_new_sidecar(folder):
    root = folder("a.jpg", "a.png", "a.cr2", "b.cr2", "b.dng")
    names = ["a.jpg", "a.png", "a.cr2", "b.cr2", "b.dng"]
    targets = [sidecars_of(root / name).targets[0].name for name in names]
    assert targets == ["a.jpg.xmp", "a.png.xmp", "a.xmp", "b.cr2.xmp", "b.dng.xmp"]
    with pytest.raises(MetadataError, match="shared"):
        sidecars_of(root / "a.jpg", naming="adobe")


def test_a_damaged_sidecar_is_refused(folder):
    root = folder("a.jpg", "a.xmp")
    with pytest.raises(MetadataError, match="damaged"):
        sidecars_of(root / "a.jpg")


def test_where_a_sidecar_s_name_would_be_too_long_there_is_none(folder):
    name = "a" * 251 + ".jpg"
    assert sidecars_of(folder(name) / name).existing == ()


def test_a_picture_that_comes_later_is_seen(folder):
    for number in range(50):
        name = f"a{number}"
        photo = folder(f"{name}.jpg") / f"{name}.jpg"
        assert sidecars_of(photo, naming="adobe").new.name == f"{name}.xmp"
        folder(f"{name}.png")
        with pytest.raises(MetadataError, match="would be shared"):
            sidecars_of(photo, naming="adobe")


@pytest.mark.parametrize("seconds", [0, 10])
def test_pictures_of_one_stem_are_found_in_a_folder_that_changes_and_in_one_that_does_not(folder, seconds):
    path = folder("a.jpg", "a.CR2", "b.jpg")
    os.utime(path, (time.time() - seconds,) * 2)
    assert sidecars_of(path / "a.CR2").new.name == "a.xmp"
    assert sidecars_of(path / "b.jpg").new.name == "b.jpg.xmp"
    with pytest.raises(MetadataError, match=r"would be shared with a\.CR2"):
        sidecars_of(path / "a.jpg", naming="adobe")


def test_a_stamp_changes_with_every_sidecar_that_may_be_the_photograph_s(folder):
    path = folder("a.jpg", "b.jpg") / "a.jpg"
    stamps = [sidecar_stamp(path)]
    assert stamps == [""]

    def changed(do):
        do()
        stamps.append(sidecar_stamp(path))
        assert stamps[-1] not in stamps[:-1]
        assert sidecar_stamp(path) == stamps[-1]

    changed(lambda: folder("a.jpg.xmp"))
    changed(lambda: folder("a.xmp", content=b"yy"))
    changed(lambda: folder("a.xmp", content=b"zzz"))
    changed(lambda: os.utime(path.with_name("a.xmp"), ns=(1, 10**18)))
    changed(lambda: folder("a.CR2"))  # to which a.xmp belongs from now on
    changed(path.with_name("a.jpg.xmp").unlink)
    changed(lambda: folder("a.XMP"))
    path.with_name("a.xmp").unlink()
    path.with_name("a.XMP").unlink()
    assert sidecar_stamp(path) == ""


def test_a_stamp_is_not_changed_by_what_is_no_sidecar_of_the_photograph(folder, monkeypatch):
    path = folder("a.jpg", "a.jpg.xmp") / "a.jpg"
    before = sidecar_stamp(path)
    folder("b.jpg", "b.jpg.xmp", "b.xmp", "a.png", "a.png.xmp", "aa.xmp", "a.txt", "a.jpg.xmp.bak")
    (path.parent / "a.xmp").mkdir()
    assert sidecar_stamp(path) == before
    monkeypatch.chdir(path.parent)
    assert sidecar_stamp("a.jpg") == before
    assert sidecar_stamp("missing/a.jpg") == ""


@pytest.mark.parametrize("settled", [True, False])
def test_a_folder_of_photographs_is_listed_once_unless_it_changes(folder, monkeypatch, settled):
    path = folder(*(f"{number}.jpg" for number in range(20)), "7.xmp")
    listed = []
    list_folder = os.listdir
    monkeypatch.setattr(os, "listdir", lambda place: listed.append(place) or list_folder(place))
    if settled:
        os.utime(path, (time.time() - 10,) * 2)
    stamps = [sidecar_stamp(path / f"{number}.jpg") for number in range(20)]
    assert [bool(stamp) for stamp in stamps] == [number == 7 for number in range(20)]
    assert not settled or len(listed) == 1
    folder("3.jpg.xmp")
    assert sidecar_stamp(path / "3.jpg") != ""


def test_a_folder_whose_time_lies_ahead_is_not_listed_for_each_photograph(folder, monkeypatch):
    path = folder(*(f"{number}.jpg" for number in range(20)), "7.xmp")
    listed, ahead = [], time.time() + 3600
    list_folder, clock = os.listdir, itertools.count(0, 1_000_000_000)
    monkeypatch.setattr(os, "listdir", lambda place: listed.append(place) or list_folder(place))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(clock))
    os.utime(path, (ahead,) * 2)
    stamps = [sidecar_stamp(path / f"{number}.jpg") for number in range(20)]
    assert [bool(stamp) for stamp in stamps] == [number == 7 for number in range(20)]
    assert len(listed) < 6
    folder("3.jpg.xmp")
    os.utime(path, (ahead + 1,) * 2)
    assert sidecar_stamp(path / "3.jpg") != ""
