"""Embed metadata with exiftool, if it is installed, in files that autotag cannot splice itself.

exiftool runs in its own process, which stays open and works on a copy in a temporary folder. A small keeper
process ends it when autotag ends (``exiftool_keeper``).
The XMP packet is written whole. IPTC keywords are added only to a file that has some; the records are recoded
as UTF-8 first where a keyword is not ASCII. Then the digest is renewed by which readers see that XMP and IPTC
agree (Metadata Working Group, Guidelines 2.0, section 3).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from autotag.errors import ImageReadError
from autotag.files.file_states import sha256
from autotag.images.reading import read_image
from autotag.metadata import exiftool_keeper, jpeg_file
from autotag.metadata.existing import read_existing
from autotag.metadata.iptc import LONGEST_KEYWORD
from autotag.metadata.kinds import FileKind, kind_of
from autotag.metadata.xml_nodes import parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

_SUFFIX_OF: dict[FileKind, str] = {
    "jpeg": ".jpg",
    "png": ".png",
    "webp": ".webp",
    "tiff": ".tif",
    "gif": ".gif",
    "heif": ".heic",
    "avif": ".avif",
}
_LONGEST_RUN = 60.0  # seconds for one command
_FRAMES = 8  # of an animation, compared before and after


@dataclass(frozen=True, slots=True)
class IptcChange:
    """The IPTC keywords to add and to remove."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


def fits_iptc(keyword: str) -> bool:
    """Return whether a keyword fits into IPTC, which takes 64 bytes of UTF-8."""
    return len(keyword.encode()) <= LONGEST_KEYWORD


def can_embed(content: bytes) -> bool:
    """Return whether exiftool writes XMP into files of this kind."""
    return kind_of(content) in _SUFFIX_OF


_NO_CHANGE = IptcChange()


