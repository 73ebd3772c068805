"""Photographs of many kinds, made on the spot."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from PIL import Image, ImageCms

HUMAN_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Somebody 1.0"><!-- a comment -->\n'
    ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    '  <rdf:Description rdf:about="uuid:1" xmlns:foo="http://example.org/foo/"\n'
    "    xmlns:exoticdc=\"http://purl.org/dc/elements/1.1/\" foo:rating='5 > 4'>\n"
    "   <exoticdc:subject>\n    <rdf:Bag>\n     <rdf:li>Old One</rdf:li>\n"
    "     <rdf:li>New York, NY</rdf:li>\n    </rdf:Bag>\n   </exoticdc:subject>\n"
    "   <foo:deep><rdf:Seq><rdf:li foo:a='1'/></rdf:Seq></foo:deep>\n"
    "  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n" + " " * 512 + '\n<?xpacket end="w"?>'
).encode()


def picture(mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize((40, 24)).convert(mode)


def see_through() -> Image.Image:
    image = picture("RGBA")
    image.putalpha(picture("L"))
    return image


def exif() -> bytes:
    """Orientation 6, a maker note, Windows' keywords."""
    tags = Image.Exif()
    tags[0x0112] = 6
    tags[0x010F] = "Maker"
    tags[0x9C9E] = "Fenster;Straße\0".encode("utf-16-le")
    tags.get_ifd(0x8769)[0x927C] = bytes(range(200)) * 2
    return tags.tobytes()


def icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (image or picture()).save(stream, kind, **options)
    return stream.getvalue()


def after_start(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """The JPEG with segments after those of JFIF and EXIF."""
    place = 2
    while jpeg[place + 1] in (0xE0, 0xE1):
        place += 2 + int.from_bytes(jpeg[place + 2 : place + 4])
    new = b"".join(bytes((255, marker)) + (len(body) + 2).to_bytes(2) + body for marker, body in segments)
    return jpeg[:place] + new + jpeg[place:]


def iptc(*keywords: bytes, utf8: bool = False, caption: bytes = b"") -> bytes:
    """An APP13 segment's contents."""

    def dataset(record: int, number: int, value: bytes) -> bytes:
        return bytes((0x1C, record, number)) + len(value).to_bytes(2) + value

    records = dataset(1, 90, b"\x1b%G") if utf8 else b""
    records += b"".join(dataset(2, 25, keyword) for keyword in keywords)
    records += dataset(2, 120, caption) if caption else b""
    padding = bytes(len(records) % 2)
    return b"Photoshop 3.0\x008BIM\x04\x04\0\0" + len(records).to_bytes(4) + records + padding


def extended_xmp() -> bytes:
    """A JPEG whose keywords are in the extended part."""
    rest = HUMAN_PACKET.replace(b"Old One", b"Far Away")
    name = b"0123456789ABCDEF0123456789ABCDEF"
    main = HUMAN_PACKET.replace(
        b"foo:rating", b"xmlns:n='http://ns.adobe.com/xmp/note/' n:HasExtendedXMP='" + name + b"' foo:rating"
    )
    header = b"http://ns.adobe.com/xmp/extension/\0" + name + struct.pack(">L", len(rest))
    pieces = [(0xE1, header + struct.pack(">L", at) + rest[at : at + 300]) for at in range(0, len(rest), 300)]
    return after_start(saved("JPEG"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + main), *reversed(pieces))


def png_with(png: bytes, kind: bytes, payload: bytes) -> bytes:
    """The PNG with one more chunk before its pixels."""
    place = png.index(b"IDAT") - 4
    body = kind + payload
    chunk = len(payload).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
    return png[:place] + chunk + png[place:]


MOTION = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\0\x10mdat" + bytes(range(8))


def _jpeg_full() -> bytes:
    return saved("JPEG", exif=exif(), icc_profile=icc(), xmp=HUMAN_PACKET)


def _mpo() -> bytes:
    return saved("MPO", save_all=True, append_images=[picture("L").convert("RGB")])


def _webp_animated() -> bytes:
    return saved("WEBP", save_all=True, append_images=[picture().rotate(180)], duration=100, xmp=HUMAN_PACKET)


BUILDERS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: saved("JPEG"),
    "jpeg_full": _jpeg_full,
    "jpeg_progressive": lambda: saved("JPEG", progressive=True, exif=exif()),
    "jpeg_motion": lambda: _jpeg_full() + MOTION,
    "jpeg_filled": lambda: saved("JPEG")[:2] + b"\xff\xff" + saved("JPEG")[2:],
    "jpeg_iptc": lambda: after_start(saved("JPEG", xmp=HUMAN_PACKET), (0xED, iptc(b"K\xf6ln", b"Old One"))),
    "jpeg_iptc_utf8": lambda: after_start(
        saved("JPEG"), (0xED, iptc("Köln".encode(), utf8=True, caption=b"by hand"))
    ),
    "jpeg_iptc_bar": lambda: after_start(saved("JPEG"), (0xED, iptc(b"Orte|Paris"))),
    "jpeg_iptc_unsaid": lambda: after_start(saved("JPEG"), (0xED, iptc("Köln".encode()))),
    "jpeg_extended": extended_xmp,
    "jpeg_preview": lambda: saved("JPEG", exif=exif()) + saved("JPEG"),
    "mpo": _mpo,
    "png": lambda: saved("PNG"),
    "png_full": lambda: png_with(
        saved("PNG", exif=exif(), icc_profile=icc()), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + HUMAN_PACKET
    ),
    "png_compressed": lambda: png_with(
        saved("PNG"), b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(HUMAN_PACKET)
    ),
    "webp": lambda: saved("WEBP"),
    "webp_lossless": lambda: saved("WEBP", see_through(), lossless=True),
    "webp_full": lambda: saved("WEBP", exif=exif(), icc_profile=icc(), xmp=HUMAN_PACKET),
    "webp_animated": _webp_animated,
    "webp_trailer": lambda: saved("WEBP") + b"trailer",
    "tiff": lambda: saved("TIFF", compression="tiff_lzw", tiffinfo={700: HUMAN_PACKET}),
    "tiff_iptc": lambda: saved("TIFF", tiffinfo={33723: b"\x1c\x02\x19\x00\x04Haus"}),
    "gif": lambda: saved("GIF", picture("P")),
    "bmp": lambda: saved("BMP"),
    "avif": lambda: saved("AVIF", xmp=HUMAN_PACKET),
    "heic": (Path(__file__).parent.parent / "data" / "red_and_blue.heic").read_bytes,
    "tiff_large": lambda: saved("TIFF", big_tiff=True),
    "tiff_pages": lambda: saved(
        "TIFF", save_all=True, append_images=[picture("L"), picture().rotate(90)], compression="tiff_lzw"
    ),
}


@cache
def photograph_bytes(name: str) -> bytes:
    return BUILDERS[name]()


@pytest.fixture
def photograph() -> Callable[[str], bytes]:
    """The bytes of a photograph, by the name of its kind."""
    return photograph_bytes


@pytest.fixture
def human_packet() -> bytes:
    """XMP by a person, with an unusual prefix, an unknown namespace, a comment and padding."""
    return HUMAN_PACKET
