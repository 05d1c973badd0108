"""Rows → the same rows with noise in their numbers, in each column's own scale; classes, texts and ids stay."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.ops.base import Op, Stats
from raysynth.ops.tabular._numbers import as_type, is_numeric, numbers
from raysynth.ops.tabular._pool import Pool
from raysynth.schema import Schema

POOL_ROWS = 100_000
SPIKE = 0.05  # a value that makes this share of a column is a state (no capital gain), not a measurement: it stays


class Jitter(Op):
    """Adds normal noise of `scale` × the spread of the column (that of its middle half, as of a normal law). Values stay between the
    least and the greatest that were seen; missing values, and single values that make 5 % of a column, stay as they are.
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
        self._known: dict[str, tuple[float, float, float, NDArray[np.float64]]] = {}

    def observe(self, rows: pa.Table) -> Pool:
        return Pool.of(rows, POOL_ROWS)

    def settle(self, stats: Stats | None) -> None:
        if isinstance(stats, Pool):
            self._known = {name: _scale(numbers(stats.rows.column(name))) for name in self.columns}

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        for name in self.columns:
            spread, least, greatest, spikes = self._known[name]
            found = numbers(rows.column(name))
            moved = np.clip(found + self.scale * spread * draws.normal(f"jitter-{name}"), least, greatest)
            kept = np.isnan(found) | ~np.isfinite(found) | np.isin(found, spikes)
            position = rows.column_names.index(name)
            field = rows.schema.field(name)
            unchanged = rows.column(name).combine_chunks()
            values = as_type(np.where(kept, np.nan, moved), field.type)
            rows = rows.set_column(position, field, _choose(kept, unchanged, values))
        return rows


def _choose(kept: NDArray[np.bool_], old: pa.Array, new: pa.Array) -> pa.Array:
    """Old values where kept: what was not moved is the very value that it was."""
    return pc.if_else(pa.array(kept, pa.bool_()), old, new)


def _scale(found: NDArray[np.float64]) -> tuple[float, float, float, NDArray[np.float64]]:
    """(spread, least, greatest, spikes) of the finite values."""
    found = found[np.isfinite(found)]
    if not len(found):
        return 0.0, 0.0, 0.0, found
    values, counts = np.unique(found, return_counts=True)
    spikes = values[counts >= max(2, SPIKE * len(found))] if len(values) > 20 else values[:0]
    rest = found[~np.isin(found, spikes)] if len(spikes) < len(values) else found
    low, high = np.quantile(rest, [0.25, 0.75])
    return float((high - low) / 1.349) or float(rest.std()), float(values[0]), float(values[-1]), spikes
