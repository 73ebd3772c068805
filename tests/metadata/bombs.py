"""Small files that cost much to read, of every container.

As a program: ``build FOLDER`` writes them, ``plan FOLDER`` plans tags for each and prints lines of JSON: the
name, processor time in seconds, and the peak of memory so far in MiB.
"""

from __future__ import annotations

import io
import json
import re
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

HEAD = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:lr="http://ns.adobe.com/lightroom/1.0/">'
)
TAIL = b"</rdf:RDF></x:xmpmeta>"


def xmp(inside: bytes, *, attributes: bytes = b"") -> bytes:
    block = b'<rdf:Description rdf:about=""' + attributes + b">" + inside + b"</rdf:Description>"
    return HEAD + block + TAIL


def saved(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("P" if kind == "GIF" else "RGB", (16, 16)).save(stream, kind)
    return stream.getvalue()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    base = saved("PNG")
    place = base.index(b"IDAT") - 4
    new = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return base[:place] + new + base[place:]


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    base = saved("JPEG")
    new = b"".join(
        bytes((255, marker)) + struct.pack(">H", len(body) + 2) + body for marker, body in segments
    )
    return base[:2] + new + base[2:]


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    base = saved("WEBP")
    new = b"".join(kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for kind, body in chunks)
    return b"RIFF" + struct.pack("<I", len(base) - 8 + len(new)) + base[8:] + new


def tiff(tag: int, value: bytes) -> bytes:
    """A directory with one value, and no picture."""
    return b"II*\0" + struct.pack("<IHHHIII", 8, 1, tag, 1, len(value), 26, 0) + value


def compressed(packet: bytes) -> bytes:
    return png((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet, 9)))


def plain(packet: bytes) -> bytes:
    return png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))


def hierarchy(values: bytes) -> bytes:
    return xmp(b"<lr:hierarchicalSubject><rdf:Bag>" + values + b"</rdf:Bag></lr:hierarchicalSubject>")


def many(template: bytes, count: int) -> bytes:
    return b"".join(template % number for number in range(count))


