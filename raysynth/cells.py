"""Raw cells → tidy text, null tokens, typed values and 64-bit hashes; one vectorised parser for each kind of column."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from raysynth.draws import Words, mix

pc = cast("Any", pyarrow.compute)  # the stubs of its functions refuse plain values and most unions of types

NULL_TOKENS: tuple[str, ...] = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None", "\\N", "?")

INTEGER = r"^-?(0|[1-9][0-9]{0,17})$"  # no leading zeros: 02139 is a code, not a number
NUMBER = r"^-?((0|[1-9][0-9]{0,15})(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?$"
BOOLEAN = r"^(true|false|True|False|TRUE|FALSE)$"  # yes/no and 0/1 stay as they are spelled
JSON = r"^(\{.*\}|\[.*\])$"
_ANY_INTEGER = r"^[-+]?[0-9]{1,18}(\.0*)?$"  # where the recipe says integer, 007 and 5.0 are welcome
_ANY_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?$"
_TRUE = ("true", "t", "yes", "y", "1", "1.0")
_FALSE = ("false", "f", "no", "n", "0", "0.0")

_Y, _M, _D = r"(?P<y>[0-9]{4})", r"(?P<m>[0-9]{1,2})", r"(?P<d>[0-9]{1,2})"
ORDERS: dict[str, str] = {
    "Y-M-D": f"{_Y}-{_M}-{_D}",
    "Y/M/D": f"{_Y}/{_M}/{_D}",
    "D/M/Y": f"{_D}/{_M}/{_Y}",
    "M/D/Y": f"{_M}/{_D}/{_Y}",
    "D.M.Y": rf"{_D}\.{_M}\.{_Y}",
    "D-M-Y": f"{_D}-{_M}-{_Y}",
    "M-D-Y": f"{_M}-{_D}-{_Y}",
}
ISO = "Y-M-D"
_CLOCK = r"(?P<H>[0-9]{1,2}):(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]{1,9}))?)?(?: ?(?P<p>[AaPp][Mm]))?"
_ZONE = r"(?: ?(?P<z>Z|UTC|GMT|[-+][0-9]{2}(?::?[0-9]{2})?))?"
_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Moments:
    """Parsed dates and times: microseconds (of the day, or since 1970 in UTC), which parsed, which said a zone. All (cells,)."""

    microseconds: NDArray[np.int64]
    parsed: NDArray[np.bool_]
    zoned: NDArray[np.bool_]
    offset_minutes: NDArray[np.int64]


def tidy(text: pa.Array, null_tokens: Sequence[str] = NULL_TOKENS) -> pa.Array:
    """Trimmed, in Unicode's NFC, null tokens made null."""
    text = pc.utf8_normalize(pc.utf8_trim_whitespace(text), form="NFC")
    nulls = pc.is_in(text, value_set=pa.array(list(null_tokens), pa.string()))
    return pc.if_else(nulls, pa.scalar(None, pa.string()), text)


def is_text(type: pa.DataType) -> bool:
    return pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type)


def flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array, dictionaries decoded, every string type made `string`, nested values made JSON."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # a column too long for one array of its type
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_dictionary(array.type):
        array = array.cast(cast("pa.DictionaryType", array.type).value_type)
    if pa.types.is_nested(array.type):
        return pa.array(
            [None if cell is None else json.dumps(cell, ensure_ascii=False, default=str) for cell in array.to_pylist()], pa.string()
        )
    return array.cast(pa.string()) if is_text(array.type) and array.type != pa.string() else array


def matches(text: pa.Array, pattern: str) -> NDArray[np.bool_]:
    """(cells,) True where the pattern is found; null is no match."""
    return truths(pc.match_substring_regex(text, pattern))


def nulls(count: int, type: pa.DataType) -> pa.Array:
    return cast("Any", pa).nulls(count, type)


