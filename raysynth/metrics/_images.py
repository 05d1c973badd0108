"""Sampled rows with pictures → the pixels of each and its label: what the metrics of pictures have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.features import codes, levels, may_label
from raysynth.image_frames import pixels_in
from raysynth.metrics.base import PICTURE_ROWS, Seen, Side
from raysynth.schema import Schema

if TYPE_CHECKING:
    from raysynth.pictures import Pixels

MOST_CLASSES = 100


def tells_label(schema: Schema, target: str | None) -> bool:
    """Whether the target can be what a picture shows."""
    return target is not None and target in schema and may_label(schema[target])


def label_classes(train: pa.Table, target: str) -> list[str]:
    """The values of the target in train rows; none where there is one, or more than MOST_CLASSES."""
    found = levels([train], target)
    return found if 2 <= len(found) <= MOST_CLASSES else []


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
