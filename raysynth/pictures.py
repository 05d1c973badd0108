"""Bytes of a picture ↔ its pixels, (height, width, channels) uint8: one channel of grey or three of red, green and blue.

`checked` is the gate: whatever file comes in, what passes can be decoded by `pixels_of` ever after. Between ops a picture may travel as raw
pixels (`packed`), so that a chain of them decodes and encodes once.
"""

import io
import math
import warnings
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal, cast

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from raysynth.image_headers import RAW, RAW_HEAD, format_of, other_format, size_of
from raysynth.schema import IMAGE

pc = cast("Any", pyarrow.compute)  # the stubs of its functions refuse most unions of types

Pixels = NDArray[np.uint8]
"""(height, width, channels): 1 is grey, 3 red, green and blue."""
Encoding = Literal["png", "jpeg"]
Cell = bytes | memoryview | tuple[bytes, memoryview]
"""The bytes of a picture, or the head and the pixels of one that is not encoded yet."""

JPEG_QUALITY = 95
PNG_LEVEL = 3  # zlib's: 6 takes thrice the time and saves a tenth
_ENCODINGS: tuple[Encoding, ...] = ("png", "jpeg")
_MOST_BYTES = 2**31 - 1  # of one Arrow array of bytes
_GREY_MODES = ("L", "1", "LA", "I", "F")
_PLAIN_MODES = ("L", "RGB")

Image.MAX_IMAGE_PIXELS = None  # `checked` has looked at the header before Pillow does
cv2.setNumThreads(1)  # a worker has one core, and what several threads add up depends on how many there are


class NoPictureError(ValueError):
    """Why bytes are no picture that can be kept; it says nothing of where they came from."""


def checked(data: bytes, *, max_pixels: int) -> bytes:
    """A file as it came → the same bytes where they are a plain picture (8 bits, grey or RGB, upright), and otherwise that picture as PNG:
    CMYK and palettes become RGB, transparency lies on white, 16 bits become 8, a turn that EXIF asks for is made. NoPictureError for
    what is broken, animated, larger than `max_pixels`, or no PNG, JPEG or WebP."""
    kind = format_of(data)
    if kind is None or kind == "raw":
        raise NoPictureError(f"it is {other_format(data)}. Pictures are PNG, JPEG or WebP")
    size = size_of(data)
    if size is None:
        raise NoPictureError(f"its {kind.upper()} header is broken")
    if size[0] * size[1] > max_pixels or 0 in size:
        raise NoPictureError(
            f"it has {size[1]:,} × {size[0]:,} pixels, and from 1 to {max_pixels:,} may be. See prepare.image.max_pixels"
        )
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            if image.size != (size[1], size[0]):  # a second header, which the decoder goes by
                raise NoPictureError(f"its {kind.upper()} header is broken: it claims two sizes")
            return _plain(image, data)
    except (NoPictureError, MemoryError):
        raise
    except UnidentifiedImageError:  # what it says names a place in memory, and so is another one each time
        raise NoPictureError(f"its {kind.upper()} header is broken") from None
    except Exception as error:  # the decoders meet whatever bytes there are, and raise whatever they come upon
        raise NoPictureError(f"its {kind.upper()} data are broken ({error})") from None


def _plain(image: Image.Image, data: bytes) -> bytes:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in ("JPEG", "MPO"):  # a JPEG with several pictures shows the first (MPO)
        raise NoPictureError(f"it is animated ({frames} frames). Give each frame as a file of its own")
    turn = image.getexif().get(0x0112, 1)
    image.load()
    plain = image.mode in _PLAIN_MODES and turn in (None, 0, 1) and "transparency" not in image.info
    if plain and _is_decoded_alike(data, image):
        return data
    upright = ImageOps.exif_transpose(image)
    return encoded(_eight_bits(upright))


def _is_decoded_alike(data: bytes, image: Image.Image) -> bool:
    """The fast decoder takes it too, and finds a picture of that size and kind in it."""
    found = _decoded(data)
    return found is not None and found.shape == (image.height, image.width, len(image.getbands()))


def _eight_bits(image: Image.Image) -> Pixels:
    if (
        image.mode.startswith("I") or image.mode == "F"
    ):  # 16 bits and more: the picture's own range would change from one to the next
        deep = np.asarray(image, dtype=np.float64)
        return np.clip(np.round(deep / 257.0), 0, 255).astype(np.uint8)[..., None]
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        grey, image = image.mode in _GREY_MODES, image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("L" if grey else "RGB")
    elif image.mode not in _PLAIN_MODES:
        image = image.convert("L" if image.mode in _GREY_MODES else "RGB")
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def pixels_of(data: bytes | memoryview) -> Pixels:
    """What has been checked, or packed → its pixels; of packed ones a view that cannot be written to."""
    if _is_packed(data):
        _, height, width, channels, _ = RAW_HEAD.unpack_from(data)
        return np.frombuffer(data, np.uint8, offset=RAW_HEAD.size).reshape(height, width, channels)
    found = _decoded(data)
    if found is None:
        raise NoPictureError(f"it is {other_format(bytes(data))}, or broken")
    return found


def _decoded(data: bytes | memoryview) -> Pixels | None:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if found is None or found.dtype != np.uint8:
        return None
    if found.ndim == 2:
        return cast("Pixels", found[..., None])
    return cast("Pixels", cv2.cvtColor(found, cv2.COLOR_BGR2RGB)) if found.shape[2] == 3 else None