class Exiftool:
    """Run exiftool in one process that stays open; a context manager, for one thread at a time.

    Args:
        program: the name or path of exiftool.

    Raises:
        FileNotFoundError: exiftool is not on the PATH.
    """

    def __init__(self, program: str = "exiftool") -> None:
        found = shutil.which(program)
        if found is None:
            raise FileNotFoundError(f"{program} is not on the PATH")
        self._program = found
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def if_installed(cls) -> Exiftool | None:
        """Return an ``Exiftool``, or None when exiftool is not on the PATH."""
        return cls() if shutil.which("exiftool") else None

    def __enter__(self) -> Exiftool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def embedded(self, content: bytes, packet: bytes | None, iptc: IptcChange = _NO_CHANGE) -> bytes:
        """Return the file with this XMP packet and these changes of its IPTC keywords.

        Args:
            content: the whole file.
            packet: the new packet; None removes XMP.
            iptc: keywords to add and to remove; nothing by default.

        Raises:
            ValueError: exiftool cannot write the file (the message quotes it), or changed more than metadata.
        """
        with tempfile.TemporaryDirectory(prefix="autotag-") as folder:
            copy = Path(folder, "image" + _SUFFIX_OF.get(kind_of(content), ".bin"))
            copy.write_bytes(content)
            arguments = ["-XMP="]
            if packet is not None:
                new = Path(folder, "packet.xmp")
                new.write_bytes(packet)
                arguments = [f"-XMP<={new}"]
            said = self.run([*arguments, "-overwrite_original", str(copy)])
            if iptc != _NO_CHANGE:
                self._recode_iptc(copy, content, iptc)
                self.run([*_iptc_arguments(iptc), "-overwrite_original", str(copy)])
                # in a run of its own: a TIFF's records are padded after they are digested
                self.run(["-IPTCDigest=new", "-overwrite_original", str(copy)])
            after = copy.read_bytes()
        if "1 image files updated" not in said and after == content:
            raise ValueError(f"exiftool says: {_in_short(said, copy)}")
        if kind_of(content) == "jpeg":
            after = jpeg_file.with_new_first_size(after, content)
        _check(content, after, packet, iptc)
        return after

    def _recode_iptc(self, copy: Path, content: bytes, iptc: IptcChange) -> None:
        """Recode IPTC records as UTF-8 and declare it, where a keyword is not ASCII.

        Raises:
            ValueError: nobody knows what they are recoded from.
        """
        records = read_existing(content).iptc
        if records.says_utf8 or all(word.isascii() for word in (*iptc.add, *iptc.remove)):
            return
        if records.is_unclear:
            raise ValueError("the character set of its IPTC texts is not known")
        now = ["-charset", "iptc=UTF8"] if records.is_utf8 else []
        recoded = ["-tagsFromFile", "@", "-IPTC:all", "-IPTC:CodedCharacterSet=UTF8"]
        # with -m, texts stay whole that are longer as UTF-8 than IIM allows
        self.run([*now, "-m", *recoded, "-overwrite_original", str(copy)])

    def run(self, arguments: Sequence[str]) -> str:
        """Run one command and return what exiftool prints, errors included.

        Args:
            arguments: the arguments of exiftool, each without a line break.

        Raises:
            ValueError: exiftool ended, or took more than a minute.
        """
        process = self._started()
        too_late = threading.Timer(_LONGEST_RUN, process.terminate)
        too_late.daemon = True
        too_late.start()
        try:
            return _answer(process, arguments)
        except (OSError, EOFError) as error:
            self.close()
            why = "ended unexpectedly" if too_late.is_alive() else f"took more than {_LONGEST_RUN:g} s"
            raise ValueError(f"exiftool {why}: {error}") from error
        finally:
            too_late.cancel()

    def close(self) -> None:
        """End the process; a later command starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError, subprocess.TimeoutExpired):
            process.communicate(b"-stay_open\nFalse\n", timeout=5)
        if process.poll() is None:
            process.kill()
            process.communicate()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            keeper = [sys.executable, "-I", "-S", exiftool_keeper.__file__]
            self._process = subprocess.Popen(  # noqa: S603 - a program from the PATH, as the user wants
                [*keeper, self._program, "-config", "", "-stay_open", "True", "-@", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        return self._process


def _answer(process: subprocess.Popen[bytes], arguments: Sequence[str]) -> str:
    """Send one command and return what exiftool prints for it.

    Raises:
        OSError: exiftool does not read the command.
        EOFError: exiftool ended; the message is what it printed.
    """
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    lines = "\n".join((*arguments, "-charset", "filename=utf8", "-execute\n"))
    process.stdin.write(lines.encode())
    process.stdin.flush()
    said = bytearray()
    while not said.rstrip().endswith(b"{ready}"):
        line = process.stdout.readline()
        if not line:
            raise EOFError(bytes(said).decode(errors="replace"))
        said += line
    return bytes(said).decode(errors="replace").rstrip().removesuffix("{ready}")


def _in_short(said: str, copy: Path) -> str:
    """Return the error that exiftool reports, on one line and without the name of the copy."""
    lines = [line.strip().removesuffix(f" - {copy}") for line in said.splitlines()]
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return errors[0] if errors else " ".join(filter(None, lines))


def _iptc_arguments(change: IptcChange) -> list[str]:
    removed = [f"-IPTC:Keywords-={keyword}" for keyword in change.remove]
    added = [f"-IPTC:Keywords+={keyword}" for keyword in change.add]
    return [*removed, *added, "-charset", "utf8"]


def _check(before: bytes, after: bytes, packet: bytes | None, iptc: IptcChange) -> None:
    """Refuse a result with other pixels or IPTC texts, or without the packet and keywords it should have."""
    found, old = read_existing(after), read_existing(before).iptc
    if _inside(found.packet) != _inside(packet):
        raise ValueError("exiftool wrote a different XMP packet from the one it was given")
    kept = [word for word in old.keywords if word not in iptc.remove]
    others = [word for word in found.iptc.keywords if word not in iptc.add]
    is_whole = Counter(found.iptc.keywords) == Counter([*kept, *iptc.add])
    if not is_whole or others != [word for word in kept if word not in iptc.add]:
        raise ValueError("exiftool wrote different IPTC keywords from the ones it was given")
    is_declared = found.iptc.says_utf8 and not old.says_utf8
    if iptc == _NO_CHANGE:
        is_kept = found.iptc.records.rstrip(b"\0") == old.records.rstrip(b"\0")
    else:
        is_kept = found.iptc.others() == old.others() and (found.iptc.is_utf8 or not is_declared)
    if not is_kept:
        raise ValueError("exiftool changed other IPTC texts")
    pixels = _pixels(before)
    if pixels is None and not all(media in after for media in _media_data(before)):
        raise ValueError("exiftool changed the stored picture data")
    if pixels != _pixels(after):
        raise ValueError("exiftool changed the pixels")


def _inside(packet: bytes | None) -> bytes | None:
    """Return a packet without its wrapper, which exiftool marks read-only in PNG and GIF."""
    if packet is None:
        return None
    document = parse(packet)
    return document.body[document.root.start : document.root.end]


def _pixels(content: bytes) -> object:
    """Return digests of the first frames, or of a HEIC file's picture; None if they cannot be decoded."""
    try:
        with Image.open(BytesIO(content)) as image:
            frames = []
            for number in range(min(getattr(image, "n_frames", 1), _FRAMES)):
                image.seek(number)
                frames.append((image.mode, image.size, sha256(image.tobytes())))
            return frames
    except (UnidentifiedImageError, OSError):
        pass
    with suppress(ImageReadError):
        return sha256(read_image(content).image.tobytes())
    return None


def _media_data(content: bytes) -> list[bytes]:
    """Return the contents of the ``mdat`` boxes of an ISO base media file."""
    found = []
    position = 0
    while position + 8 <= len(content):
        size, header = int.from_bytes(content[position : position + 4]), 8
        if size == 1:
            size, header = int.from_bytes(content[position + 8 : position + 16]), 16
        end = position + size if size else len(content)
        if content[position + 4 : position + 8] == b"mdat":
            found.append(content[position + header : end])
        position = max(end, position + 8)
    return found
