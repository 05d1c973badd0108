"""The recipe's `where` → checked conditions on columns (values, sets, ranges, how a text begins), and which rows of a table satisfy them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from difflib import get_close_matches
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.errors import RecipeError
from raysynth.schema import Column, Schema


@dataclass(frozen=True)
class Values:
    """One of these (Arrow scalars cast to the column's type), or null where `null` is set. `asked`: each as it was written, for messages."""

    values: pa.Array
    null: bool = False
    asked: tuple[Any, ...] = ()

    def holds(self, column: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        if not len(self.values):  # null alone: Arrow looks for no value among nested ones
            return np.asarray(pc.is_null(column).to_numpy(zero_copy_only=False), dtype=np.bool_) & self.null
        inside = pc.is_in(column, value_set=self.values, skip_nulls=True)
        if self.null:
            inside = pc.or_(inside, pc.is_null(column))
        return np.asarray(inside.to_numpy(zero_copy_only=False), dtype=np.bool_)


@dataclass(frozen=True)
class Range:
    """From `minimum` to `maximum` (scalars of the column's type, or None for open); `over` and `under` exclude the bound itself."""

    minimum: pa.Scalar | None = None
    maximum: pa.Scalar | None = None
    over: bool = False
    under: bool = False

    def holds(self, column: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        inside = pc.is_valid(column)
        if self.minimum is not None:
            inside = pc.and_(inside, (pc.greater if self.over else pc.greater_equal)(column, self.minimum))
        if self.maximum is not None:
            inside = pc.and_(inside, (pc.less if self.under else pc.less_equal)(column, self.maximum))
        filled = pc.fill_null(inside, False)  # pyright: ignore[reportArgumentType] (the stub forgets scalars)
        return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.bool_)


@dataclass(frozen=True)
class Starts:
    """A text that begins with these words; null does not."""

    text: str

    def holds(self, column: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        filled = pc.fill_null(pc.starts_with(column, self.text), False)  # pyright: ignore[reportArgumentType] (the stub forgets scalars)
        return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.bool_)


@dataclass(frozen=True)
class Shares(Values):
    """One of these values, and each in its share of the rows. `shares`: of the values, then of null where it is one of them, in any unit.
    `named`: equal or as_is, where values and shares are still to be taken from the model (cases.py); all rows hold until then."""

    shares: tuple[float, ...] = ()
    named: str = ""

    def holds(self, column: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        return np.ones(len(column), np.bool_) if self.named else super().holds(column)


Condition = Values | Range | Starts
Where = Mapping[str, Condition]

NAMED_SHARES = ("equal", "as_is")
NO_SHARES = "shares takes equal, as_is, or each value with its share, such as {low: 3, high: 1}, and nothing beside it"
_BOUNDS = {"min", "max", "over", "under"}


def parse_where(raw: Mapping[str, Any], schema: Schema) -> dict[str, Condition]:
    """`{carrier: [UA, AA], distance: {min: 100, under: 900}, tailnum: null}` → conditions. RecipeError names the key and value.

    A scalar is one value, a list a set, a mapping a range with min or over (exclusive) and max or under (exclusive); of a text,
    `{starts: …}` says how it begins. `{shares: {UA: 2, AA: 1}}` is a set of which each value has its share of the rows.
    """
    return {name: _condition(name, value, _column(name, schema)) for name, value in raw.items()}


def satisfied(where: Where, rows: pa.Table) -> NDArray[np.bool_]:
    """(rows,) True where every condition holds."""
    inside = np.ones(rows.num_rows, dtype=np.bool_)
    for name, condition in where.items():
        inside &= condition.holds(rows.column(name))
    return inside


def _column(name: str, schema: Schema) -> Column:
    if name in schema:
        return schema[name]
    near = get_close_matches(name, schema.names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise RecipeError(f"where.{name}: no such column.{hint} Columns: {', '.join(schema.names)}")


def _condition(name: str, value: Any, column: Column) -> Condition:
    if column.kind == "turns" and value not in (None, [None]):
        raise RecipeError(f"where.{name}: of conversations only those that are missing can be asked for, by null (got {value!r})")
    if column.kind == "image" and value not in (None, [None]):
        raise RecipeError(
            f"where.{name}: of images only those that are missing can be asked for, by null. Ask by the other columns"
        )
    if isinstance(value, Mapping) and "starts" in value:
        return _starts(name, cast("Mapping[str, Any]", value), column)
    if isinstance(value, Mapping) and "shares" in value:
        return _shares(name, cast("Mapping[str, Any]", value), column)
    if isinstance(value, Mapping):
        return _range(name, cast("Mapping[str, Any]", value), column)
    values = cast("list[Any]", value) if isinstance(value, list | tuple | set | frozenset) else [value]
    if not values:
        raise RecipeError(f"where.{name}: an empty set can never be met. Give at least one value")
    asked = tuple(item for item in values if item is not None)
    known = pa.array([_scalar(name, item, column).as_py() for item in asked], column.type)
    return Values(known, null=len(asked) < len(values), asked=asked)


def _starts(name: str, asked: Mapping[str, Any], column: Column) -> Starts:
    text = asked["starts"]
    if set(asked) != {"starts"} or not isinstance(text, str) or not text:
        raise RecipeError(f"where.{name}: starts takes one text that is not empty, and nothing beside it (got {dict(asked)})")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise RecipeError(
            f"where.{name}: starts holds half a surrogate pair, which no text can. Write the whole character (got {text!r})"
        )
    if column.kind != "text":
        raise RecipeError(f"where.{name}: starts needs a column of kind text, and this column is of kind {column.kind}")
    return Starts(text)


def _shares(name: str, asked: Mapping[str, Any], column: Column) -> Shares:
    dealt = asked["shares"]
    if set(asked) != {"shares"} or not is_shares(dealt):
        raise RecipeError(f"where.{name}: {NO_SHARES} (got {dict(asked)})")
    nothing = pa.array([], column.type)
    if isinstance(dealt, str):
        return Shares(nothing, named=dealt)
    known = pa.array([_scalar(name, value, column).as_py() for value in dealt], column.type)
    if len(known.unique()) < len(known):
        raise RecipeError(f"where.{name}: two of the values with shares are one (got {list(dealt)})")
    return Shares(known, asked=tuple(dealt), shares=tuple(float(share) for share in dealt.values()))


def is_shares(dealt: Any) -> bool:
    """Whether it may stand behind `shares`, in any column."""
    if not isinstance(dealt, Mapping):
        return dealt in NAMED_SHARES
    shares = list(cast("Mapping[Any, Any]", dealt).values())
    most = sys.float_info.max
    numbers = all(isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= most for share in shares)
    return numbers and 0 < sum(map(float, shares)) <= most and None not in dealt


def _range(name: str, bounds: Mapping[str, Any], column: Column) -> Range:
    unknown = sorted(set(bounds) - _BOUNDS)
    if unknown or not bounds or {"min", "over"} <= set(bounds) or {"max", "under"} <= set(bounds):
        raise RecipeError(f"where.{name}: a range takes min or over, and max or under (got {dict(bounds)})")
    if column.kind in ("category", "text", "boolean", "id", "json") and not pa.types.is_integer(column.type):
        raise RecipeError(f"where.{name}: a range needs numbers, dates or times, and this column is of kind {column.kind}")
    low = bounds.get("min", bounds.get("over"))
    high = bounds.get("max", bounds.get("under"))
    minimum = None if low is None else _scalar(name, low, column)
    maximum = None if high is None else _scalar(name, high, column)
    if minimum is not None and maximum is not None and pc.greater(minimum, maximum).as_py():
        raise RecipeError(f"where.{name}: the range from {low} to {high} is empty")
    return Range(minimum, maximum, "over" in bounds, "under" in bounds)


def _scalar(name: str, value: Any, column: Column) -> pa.Scalar:
    """The value in the column's type, with nothing lost: 3.5 is no integer, 5 is no date."""
    type = column.type
    try:
        if isinstance(value, bool) != pa.types.is_boolean(type) and not isinstance(value, str):
            raise pa.ArrowInvalid("a truth value and a number are not the same")
        if isinstance(value, str):
            known = _of_text(value, type)
            known.as_py()  # an OverflowError where Python has no such moment: in a zone in the east the year 1 began in the year 0
            return known
        if pa.types.is_integer(type) and value != int(value):
            raise pa.ArrowInvalid("give a whole number")
        if pa.types.is_temporal(type) and not pa.types.is_duration(type):
            raise pa.ArrowInvalid("give ISO text, such as 2024-01-31 or 2024-01-31T12:30:00")
        if pa.types.is_decimal(type):
            return pa.scalar(str(value)).cast(type)
        return pa.scalar(value, type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError, OverflowError) as error:
        raise RecipeError(f"where.{name}: {value!r} is no value of type {type} ({error})") from None


def _of_text(text: str, type: pa.DataType) -> pa.Scalar:
    """A time without a zone is meant in the column's own."""
    if pa.types.is_string(type):
        return pa.scalar(text, type)
    if pa.types.is_time(type):
        return pa.scalar(time.fromisoformat(text), type)
    if pa.types.is_timestamp(type):
        moment = datetime.fromisoformat(text)
        zone = cast("pa.TimestampType", type).tz
        if zone and moment.tzinfo is None:
            return pc.assume_timezone(pa.scalar(moment, pa.timestamp("us")), zone).cast(type)
        if not zone and moment.tzinfo is not None:
            raise ValueError("this column has no time zone")
        return pa.scalar(moment, type)
    return pa.scalar(text).cast(type)
