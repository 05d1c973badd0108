"""Hold-out and synthetic rows as points → precision, recall, density and coverage: do the rows lie where real ones lie, and everywhere?

A point is covered by another set if it lies within the distance from one of the set's points to its k-th neighbour there.
precision: the share of synthetic rows that hold-out rows cover; recall: the other way round (Kynkäänniemi et al., NeurIPS 2019);
density: how many hold-out rows cover a synthetic one, over k; coverage: the share of hold-out rows that cover a synthetic one (Naeem et
al., ICML 2020). In the ceilings train rows stand where the synthetic ones do.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysynth.features import Points
from raysynth.metrics.base import Metric, Score, Seen, Side

K = 5
LEAST_ROWS = 30
MOST_ROWS = 5000
_BLOCK = 1000
_TIE = 1e-9


class Neighbours(Metric):
    """Of at most 5,000 rows of each side."""

    names = ("precision", "recall", "density", "coverage")

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        from threadpoolctl import threadpool_limits

        no_rows = self.schema.arrow.empty_table()
        train, holdout, synthetic = (seen.samples.get(side, no_rows) for side in ("train", "holdout", "synthetic"))
        points = Points.settle([train], self.schema)
        rows = min(MOST_ROWS, holdout.num_rows, synthetic.num_rows)
        if rows < LEAST_ROWS or not len(points.schema):
            why = f"it takes {LEAST_ROWS} hold-out and synthetic rows, and a column to look at"
            return [Score(name, None, 0.0, 1.0, why=why) for name in self.names]
        held, few = points.of(holdout.slice(0, rows)), min(rows, train.num_rows)
        with threadpool_limits(1):  # sums of several threads differ in the last bits
            values = _four(held, points.of(synthetic.slice(0, rows)))
            ceilings = _four(held[:few], points.of(train.slice(0, few))) if few >= LEAST_ROWS else (None,) * 4
        facts = {"rows_of_each": rows, "k": K}
        return [
            Score(name, value, 0.0, 1.0, ceiling, facts=facts)
            for name, value, ceiling in zip(self.names, values, ceilings, strict=True)
        ]


def _four(real: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """(precision, recall, density, coverage) of the other points."""
    of_real, of_other = _radii(real), _radii(other)
    covers = np.zeros(len(other), np.int64)  # of each other point: how many real ones cover it
    covering, covered = np.zeros(len(real), np.bool_), np.zeros(len(real), np.bool_)
    for start in range(0, len(real), _BLOCK):
        block = slice(start, start + _BLOCK)
        between = _squared(real[block], other)
        within = between <= of_real[block, None]
        covers += within.sum(axis=0)
        covering[block] = within.any(axis=1)
        covered[block] = (between <= of_other[None, :]).any(axis=1)
    found = ((covers > 0).mean(), covered.mean(), covers.sum() / K / len(other), covering.mean())
    precision, recall, density, coverage = (round(float(value), 6) for value in found)
    return precision, recall, density, coverage


def _radii(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """(points,): the squared distance to the k-th neighbour, a hair more: where all columns are classes, ties are the rule."""
    blocks = (_squared(points[start : start + _BLOCK], points) for start in range(0, len(points), _BLOCK))
    return np.concatenate([np.partition(block, K, axis=1)[:, K] for block in blocks]) * (1 + _TIE) + _TIE


def _squared(one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.float64]:
    """(len(one), len(two)) squared distances."""
    a, b = one.astype(np.float64), two.astype(np.float64)
    norms = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)[None, :]
    return np.maximum(norms - 2 * a @ b.T, 0)
