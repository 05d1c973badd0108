"""Arrow columns ↔ numbers: numbers, booleans, dates and times are int64 or float64 inside; everything else is compared as Arrow values."""

from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.layout import Array

Mask = NDArray[np.bool_]

SPECIALS = ("null", "nan", "-inf", "inf")
MAX_DECIMALS = 9  # a float column with more has no precision to keep
SIGN = np.uint64(1 << 63)


def is_number(type_: pa.DataType) -> bool:
    """True where the column is an int64 or a float64 inside; False where Arrow values are compared."""
    kinds = pa.types
    return not (
        kinds.is_string(type_) or kinds.is_large_string(type_) or kinds.is_binary(type_) or kinds.is_large_binary(type_)
        or kinds.is_fixed_size_binary(type_) or kinds.is_string_view(type_) or kinds.is_binary_view(type_)
    )  # fmt: skip


def is_exact_decimal(type_: pa.DataType) -> bool:
    return pa.types.is_decimal128(type_) and type_.precision <= 18


def is_float(type_: pa.DataType) -> bool:
    """True where numbers are float64 inside (wide decimals too: their digits beyond the 16th are not learnt)."""
    return pa.types.is_floating(type_) or (pa.types.is_decimal(type_) and not is_exact_decimal(type_))


def to_numbers(column: pa.Array) -> tuple[Array, Mask]:
    """(rows,) int64 or float64 (0 where null), and the nulls."""
    type_ = column.type
    nulls = np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
    if pa.types.is_null(type_):
        return np.zeros(len(column), dtype=np.int64), nulls
    if is_exact_decimal(type_):
        pairs = np.frombuffer(cast(Any, column.buffers()[1] or b""), dtype=np.int64).reshape(-1, 2)
        return np.where(nulls, 0, pairs[column.offset : column.offset + len(column), 0]), nulls
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        values = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
        return np.asarray(values, dtype=np.float64), nulls
    if pa.types.is_uint64(type_):
        words = np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False), dtype=np.uint64)
        return np.where(nulls, 0, (words ^ SIGN).view(np.int64)), nulls
    if pa.types.is_date32(type_) or pa.types.is_time32(type_):
        column = column.view(pa.int32())
    elif not (pa.types.is_integer(type_) or pa.types.is_boolean(type_)):
        column = column.view(pa.int64())
    return np.asarray(column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64), nulls


def from_numbers(values: Array, nulls: Mask, type_: pa.DataType) -> pa.Array:
    """The inverse of to_numbers; values outside the type's range are clipped to it."""
    mask = nulls if nulls.any() else None
    if pa.types.is_null(type_):
        return pa.nulls(len(values))
    if pa.types.is_boolean(type_):
        return pa.array(values.astype(np.bool_), mask=mask)
    if is_exact_decimal(type_):
        pairs = np.stack([values, values >> 63], axis=1)
        valid = None if mask is None else pa.array(~mask).buffers()[1]
        return pa.Array.from_buffers(type_, len(values), [valid, pa.py_buffer(pairs.tobytes())])
    if pa.types.is_floating(type_):
        with np.errstate(over="ignore"):
            return pa.array(values.astype(type_.to_pandas_dtype()), mask=mask)
    if pa.types.is_decimal(type_):
        return pa.array(values, mask=mask).cast(type_)
    if pa.types.is_uint64(type_):
        return pa.array(values.view(np.uint64) ^ SIGN, mask=mask)
    if pa.types.is_integer(type_):
        limits = np.iinfo(cast(Any, type_.to_pandas_dtype()))
        return pa.array(np.clip(values, limits.min, limits.max).astype(limits.dtype), mask=mask)
    if pa.types.is_date32(type_) or pa.types.is_time32(type_):
        return pa.array(values.astype(np.int32), mask=mask).view(type_)
    return pa.array(values, mask=mask).view(type_)


def specials_of(values: Array, nulls: Mask) -> NDArray[np.int8]:
    """(rows,) index in SPECIALS, or -1 for an ordinary value."""
    special = np.where(nulls, 0, -1).astype(np.int8)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        special[np.isnan(values) & ~nulls] = 1
        special[np.isneginf(values)] = 2
        special[np.isposinf(values)] = 3
    return special


def decimals_of(values: Array, type_: pa.DataType) -> int:
    """The fewest decimals that write all the values; MAX_DECIMALS where there are more."""
    narrow: Any = type_.to_pandas_dtype() if pa.types.is_floating(type_) else np.float64
    with np.errstate(all="ignore"):
        for decimals in range(MAX_DECIMALS):
            if np.array_equal(np.round(values, decimals).astype(narrow), values.astype(narrow)):
                return decimals
    return MAX_DECIMALS
