"""Every train picture against a sample of synthetic ones → how many of these were learnt by heart, and how many are copies.

Pictures are compared pixel by pixel at one small size. `image_memorised`: the share of synthetic pictures that are as near to their nearest
train picture as only the nearest hundredth of the hold-out pictures are. `image_copies`: the share of those that equal a train picture at
that size, in every pixel. Of a sample of train pictures most copies would go unseen, so each is looked at, once. Hold-out pictures, asked
the same, are the ceiling: where pictures are alike, real ones lie near real ones too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.image_frames import Frame, image_columns, pixels_in, squared
from raysynth.metrics._corpus import Pair, by_column
from raysynth.metrics._images import Pictured
from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.schema import Schema

LEAST_PICTURES = 30
MOST_ASKED = 2000
SIDE = 16
NEAREST_SHARE = 0.01
_BLOCK = 512


@dataclass(frozen=True)
class _Near:
    """Column → (asked,) the squared distance of each asked picture to the nearest train picture, infinite where there is none."""

    squares: Mapping[str, NDArray[np.float64]]
    train: int

    def merge(self, other: "_Near") -> "_Near":
        squares = {name: np.minimum(found, other.squares[name]) for name, found in self.squares.items()}
        return _Near(squares, self.train + other.train)


@dataclass(frozen=True)
class _Asked:
    """A column's sampled pictures as points, synthetic and then hold-out ones, in a frame."""

    frame: Frame
    points: NDArray[np.float32]
    synthetic: int

    @staticmethod
    def of(seen: Seen, column: str) -> "_Asked":
        train, synthetic, holdout = (Pictured.of(seen, side, column).pictures for side in ("train", "synthetic", "holdout"))
        frame = Frame.around(synthetic, train or holdout, SIDE)
        asked = synthetic[:MOST_ASKED]
        return _Asked(frame, frame.points([*asked, *holdout[:MOST_ASKED]]), len(asked))

    def nearest(self, column: pa.ChunkedArray) -> tuple[NDArray[np.float64], int]:
        """Of each asked picture the squared distance to the nearest of the column's; and how many these are."""
        best, count = np.full(len(self.points), np.inf), 0
        for start in range(0, len(column), _BLOCK):
            known = [pixels for pixels in pixels_in(column.slice(start, _BLOCK)) if pixels is not None]
            if known and len(best):
                best = np.minimum(best, squared(self.points, self.frame.points(known)).min(axis=1))
            count += len(known)
        return best, count


class ImageNearest(Metric):
    """Asks at most 2,000 synthetic and 2,000 hold-out pictures."""

    names = ("image_memorised", "image_copies")
    sides = ("train",)
    packages = ("opencv-python-headless",)

    @classmethod
    def applies(cls, schema: Schema, target: str | None) -> bool:
        return bool(image_columns(schema))

    def settle(self, seen: Seen) -> None:
        self._asked = {column: _Asked.of(seen, column) for column in image_columns(self.schema)}

    def observe(self, rows: pa.Table, side: Side) -> _Near:
        found = {column: asked.nearest(rows.column(column)) for column, asked in self._asked.items()}
        return _Near({column: near for column, (near, _) in found.items()}, sum(count for _, count in found.values()))

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        memorised: dict[str, Pair] = {}
        copies: dict[str, Pair] = {}
        near: _Near = stats.get("train", _Near({}, 0))
        facts: dict[str, Any] = {"train_pictures": near.train, "synthetic_asked": 0, "holdout_asked": 0}
        for column, squares in near.squares.items():
            asked = self._asked[column]
            synthetic, holdout = (
                np.sqrt(part) / (255 * asked.points.shape[1] ** 0.5) for part in np.split(squares, [asked.synthetic])
            )
            if not np.isfinite(squares).all() or not len(synthetic):
                continue
            facts["synthetic_asked"] += len(synthetic)
            facts["holdout_asked"] += len(holdout)
            copies[column] = (_share(synthetic, 0.0), _share(holdout, 0.0) if len(holdout) else None)
            if min(len(synthetic), len(holdout)) >= LEAST_PICTURES:
                bound = float(np.sort(holdout)[max(0, int(np.ceil(NEAREST_SHARE * len(holdout))) - 1)])
                memorised[column] = (_share(synthetic, bound), _share(holdout, bound))
                facts |= _distances(synthetic, holdout, bound)
        why = f"it takes train pictures, and {LEAST_PICTURES} hold-out and synthetic ones"
        return [
            by_column("image_memorised", memorised, 1.0, 0.0, why, facts),
            by_column("image_copies", copies, 1.0, 0.0, "it takes train and synthetic pictures", facts),
        ]


def _share(distances: NDArray[np.float64], bound: float) -> float:
    return float((distances <= bound).mean())


def _distances(synthetic: NDArray[np.float64], holdout: NDArray[np.float64], bound: float) -> dict[str, float]:
    """Root mean squares over the pixels, from 0 (equal) to 1 (black against white)."""
    told = {"near": bound, "median_distance": float(np.median(synthetic)), "holdout_median_distance": float(np.median(holdout))}
    return {name: round(distance, 6) for name, distance in told.items()}
