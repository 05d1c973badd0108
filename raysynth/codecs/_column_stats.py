"""Rows of a table → what a tabular codec must know of each column: exact counts up to a bound, and a sample of rows; both merge."""

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.codecs._numbers import decimals_of, is_float, is_number, specials_of, to_numbers
from raysynth.errors import DataError
from raysynth.layout import Array
from raysynth.schema import Column

MAX_COUNTED = 131_072  # distinct values counted exactly; above it the sample of the rows stands for the column
MAX_SAMPLE_ROWS = 100_000


@dataclass(frozen=True)
class ColumnStats:
    """`values` (numpy for numbers, else Arrow) with their `counts`, both None once there are more than MAX_COUNTED of them."""

    specials: NDArray[np.int64]
    values: Any
    counts: NDArray[np.int64] | None
    step: int
    """Integers: the greatest common divisor; floats: the decimals."""

    def merge(self, other: "ColumnStats") -> "ColumnStats":
        step = max(self.step, other.step) if _is_floats(self.values, other.values) else math.gcd(self.step, other.step)
        specials = self.specials + other.specials
        if self.counts is None or other.counts is None:
            return ColumnStats(specials, _kind_of(self.values), None, step)
        values, counts = _merge_counts(self, other)
        if len(values) > MAX_COUNTED:
            return ColumnStats(specials, _kind_of(values), None, step)
        return ColumnStats(specials, values, counts, step)


def _is_floats(*values: Any) -> bool:
    return any(isinstance(value, np.ndarray) and value.dtype.kind == "f" for value in values)


def _kind_of(values: Any) -> Any:
    return values[:0]


def _merge_counts(one: ColumnStats, two: ColumnStats) -> tuple[Any, NDArray[np.int64]]:
    counts = np.concatenate([cast(Array, one.counts), cast(Array, two.counts)])
    if isinstance(one.values, np.ndarray):
        values, place = np.unique(np.concatenate([one.values, two.values]), return_inverse=True)
        return values, np.bincount(place, weights=counts, minlength=len(values)).astype(np.int64)
    return _count_words(pa.concat_arrays([one.values, two.values]), counts)


def _count_words(words: pa.Array, counts: NDArray[np.int64]) -> tuple[pa.Array, NDArray[np.int64]]:
    table = (
        pa.Table.from_arrays([words, pa.array(counts)], ["value", "count"])
        .group_by("value")
        .aggregate([("count", "sum")])
        .sort_by("value")
    )
    return whole(table["value"]), np.asarray(table["count_sum"].to_numpy(), dtype=np.int64)


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def observe_column(column: pa.Array) -> ColumnStats:
    if not is_number(column.type):
        known = column.drop_null()
        values, counts = _count_words(known, np.ones(len(known), dtype=np.int64))
        stats = ColumnStats(np.array([column.null_count, 0, 0, 0], dtype=np.int64), values, counts, 0)
    else:
        numbers, nulls = to_numbers(column)
        special = specials_of(numbers, nulls)
        values, counts = np.unique(numbers[special < 0], return_counts=True)
        step = decimals_of(values, column.type) if is_float(column.type) else _divisor(values)
        specials = np.bincount(special[special >= 0], minlength=4).astype(np.int64)
        stats = ColumnStats(specials, values + values.dtype.type(0), counts.astype(np.int64), step)
    if len(stats.values) > MAX_COUNTED:
        return replace(stats, values=_kind_of(stats.values), counts=None)
    return stats


def _divisor(values: Array) -> int:
    return int(np.gcd.reduce(np.abs(values).view(np.uint64))) if len(values) else 0


@dataclass(frozen=True)
class TableStats:
    """Of each column its counts, and the MAX_SAMPLE_ROWS rows whose row ids hash lowest."""

    columns: tuple[ColumnStats, ...]
    words: NDArray[np.uint64]
    sample: pa.Table

    def merge(self, other: "TableStats") -> "TableStats":
        columns = tuple(one.merge(two) for one, two in zip(self.columns, other.columns, strict=True))
        words = np.concatenate([self.words, other.words])
        sample = pa.concat_tables([self.sample, other.sample])
        return TableStats(columns, *lowest(words, sample))


def column_of(rows: pa.Table, column: Column) -> pa.Array:
    """The rows' own. DataError where it is missing, or of another type than the schema says."""
    if rows.schema.get_field_index(column.name) < 0:
        raise DataError(f"column '{column.name}': missing from the rows. They have: {', '.join(rows.column_names)}")
    found = rows.column(column.name)
    if found.type != column.type:
        raise DataError(f"column '{column.name}': of type {found.type} here, and of type {column.type} in the schema")
    return whole(found)


def lowest(words: NDArray[np.uint64], rows: pa.Table) -> tuple[NDArray[np.uint64], pa.Table]:
    order = np.argsort(words, kind="stable")[:MAX_SAMPLE_ROWS]
    return words[order], rows.take(order)
