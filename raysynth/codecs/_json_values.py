"""Arrow values ↔ the JSON values that stand for them: numbers, truth values and turns as they are, dates, times and decimals as text."""

from datetime import datetime, time
from math import isfinite
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute

from raysynth.turns import tidy

pc = cast("Any", pyarrow.compute)  # the stubs of its functions refuse most unions of types


def to_json(column: pa.Array) -> list[Any]:
    """None for a null, and for a number that JSON has not (NaN, infinity)."""
    type_ = column.type
    if pa.types.is_floating(type_):
        finite = pc.is_finite(column.cast(pa.float64()))
        return pc.if_else(finite, column.cast(pa.float64()), None).to_pylist()
    if pa.types.is_duration(type_):
        return column.cast(pa.int64()).to_pylist()
    if pa.types.is_temporal(type_) or pa.types.is_decimal(type_):
        return column.cast(pa.string()).to_pylist()
    return column.to_pylist()


def from_json(values: list[Any], type_: pa.DataType) -> pa.Array:
    """What `to_json` gave → the column."""
    if pa.types.is_duration(type_):
        return pa.array(values, pa.int64()).cast(type_)
    if pa.types.is_time(type_):  # Arrow reads none from text
        return pa.array([None if value is None else time.fromisoformat(value) for value in values], type_)
    if pa.types.is_temporal(type_) or pa.types.is_decimal(type_):
        return pa.array(values, pa.string()).cast(type_)
    if pa.types.is_float16(type_):
        return pa.array(values, pa.float64()).cast(type_)
    return pa.array(values, type_)


def value_of(value: Any, type_: pa.DataType) -> pa.Scalar:
    """One JSON value as others write it (2024-01-31T12:30:00 without the column's zone, 5.0 for 5) → the scalar. ValueError says why it is
    none of this type; nothing is rounded."""
    try:
        return _value_of(value, type_)
    except (pa.ArrowException, TypeError, OverflowError, UnicodeError) as error:
        raise ValueError(str(error).split("\n")[0]) from None


def is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)


def json_of(scalar: pa.Scalar | None) -> Any:
    """One value, as `to_json` has it."""
    return None if scalar is None else to_json(pa.array([scalar], scalar.type))[0]


def order_of(scalar: pa.Scalar) -> Any:
    """What values of one type are compared by: a number; of a text its characters, of a conversation its turns."""
    if pa.types.is_temporal(scalar.type):
        return scalar.cast(pa.int32() if scalar.type.bit_width == 32 else pa.int64()).as_py()
    found: Any = scalar.as_py()
    return len(found) if isinstance(found, str | list) else found


def _value_of(value: Any, type_: pa.DataType) -> pa.Scalar:
    if pa.types.is_list(type_):
        return pa.scalar([_turn(turn) for turn in _listed(value)], type_)
    wants_text = is_text(type_) or _is_moment(type_)
    if wants_text != isinstance(value, str) and not pa.types.is_decimal(type_):
        raise ValueError(f"must be {'text' if wants_text else 'no text'}")
    if isinstance(value, bool) != pa.types.is_boolean(type_) or isinstance(value, list | dict):
        raise ValueError(f"is no {type_}")
    if pa.types.is_integer(type_) or pa.types.is_duration(type_):
        if value != int(value):
            raise ValueError("must be a whole number")
        whole = pa.scalar(int(value), type_ if pa.types.is_integer(type_) else pa.int64())
        return whole if pa.types.is_integer(type_) else whole.cast(type_)
    if pa.types.is_decimal(type_):
        return pa.scalar(str(value)).cast(type_)
    if pa.types.is_floating(type_):
        if not isfinite(value):
            raise ValueError("must be finite")
        return pa.scalar(float(value), pa.float64()).cast(type_)
    return _moment(value, type_) if _is_moment(type_) else pa.scalar(value, type_)


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("must be a list")
    return cast("list[Any]", value)


def _turn(turn: Any) -> dict[str, str]:
    """As those of a source are, once they are read."""
    found = cast("dict[str, Any]", turn) if isinstance(turn, dict) else {}
    if set(found) != {"role", "content"} or not all(isinstance(text, str) for text in found.values()):
        raise ValueError("a turn must be {role: text, content: text}")
    turn = {name: tidy(text) for name, text in found.items()}
    if not turn["role"]:
        raise ValueError("a turn's role must not be empty")
    return turn


def _is_moment(type_: pa.DataType) -> bool:
    return pa.types.is_temporal(type_) and not pa.types.is_duration(type_)


def _moment(text: str, type_: pa.DataType) -> pa.Scalar:
    """A time without a zone is meant in the column's own."""
    if pa.types.is_time(type_):
        return pa.scalar(time.fromisoformat(text), type_)
    if pa.types.is_date(type_):
        return pa.scalar(text).cast(type_)
    moment, zone = datetime.fromisoformat(text), cast("pa.TimestampType", type_).tz
    if zone and moment.tzinfo is None:
        return pc.assume_timezone(pa.scalar(moment, pa.timestamp("us")), zone).cast(type_)
    return pa.scalar(text).cast(type_)
