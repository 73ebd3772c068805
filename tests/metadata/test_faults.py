"""The writer is stopped at every boundary, on every format, by every kind of fault; nothing may be lost."""

import errno
import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from autotag.files.file_states import state_of
from autotag.files.system_calls import SystemCalls
from autotag.metadata import MetadataChange, apply_change, plan_tags, undo_change
from autotag.metadata.exiftool import Exiftool
from autotag.metadata.xmp import MachineTag, with_machine_tags

OLD_TAGS = [MachineTag("before", 0.5)]
TAGS = [MachineTag("dog", 0.5, "clip", "1", path=("Animal", "dog")), MachineTag("sea", 0.4)]
BOUNDARIES = (
    "open", "lock", "stat", "lstat", "write", "fsync", "read", "copy_attributes", "set_times", "exchange",
    "rename_new", "replace", "unlink", "sync_folder", "close",
)  # fmt: skip
ERRORS = {"disk full": errno.ENOSPC, "disk broken": errno.EIO}
KINDS = (
    *ERRORS,
    "killed before",
    "killed after",
    "interrupted",
    "half written, then full",
    "half written, killed",
)


class Killed(BaseException):
    """What a kill -9 is to a program: nothing runs after it."""


class StoppedAt(SystemCalls):
    """Calls that go wrong at one boundary. Nothing is waited for: a simulated kill empties no disk cache."""

    def __init__(self, where=-1, kind=""):
        self.where, self.kind = where, kind
        self.trace, self.open_files, self.dead = [], set(), False

    def fsync(self, descriptor):
        pass

    def sync_folder(self, folder):
        pass

    def around(self, name, call, arguments):
        if self.dead:
            raise Killed
        here = len(self.trace) == self.where
        self.trace.append(name)
        if here:
            self.go_wrong(name, arguments)
        result = call(self, *arguments)
        if name == "open":
            self.open_files.add(result)
        elif name == "close":
            self.open_files.discard(arguments[0])
        if here and self.kind == "killed after":
            self.dead = True
            raise Killed
        return result

    def go_wrong(self, name, arguments):
        if self.kind.startswith("half written") and name == "write":
            os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
        if self.kind in ("killed before", "half written, killed"):
            self.dead = True
            raise Killed
        if self.kind == "interrupted":
            raise KeyboardInterrupt
        if self.kind != "killed after":
            number = ERRORS.get(self.kind, errno.ENOSPC)
            raise OSError(number, os.strerror(number))

    def let_go(self):
        """What the system does for a process that ended."""
        for descriptor in self.open_files:
            os.close(descriptor)


def _watched(name, call):
    return lambda self, *arguments: self.around(name, call, arguments)


for _name in BOUNDARIES:
    _call = StoppedAt.__dict__.get(_name) or getattr(SystemCalls, _name)
    setattr(StoppedAt, _name, _watched(_name, _call))


def sidecar_of_old_tags():
    return with_machine_tags(None, OLD_TAGS, date="2020")


# What is in the folder, which tags are written, whether into the photograph.
SCENES = {
    **{f"embed {name}": (name, (), True) for name in (
        "jpeg", "jpeg_full", "jpeg_motion", "mpo", "png", "png_full", "png_compressed", "webp",
        "webp_lossless", "webp_full", "webp_animated")},
    **{f"new sidecar {name}": (name, (), False) for name in ("jpeg_iptc", "tiff", "gif", "bmp", "avif")},
    **{f"through exiftool {name}": (name, (), True) for name in (
        "jpeg_iptc", "tiff", "tiff_pages", "gif", "avif", "heic")},
    "update sidecar": ("jpeg", (".jpeg.xmp",), False),
    "update both sidecars": ("png", (".png.xmp", ".xmp"), False),
    "embed and update sidecar": ("webp_full", (".webp.xmp",), True),
}  # fmt: skip


UNDONE = (
    "embed jpeg_full", "embed png", "embed png_compressed", "embed webp", "embed webp_full",
    "through exiftool tiff", "through exiftool heic", "new sidecar tiff",
    "update both sidecars", "embed and update sidecar",
)  # fmt: skip


def is_hidden(name):
    """Whether it is a file of ours on its way."""
    return name.startswith(".") and name.endswith(("autotag-part", "autotag-swap"))


