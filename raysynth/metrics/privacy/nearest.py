"""Every train and hold-out row against a sample of synthetic rows → the share of them that lie nearer to train than to hold-out rows.

A generator that learnt a law, not its rows, gives 0.5; one that repeats train rows gives more. It is a smoke test: a pass proves
nothing (Platzer & Reutterer, "Holdout-based empirical assessment of mixed-type synthetic data", Frontiers in Big Data 2021).
Train rows are dealt into groups of as many rows as there are hold-out rows, by the hash of their ids, and the groups' shares are
averaged: every real row counts, and no side has better odds. Only the synthetic side is ever sampled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.features import Points
from raysynth.metrics.base import WORD, Metric, Score, Seen, Side

LEAST_ROWS = 30
_ASKED_BLOCK, _KNOWN_BLOCK = 8192, 2048
_FEW_DIMENSIONS = 10  # a tree beats the product of matrices up to about here
_GROUPS = 8


@dataclass(frozen=True)
class _Distances:
    """(groups, asked rows): the squared distance to the nearest row of each group."""

    nearest: NDArray[np.float64]

    def merge(self, other: "_Distances") -> "_Distances":
        return _Distances(np.minimum(self.nearest, other.nearest))


class Nearest(Metric):
    """Distances are Euclidean over the learnt columns: numbers in their own scale, a category's change as much as two of them."""

    names = ("nearer_to_train",)
    sides = ("train", "holdout")

    def settle(self, seen: Seen) -> None:
        samples = [seen.samples[side] for side in ("train", "synthetic", "validation") if side in seen.samples]
        self._points = Points.settle(samples[:1], self.schema)
        self._asked = self._points.of(pa.concat_tables(samples[1:]).select(self.schema.learnt.names))
        self._bounds: dict[Side, NDArray[np.uint64]] = {}
        train, holdout = (seen.words.get(side, np.empty(0, np.uint64)) for side in ("train", "holdout"))
        size = min(len(train), len(holdout))
        groups = min(_GROUPS, len(train) // size) if size else 0
        self._bounds["train"] = train[[size * group - 1 for group in range(1, groups + 1)]]
        self._bounds["holdout"] = holdout[size - 1 : size] if size else holdout[:0]

    def observe(self, rows: pa.Table, side: Side) -> _Distances:
        bounds = self._bounds[side]
        group = np.searchsorted(bounds, rows[WORD].to_numpy(), side="left")
        known = self._points.of(rows.select(self.schema.learnt.names))
        return _Distances(np.stack([_squared(self._asked, known[group == number]) for number in range(max(1, len(bounds)))]))

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        rows = seen.samples["synthetic"].num_rows
        if min(rows, seen.rows.get("train", 0), seen.rows.get("holdout", 0)) < LEAST_ROWS:
            why = f"it takes {LEAST_ROWS} rows of train, hold-out and synthetic"
            return [Score("nearer_to_train", None, 1.0, 0.5, why=why)]
        train, holdout = stats["train"].nearest, stats["holdout"].nearest[0]
        shares = _shares(train, holdout)
        others = shares[:, rows:]
        ceiling = float(others.mean()) if others.shape[1] >= LEAST_ROWS else 0.5  # by symmetry
        facts = {
            "asked_rows": rows,
            "of_synthetic_rows": seen.rows["synthetic"],
            "groups_of_train": len(train),
            "rows_of_a_group": min(seen.rows["train"], seen.rows["holdout"]),
            "median_distance_to_train": round(float(np.median(np.sqrt(train[:, :rows]))), 6),
            "median_distance_to_holdout": round(float(np.median(np.sqrt(holdout[:rows]))), 6),
        }
        return [Score("nearer_to_train", round(float(shares[:, :rows].mean()), 6), 1.0, 0.5, round(ceiling, 6), facts=facts)]


def _shares(train: NDArray[np.float64], holdout: NDArray[np.float64]) -> NDArray[np.float64]:
    """(groups, asked rows): 1 where the train group is nearer, ½ on a tie, else 0."""
    near = np.abs(train - holdout) <= 1e-9 * (1 + np.minimum(train, holdout))
    return np.where(near, 0.5, (train < holdout).astype(np.float64))


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