def encoded(pixels: Pixels, encoding: Encoding = "png", quality: int = JPEG_QUALITY) -> bytes:
    """PNG keeps every pixel; JPEG of that quality, 1 to 100, does not."""
    shown = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.shape[2] == 3 else pixels
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if encoding == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL]
    done, data = cv2.imencode(f".{encoding}", shown, options)
    if not done:
        raise NoPictureError(f"{pixels.shape[1]} × {pixels.shape[0]} pixels cannot be written as {encoding}")
    return data.tobytes()


def packed(pixels: Pixels, like: bytes | memoryview) -> bytes:
    """Pixels that are not encoded yet; in the end they are written as `like` is: JPEG as JPEG, and all others as PNG."""
    return b"".join(unwritten(pixels, like))


def unwritten(pixels: Pixels, like: bytes | memoryview) -> tuple[bytes, memoryview]:
    """What `packed` gives, in two pieces: the pixels are copied once, into their column (image_array)."""
    start = bytes(like[: RAW_HEAD.size])
    written = RAW_HEAD.unpack(start)[4] if start.startswith(RAW) else int(format_of(start) == "jpeg")
    return RAW_HEAD.pack(RAW, *pixels.shape, written), np.ascontiguousarray(pixels).data.cast("B")


def settled(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """(rows,) of type IMAGE → the same, none of them packed."""
    return image_array([None if data is None else _settled(data) for data in views_of(column)], paths_of(column))


def _settled(data: memoryview) -> bytes | memoryview:
    return encoded(pixels_of(data), _ENCODINGS[RAW_HEAD.unpack_from(data)[4]]) if _is_packed(data) else data


def _is_packed(data: bytes | memoryview) -> bool:
    return bytes(data[: len(RAW)]) == RAW


def pictures(column: pa.Array | pa.ChunkedArray) -> list[Pixels | None]:
    """(rows,) of type IMAGE → the pixels of each, None for a null."""
    return [None if data is None else pixels_of(data) for data in views_of(column)]


def data_of(column: pa.Array | pa.ChunkedArray) -> list[bytes | None]:
    """(rows,) of type IMAGE → the bytes of each, None for a null."""
    return [None if view is None else bytes(view) for view in views_of(column)]


def views_of(column: pa.Array | pa.ChunkedArray) -> list[memoryview | None]:
    """(rows,) of type IMAGE → the bytes of each where they lie in the column, None for a null."""
    found: list[memoryview | None] = []
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        cells = cast("Any", chunk).field("bytes")
        _, offsets, values = cells.buffers()
        ends = memoryview(offsets).cast("i")[cells.offset : cells.offset + len(cells) + 1].tolist() if len(cells) else []
        whole = memoryview(values if values is not None else b"").cast("B")
        present = pc.and_(chunk.is_valid(), cells.is_valid()).to_pylist()
        found += [whole[start:end] if there else None for there, (start, end) in zip(present, pairwise(ends), strict=True)]
    return found


def paths_of(column: pa.Array | pa.ChunkedArray) -> list[str | None]:
    """(rows,) of type IMAGE → where each came from."""
    return [
        path
        for chunk in (column.chunks if isinstance(column, pa.ChunkedArray) else [column])
        for path in cast("Any", chunk).field("path").to_pylist()
    ]


def image_array(data: Sequence[Cell | None], paths: Iterable[str | None] | None = None) -> pa.Array:
    """Bytes, and where they came from → (rows,) of type IMAGE; a row without bytes is null. All bytes together are below 2 GiB."""
    places = list(paths) if paths is not None else [None] * len(data)
    pieces = [(item if isinstance(item, tuple) else (item,)) if item is not None else () for item in data]
    ends = np.cumsum([0, *(sum(map(len, some)) for some in pieces)])
    if ends[-1] > _MOST_BYTES:
        raise ValueError(f"{ends[-1]:,} bytes of pictures are more than one array holds")
    whole = b"".join(piece for some in pieces for piece in some)
    empty = pa.array([item is None for item in data], pa.bool_())
    buffers: Any = [pc.invert(empty).buffers()[1], pa.py_buffer(ends.astype(np.int32).tobytes()), pa.py_buffer(whole)]
    fields = [pa.Array.from_buffers(pa.binary(), len(data), buffers), pa.array(places, pa.string())]
    return cast("Any", pa.StructArray).from_arrays(fields, fields=list(IMAGE), mask=empty)


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Stretched to that size: by areas where it shrinks, by cubics where it grows."""
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    made = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return cast("Pixels", made.reshape(height, width, pixels.shape[2]))


def within(pixels: Pixels, side: int) -> Pixels:
    """Where a side is longer, both are made smaller by one factor."""
    factor = side / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    height, width = (max(1, round(length * factor)) for length in pixels.shape[:2])
    return resized(pixels, height, width)


def in_channels(pixels: Pixels, channels: int) -> Pixels:
    """Grey (1) or RGB (3), whichever it was."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    return cast("Pixels", cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None])


def filling(pixels: Pixels, height: int, width: int) -> Pixels:
    """The largest middle part of the picture with the sides' proportion of height to width, at that size."""
    rows, columns = pixels.shape[:2]
    scale = min(rows / height, columns / width)
    kept_rows, kept_columns = max(1, math.floor(height * scale + 1e-9)), max(1, math.floor(width * scale + 1e-9))
    top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
    return resized(np.ascontiguousarray(pixels[top : top + kept_rows, left : left + kept_columns]), height, width)
