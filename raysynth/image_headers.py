"""The first bytes of a file → which kind of picture it is, and the height and width that it claims; nothing is decoded."""

import re
import struct
from collections.abc import Callable
from typing import Literal

Format = Literal["png", "jpeg", "webp", "raw"]

RAW = b"\x93RAYPIX\n"
"""How pixels begin that are not encoded, on their way from one op to the next: then height, width, channels and how they are to be written
in the end (four little-endian uint32), and the pixels, row by row."""
RAW_HEAD = struct.Struct("<8sIIII")

_OTHERS = {  # what people take for pictures that we keep, by how it begins
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"%PDF": "PDF",
    b"\x00\x00\x01\x00": "ICO",
    b"8BPS": "PSD",
}
_SVG = re.compile(rb"^\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<!DOCTYPE\s+svg[^>]*>\s*)*<svg[\s>/]", re.DOTALL | re.IGNORECASE)


HEAD_BYTES = 12
"""Enough of a file to say its format."""


def format_of(data: bytes) -> Format | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return "raw" if data.startswith(RAW) else None


def other_format(data: bytes) -> str:
    """What bytes are that are no picture of ours, for a message."""
    if not data:
        return "an empty file"
    if _SVG.match(data[:4096].removeprefix(b"\xef\xbb\xbf")):
        return "an SVG, which is a program that draws"
    if data[4:8] == b"ftyp":  # ISO 14496-12: what cameras and phones write
        return {b"avif": "AVIF", b"avis": "AVIF"}.get(data[8:12], "HEIC or a film")
    return next((name for start, name in _OTHERS.items() if data.startswith(start)), "no picture that is known")


def size_of(data: bytes | memoryview) -> tuple[int, int] | None:
    """(height, width) as the header has them, before any turn that EXIF asks for; None where there is no such header."""
    kind = format_of(bytes(data[:16]))
    if kind is None:
        return None
    try:
        return _SIZES[kind](data)
    except (struct.error, IndexError):
        return None


def described(data: bytes) -> str:
    """`PNG 28 × 28, 412 bytes`: width and height."""
    kind, size = format_of(data), size_of(data)
    if kind is None or size is None:
        return f"{other_format(data)}, {len(data):,} bytes"
    return f"{kind.upper()} {size[1]:,} × {size[0]:,}, {len(data):,} bytes"


def _png(data: bytes | memoryview) -> tuple[int, int] | None:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _jpeg(data: bytes | memoryview) -> tuple[int, int] | None:
    """The first start-of-frame segment (ITU T.81, B.1.1.3 and B.2.2)."""
    at = 2
    while True:
        while data[at] == 0xFF:  # fill bytes may stand before a marker
            at += 1
        marker = data[at]
        at += 1
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 3)
            return height, width
        if marker in (0xD9, 0xDA):
            return None
        if marker != 0x01 and not 0xD0 <= marker <= 0xD8:
            at += struct.unpack_from(">H", data, at)[0]
        if data[at] != 0xFF:
            return None


def _webp(data: bytes | memoryview) -> tuple[int, int] | None:
    """RFC 9649, sections 2.5 to 2.7."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    return None


def _raw(data: bytes | memoryview) -> tuple[int, int]:
    _, height, width, *_ = RAW_HEAD.unpack_from(data)
    return height, width


_SIZES: dict[Format, Callable[[bytes | memoryview], tuple[int, int] | None]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
    "raw": _raw,
}
