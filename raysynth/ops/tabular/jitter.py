"""Rows → the same rows with noise in their numbers, in each column's own scale; classes, texts and ids stay."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.ops.base import Op, Stats
from raysynth.ops.tabular._numbers import Ends, as_type, ends_of, is_numeric, joined, numbers, within
from raysynth.ops.tabular._pool import Pool
from raysynth.schema import ROW_ID, Schema

POOL_ROWS = 100_000
SPIKE = 0.05  # a value that makes this share of a column is a state (no capital gain), not a measurement: it stays


@dataclass(frozen=True)
class _Seen:
    """A sample of rows for the spread and the spikes; the ends of every row."""

    pool: Pool
    ends: Mapping[str, Ends | None]

    def merge(self, other: "_Seen") -> "_Seen":
        return _Seen(self.pool.merge(other.pool), {name: joined(ends, other.ends[name]) for name, ends in self.ends.items()})


class Jitter(Op):
    """Adds normal noise of `scale` × the spread of the column (that of its middle half, as of a normal law). Values stay between the
    least and the greatest that were seen; missing values, and single values that make 5 % of a column, stay as they are: so does
    the whole of a column that has only a few values, such as grades from 1 to 5.
    `columns`: those to change; all numeric and temporal ones by default."""

    def __init__(self, schema: Schema, *, scale: float = 0.05, columns: tuple[str, ...] | None = None) -> None:
        super().__init__(schema)
        if not 0 < scale <= 10:
            raise RecipeError(f"scale: must be above 0 and at most 10 (got {scale})")
        able = [column.name for column in schema.learnt if is_numeric(column)]
        if wrong := [name for name in columns or () if name not in able]:
            raise RecipeError(f"columns: '{wrong[0]}' is no numeric column that is learnt. Those are: {', '.join(able) or 'none'}")
        self.scale = scale
        self.columns = [name for name in able if columns is None or name in columns]
        self._known: dict[str, tuple[float, NDArray[np.float64]]] = {}
        self._ends: dict[str, Ends | None] = {}

    def observe(self, rows: pa.Table) -> _Seen:
        pool = Pool.of(rows.select([*ROW_ID, *self.columns]), POOL_ROWS)
        return _Seen(pool, {name: ends_of(rows.column(name)) for name in self.columns})

    def settle(self, stats: Stats | None) -> None:
        if isinstance(stats, _Seen):
            self._known = {name: _scale(numbers(stats.pool.rows.column(name))) for name in self.columns}
            self._ends = dict(stats.ends)

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        for name in self.columns:
            ends = self._ends[name]
            if ends is None:
                continue
            spread, spikes = self._known[name]
            found = numbers(rows.column(name))
            moved = np.clip(found + self.scale * spread * draws.normal(f"jitter-{name}"), float(ends[0]), float(ends[1]))
            kept = np.isnan(found) | ~np.isfinite(found) | np.isin(found, spikes)
            position = rows.column_names.index(name)
            field = rows.schema.field(name)
            unchanged = rows.column(name).combine_chunks()
            values = within(as_type(np.where(kept, np.nan, moved), field.type), ends)
            rows = rows.set_column(position, field, _choose(kept, unchanged, values))
        return rows


def _choose(kept: NDArray[np.bool_], old: pa.Array, new: pa.Array) -> pa.Array:
    """Old values where kept: what was not moved is the very value that it was."""
    return pc.if_else(pa.array(kept, pa.bool_()), old, new)


def _scale(found: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """(spread, spikes) of the finite values."""
    found = found[np.isfinite(found)]
    values, counts = np.unique(found, return_counts=True)
    spikes = values[counts >= max(2, SPIKE * len(found))]
    rest = found[~np.isin(found, spikes)]
    if not len(rest):
        return 0.0, spikes
    low, high = np.quantile(rest, [0.25, 0.75])
    return float((high - low) / 1.349) or float(rest.std()), spikes
