"""Prepared rows → arrays that judges take: codes and numbers for trees (`Table`), points of a space for distances (`Points`).

Columns of kind id, text, turns, image and json are left out: they are made anew, or are no number and no class. So is the size of an image:
pictures are learnt at one size, whatever the real ones have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.derived import size_columns
from raysynth.schema import Column, Schema

CATEGORIES = 254  # scikit-learn's boosting takes 255 of a column; the rarer ones share the last code
_CLASSES = ("category", "boolean")
NO_VALUES = ("id", "text", "turns", "image", "json")
"""Kinds whose columns have no distribution."""
BOUND = 1e150  # what lies beyond counts as this much: squares and sums stay finite
_FAR = 6.0  # spreads from the median; from there on distances grow by their logarithm, or one outlier would decide what is near


def judged(schema: Schema) -> Schema:
    """The columns that judges look at."""
    sizes = size_columns(schema)
    return Schema(tuple(column for column in schema if column.kind not in NO_VALUES and column.name not in sizes))


def is_class(column: Column) -> bool:
    """Its values have no order that a distance or a correlation could use."""
    return column.kind in _CLASSES


def may_label(column: Column) -> bool:
    """Its values can be what a text or a picture is of."""
    return is_class(column) or column.kind == "integer"


def numbers(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """(rows,) float64 of a numeric or temporal column; NaN where it is null or not finite."""
    type_ = values.type
    if pa.types.is_temporal(type_):
        values = values.cast(pa.int32() if type_.bit_width == 32 else pa.int64())
    elif pa.types.is_decimal(type_):
        values = values.cast(pa.float64())
    filled: Any = pc.fill_null(values.cast(pa.float64(), safe=False), pa.scalar(float("nan")))
    found = np.asarray(filled.to_numpy(), dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of classes as text; nulls stay."""
    return values.cast(pa.string())


def levels(tables: Sequence[pa.Table], name: str) -> list[str]:
    """The values of a column of classes in any of the tables, the most frequent first (ties by text)."""
    counts: dict[str, int] = {}
    for table in tables:
        counted: Any = pc.value_counts(texts(table.column(name)))
        for entry in counted.to_pylist():
            if entry["values"] is not None:
                counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    return sorted(counts, key=lambda value: (-counts[value], value))


def codes(values: pa.ChunkedArray, known: Sequence[str]) -> NDArray[np.int64]:
    """(rows,) positions in `known`; -1 where null, len(known) where the value is not among them."""
    column = texts(values)
    found: Any = pc.fill_null(pc.index_in(column, pa.array(known, pa.string())), pa.scalar(len(known), pa.int32()))
    return np.where(np.asarray(pc.is_null(column).to_numpy()), -1, np.asarray(found.to_numpy())).astype(np.int64)


def has_values(matrix: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(columns,): where there is a value at all: scikit-learn's boosting refuses a column that is NaN throughout."""
    return np.asarray(~np.isnan(matrix).all(axis=0), dtype=np.bool_)


@dataclass(frozen=True)
class Table:
    """Rows as a (rows, columns) float64 matrix for trees: classes as codes, missing values as NaN."""

    schema: Schema
    known: dict[str, list[str]]

    @staticmethod
    def settle(tables: Sequence[pa.Table], schema: Schema, without: Sequence[str] = ()) -> "Table":
        """`tables`: all that will be compared, so that equal codes mean equal values."""
        kept = Schema(tuple(column for column in judged(schema) if column.name not in without))
        return Table(kept, {column.name: levels(tables, column.name)[:CATEGORIES] for column in kept if is_class(column)})

    @property
    def classes(self) -> list[bool]:
        """Which columns of the matrix hold codes."""
        return [is_class(column) for column in self.schema]

    def of(self, rows: pa.Table) -> NDArray[np.float64]:
        return (
            np.stack([self._column(rows, column) for column in self.schema], axis=1)
            if len(self.schema)
            else np.empty((rows.num_rows, 0))
        )

    def _column(self, rows: pa.Table, column: Column) -> NDArray[np.float64]:
        values = rows.column(column.name)
        if not is_class(column):
            return numbers(values)
        found = codes(values, self.known[column.name]).astype(np.float64)
        return np.where(found < 0, np.nan, found)


@dataclass(frozen=True)
class Points:
    """Rows as points, (rows, width) float32: a number in units of its own spread, a class as its own axis (a change of class is as far
    as one spread), a missing number at the median and one unit along an axis of its own. Learnt columns only."""

    schema: Schema
    known: dict[str, list[str]]
    scales: dict[str, tuple[float, float]]

    @staticmethod
    def settle(tables: Sequence[pa.Table], schema: Schema) -> "Points":
        """Scales and classes are those of `tables`, the real rows; other classes lie on one further axis."""
        kept = judged(schema.learnt)
        known = {column.name: levels(tables, column.name)[:CATEGORIES] for column in kept if is_class(column)}
        scales = {column.name: _scale([table.column(column.name) for table in tables]) for column in kept if not is_class(column)}
        return Points(kept, known, scales)

    def of(self, rows: pa.Table) -> NDArray[np.float32]:
        blocks = [self._block(rows.column(column.name), column) for column in self.schema]
        return np.concatenate([np.empty((rows.num_rows, 0), np.float32), *blocks], axis=1)

    def _block(self, values: pa.ChunkedArray, column: Column) -> NDArray[np.float32]:
        if is_class(column):
            known = self.known[column.name]
            found = codes(values, known)
            block = np.zeros((len(found), len(known) + 2), np.float32)
            block[np.arange(len(found)), np.where(found < 0, len(known) + 1, found)] = np.sqrt(0.5)
            return block
        middle, spread = self.scales[column.name]
        found = np.clip(numbers(values), -BOUND, BOUND)
        scaled = (np.where(np.isnan(found), middle, found) - middle) / spread
        beyond = np.maximum(np.abs(scaled) - _FAR, 0)
        scaled = np.sign(scaled) * (np.minimum(np.abs(scaled), _FAR) + np.log1p(beyond))
        return np.stack([scaled, np.isnan(found)], axis=1).astype(np.float32)


def _scale(columns: Sequence[Any]) -> tuple[float, float]:
    """Median, and a spread: that of the middle half where it has one (as of a normal law), else the standard deviation, else 1."""
    found = np.concatenate([np.empty(0), *(numbers(column) for column in columns)])
    found = np.clip(found[~np.isnan(found)], -BOUND, BOUND)
    if not len(found):
        return 0.0, 1.0
    low, middle, high = np.quantile(found, [0.25, 0.5, 0.75])
    spread = float((high - low) / 1.349) or float(found.std()) or 1.0
    return float(middle), max(spread, 1 / BOUND)