def truths(array: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def moments(text: pa.Array, order: str | None, clock: bool) -> Moments:
    """Cells → dates in this order (None: no date), with a clock time if `clock`; what is no day of the calendar does not parse."""
    date = ORDERS[order] if order else ""
    time = (f"[T ]{_CLOCK}{_ZONE}" if date else _CLOCK) if clock else ""
    groups = pc.extract_regex(text, f"^{date}{time}$")
    parsed = truths(pc.is_valid(groups))
    parts = {name: _numbers(groups, name) for name in ("y", "m", "d", "H", "M", "S") if f"?P<{name}>" in date + time}
    zero = np.zeros(len(parsed), dtype=np.int64)
    seconds, microseconds, minutes, zoned = zero.copy(), zero, zero, np.zeros(len(parsed), dtype=np.bool_)
    if order:
        day = np.where(parsed, parts["d"], 1)
        month = np.clip(parts["m"], 1, 12)
        start = np.where(parsed, (parts["y"] - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
        length = ((start + 1).astype("datetime64[D]") - start.astype("datetime64[D]")).astype(np.int64)
        parsed = parsed & (parts["m"] == month) & (day >= 1) & (day <= length)
        seconds += (start.astype("datetime64[D]").astype(np.int64) + day - 1) * _DAY_SECONDS
    if clock:
        half = pc.struct_field(groups, "p")
        has_half = matches(half, ".")
        hour = np.where(has_half, parts["H"] % 12 + 12 * matches(half, "^[Pp]"), parts["H"])
        parsed = parsed & (hour < 24) & (parts["M"] < 60) & (parts["S"] < 60) & (~has_half | (parts["H"] <= 12))
        seconds += hour * 3600 + parts["M"] * 60 + parts["S"]
        fraction = pc.utf8_slice_codeunits(pc.utf8_rpad(pc.struct_field(groups, "f"), 6, "0"), 0, 6)
        microseconds = np.asarray(pc.fill_null(fraction.cast(pa.int64()), 0), dtype=np.int64)
    if clock and order:
        zone = pc.struct_field(groups, "z")
        zoned = matches(zone, ".")
        offset = pc.extract_regex(zone, "^(?P<sign>[-+])(?P<h>[0-9]{2}):?(?P<m>[0-9]{2})?$")
        size = _numbers(offset, "h") * 60 + _numbers(offset, "m")
        minutes = np.where(matches(pc.struct_field(offset, "sign"), "-"), -size, size)
        parsed = parsed & (np.abs(minutes) < 1440)
    return Moments((seconds - minutes * 60) * 1_000_000 + microseconds, parsed, zoned, minutes)


def parse(text: pa.Array, type: pa.DataType, order: str = ISO) -> pa.Array:
    """Tidy cells → values of the Arrow type, null where a cell is none. `order`: how its dates are written, one of ORDERS."""
    if is_text(type):
        return text.cast(type)
    if pa.types.is_boolean(type):
        low = pc.utf8_lower(text)
        known = pc.is_in(low, value_set=pa.array([*_TRUE, *_FALSE]))
        return pc.if_else(known, pc.is_in(low, value_set=pa.array(_TRUE)), pa.scalar(None, pa.bool_()))
    if pa.types.is_integer(type):
        whole = pc.replace_substring_regex(_where(text, matches(text, _ANY_INTEGER)), r"^\+|\.0*$", "")
        return convert(whole.cast(pa.int64()), type)
    if pa.types.is_floating(type) or pa.types.is_decimal(type):
        return convert(pc.replace_substring_regex(_where(text, matches(text, _ANY_NUMBER)), r"^\+", ""), type)
    if pa.types.is_duration(type):
        seconds = parse(text, pa.float64())
        return pc.round(pc.multiply(seconds, 1e6)).cast(pa.int64()).cast(pa.duration("us")).cast(type)
    return _parse_moment(text, type, order)


def convert(array: pa.Array, type: pa.DataType) -> pa.Array:
    """Values → values of another Arrow type, null where that would lose something or cannot be."""
    if array.type == type:
        return array
    try:
        return array.cast(type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # one bad cell refuses the whole array: find it
        coded = array.dictionary_encode()
        values = coded.dictionary
        cast_one = [_cast_or_null(values.slice(at, 1), type) for at in range(len(values))]
        return (pa.concat_arrays(cast_one) if cast_one else nulls(0, type)).take(coded.indices)


def hash_texts(text: pa.Array) -> Words:
    """Strings → one 64-bit hash each, shape (cells,): the mixed sum of a hash of every (place, byte). Nulls hash as ''."""
    text = pc.fill_null(text, "").cast(pa.large_string())
    buffers = text.buffers()
    offsets = np.frombuffer(cast("Any", buffers[1]), dtype=np.int64)[text.offset : text.offset + len(text) + 1]
    data = np.frombuffer(cast("Any", buffers[2] or b""), dtype=np.uint8)
    words = np.zeros(len(text), dtype=np.uint64)
    start = 0
    while start < len(text):  # about 4 MB of text at a time, since each byte becomes a word
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + (4 << 20), side="right")) - 1)
        words[start:stop] = _hash_spans(data, offsets[start : stop + 1])
        start = stop
    return words


def _hash_spans(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> Words:
    lengths = np.diff(offsets)
    spans = data[offsets[0] : offsets[-1]].astype(np.uint64)
    starts = offsets[:-1] - offsets[0]
    place = np.arange(len(spans), dtype=np.int64) - np.repeat(starts, lengths)
    total = np.zeros(len(lengths), dtype=np.uint64)
    if len(spans):
        full = lengths > 0
        total[full] = np.add.reduceat(mix(spans + (place.astype(np.uint64) << np.uint64(8)) + np.uint64(1)), starts[full])
    return mix(total + mix(lengths.astype(np.uint64) + np.uint64(0x51ED270B)))


def _parse_moment(text: pa.Array, type: pa.DataType, order: str) -> pa.Array:
    clock = not pa.types.is_date(type)
    found = moments(text, None if pa.types.is_time(type) else order, clock)
    microseconds, parsed = found.microseconds, found.parsed
    if pa.types.is_timestamp(type):
        zone = cast("Any", type).tz
        midnight = moments(text, order, clock=False)  # a date alone is its midnight
        if zone is None:
            microseconds = np.where(midnight.parsed, midnight.microseconds, microseconds)
            parsed = (parsed & ~found.zoned) | midnight.parsed
        else:
            parsed = parsed & found.zoned
    values = pa.array(microseconds, mask=~parsed)
    if pa.types.is_date(type):
        return pc.divide(values, _DAY_SECONDS * 1_000_000).cast(pa.int32()).cast(pa.date32()).cast(type)
    if pa.types.is_time(type):
        return convert(values.cast(pa.time64("us")), type)
    return convert(values.cast(pa.timestamp("us")), type)


def _numbers(groups: pa.Array, name: str) -> NDArray[np.int64]:
    digits = pc.struct_field(groups, name)
    digits = pc.if_else(pc.equal(digits, ""), "0", digits)
    return np.asarray(pc.fill_null(digits.cast(pa.int64()), 0), dtype=np.int64)


def _where(text: pa.Array, mask: NDArray[np.bool_]) -> pa.Array:
    return pc.if_else(pa.array(mask), text, pa.scalar(None, pa.string()))


def _cast_or_null(one: pa.Array, type: pa.DataType) -> pa.Array:
    try:
        return one.cast(type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return nulls(1, type)
