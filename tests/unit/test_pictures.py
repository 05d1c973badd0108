"""Whatever file comes in: what passes the gate is a plain picture ever after, and what does not is told why."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from raysynth.cleaning import MAX_PIXELS, clean
from raysynth.derived import expressions_of, with_sizes
from raysynth.image_headers import size_of
from raysynth.pictures import (
    NoPictureError,
    Pixels,
    checked,
    encoded,
    filling,
    image_array,
    in_channels,
    packed,
    pictures,
    pixels_of,
    resized,
    settled,
)
from raysynth.profile import Profile, infer_schema
from raysynth.schema import FILE, IMAGE, ROW, Column, Schema

HEIGHT, WIDTH = 6, 9


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def saved(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def photo(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(noise(HEIGHT, WIDTH, 3)).convert(mode)


def gate(data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    return pixels_of(checked(data, max_pixels=max_pixels))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_plain_picture_stays_as_it_is(format_: str, mode: str) -> None:
    data = saved(photo(mode), format_, **({"lossless": True} if format_ == "WEBP" else {}))
    assert size_of(data) == (HEIGHT, WIDTH)
    assert checked(data, max_pixels=HEIGHT * WIDTH) == data
    assert gate(data).shape == (HEIGHT, WIDTH, 3 if mode == "RGB" or format_ == "WEBP" else 1)
    if format_ != "JPEG":
        assert np.array_equal(in_channels(gate(data), 3), np.asarray(photo(mode).convert("RGB")))


def _rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows are columns
    return saved(photo(), "PNG", exif=exif)


def _deep() -> bytes:
    return saved(Image.fromarray(noise(HEIGHT, WIDTH).astype(np.uint16) * 257))


def _see_through() -> bytes:
    return saved(Image.fromarray(np.zeros((HEIGHT, WIDTH, 4), np.uint8)))


def _palette() -> bytes:
    return saved(photo().quantize(5), transparency=0)


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (saved(photo("CMYK"), "JPEG"), (HEIGHT, WIDTH, 3)),
        (_rotated(), (WIDTH, HEIGHT, 3)),
        (_deep(), (HEIGHT, WIDTH, 1)),
        (_see_through(), (HEIGHT, WIDTH, 3)),
        (_palette(), (HEIGHT, WIDTH, 3)),
        (saved(photo("1")), (HEIGHT, WIDTH, 1)),
        (saved(photo("LA")), (HEIGHT, WIDTH, 1)),
        (saved(Image.new("RGB", (1, 1))), (1, 1, 3)),
    ],
    ids=["CMYK", "turned", "16 bits", "transparent", "palette", "black and white", "grey with alpha", "1 by 1"],
)
def test_an_odd_picture_becomes_a_plain_one(data: bytes, shape: tuple[int, ...]) -> None:
    assert gate(data).shape == shape
    once = checked(data, max_pixels=MAX_PIXELS)
    assert checked(once, max_pixels=MAX_PIXELS) == once


def test_what_an_odd_picture_shows_is_kept() -> None:
    assert np.array_equal(gate(_rotated()), np.rot90(noise(HEIGHT, WIDTH, 3), -1))
    assert np.array_equal(gate(_deep())[..., 0], noise(HEIGHT, WIDTH))
    assert (gate(_see_through()) == 255).all(), "nothing lies on white"


def test_a_photograph_with_others_behind_it_is_the_first() -> None:
    """As phones write them: a JPEG, and in its end (MPF) small ones of the same."""
    data = saved(photo(), "MPO", save_all=True, append_images=[photo("RGB").resize((3, 2))])
    assert gate(data).shape == (HEIGHT, WIDTH, 3)


def _bomb(*sides: int) -> bytes:
    """A PNG of a few kilobytes that says it is so large, once in each header."""
    heads = [(b"IHDR", struct.pack(">II5B", side, side, 8, 2, 0, 0, 0)) for side in sides]
    chunks = [*heads, (b"IDAT", zlib.compress(b"\0" * 10_000)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _animated(format_: str) -> bytes:
    frames = [Image.fromarray(np.full((HEIGHT, WIDTH, 3), shade, np.uint8)) for shade in (0, 128, 255)]
    return saved(frames[0], format_, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "an empty file"),
        (saved(photo())[:60], "PNG data are broken"),
        (saved(photo(), "JPEG")[:-40], "JPEG data are broken"),
        (saved(photo(), "JPEG")[:30], "JPEG header is broken"),
        (saved(photo(), "WEBP")[:40], "WEBP data are broken"),
        (_bomb(20_000), "20,000 × 20,000 pixels"),
        (_bomb(0), "0 × 0 pixels"),
        (_bomb(1, 12_000), "header is broken: it claims two sizes"),
        (_animated("PNG"), "animated"),
        (_animated("WEBP"), "animated"),
        (saved(photo(), "GIF"), "GIF"),
        (saved(photo(), "TIFF"), "TIFF"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\xef\xbb\xbf<svg onload='x()'/>", "SVG"),
        (b"hello", "no picture that is known"),
        (packed(noise(2, 2, 1), b""), "no picture that is known"),
    ],
    ids=range(16),
)
def test_what_is_no_picture_is_told_why(data: bytes, why: str) -> None:
    with pytest.raises(NoPictureError, match=why):
        checked(data, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_survive_being_packed_and_written(channels: int) -> None:
    pixels = noise(5, 7, channels)
    assert np.array_equal(pixels_of(encoded(pixels)), pixels)
    assert np.array_equal(pixels_of(packed(pixels, b"")), pixels)
    assert size_of(packed(pixels, b"")) == (5, 7)
    jpeg = saved(photo(), "JPEG")
    column = image_array([packed(pixels, b""), None, packed(pixels, jpeg), jpeg], ["a", "b", "c", "d"])
    written = settled(column)
    assert written.type == IMAGE
    assert written.field("path").to_pylist()[2:] == ["c", "d"]
    first, missing, lossy, kept = (None if cell is None else cell["bytes"] for cell in written.to_pylist())
    assert missing is None
    assert first == encoded(pixels)
    assert lossy == encoded(pixels, "jpeg")
    assert kept == jpeg


def test_sizes_and_channels() -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 200
    assert (filling(wide, 4, 4) == 200).all(), "the middle is kept"
    assert resized(wide, 2, 2).shape == (2, 2, 3)
    assert in_channels(in_channels(wide, 1), 3).shape == (4, 8, 3)


def rows_of(cells: Any) -> pa.Table:
    return pa.table({FILE: pa.array(["a"] * len(cells)), ROW: pa.array(range(len(cells)), pa.int64()), "photo": cells})


@pytest.mark.parametrize(
    "type_", [IMAGE, pa.binary(), pa.large_binary(), pa.struct([("path", pa.string()), ("bytes", pa.binary())])]
)
def test_columns_of_pictures_are_seen_cleaned_and_sized(type_: pa.DataType) -> None:
    good, bad = saved(photo()), saved(photo())[:50]
    cells = [good, None, bad, good]
    if pa.types.is_struct(type_):
        column = pa.array([None if cell is None else {"bytes": cell, "path": "x.png"} for cell in cells], type_)
    else:
        column = pa.array(cells, type_)
    found = rows_of(column)
    profile = Profile.observe(found)
    schema = infer_schema(profile)
    assert schema["photo"] == Column("photo", "image", IMAGE, nullable=True)
    assert profile.columns["photo"].values.distinct == 2
    rows, wrong = clean(found, schema)
    assert [picture is None for picture in pictures(rows["photo"])] == [False, True, False]
    assert [(row.row, "broken" in row.reason) for row in wrong] == [(2, True)]
    assert len(wrong[0].text) < 200, "no bytes in the quarantine"
    sized = with_sizes(schema, {})
    made = {name: expression.evaluate(rows).to_pylist() for name, expression in expressions_of(sized, {}).items()}
    assert made == {"height": [HEIGHT, None, HEIGHT], "width": [WIDTH, None, WIDTH]}


def test_sizes_bear_the_name_of_their_picture_where_the_plain_one_is_taken() -> None:
    photo_ = Column("photo", "image", IMAGE)
    two = Schema((photo_, Column("scan", "image", IMAGE)))
    assert with_sizes(two, {}).names == ["photo", "scan", "photo_height", "photo_width", "scan_height", "scan_width"]
    taken = Schema((photo_, Column("width", "integer", pa.int64())))
    assert with_sizes(taken, {}).names == ["photo", "width", "photo_height", "photo_width"]
    assert list(expressions_of(with_sizes(Schema((photo_,)), {"height": "1"}), {"height": "1"})) == [
        "photo_height",
        "photo_width",
        "height",
    ]
