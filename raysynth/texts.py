"""Values of a column ↔ their texts: what JSON, NDJSON and CSV write, for every type that raysynth keeps; nothing is lost.

- A date, time or moment is ISO 8601 (a moment of a zone with its offset) with all digits of its unit; outside of the years 0 to 9999,
  where ISO 8601 has no common form, it is its number of units since 1970.
- A duration is a whole number of its unit, a decimal is text, a float the shortest text that gives it back, or NaN, Infinity, -Infinity.
- Turns are JSON: [{"role": …, "content": …}, …].
- An image is JSON: {"bytes": its file in base64 (RFC 4648, section 4), "path": where it came from, or null}.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute

from raysynth.errors import DataError
from raysynth.image_headers import described
from raysynth.schema import IMAGE, TURNS
from raysynth.turns import as_json, of_json

pc = cast("Any", pyarrow.compute)  # the stubs of its functions refuse plain values and most unions of types

_MOMENT_SECONDS = (-62_167_132_800, 253_402_214_399)  # the years 0 to 9999, less a day at both ends for offsets
_DATE_DAYS = (-719_528, 2_932_896)
_PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}


def is_text(type: pa.DataType) -> bool:
    return pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type)


def texts(column: pa.Array) -> pa.Array:
    """(rows,) values → strings, null where they are."""
    type = column.type
    if type == TURNS:
        return as_json(column)
    if type == IMAGE:
        return _image_texts(column)
    if pa.types.is_timestamp(type):
        return _moment_texts(column)
    if pa.types.is_date(type):
        return _in_reach(column, column.cast(pa.date32()).cast(pa.int32()), _DATE_DAYS, _plain_texts)
    if pa.types.is_floating(type):
        return _float_texts(column)
    if pa.types.is_duration(type):
        return column.cast(pa.int64()).cast(pa.string())
    simple = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_decimal, pa.types.is_time, pa.types.is_null, is_text)
    if not any(test(type) for test in simple):
        raise DataError(f"type {type}: it has no text. Ask for Arrow or Parquet, or leave the column out")
    return column.cast(pa.string())


def is_nested(type: pa.DataType) -> bool:
    """Whether its text is JSON that holds more than one value: turns, and images."""
    return type in (TURNS, IMAGE)


def images_of(cells: list[dict[str, str | None] | None]) -> pa.Array:
    """(rows,) objects as `texts` writes them, parsed → (rows,) of type IMAGE. ValueError where one is no such object."""
    found: list[dict[str, Any] | None] = []
    for cell in cells:
        if cell is None:
            found.append(None)
            continue
        if set(cell) != {"bytes", "path"}:
            raise ValueError("an image is written as bytes and path")
        data = cell["bytes"]
        found.append({"bytes": None if data is None else b64decode(data, validate=True), "path": cell["path"]})
    return pa.array(found, IMAGE)


def described_images(rows: pa.Table) -> pa.Table:
    """With a few words in place of each picture: what people are shown where there is no room for it."""
    for place, field in enumerate(rows.schema):
        if field.type == IMAGE:
            cells = rows.column(place).to_pylist()
            told = [None if cell is None or cell["bytes"] is None else described(cell["bytes"]) for cell in cells]
            rows = rows.set_column(place, field.name, pa.array(told, pa.string()))
    return rows


def _image_texts(column: pa.Array) -> pa.Array:
    return pa.array([None if cell is None else _image_text(cell) for cell in column.to_pylist()], pa.string())


def _image_text(cell: dict[str, Any]) -> str:
    data = "null" if cell["bytes"] is None else f'"{b64encode(cell["bytes"]).decode()}"'
    return f'{{"bytes": {data}, "path": {json.dumps(cell["path"], ensure_ascii=False)}}}'


def _float_texts(column: pa.Array) -> pa.Array:
    """Arrow writes the shortest text; of a half float that of the single that it equals."""
    wide = column.cast(pa.float32()) if pa.types.is_float16(column.type) else column
    text = wide.cast(pa.string())
    if pc.all(pc.is_finite(wide)).as_py() is not False:
        return text
    infinite = pc.if_else(pc.greater(wide, 0), "Infinity", "-Infinity")
    return pc.if_else(pc.is_finite(wide), text, pc.if_else(pc.is_nan(wide), "NaN", infinite))


def _moment_texts(column: pa.Array) -> pa.Array:
    type = cast("pa.TimestampType", column.type)
    per_second = _PER_SECOND[type.unit]
    reach = (_MOMENT_SECONDS[0] * per_second, _MOMENT_SECONDS[1] * per_second)
    return _in_reach(column, column.cast(pa.int64()), reach, _zoned_texts if type.tz else _plain_texts)


def _plain_texts(column: pa.Array) -> pa.Array:
    return pc.replace_substring(column.cast(pa.string()), " ", "T")


def _zoned_texts(column: pa.Array) -> pa.Array:
    """Local time and offset. An offset has no seconds in ISO 8601, and before standard time (Berlin: +00:53:28) zones had: there the
    clock of the whole minutes is told, which names the same moment."""
    unit = column.type.unit
    moment = np.asarray(pc.fill_null(column.cast(pa.int64()), 0))
    local = np.asarray(pc.fill_null(pc.local_timestamp(column).cast(pa.int64()), 0))
    minute = 60 * _PER_SECOND[unit]
    offsets, nth = np.unique((local - moment) // minute, return_inverse=True)
    ends = [f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}" for offset in offsets.tolist()]
    clock = pa.array(moment + offsets[nth] * minute, mask=np.asarray(column.is_null())).cast(pa.timestamp(unit))
    return pc.binary_join_element_wise(_plain_texts(clock), pc.take(pa.array(ends, pa.string()), nth), "")


def _in_reach(column: pa.Array, numbers: pa.Array, reach: tuple[int, int], iso: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """`iso` of what lies in the reach of ISO 8601, the number of units of what does not."""
    ends = pc.min_max(numbers).as_py()
    if ends["min"] is None or reach[0] <= ends["min"] <= ends["max"] <= reach[1]:
        return iso(column)
    inside = pc.and_(pc.greater_equal(numbers, reach[0]), pc.less_equal(numbers, reach[1]))
    units = column.cast(numbers.type if pa.types.is_date32(column.type) else pa.int64()).cast(pa.string())
    return pc.if_else(inside, iso(pc.if_else(inside, column, pa.scalar(None, column.type))), units)


def values(text: pa.Array, type: pa.DataType) -> pa.Array:
    """(rows,) strings → values; the reverse of `texts`."""
    if type == TURNS:
        return of_json(text)
    if type == IMAGE:
        return images_of([None if cell is None else json.loads(cell) for cell in text.to_pylist()])
    if pa.types.is_time(type):
        moments = pc.binary_join_element_wise("1970-01-01T", text, "").cast(pa.timestamp(cast("pa.Time64Type", type).unit))
        return moments.cast(pa.int64()).cast(pa.int32() if pa.types.is_time32(type) else pa.int64()).cast(type)
    if pa.types.is_duration(type):
        return text.cast(pa.int64()).cast(type)
    if pa.types.is_null(type):
        return pa.array([None] * len(text), type)
    if pa.types.is_timestamp(type) or pa.types.is_date(type):
        bare = pc.match_substring_regex(text, r"\A-?[0-9]+\z")
        if pc.any(bare).as_py():
            none = pa.scalar(None, pa.string())
            units = pc.if_else(bare, text, none).cast(pa.int32() if pa.types.is_date32(type) else pa.int64()).cast(type)
            return pc.if_else(bare, units, pc.if_else(bare, none, text).cast(type))
    return text.cast(type)
