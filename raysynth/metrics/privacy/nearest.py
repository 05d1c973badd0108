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
_FEW_DIMENSIONS = 10  # a tree beats the product of matrices up to about here


@dataclass(frozen=True)
class _Distances:
    """(asked rows,): the squared distance to the nearest row."""

    nearest: NDArray[np.float64]

    def merge(self, other: "_Distances") -> "_Distances":
        return _Distances(np.minimum(self.nearest, other.nearest))


class Nearest(Metric):
    """Distances are Euclidean over the learnt columns: numbers in their own scale, a class as an axis of its own."""

    names = ("nearer_to_train",)
    sides = ("train", "holdout")

    def settle(self, seen: Seen) -> None:
        samples = [seen.samples[side] for side in ("train", "synthetic", "validation") if side in seen.samples]
        self._points = Points.settle(samples[:1], self.schema)
        self._asked = self._points.of(pa.concat_tables(samples[1:]).select(self.schema.learnt.names))

    def observe(self, rows: pa.Table, side: Side) -> _Distances:
        return _Distances(_squared(self._asked, self._points.of(rows.select(self.schema.learnt.names))))

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        """The ceiling asks the same of validation rows, which nothing was learnt from."""
        rows, train_rows, holdout_rows = (seen.rows.get(side, 0) for side in ("synthetic", "train", "holdout"))
        if min(rows, train_rows, holdout_rows) < LEAST_ROWS:
            why = f"it takes {LEAST_ROWS} rows of train, hold-out and synthetic"
            return [Score("nearer_to_train", None, 1.0, 0.5, why=why)]
        asked = seen.samples["synthetic"].num_rows
        train, holdout = stats["train"].nearest, stats["holdout"].nearest
        shares = _nearer(train, holdout)
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


def _nearer(train: NDArray[np.float64], holdout: NDArray[np.float64]) -> NDArray[np.float64]:
    """(asked rows,): 1 where train is nearer, ½ on a tie, else 0."""
    tie = np.abs(train - holdout) <= 1e-9 * (1 + np.minimum(train, holdout))
    return np.where(tie, 0.5, (train < holdout).astype(np.float64))


def _balanced(share: float, train_rows: int, holdout_rows: int) -> float:
    of_train, of_holdout = share / train_rows, (1 - share) / holdout_rows
    return round(of_train / (of_train + of_holdout), 6)


def _squared(asked: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float64]:
    """(asked rows,): the squared distance to the nearest known row; infinite where there is none."""
    if not len(known) or not len(asked):
        return np.full(len(asked), np.inf)
    if asked.shape[1] <= _FEW_DIMENSIONS:
        from scipy.spatial import cKDTree

        distance, _ = cKDTree(known.astype(np.float64)).query(asked.astype(np.float64))
        return np.square(distance)
    return np.concatenate([_block(asked[start : start + _ASKED_BLOCK], known) for start in range(0, len(asked), _ASKED_BLOCK)])


def _block(asked: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float64]:
    """The nearest by float32 products, its distance then in float64: rounding must not make copies of neighbours."""
    best, index = np.full(len(asked), np.inf, np.float32), np.zeros(len(asked), np.int64)
    for start in range(0, len(known), _KNOWN_BLOCK):
        block = known[start : start + _KNOWN_BLOCK]
        partial = np.einsum("ij,ij->i", block, block)[None, :] - 2 * (asked @ block.T)  # |asked|² changes no order
        column = partial.argmin(axis=1)
        value = partial[np.arange(len(asked)), column]
        better = value < best
        best[better], index[better] = value[better], column[better] + start
    return np.square(asked.astype(np.float64) - known[index].astype(np.float64)).sum(axis=1)
