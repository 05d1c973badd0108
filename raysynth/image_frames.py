"""Columns of images → pictures of one size, and small copies: what judges of pictures and the report look at.

Shapes: N pictures, H height, W width, C channels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.errors import MissingExtraError
from raysynth.image_headers import size_of
from raysynth.schema import Schema

if TYPE_CHECKING:
    from raysynth.pictures import Pixels

PICTURE_SIDE = 64
"""Of whatever is looked at: a side that is longer is made smaller."""
_MIDDLE = 128


def image_columns(schema: Schema, without: frozenset[str] = frozenset()) -> list[str]:
    """The columns of images, derived ones left out."""
    return [column.name for column in schema.learnt if column.kind == "image" and column.name not in without]


def pixels_in(column: pa.ChunkedArray) -> "list[Pixels | None]":
    """The pictures of a column, within PICTURE_SIDE, None for a null."""
    made = _pictures()
    return [None if data is None else made.within(made.pixels_of(data), PICTURE_SIDE) for data in made.data_of(column)]


def thumbnails(column: pa.ChunkedArray, kept: NDArray[np.bool_]) -> pa.Array:
    """A column of images, (rows,), within PICTURE_SIDE; null where it is not `kept`. `pixels_in` finds the same in both."""
    made = _pictures()
    small: list[bytes | None] = [None] * len(column)
    for at, data in zip(np.flatnonzero(kept).tolist(), made.data_of(column.filter(pa.array(kept))), strict=True):
        fits = data is None or max(size_of(data) or (PICTURE_SIDE + 1,)) <= PICTURE_SIDE
        small[at] = data if data is None or fits else made.encoded(made.within(made.pixels_of(data), PICTURE_SIDE))
    return made.image_array(small)


def _pictures() -> Any:
    """The module that reads pictures: a table needs none of it. MissingExtraError without what it needs."""
    try:
        return import_module("raysynth.pictures")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"column of images: needs the package '{error.name}'. Install it: pip install 'raysynth[image]'"
        ) from None


@dataclass(frozen=True)
class Frame:
    """The one size that all sides are brought to: the proportions of the synthetic pictures, which the codec gave them."""

    height: int
    width: int
    channels: int

    @staticmethod
    def around(synthetic: "Sequence[Pixels]", real: "Sequence[Pixels]", most: int) -> "Frame":
        """`most`: of a side. The most frequent size; grey where no picture has colours."""
        sizes = Counter(pixels.shape[:2] for pixels in (synthetic or real))
        height, width = min(sizes, key=lambda size: (-sizes[size], size), default=(most, most))
        factor = min(1.0, most / max(height, width))
        channels = max((pixels.shape[2] for side in (synthetic, real) for pixels in side), default=1)
        return Frame(max(1, round(height * factor)), max(1, round(width * factor)), channels)

    def of(self, pictures: "Sequence[Pixels]") -> NDArray[np.uint8]:
        """(N, H, W, C): the middle of each picture that has the frame's proportions."""
        made = _pictures()
        framed = np.zeros((len(pictures), self.height, self.width, self.channels), np.uint8)
        for at, pixels in enumerate(pictures):
            framed[at] = made.in_channels(made.filling(pixels, self.height, self.width), self.channels)
        return framed

    def points(self, pictures: "Sequence[Pixels]") -> NDArray[np.float32]:
        """(N, H·W·C) whole numbers around 0. Up to 1,023 of them, float32 has their products and sums without rounding."""
        return self.of(pictures).reshape(len(pictures), self.height * self.width * self.channels).astype(np.float32) - _MIDDLE


def squared(one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.float64]:
    """Two sets of Frame.points → (len(one), len(two)) squared distances, exact, whatever the order of summing."""
    norms = [np.einsum("ij,ij->i", side, side, dtype=np.float64) for side in (one, two)]
    return norms[0][:, None] + norms[1][None, :] - 2.0 * (one @ two.T)
