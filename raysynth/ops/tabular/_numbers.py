"""Numeric and temporal columns as float64 and back into their own type: integers stay whole, decimals keep their places."""

from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.schema import Column

Ends: TypeAlias = tuple[int | float | Decimal, int | float | Decimal]
"""The least and the greatest value, exact: an int of the column's own unit for whole and temporal columns."""

NUMERIC = ("integer", "number", "date", "time", "datetime", "duration")


def is_numeric(column: Column) -> bool:
    return column.kind in NUMERIC and not pa.types.is_boolean(column.type) and not pa.types.is_string(column.type)


def numbers(values: pa.ChunkedArray | pa.Array) -> NDArray[np.float64]:
    """(rows,) float64; NaN where null. Temporal values count in their own unit."""
    filled: Any = pc.fill_null(_plain(values).cast(pa.float64(), safe=False), pa.scalar(float("nan")))
    return np.asarray(filled.to_numpy(), dtype=np.float64)


def ends_of(values: pa.ChunkedArray | pa.Array) -> Ends | None:
    """Of the finite values; None where there are none."""
    plain = _plain(values)
    if pa.types.is_floating(plain.type):
        wide = plain.cast(pa.float64())
        plain = pc.drop_null(pc.if_else(pc.is_finite(wide), wide, pa.scalar(None, pa.float64())))
    found: Any = pc.min_max(plain).as_py()
    return None if found["min"] is None else (found["min"], found["max"])


def joined(one: Ends | None, other: Ends | None) -> Ends | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one[0], other[0]), max(one[1], other[1])


def within(values: pa.Array, ends: Ends) -> pa.Array:
    """Cut off at the exact ends, which float64 may have rounded outwards: integers from 2**53 on, long decimals."""
    if pa.types.is_floating(values.type):
        return values
    plain: Any = _plain(values)
    for end, beyond in zip(ends, (pc.less, pc.greater), strict=True):
        bound = pa.scalar(end, plain.type)
        plain = pc.if_else(beyond(plain, bound), bound, plain)
    return plain.cast(values.type)


def _plain(values: Any) -> Any:
    """Temporal values as the whole numbers that they are; others as they are."""
    if not pa.types.is_temporal(values.type):
        return values
    return values.cast(pa.int32() if values.type.bit_width == 32 else pa.int64())


def as_type(found: NDArray[np.float64], type_: pa.DataType) -> pa.Array:
    """Numbers, NaN for null → values of the column's type, rounded where it is whole or has places."""
    gone = np.isnan(found)
    if pa.types.is_floating(type_):
        return pa.array(found, pa.float64(), mask=gone).cast(type_, safe=False)
    if pa.types.is_decimal(type_):
        return pa.array(np.round(found, type_.scale), pa.float64(), mask=gone).cast(type_, safe=False)
    wide = pa.types.is_temporal(type_) and type_.bit_width == 32
    held = np.int32 if wide else np.uint64 if pa.types.is_uint64(type_) else np.int64
    kind: Any = type_.to_pandas_dtype() if pa.types.is_integer(type_) else held
    ends = np.iinfo(kind)
    least, greatest = np.float64(ends.min), np.nextafter(np.float64(ends.max), 0)  # float64 has no 2**63 - 1
    whole = pa.array(np.clip(np.round(np.where(gone, 0, found)), least, greatest).astype(held), mask=gone)
    return whole.cast(type_)
