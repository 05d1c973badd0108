"""Every train and hold-out row against a sample of synthetic rows → the share of them that lie nearer to train than to hold-out rows.

A generator that learnt a law, not its rows, gives 0.5; one that repeats train rows gives more, up to 1. It is a smoke test: a pass proves
nothing (Platzer & Reutterer, "Holdout-based empirical assessment of mixed-type synthetic data", Frontiers in Big Data 2021).
They take as many train rows as hold-out rows; here every real row counts, and only the synthetic side is ever sampled. Of t train and h
hold-out rows of one law the nearest is a train row with odds t : h, so the share p is balanced to (p / t) / (p / t + (1 - p) / h).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.features import Points
from raysynth.metrics.base import Metric, Score, Seen, Side

LEAST_ROWS = 30
_ASKED_BLOCK, _KNOWN_BLOCK = 8192, 2048
_ROUNDING = 4e-6  # of float32 products of some hundred terms
_FEW_DIMENSIONS = 10  # a tree beats the product of matrices up to about here


@dataclass(frozen=True)
class _Neighbours:
    """(asked rows,): the squared distance to the nearest row, and how many rows are at it."""

    nearest: NDArray[np.float64]
    count: NDArray[np.int64]

    def merge(self, other: "_Neighbours") -> "_Neighbours":
        tie = _tie(self.nearest, other.nearest)
        count = np.where(tie, self.count + other.count, np.where(self.nearest < other.nearest, self.count, other.count))
        return _Neighbours(np.minimum(self.nearest, other.nearest), count)


class Nearest(Metric):
    """Distances are Euclidean over the learnt columns: numbers in their own scale, a class as an axis of its own."""

    names = ("nearer_to_train",)
    sides = ("train", "holdout")

    def settle(self, seen: Seen) -> None:
        samples = [seen.samples[side] for side in ("train", "synthetic", "validation") if side in seen.samples]
        self._points = Points.settle(samples[:1], self.schema)
        self._asked = self._points.of(pa.concat_tables(samples[1:]).select(self.schema.learnt.names))

    def observe(self, rows: pa.Table, side: Side) -> _Neighbours:
        return _neighbours(self._asked, self._points.of(rows.select(self.schema.learnt.names)))

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        """The ceiling asks the same of validation rows, which nothing was learnt from."""
        rows, train_rows, holdout_rows = (seen.rows.get(side, 0) for side in ("synthetic", "train", "holdout"))
        if min(rows, train_rows, holdout_rows) < LEAST_ROWS or not len(self._points.schema):
            why = f"it takes {LEAST_ROWS} rows of train, hold-out and synthetic, and a column to look at"
            return [Score("nearer_to_train", None, 1.0, 0.5, why=why)]
        asked = seen.samples["synthetic"].num_rows
        shares = _nearer(stats["train"], stats["holdout"])
        train, holdout = stats["train"].nearest, stats["holdout"].nearest
        value = _balanced(float(shares[:asked].mean()), train_rows, holdout_rows)
        others = shares[asked:]
        ceiling = _balanced(float(others.mean()), train_rows, holdout_rows) if len(others) >= LEAST_ROWS else 0.5  # by symmetry
        facts = {
            "asked_rows": asked,
            "of_synthetic_rows": rows,
            "train_rows": train_rows,
            "holdout_rows": holdout_rows,
            "median_distance_to_train": round(float(np.median(np.sqrt(train[:asked]))), 6),
            "median_distance_to_holdout": round(float(np.median(np.sqrt(holdout[:asked]))), 6),
        }
        return [Score("nearer_to_train", value, 1.0, 0.5, ceiling, facts=facts)]


def _tie(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (one == other) | (np.abs(one - other) <= 1e-9 * (1 + np.minimum(one, other)))


def _nearer(train: _Neighbours, holdout: _Neighbours) -> NDArray[np.float64]:
    """(asked rows,): 1 where train is nearer, 0 where hold-out is. On a tie, as among classes, where many rows are at the same distance:
    train's share of them, which on the whole is t / (t + h) too if nothing was learnt by heart."""
    share = train.count / np.maximum(1, train.count + holdout.count)
    return np.where(_tie(train.nearest, holdout.nearest), share, (train.nearest < holdout.nearest).astype(np.float64))


def _balanced(share: float, train_rows: int, holdout_rows: int) -> float:
    of_train, of_holdout = share / train_rows, (1 - share) / holdout_rows
    return round(of_train / (of_train + of_holdout), 6)


def _neighbours(asked: NDArray[np.float32], known: NDArray[np.float32]) -> _Neighbours:
    """Infinitely far where there is none."""
    if not len(known) or not asked.size:
        return _Neighbours(np.full(len(asked), np.inf), np.zeros(len(asked), np.int64))
    if asked.shape[1] <= _FEW_DIMENSIONS:
        from scipy.spatial import cKDTree

        tree, points = cKDTree(known.astype(np.float64)), asked.astype(np.float64)
        distance, _ = tree.query(points)
        count: Any = tree.query_ball_point(points, distance * (1 + 1e-9) + 1e-12, return_length=True)
        return _Neighbours(np.square(distance), np.asarray(count, dtype=np.int64))
    blocks = [_block(asked[start : start + _ASKED_BLOCK], known) for start in range(0, len(asked), _ASKED_BLOCK)]
    return _Neighbours(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _block(asked: NDArray[np.float32], known: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The nearest by float32 products, its distance then in float64: rounding must not make copies of neighbours."""
    best, index, count = np.full(len(asked), np.inf, np.float32), np.zeros(len(asked), np.int64), np.zeros(len(asked), np.int64)
    rounding = (_ROUNDING * (1 + np.einsum("ij,ij->i", asked, asked))).astype(np.float32)
    for start in range(0, len(known), _KNOWN_BLOCK):
        block = known[start : start + _KNOWN_BLOCK]
        partial = np.einsum("ij,ij->i", block, block)[None, :] - 2 * (asked @ block.T)  # |asked|² changes no order
        column = partial.argmin(axis=1)
        value = partial[np.arange(len(asked)), column]
        near = value <= best + rounding  # of these rows, this block has some as near as any before
        lowest = np.minimum(value[near], best[near])
        here = np.count_nonzero(partial[near] <= (lowest + rounding[near])[:, None], axis=1)
        count[near] = here + np.where(best[near] <= lowest + rounding[near], count[near], 0)
        better = value < best
        best[better], index[better] = value[better], column[better] + start
    return np.square(asked.astype(np.float64) - known[index].astype(np.float64)).sum(axis=1), count
