"""Rows → more rows of the classes that are rare, so that real and augmented rows together go towards a distribution."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.draws import Draws
from raysynth.errors import DataError, RecipeError
from raysynth.ops.base import Op, Stats
from raysynth.schema import Schema

MOST_CLASSES = 1000
MOST_TIMES = 1000  # that a row comes back: more is a data set of one row


@dataclass(frozen=True)
class _Counts:
    of: Mapping[str, int]

    @staticmethod
    def few(counts: Mapping[str, int]) -> "_Counts":
        """Of too many classes the first by name, one more than may be: enough to refuse them, in whatever order they were merged."""
        names = sorted(counts)[: MOST_CLASSES + 1] if len(counts) > MOST_CLASSES else counts
        return _Counts({name: counts[name] for name in names})

    def merge(self, other: "_Counts") -> "_Counts":
        return _Counts.few(Counter(self.of) + Counter(other.of))


class Balance(Op):
    """`column` has the classes; `to` gives their shares (by default all are to be as frequent as the most frequent one). Every row of
    a class comes back equally often, the fraction by the row's own draw: the counts are met in the mean. Rows come back as they are:
    these are copies, for a model that should see its rare classes more often. `copies` multiplies them."""

    def __init__(self, schema: Schema, *, column: str, to: dict[str, float] | None = None) -> None:
        super().__init__(schema)
        if column not in schema:
            raise RecipeError(f"column: no column '{column}'. Columns: {', '.join(schema.names)}")
        if schema[column].kind not in ("category", "boolean", "integer"):
            raise RecipeError(f"column: '{column}' is of kind {schema[column].kind}, and classes are category, boolean or integer")
        if to is not None and not (to and all(0 <= share < math.inf for share in to.values()) and 0 < sum(to.values()) < math.inf):
            raise RecipeError(f"to: must give each class a share of 0 or more (got {to})")
        self.column = column
        self.to = to
        self._times: dict[str, float] = {}

    def observe(self, rows: pa.Table) -> _Counts:
        counted: Any = pc.value_counts(rows.column(self.column).cast(pa.string()))
        return _Counts.few({entry["values"]: entry["counts"] for entry in counted.to_pylist() if entry["values"] is not None})

    def settle(self, stats: Stats | None) -> None:
        counts = dict(stats.of) if isinstance(stats, _Counts) else {}
        if not 2 <= len(counts) <= MOST_CLASSES:
            many = f"more than {MOST_CLASSES}" if len(counts) > MOST_CLASSES else str(len(counts))
            raise DataError(
                f"tabular.balance: '{self.column}' has {many} classes in the train rows; 2 to {MOST_CLASSES} can be balanced"
            )
        to = self.to or dict.fromkeys(counts, 1.0)
        if unseen := sorted(set(to) - set(counts)):
            raise DataError(f"tabular.balance: to names '{unseen[0]}', which '{self.column}' never is in the train rows")
        rows_per_share = max(counts[name] / share for name, share in to.items() if share)
        self._times = {name: max(0.0, to.get(name, 0.0) * rows_per_share / count - 1) for name, count in counts.items()}
        name, times = max(self._times.items(), key=lambda item: item[1])
        if times > MOST_TIMES:
            raise DataError(
                f"tabular.balance: each of the {counts[name]} rows where '{self.column}' is '{name}' would come back {times:,.0f} times, "
                f"and at most {MOST_TIMES:,} are made. Set `to` to shares that are less apart, or leave out the classes of few rows"
            )

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        values = rows.column(self.column).cast(pa.string()).to_pylist()
        wanted = np.array([self._times.get(value, 0.0) if value is not None else 0.0 for value in values])
        times = np.floor(wanted).astype(np.int64) + (draws.uniform("balance") < wanted % 1)
        return rows.take(np.repeat(np.arange(rows.num_rows), times))
