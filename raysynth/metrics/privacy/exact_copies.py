"""Rows of train, hold-out and synthetic sides → the share of synthetic rows that equal a train row, at any size.

A copy is no proof of a leak: where columns are few, hold-out rows repeat train rows too, and their share is the ceiling.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cleaning import row_hash
from raysynth.metrics.base import Metric, Score, Seen, Side


@dataclass(frozen=True)
class _Counted:
    rows: int
    copies: int

    def merge(self, other: "_Counted") -> "_Counted":
        return _Counted(self.rows + other.rows, self.copies + other.copies)


class ExactCopies(Metric):
    """Rows are compared by 64-bit hashes of their learnt columns: among a billion pairs a false copy has odds of one in 10¹⁰."""

    names = ("exact_copies",)
    sides = ("holdout", "synthetic")
    _known: NDArray[np.uint64] = np.empty(0, np.uint64)

    def settle(self, seen: Seen) -> None:
        self._known = seen.contents.get("train", self._known)

    def observe(self, rows: pa.Table, side: Side) -> _Counted:
        return _Counted(rows.num_rows, int(np.isin(row_hash(rows, self.schema), self._known).sum()))

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        synthetic, holdout = stats.get("synthetic", _Counted(0, 0)), stats.get("holdout", _Counted(0, 0))
        facts = {"copies": synthetic.copies, "of": synthetic.rows, "holdout_copies": holdout.copies, "holdout_rows": holdout.rows}
        share, ceiling = _share(synthetic), _share(holdout)
        return [Score("exact_copies", share, 1.0, 0.0, ceiling, facts=facts, why="" if share is not None else "there are no rows")]


def _share(counted: _Counted) -> float | None:
    return counted.copies / counted.rows if counted.rows else None
