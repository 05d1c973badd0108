"""Small pictures of a few shapes, drawn by the test itself: what metrics, reports and servers of pictures are tried with."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raysynth.derived import with_sizes
from raysynth.pictures import Encoding, Pixels, encoded, image_array
from raysynth.schema import IMAGE, Column, Schema

SIDE = 10
SHAPES = ("bar", "pole", "ring")
SCHEMA = with_sizes(Schema((Column("photo", "image", IMAGE), Column("shape", "category", pa.string()))), {})


def drawn(shape: str, noise: np.random.Generator, side: int = SIDE, channels: int = 1) -> Pixels:
    """A bright shape somewhere near the middle of a dark, noisy picture."""
    shade = noise.normal(30, 12, (side, side, channels))
    place = side // 2 + int(noise.integers(-side // 5, side // 5 + 1))
    ink = float(noise.uniform(150, 230))
    if shape == "bar":
        shade[place - 1 : place + 1, 1:-1] += ink
    elif shape == "pole":
        shade[1:-1, place - 1 : place + 1] += ink
    else:
        rows, columns = np.mgrid[:side, :side]
        away = np.hypot(rows - place, columns - side / 2)
        shade[np.abs(away - side / 4) < 1] += ink
    return np.clip(shade, 0, 255).astype(np.uint8)


def law(
    rows: int, seed: int, *, side: int = SIDE, channels: int = 1, shapes: Sequence[str] = SHAPES, encoding: Encoding = "png"
) -> pa.Table:
    """With the columns of SCHEMA."""
    noise = np.random.default_rng(seed)
    labels = [shapes[code] for code in noise.integers(0, len(shapes), rows)]
    return table([drawn(label, noise, side, channels) for label in labels], labels, encoding)


def table(pictures: Sequence[Pixels | None], labels: Sequence[str | None], encoding: Encoding = "png") -> pa.Table:
    data = [None if pixels is None else encoded(pixels, encoding) for pixels in pictures]
    sizes = [[None if pixels is None else pixels.shape[axis] for pixels in pictures] for axis in (0, 1)]
    columns = [image_array(data), pa.array(labels, pa.string()), *(pa.array(side, pa.int64()) for side in sizes)]
    return pa.table(columns, schema=SCHEMA.arrow)
