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


class Neighbours(Metric):
    """Of at most 5,000 rows of each side."""

    names = ("precision", "recall", "density", "coverage")

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        train, holdout, synthetic = (seen.samples[side] for side in ("train", "holdout", "synthetic"))
        points = Points.settle([train], self.schema)
        rows = min(MOST_ROWS, holdout.num_rows, synthetic.num_rows)
        if rows < LEAST_ROWS or not len(points.schema):
            why = f"it takes {LEAST_ROWS} hold-out and synthetic rows, and a column to look at"
            return [Score(name, None, 0.0, 1.0, why=why) for name in self.names]
        held = points.of(holdout.slice(0, rows))
        values = _four(held, points.of(synthetic.slice(0, rows)))
        few = min(rows, train.num_rows)
        ceilings = _four(held[:few], points.of(train.slice(0, few))) if few >= LEAST_ROWS else (None,) * 4
        facts = {"rows_of_each": rows, "k": K}
        return [
            Score(name, value, 0.0, 1.0, ceiling, facts=facts)
            for name, value, ceiling in zip(self.names, values, ceilings, strict=True)
        ]


def _four(real: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """(precision, recall, density, coverage) of the other points."""
    between = _squared(real, other)
    of_real, of_other = (np.partition(_squared(points, points), K, axis=1)[:, K] for points in (real, other))
    within = between <= of_real[:, None]
    found = (
        within.any(axis=0).mean(),
        (between <= of_other[None, :]).any(axis=1).mean(),
        within.sum() / K / len(other),
        within.any(axis=1).mean(),
    )
    precision, recall, density, coverage = (round(float(value), 6) for value in found)
    return precision, recall, density, coverage


def _squared(one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.float32]:
    """(len(one), len(two)) squared distances."""
    norms = np.einsum("ij,ij->i", one, one)[:, None] + np.einsum("ij,ij->i", two, two)[None, :]
    return np.maximum(norms - 2 * one @ two.T, 0)
