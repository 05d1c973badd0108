"""Train, hold-out and synthetic rows → how alike each column's distribution is: 1 is the same, 0 is another altogether.

Numbers, dates and times: 1 − the Kolmogorov-Smirnov distance, with the missing values as one atom; classes: 1 − the total variation
distance, with the missing values as one class (as in SDMetrics' KSComplement and TVComplement, which leave the missing values out).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.features import codes, is_class, judged, levels, numbers
from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.schema import Column

LEAST_ROWS = 10


class ColumnShapes(Metric):
    """The mean over the columns, ids and texts left out."""

    names = ("column_shapes",)

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        no_rows = self.schema.arrow.empty_table()
        train, holdout, synthetic = (seen.samples.get(side, no_rows) for side in ("train", "holdout", "synthetic"))
        columns = list(judged(self.schema))
        if min(train.num_rows, synthetic.num_rows) < LEAST_ROWS or not columns:
            return [Score("column_shapes", None, 0.0, 1.0, why=f"it takes {LEAST_ROWS} rows of each side, and a column to compare")]
        found = {column.name: alike(train, synthetic, column) for column in columns}
        ceiling = None
        if holdout.num_rows >= LEAST_ROWS:
            ceiling = _mean([alike(train, holdout, column) for column in columns])
        facts = {"train_rows": train.num_rows, "synthetic_rows": synthetic.num_rows, "holdout_rows": holdout.num_rows}
        return [Score("column_shapes", _mean(list(found.values())), 0.0, 1.0, ceiling, found, facts)]


def alike(real: pa.Table, other: pa.Table, column: Column) -> float:
    """1 − the distance between the column's two distributions."""
    if is_class(column):
        known = levels([real, other], column.name)
        one, two = (_shares(codes(rows.column(column.name), known), len(known)) for rows in (real, other))
        return round(float(1 - np.abs(one - two).sum() / 2), 6)
    return round(1 - _kolmogorov_smirnov(numbers(real.column(column.name)), numbers(other.column(column.name))), 6)


def _shares(found: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    return np.bincount(found + 1, minlength=count + 1) / max(1, len(found))


def _kolmogorov_smirnov(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """The largest distance between the two cumulated shares; missing values come first."""
    one, two = (np.sort(np.where(np.isnan(values), -np.inf, values)) for values in (one, two))
    at = np.concatenate([one, two])
    return float(np.abs(np.searchsorted(one, at, "right") / len(one) - np.searchsorted(two, at, "right") / len(two)).max())


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 6)
