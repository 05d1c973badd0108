"""Columns of images → pictures of one size, each with its label: what the metrics of pictures have in common.

Shapes: N pictures, H height, W width, C channels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.features import codes, is_class, levels
from raysynth.metrics.base import PICTURE_ROWS, PICTURE_SIDE, Seen, Side
from raysynth.schema import Schema

if TYPE_CHECKING:
    from raysynth.pictures import Pixels

MOST_CLASSES = 100
_MIDDLE = 128


def image_columns(schema: Schema, without: frozenset[str] = frozenset()) -> list[str]:
    """The columns of images, derived ones left out."""
    return [column.name for column in schema.learnt if column.kind == "image" and column.name not in without]


def may_label(schema: Schema, target: str | None) -> bool:
    """Whether the target can be what a picture shows."""
    return target is not None and target in schema and (is_class(schema[target]) or schema[target].kind == "integer")


def label_classes(train: pa.Table, target: str) -> list[str]:
    """The values of the target in train rows; none where there is one, or more than MOST_CLASSES."""
    found = levels([train], target)
    return found if 2 <= len(found) <= MOST_CLASSES else []


def pixels_in(column: pa.ChunkedArray) -> "list[Pixels | None]":
    """The pictures of a column, within PICTURE_SIDE, None for a null."""
    from raysynth.pictures import data_of, pixels_of, within  # a table needs none of it

    return [None if data is None else within(pixels_of(data), PICTURE_SIDE) for data in data_of(column)]


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
        from raysynth.pictures import filling, in_channels

        made = np.zeros((len(pictures), self.height, self.width, self.channels), np.uint8)
        for at, pixels in enumerate(pictures):
            made[at] = in_channels(filling(pixels, self.height, self.width), self.channels)
        return made

    def points(self, pictures: "Sequence[Pixels]") -> NDArray[np.float32]:
        """(N, H·W·C) whole numbers around 0. Up to 1,023 of them, float32 has their products and sums without rounding."""
        return self.of(pictures).reshape(len(pictures), -1).astype(np.float32) - _MIDDLE


def squared(one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.float64]:
    """Two sets of Frame.points → (len(one), len(two)) squared distances, exact, whatever the order of summing."""
    norms = [np.einsum("ij,ij->i", side, side, dtype=np.float64) for side in (one, two)]
    return norms[0][:, None] + norms[1][None, :] - 2.0 * (one @ two.T)


@dataclass(frozen=True)
class Pictured:
    """A side's rows that have a picture: its pixels, and (N,) the place of its label among the classes: -1 where it has none, their
    number where it is none of them."""

    pictures: "list[Pixels]"
    labels: NDArray[np.int64]

    @staticmethod
    def of(seen: Seen, side: Side, column: str, target: str | None = None, classes: Sequence[str] = ()) -> "Pictured":
        if side not in seen.samples:
            return Pictured([], np.zeros(0, np.int64))
        rows = seen.samples[side].slice(0, PICTURE_ROWS)
        found = pixels_in(rows.column(column))
        labels = codes(rows.column(target), classes) if target is not None and classes else np.full(len(found), -1)
        there = np.array([pixels is not None for pixels in found], np.bool_)
        return Pictured([pixels for pixels in found if pixels is not None], labels[there])

    def __len__(self) -> int:
        return len(self.pictures)

    def cut(self, start: int, stop: int) -> "Pictured":
        return Pictured(self.pictures[start:stop], self.labels[start:stop])

    def labelled(self) -> "Pictured":
        """Those that have a label, be it none of the classes."""
        kept = np.flatnonzero(self.labels >= 0)
        return Pictured([self.pictures[at] for at in kept.tolist()], self.labels[kept])
