"""Train, hold-out and synthetic rows → how alike the columns move together, pair by pair: 1 is the same, 0 is opposite or unrelated.

Two numbers: 1 − half the difference of their rank correlations; a class and anything else: 1 − the total variation distance of their
joint shares, numbers cut at the deciles of train (after SDMetrics' CorrelationSimilarity and ContingencySimilarity). Joint shares of
finite samples differ even where the law is one, the more the more cells there are: hence equally many rows of every side, and the
ceiling, which has the same noise.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.draws import Draws
from raysynth.features import codes, is_class, judged, levels, numbers
from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.schema import Column

LEAST_ROWS = 10
MOST_ROWS = 20_000
MOST_PAIRS = 1000
MOST_LEVELS = 50  # the rarer classes count as one


class PairTrends(Metric):
    """The mean over all pairs of columns, or over 1,000 of them chosen by the seed."""

    names = ("pair_trends",)

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        no_rows = self.schema.arrow.empty_table()
        samples = {side: seen.samples.get(side, no_rows) for side in ("train", "holdout", "synthetic")}
        columns = list(judged(self.schema))
        rows = min(MOST_ROWS, *(sample.num_rows for sample in samples.values()))
        if rows < LEAST_ROWS or len(columns) < 2:
            why = f"it takes {LEAST_ROWS} rows of each side, and two columns to compare"
            return [Score("pair_trends", None, 0.0, 1.0, why=why)]
        cut = [sample.slice(0, rows) for sample in samples.values()]
        train, holdout, synthetic = (_Coded(cut, columns, number) for number in range(3))
        pairs = self._pairs(len(columns))
        found = {f"{columns[a].name} × {columns[b].name}": _alike(train, synthetic, a, b) for a, b in pairs}
        ceiling = float(np.mean([_alike(train, holdout, a, b) for a, b in pairs]))
        facts = {"rows": rows, "pairs": len(pairs), "of_pairs": len(columns) * (len(columns) - 1) // 2}
        value = float(np.mean(list(found.values())))
        return [Score("pair_trends", round(value, 6), 0.0, 1.0, round(ceiling, 6), found, facts)]

    def _pairs(self, columns: int) -> list[tuple[int, int]]:
        pairs = list(combinations(range(columns), 2))
        if len(pairs) <= MOST_PAIRS:
            return pairs
        chosen = np.argsort(Draws.range(self.seed, "pair-trends", 0, len(pairs)).words("pair"), kind="stable")[:MOST_PAIRS]
        return [pairs[number] for number in np.sort(chosen)]


class _Coded:
    """One side's columns as ranks (numbers) and as small codes (everything), the codes shared by all sides."""

    def __init__(self, sides: list[pa.Table], columns: list[Column], number: int) -> None:
        rows = sides[number]
        self.classes = [is_class(column) for column in columns]
        self.ranks = [None if is_class(column) else _ranks(numbers(rows.column(column.name))) for column in columns]
        self.codes = [_codes(sides, rows, column) for column in columns]
        self.sizes = [int(1 + max(_codes(sides, side, column).max(initial=0) for side in sides)) for column in columns]


def _codes(sides: list[pa.Table], rows: pa.Table, column: Column) -> NDArray[np.int64]:
    """0 for missing, then classes or deciles of train."""
    if is_class(column):
        known = levels(sides, column.name)[:MOST_LEVELS]
        return codes(rows.column(column.name), known) + 1
    train, found = numbers(sides[0].column(column.name)), numbers(rows.column(column.name))
    train = train[~np.isnan(train)]
    edges = np.unique(np.quantile(train, np.linspace(0.1, 0.9, 9))) if len(train) else np.empty(0)
    return np.where(np.isnan(found), 0, 1 + np.searchsorted(edges, found, "right"))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean ranks; NaN stays."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, nan_policy="omit"), dtype=np.float64)


def _alike(real: _Coded, other: _Coded, a: int, b: int) -> float:
    if not (real.classes[a] or real.classes[b]):
        return round(1 - abs(_correlation(real, a, b) - _correlation(other, a, b)) / 2, 6)
    size = real.sizes[b]
    joint = [np.bincount(side.codes[a] * size + side.codes[b], minlength=real.sizes[a] * size) for side in (real, other)]
    return round(float(1 - np.abs(joint[0] / joint[0].sum() - joint[1] / joint[1].sum()).sum() / 2), 6)


def _correlation(side: _Coded, a: int, b: int) -> float:
    """Spearman's; 0 where a column is constant or missing."""
    one, two = side.ranks[a], side.ranks[b]
    if one is None or two is None:
        return 0.0
    there = ~(np.isnan(one) | np.isnan(two))
    one, two = one[there], two[there]
    if len(one) < 2 or one.std() == 0 or two.std() == 0:
        return 0.0
    return float(np.corrcoef(one, two)[0, 1])
