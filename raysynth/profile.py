"""Tables as read → mergeable, order-free statistics of each column; from those a schema, and an audit of how the data suits synthesis."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import reduce
from typing import Any, cast

import numpy as np
import pyarrow as pa

from raysynth.cells import (
    BOOLEAN,
    INTEGER,
    ISO,
    JSON,
    NULL_TOKENS,
    NUMBER,
    ORDERS,
    flat,
    hash_texts,
    is_text,
    matches,
    moments,
    pc,
    tidy,
)
from raysynth.cleaning import flat_ids
from raysynth.draws import Words
from raysynth.errors import DataError, RecipeError
from raysynth.schema import FILE, ROW, Column, Kind, Schema, arrow_type

BOUND = 4096
"""Distinct values counted exactly; above it the values of the BOUND lowest hashes are kept, each with its exact count."""

_SHOWN_CHARACTERS = 200
_PERSONAL = {
    "e-mail": r"^[^@\s]+@[^@\s]+\.[A-Za-z]{2,}$",
    "phone": r"^(\+[0-9]{1,3}[ -]?)?(\([0-9]{2,4}\)|[0-9]{2,4})[ -][0-9]{3,4}[ -]?[0-9]{3,4}$|^\+[0-9]{8,15}$",
    "card": r"^[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,7}$",
}
_PERSONAL_NAMES = (
    r"(?i)(^|[_ .-])(e?mail|phone|mobile|ssn|passport|(first|last|full|sur)_?name|address|birth(day|_?date)|dob|iban)([_ .-]|$)"
)
_ID_NAMES = r"(?i)(^|[_ .-])(id|ids|uuid|guid|key|nr|no|num|number|index|idx|code)$|^(id|uuid|guid)([_ .-]|$)|^Unnamed|^column_1$"
_ID_CAMEL = r"[a-z0-9](Id|ID|Key|No|Nr)$"


@dataclass(frozen=True)
class Counts:
    """The values of lowest hash with their counts: all of them while there are at most BOUND. Arrays of shape (values,), by hash."""

    hashes: Words
    counts: np.ndarray[Any, np.dtype[np.int64]]
    texts: tuple[str, ...]
    total: int = 0

    @property
    def exact(self) -> bool:
        return len(self.texts) < BOUND

    @property
    def distinct(self) -> int:
        """Exact below BOUND, else the estimate of k minimum values (Bar-Yossef et al., RANDOM 2002; ± 2 %)."""
        return len(self.texts) if self.exact else min(self.total, round((BOUND - 1) * 2.0**64 / max(1, int(self.hashes[-1]))))

    @property
    def unique(self) -> bool:
        return bool(len(self.texts)) and int(self.counts.max()) == 1

    def common(self, count: int) -> list[tuple[str, int]]:
        """The most frequent values, ties by text."""
        pairs = zip(self.texts, self.counts.tolist(), strict=True)
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:count]

    def merge(self, other: "Counts") -> "Counts":
        if not other.texts or not self.texts:
            return self if self.texts else other
        hashes, first, inverse = np.unique(np.concatenate([self.hashes, other.hashes]), return_index=True, return_inverse=True)
        counts = np.zeros(len(hashes), dtype=np.int64)
        np.add.at(counts, inverse, np.concatenate([self.counts, other.counts]))
        both = self.texts + other.texts
        kept = tuple(both[at] for at in first[:BOUND].tolist())
        return Counts(hashes[:BOUND], counts[:BOUND], kept, self.total + other.total)


_NOTHING = Counts(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64), ())


@dataclass(frozen=True)
class ColumnProfile:
    """One column: every number adds up, every bound is a minimum or maximum, so that merging knows no order."""

    name: str
    place: tuple[str, int]
    """The lowest (file, position) at which the column was seen: the order of the schema."""
    rows: int
    nulls: int
    types: Mapping[str, str]
    """Arrow type as found → the first file, by path, that has it."""
    parses: Mapping[str, int]
    """How many values are integers, numbers, booleans, JSON, dates, times or datetimes (by order, zoned or not), or look personal."""
    zones: Mapping[str, int]
    """Offset from UTC in minutes → values."""
    minimum: float | None
    maximum: float | None
    low: str | None
    high: str | None
    decimals: int
    """The most digits after the decimal point."""
    characters: int
    longest: int
    spaces: int
    values: Counts

    @property
    def present(self) -> int:
        return self.rows - self.nulls

    def share(self, parser: str) -> float:
        return self.parses.get(parser, 0) / self.present if self.present else 0.0

    def all(self, *parsers: str) -> bool:
        return self.present > 0 and sum(self.parses.get(parser, 0) for parser in parsers) == self.present

    def merge(self, other: "ColumnProfile") -> "ColumnProfile":
        return ColumnProfile(
            name=self.name,
            place=min(self.place, other.place),
            rows=self.rows + other.rows,
            nulls=self.nulls + other.nulls,
            types={
                name: min(found for types in (self.types, other.types) if (found := types.get(name)) is not None)
                for name in sorted({*self.types, *other.types})
            },
            parses=_add(self.parses, other.parses),
            zones=_add(self.zones, other.zones),
            minimum=_least(self.minimum, other.minimum),
            maximum=_most(self.maximum, other.maximum),
            low=_least(self.low, other.low),
            high=_most(self.high, other.high),
            decimals=max(self.decimals, other.decimals),
            characters=self.characters + other.characters,
            longest=max(self.longest, other.longest),
            spaces=self.spaces + other.spaces,
            values=self.values.merge(other.values),
        )

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        values = self.values
        out["place"] = list(self.place)
        out["values"] = {
            "hashes": [f"{word:016x}" for word in values.hashes.tolist()],
            "counts": values.counts.tolist(),
            "texts": list(values.texts),
            "total": values.total,
        }
        return {
            name: dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value for name, value in out.items()
        }

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> "ColumnProfile":
        values = raw["values"]
        counts = Counts(
            np.array([int(word, 16) for word in values["hashes"]], dtype=np.uint64),
            np.array(values["counts"], dtype=np.int64),
            tuple(values["texts"]),
            int(values["total"]),
        )
        return ColumnProfile(**{**raw, "place": (raw["place"][0], raw["place"][1]), "values": counts})


@dataclass(frozen=True)
class Profile:
    """What was seen of a data set: rows, files and columns. `Profile()` has seen nothing."""

    rows: int = 0
    bytes: int = 0
    """Arrow's in-memory size of the tables; files on disk are smaller."""
    columns: Mapping[str, ColumnProfile] = field(default_factory=dict[str, ColumnProfile])

    @staticmethod
    def observe(table: pa.Table, null_tokens: tuple[str, ...] = NULL_TOKENS) -> "Profile":
        """A table as a source reads it, `_file` and `_row` first."""
        files = [str(name) for name in flat_ids(table.column(FILE)).dictionary.to_pylist()]
        names = [name for name in table.column_names if name not in (FILE, ROW)]
        seen = {
            name: _observe(name, (min(files, default=""), place), table.column(name), null_tokens)
            for place, name in enumerate(names)
        }
        return Profile(table.num_rows, table.nbytes, seen)

    def merge(self, other: "Profile") -> "Profile":
        merged = dict(self.columns)
        for name, column in other.columns.items():
            merged[name] = merged[name].merge(column) if name in merged else column
        return Profile(self.rows + other.rows, self.bytes + other.bytes, merged)

    @property
    def ordered(self) -> list[ColumnProfile]:
        """The columns as the first file has them, then those that only later files have."""
        return sorted(self.columns.values(), key=lambda column: (column.place, column.name))

    def missing(self, column: ColumnProfile) -> int:
        """Nulls and rows of files without the column."""
        return self.rows - column.present

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "bytes": self.bytes, "columns": [column.to_json() for column in self.ordered]}

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> "Profile":
        columns = [ColumnProfile.from_json(column) for column in raw["columns"]]
        return Profile(int(raw["rows"]), int(raw["bytes"]), {column.name: column for column in columns})