class Scene:
    """A folder with a photograph and a change that is planned for it."""

    def __init__(self, folder, photograph, name):
        kind, sidecars, embed = SCENES[name]
        self.folder = folder
        self.path = folder / f"a.{kind.partition('_')[0]}"
        self.path.write_bytes(photograph(kind))
        for ending in sidecars:
            (folder / f"a{ending}").write_bytes(sidecar_of_old_tags())
        self.before = self.files()
        if name.startswith("through exiftool") and shutil.which("exiftool") is None:
            pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
        self.change = self.plan(embed)
        self.after = dict(self.before)
        self.after |= {Path(one.path).name: one.content for one in self.change.files}
        assert self.change.kind == ("embedded" if embed else "sidecar")

    def plan(self, embed):
        with Exiftool.if_installed() or nullcontext() as exiftool:
            return plan_tags(self.path, TAGS, "a caption", embed=embed, exiftool=exiftool, date="2026")

    def files(self):
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def visible(self):
        return {name: content for name, content in self.files().items() if not is_hidden(name)}

    def whole(self):
        """Whether every file is the old one or the new one, and there are no others."""
        now = self.files()
        assert {name for name in now if not is_hidden(name)} <= set(self.before) | set(self.after)
        for name in set(self.before) | set(self.after):
            assert now.get(name) in (self.before.get(name), self.after.get(name)), name
        return now

    def back(self):
        """The folder as it was, and a plan for it."""
        now = self.files()
        for name in set(now) - set(self.before):
            (self.folder / name).unlink()
        for name, content in self.before.items():
            if now[name] != content:
                (self.folder / name).write_bytes(content)
        states = {one.path: state_of(Path(one.path)) for one in self.change.files}
        files = tuple(replace(one, before=states[one.path]) for one in self.change.files)
        self.change = replace(self.change, files=files)


def stopped(operation, change, where, kind):
    """Runs an operation that is stopped; the boundary's name."""
    calls = StoppedAt(where, kind)
    try:
        operation(change, calls=calls)
    except (OSError, Killed, KeyboardInterrupt):
        pass
    finally:
        calls.let_go()
    return calls


def points(scene, operation):
    """The boundaries that an operation passes, and the kinds of fault that each can have."""
    calls = StoppedAt()
    operation(scene.change, calls=calls)
    for where, name in enumerate(calls.trace):
        for kind in KINDS:
            if name == "write" or not kind.startswith("half"):
                yield where, kind


@pytest.fixture
def folder(tmp_path):
    """In memory where there is such a place: thousands of replacements wait for a disk."""
    if not os.access("/dev/shm", os.W_OK):  # noqa: S108 - made with a name of its own, below
        yield tmp_path
        return
    with TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def counted():
    found = set()
    yield found
    print(f"\n{len(found)} distinct points, 0 losses")  # noqa: T201


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_a_stop_anywhere_while_writing_loses_nothing(folder, photograph, counted, name):
    scene = Scene(folder, photograph, name)
    todo = list(points(scene, apply_change))
    for where, kind in todo:
        scene.back()
        calls = stopped(apply_change, scene.change, where, kind)
        now = scene.whole()
        if not calls.dead and calls.trace[where] != "unlink":
            assert not [name for name in now if is_hidden(name)], "an error leaves nothing behind"
        undo_change(scene.change, calls=StoppedAt())
        assert scene.visible() == scene.before
        counted.add((name, "apply", where, kind))
    scene.back()
    apply_change(scene.change, calls=StoppedAt())
    assert scene.files() == scene.after


@pytest.mark.slow
@pytest.mark.parametrize("name", UNDONE)
def test_a_stop_anywhere_while_undoing_loses_nothing(folder, photograph, counted, name):
    scene = Scene(folder, photograph, name)
    apply_change(scene.change, calls=StoppedAt())
    todo = list(points(scene, undo_change))
    for where, kind in todo:
        scene.back()
        apply_change(scene.change, calls=StoppedAt())
        journal = MetadataChange.from_dict(scene.change.to_dict())
        stopped(undo_change, journal, where, kind)
        scene.whole()
        undo_change(journal, calls=StoppedAt())
        assert scene.visible() == scene.before
        counted.add((name, "undo", where, kind))


@pytest.mark.slow
def test_a_run_after_a_kill_goes_on_as_if_nothing_had_been(folder, photograph):
    scene = Scene(folder, photograph, "update both sidecars")
    for where, kind in list(points(scene, apply_change)):
        scene.back()
        stopped(apply_change, scene.change, where, kind)
        again = scene.plan(scene.change.embed)
        apply_change(again, calls=StoppedAt())
        assert scene.visible() == scene.after


@pytest.mark.slow
def test_at_least_500_distinct_points_were_tried(counted, request):
    names = {item.name.partition("[")[0] for item in request.session.items}
    if not any(name.startswith("test_a_stop") for name in names):
        pytest.skip("run together with the tests above")
    assert len(counted) >= 500
