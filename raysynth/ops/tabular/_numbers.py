"""Numeric and temporal columns as float64 and back into their own type: integers stay whole, decimals keep their places."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.schema import Column

NUMERIC = ("integer", "number", "date", "time", "datetime", "duration")


def is_numeric(column: Column) -> bool:
    return column.kind in NUMERIC and not pa.types.is_boolean(column.type) and not pa.types.is_string(column.type)


def numbers(values: pa.ChunkedArray | pa.Array) -> NDArray[np.float64]:
    """(rows,) float64; NaN where null. Temporal values count in their own unit."""
    type_ = values.type
    if pa.types.is_temporal(type_):
        values = values.cast(pa.int32() if type_.bit_width == 32 else pa.int64())
    filled: Any = pc.fill_null(values.cast(pa.float64(), safe=False), pa.scalar(float("nan")))
    return np.asarray(filled.to_numpy(), dtype=np.float64)


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