def infer_schema(profile: Profile, overrides: Mapping[str, Kind] | None = None) -> Schema:
    """The kind and Arrow type of every column. DataError where files disagree on a type; RecipeError on an override of no column."""
    kinds = dict(overrides or {})
    for name in kinds:
        if name not in profile.columns:
            near = get_close_matches(name, profile.columns, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise RecipeError(f"schema.columns.{name}: no such column.{hint} Columns: {', '.join(profile.columns)}")
    return Schema(tuple(_column(column, profile, kinds.get(column.name)) for column in profile.ordered))


def date_formats(profile: Profile, schema: Schema) -> dict[str, str]:
    """Column → the order its dates are written in (`D/M/Y`), for `clean`; ISO ones are left out."""
    orders = {
        column.name: _best_order(profile.columns[column.name], column.kind)
        for column in schema
        if column.kind in ("date", "datetime") and column.name in profile.columns
    }
    return {name: order for name, order in orders.items() if order != ISO}


def is_date_ambiguous(column: ColumnProfile) -> bool:
    """Every value reads as day-month-year and as month-day-year alike: day first is taken."""
    return any(
        column.parses.get(f"{kind} {day}", 0) == column.parses.get(f"{kind} {month}", 0) == column.present > 0
        for kind in ("date", "datetime")
        for day, month in (("D/M/Y", "M/D/Y"), ("D-M-Y", "M-D-Y"))
    )


def looks_like_id(column: ColumnProfile) -> bool:
    """No value twice, and a name such as id, order_no or customerID, or text values that are UUIDs or single long words."""
    if column.present < 20 or not column.values.unique or "\n" in (column.low or ""):
        return False
    named = bool(re.search(_ID_NAMES, column.name) or re.search(_ID_CAMEL, column.name))
    words = (
        any(is_text(type) for type in _types(column)) and column.spaces == 0 and column.present >= 50 and not _is_numeric(column)
    )
    return named or words or column.share("uuid") == 1.0


def _is_numeric(column: ColumnProfile) -> bool:
    return column.all("number") or any(pa.types.is_floating(type) or pa.types.is_decimal(type) for type in _types(column))


def _column(column: ColumnProfile, profile: Profile, override: Kind | None) -> Column:
    type = _promoted(column, lenient=override is not None)
    nullable = profile.missing(column) > 0
    if override is not None:
        return Column(column.name, override, _type_of_kind(override, column, type), nullable)
    kind, type = _of_text(column) if is_text(type) else _of_type(column, type)
    if kind in ("integer", "category") and looks_like_id(column):
        kind = "id"
    return Column(column.name, kind, type, nullable)


def _types(column: ColumnProfile) -> list[pa.DataType]:
    return [_type(name) for name in column.types]


def _type(name: str) -> pa.DataType:
    return pa.string() if name == "nested" else arrow_type(name)


def _promoted(column: ColumnProfile, lenient: bool) -> pa.DataType:
    """The one type that holds those of all files; DataError names the column and two files that disagree."""
    found = [(name, path, _type(name)) for name, path in column.types.items() if name != "null"]
    if not found:
        return pa.string()
    schemas = [pa.schema([pa.field("x", type)]) for _, _, type in found]
    try:
        return reduce(lambda a, b: pa.unify_schemas([a, b], promote_options="permissive"), schemas).field("x").type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        if lenient:
            return pa.string()
        told = ", ".join(f"{name} in '{path}'" for name, path, _ in found)
        raise DataError(
            f"column '{column.name}': the files disagree on its type ({told}). Set schema.columns.{column.name}.kind, or mend a file"
        ) from None


def _of_type(column: ColumnProfile, type: pa.DataType) -> tuple[Kind, pa.DataType]:
    is_type = pa.types
    if is_type.is_boolean(type):
        return "boolean", type
    if is_type.is_integer(type):
        return "integer", type
    if is_type.is_floating(type):
        return "number", type if type != pa.float16() else pa.float32()
    if is_type.is_decimal(type):
        return "number", type
    if is_type.is_date(type):
        return "date", pa.date32()
    for kind, test in (("time", is_type.is_time), ("datetime", is_type.is_timestamp), ("duration", is_type.is_duration)):
        if test(type):
            return cast("Kind", kind), type
    raise DataError(
        f"column '{column.name}': raysynth keeps no column of type {type}. Leave it out of the input, or write it as text"
    )


def _of_text(column: ColumnProfile) -> tuple[Kind, pa.DataType]:
    if column.all("boolean"):
        return "boolean", pa.bool_()
    if column.all("integer"):
        return "integer", pa.int64()
    if column.all("number"):
        return "number", pa.float64()
    if column.all("time"):
        return "time", pa.time64("us")
    if column.all(f"date {_best_order(column, 'date')}"):
        return "date", pa.date32()
    order = _best_order(column, "datetime")
    if column.all(f"datetime {order}") or column.all(f"datetime {order} zoned"):
        return "datetime", _timestamp(column)
    if "nested" in column.types or column.all("json"):
        return "json", pa.string()
    return ("text" if _is_prose(column) else "category"), pa.string()


def _is_prose(column: ColumnProfile) -> bool:
    """Long and mostly distinct: 60 characters on average, or 25 in five words."""
    if column.present < 20 or column.values.distinct < column.present / 2:
        return False
    length = column.characters / column.present
    return length >= 60 or (length >= 25 and column.spaces / column.present >= 4)


def _best_order(column: ColumnProfile, kind: Kind) -> str:
    def parsed(order: str) -> int:
        return column.parses.get(f"{kind} {order}", 0) + column.parses.get(f"{kind} {order} zoned", 0)

    return max(ORDERS, key=parsed)  # the first of equals: day before month


def _timestamp(column: ColumnProfile) -> pa.DataType:
    if not any(name.endswith(" zoned") for name in column.parses):
        return pa.timestamp("us")
    offsets = list(column.zones)
    if len(offsets) != 1 or offsets == ["0"]:
        return pa.timestamp("us", tz="UTC")
    minutes = int(offsets[0])
    return pa.timestamp("us", tz=f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}")


def _type_of_kind(kind: Kind, column: ColumnProfile, found: pa.DataType) -> pa.DataType:
    """The type that an override asks for: what the files have where it fits, else the usual one of the kind."""
    is_type = pa.types
    fits = {
        "boolean": (is_type.is_boolean, pa.bool_()),
        "integer": (is_type.is_integer, pa.int64()),
        "number": (lambda type: is_type.is_floating(type) or is_type.is_decimal(type), pa.float64()),
        "date": (is_type.is_date, pa.date32()),
        "time": (is_type.is_time, pa.time64("us")),
        "datetime": (is_type.is_timestamp, _timestamp(column)),
        "duration": (is_type.is_duration, pa.duration("us")),
    }
    if kind in fits:
        fit, usual = fits[kind]
        return found if fit(found) and not is_type.is_date64(found) else usual
    if kind in ("text", "json"):
        return pa.string()
    whole = is_type.is_integer(found) or is_type.is_boolean(found)  # category and id keep numbers numbers
    return found if whole else pa.int64() if column.all("integer") else pa.string()


def _observe(name: str, place: tuple[str, int], column: pa.ChunkedArray, null_tokens: tuple[str, ...]) -> ColumnProfile:
    values = flat(column)
    type = column.type
    if pa.types.is_dictionary(type):
        type = values.type
    found = "nested" if pa.types.is_nested(type) else "string" if is_text(type) else str(type)
    coded = pc.value_counts(values)
    distinct, counts = coded.field(0), np.asarray(coded.field(1), dtype=np.int64)
    if is_text(distinct.type):
        text = tidy(distinct, null_tokens)
    elif pa.types.is_floating(distinct.type):
        text = pc.if_else(pc.is_nan(distinct), None, distinct.cast(pa.string()))
    elif pa.types.is_binary(distinct.type) or pa.types.is_large_binary(distinct.type):
        raise DataError(
            f"column '{name}' of '{place[0]}': it holds bytes ({type}); raysynth's tables keep none. Leave it out of the input"
        )
    else:
        text = distinct.cast(pa.string())
    valid = np.flatnonzero(np.asarray(pc.is_valid(text).to_numpy(zero_copy_only=False), dtype=np.bool_))
    text, counts = text.take(pa.array(valid)), counts[valid]
    present = int(counts.sum())
    parses, zones = _parses(text, counts) if is_text(type) else ({}, {})
    numbers = _as_numbers(text, values.type, bool(parses.get("number")))
    lengths = np.asarray(pc.utf8_length(text), dtype=np.int64)
    spaces = np.asarray(pc.count_substring(text, " "), dtype=np.int64)
    ends = pc.min_max(text).as_py()
    fraction = np.asarray(pc.utf8_length(pc.struct_field(pc.extract_regex(text, r"^-?[0-9]*\.(?P<f>[0-9]+)$"), "f")).drop_null())
    return ColumnProfile(
        name=name,
        place=place,
        rows=len(column),
        nulls=len(column) - present,
        types={found: place[0]} if present else {"null": place[0]},
        parses={key: count for key, count in parses.items() if count},
        zones=zones,
        minimum=float(numbers.min()) if len(numbers) else None,
        maximum=float(numbers.max()) if len(numbers) else None,
        low=None if ends["min"] is None else ends["min"][:_SHOWN_CHARACTERS],
        high=None if ends["max"] is None else ends["max"][:_SHOWN_CHARACTERS],
        decimals=int(fraction.max()) if len(fraction) else 0,
        characters=int(lengths @ counts),
        longest=int(lengths.max()) if len(lengths) else 0,
        spaces=int(spaces @ counts),
        values=_count(text, counts),
    )


def _count(text: pa.Array, counts: np.ndarray[Any, np.dtype[np.int64]]) -> Counts:
    if not len(text):
        return _NOTHING
    words, first, inverse = np.unique(
        hash_texts(text), return_index=True, return_inverse=True
    )  # tidying may have made two values one
    sums = np.zeros(len(words), dtype=np.int64)
    np.add.at(sums, inverse, counts)
    kept = pc.utf8_slice_codeunits(text.take(pa.array(first[:BOUND])), 0, _SHOWN_CHARACTERS).to_pylist()
    return Counts(words[:BOUND], sums[:BOUND], tuple(kept), int(counts.sum()))


def _parses(text: pa.Array, counts: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[dict[str, int], dict[str, int]]:
    """How many cells each parser takes, and the UTC offsets of those with a zone."""
    found = {"integer": matches(text, INTEGER), "boolean": matches(text, BOOLEAN)}
    found["number"] = matches(text, NUMBER) & matches(text, "[0-9]")
    parses = {key: int(counts[mask].sum()) for key, mask in found.items()}
    wordy = np.flatnonzero(~(found["number"] | found["boolean"]))
    digits = np.flatnonzero(found["integer"])
    cards = text.take(pa.array(digits))
    parses["card"] = _cards(cards, counts[digits])
    text, counts = text.take(pa.array(wordy)), counts[wordy]
    parses["json"] = int(counts[matches(text, JSON)].sum())
    parses["uuid"] = int(counts[matches(text, r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")].sum())
    parses["e-mail"] = int(counts[matches(text, _PERSONAL["e-mail"])].sum())
    parses["phone"] = int(counts[matches(text, _PERSONAL["phone"])].sum())
    parses["card"] += _cards(text, counts)
    zones: dict[str, int] = {}
    dated = np.flatnonzero(matches(text, r"^[0-9]{1,4}[-/.:][0-9]{1,2}"))
    text, counts = text.take(pa.array(dated)), counts[dated]
    parses["time"] = int(counts[moments(text, None, clock=True).parsed].sum())
    for order in ORDERS if len(text) else ():
        parses[f"date {order}"] = int(counts[moments(text, order, clock=False).parsed].sum())
        moment = moments(text, order, clock=True)
        parses[f"datetime {order}"] = int(counts[moment.parsed & ~moment.zoned].sum())
        zoned = moment.parsed & moment.zoned
        parses[f"datetime {order} zoned"] = int(counts[zoned].sum())
        for offset in np.unique(moment.offset_minutes[zoned]).tolist():
            at_offset = int(counts[zoned & (moment.offset_minutes == offset)].sum())
            zones[str(offset)] = max(zones.get(str(offset), 0), at_offset)
    return parses, zones


def _cards(text: pa.Array, counts: np.ndarray[Any, np.dtype[np.int64]]) -> int:
    places = np.flatnonzero(matches(text, _PERSONAL["card"])).tolist()
    return sum(int(counts[at]) for at in places if _luhn(re.sub("[^0-9]", "", str(text[at].as_py()))))


def _luhn(digits: str) -> bool:
    """The check digit of card numbers (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number // 10 + number % 10 for number in doubled) % 10 == 0


def _as_numbers(text: pa.Array, type: pa.DataType, may_be: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    if is_text(type):
        text = text.filter(pa.array(matches(text, NUMBER) & matches(text, "[0-9]"))) if may_be else text.slice(0, 0)
    elif not (pa.types.is_integer(type) or pa.types.is_floating(type) or pa.types.is_decimal(type)):
        text = text.slice(0, 0)
    numbers = np.asarray(text.cast(pa.float64()), dtype=np.float64)
    return numbers[np.isfinite(numbers)]


def _add(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in sorted({*a, *b})}


def _least(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else min(a, b)


def _most(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else max(a, b)