BOMBS: dict[str, Callable[[], bytes]] = {
    "gif starts without end": lambda: saved("GIF") + b"<rdf:RDF>" * 1_000_000,
    "gif wrappers": lambda: saved("GIF") + b"<?xpacket begin=" * 400_000,
    "gif small packets": lambda: saved("GIF") + b"<rdf:RDF></rdf:RDF>" * 100_000,
    "gif nested": lambda: saved("GIF") + b"<rdf:RDF>" * 100_000 + b"</rdf:RDF>" * 100_000,
    "bmp starts": lambda: saved("BMP") + b"<x:xmpmeta><rdf:RDF>" * 500_000,
    "avif starts": lambda: saved("AVIF") + b"<x:xapmeta" * 500_000 + b"\0" * 3_000_000,
    "png elements": lambda: compressed(xmp(b"<a/>" * 3_000_000)),
    "png texts": lambda: png(*[(b"zTXt", b"Description\0\0" + zlib.compress(bytes(60_000_000), 9))] * 60),
    "png one text": lambda: compressed(xmp(b"<dc:a>" + b"x" * 200_000_000 + b"</dc:a>")),
    "png profile": lambda: png((b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(b"\n" * 15_000_000))),
    "png small chunks": lambda: png(*[(b"tEXt", b"")] * 300_000),
    "png pixels in small chunks": lambda: png(*[(b"IDAT", b"")] * 300_000),
    "jpeg small segments": lambda: jpeg(*[(0xFE, b"")] * 300_000),
    "jpeg packets": lambda: jpeg(*[(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(b""))] * 5_000),
    "jpeg records": lambda: jpeg(
        *[(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\x10\0\0" + b"\x1c\x02\x19\0\0" * 13_000)] * 60
    ),
    "webp small chunks": lambda: webp(*[(b"ABCD", b"")] * 300_000),
    "webp turned": lambda: webp((b"EXIF", b"Exif\0\0" * 2_000_000)),
    "tiff keywords": lambda: tiff(0x9C9E, b"a\0;\0" * 2_000_000),
    "tiff packet": lambda: tiff(700, xmp(b"<a b='1'/>" * 400_000)),
    "attributes": lambda: compressed(xmp(b"", attributes=many(b' a%d=""', 1_500_000))),
    "namespaces": lambda: plain(
        xmp(many(b"<a xmlns:n%d='u'>", 90) + b"<b xmlns:c='d'/>" * 9_000 + b"</a>" * 90)
    ),
    "namespaces at one place": lambda: plain(xmp(b"", attributes=many(b" xmlns:n%d='u'", 18_000))),
    "one long start tag": lambda: compressed(xmp(b"", attributes=b" a='" + b"x" * 15_000_000 + b"'")),
    "entities": lambda: compressed(xmp(b"<dc:a>" + b"a&amp;" * 2_500_000 + b"</dc:a>")),
    "one long path": lambda: plain(hierarchy(b"<rdf:li>" + b"a|" * 2_000_000 + b"</rdf:li>")),
    "long paths": lambda: plain(hierarchy((b"<rdf:li>" + b"a|" * 90 + b"</rdf:li>") * 15_000)),
    "many paths": lambda: plain(hierarchy(many(b"<rdf:li>a%d|b|c</rdf:li>", 6_000))),
    "many keywords": lambda: plain(xmp(b"<dc:subject><rdf:Bag>" + many(b"<rdf:li>k%d</rdf:li>", 9_000)
                                       + b"</rdf:Bag></dc:subject>")),
    "words": lambda: compressed(xmp(b"<dc:subject><rdf:Bag><rdf:li>" + b"ab " * 5_000_000
                                    + b"</rdf:li></rdf:Bag></dc:subject>")),
    "words of a description": lambda: compressed(xmp(b"", attributes=b" dc:description='" + b"ab " * 5_000_000
                                                     + b"'")),
    "words of a record": lambda: compressed(
        xmp(b"<a:Tags xmlns:a='https://github.com/autotag/autotag/xmp/1.0/'><rdf:Bag>"
            b"<rdf:li a:tag='x' a:path='" + b"ab|" * 5_000_000 + b"'/></rdf:Bag></a:Tags>")),
    "png description": lambda: png((b"zTXt", b"Description\0\0" + zlib.compress(b"ab " * 5_000_000))),
    "tiff description": lambda: tiff(0x010E, b"\0" * 15_000_000),
    "tiff one keyword": lambda: tiff(0x9C9E, b"a\0 \0" * 3_000_000),
    "spaces": lambda: plain(xmp((b"<dc:subject/>" + b" " * 1_000) * 9_000)),
    "deep": lambda: plain(b"<a>" * 100_000 + b"</a>" * 100_000),
    "quadratic encoding": lambda: plain(b'<?xml version="1.0" encoding="punycode"?>' + b"a-" * 500_000),
    "entity declarations": lambda: plain(
        b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 99_999 + b'">]>' + xmp(b"&b;" * 999)
    ),
}  # fmt: skip


def build(folder: Path) -> None:
    for name, make in BOMBS.items():
        (folder / f"{name}.jpg").write_bytes(make())


def plan(folder: Path) -> None:
    from autotag.errors import MetadataError
    from autotag.metadata import MachineTag, plan_tags
    from autotag.metadata.pixel_digest import pixel_digest

    def planned(path: Path, *, embed: bool) -> str:
        try:
            return plan_tags(path, [MachineTag("dog", 0.5)], "a caption", embed=embed).kind
        except MetadataError:
            return "refused"

    for path in sorted(folder.iterdir()):
        for embed in (False, True):
            begun = time.process_time()
            outcome = planned(path, embed=embed)
            pixel_digest(path.read_bytes())
            seconds = time.process_time() - begun
            peak = most_memory()
            row = {"name": path.stem, "embed": embed, "outcome": outcome, "seconds": seconds, "peak": peak}
            sys.stdout.write(json.dumps(row) + "\n")


def most_memory() -> int:
    """Return the most megabytes that this process had at once.

    On Linux ``ru_maxrss`` is also that of the process that started this one, before it became this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert found
        return int(found[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    {"build": build, "plan": plan}[sys.argv[1]](Path(sys.argv[2]))
