"""One column of a table as read → mergeable, order-free statistics: nulls, counts, bounds, and which parsers take its values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cells import BOOLEAN, INTEGER, JSON, NUMBER, ORDERS, flat, hash_texts, is_text, matches, moments, nulls, pc, tidy
from raysynth.draws import Words
from raysynth.image_headers import HEAD_BYTES, format_of
from raysynth.schema import IMAGE
from raysynth.turns import role_lists

BOUND = 4096
"""Distinct values counted exactly; above it the values of the BOUND lowest hashes are kept, each with its exact count."""

_SHOWN_CHARACTERS = 200
_PERSONAL = {
    "e-mail": r"^[^@\s]+@[^@\s]+\.[A-Za-z]{2,}$",
    "phone": r"^(\+[0-9]{1,3}[ -]?)?(\([0-9]{2,4}\)|[0-9]{2,4})[ -][0-9]{3,4}[ -]?[0-9]{3,4}$|^\+[0-9]{8,15}$",
    "card": r"^[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,7}$",
}

_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)


@dataclass(frozen=True)
class Counts:
    """The values of lowest hash, with counts: all of them below BOUND. Arrays of shape (values,), sorted by hash."""

    hashes: Words
    counts: NDArray[np.int64]
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
    """How many values each parser takes (dates and datetimes by order, and zoned or not), and how many look personal."""
    zones: tuple[int, ...]
    """The offsets from UTC, in minutes, of values that say one."""
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
            zones=tuple(sorted({*self.zones, *other.zones})),
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
        out |= {"place": list(self.place), "zones": list(self.zones), "types": dict(self.types), "parses": dict(self.parses)}
        out["values"] = {
            "hashes": [f"{word:016x}" for word in values.hashes.tolist()],
            "counts": values.counts.tolist(),
            "texts": list(values.texts),
            "total": values.total,
        }
        return out

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> "ColumnProfile":
        values = raw["values"]
        counts = Counts(
            np.array([int(word, 16) for word in values["hashes"]], dtype=np.uint64),
            np.array(values["counts"], dtype=np.int64),
            tuple(values["texts"]),
            int(values["total"]),
        )
        known: dict[str, Any] = {**raw, "place": tuple(raw["place"]), "zones": tuple(raw["zones"]), "values": counts}
        return ColumnProfile(**known)


def observe_column(name: str, place: tuple[str, int], column: pa.ChunkedArray, null_tokens: Sequence[str]) -> ColumnProfile:
    if is_images(column):
        return _observe_images(name, place, column)
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
    else:
        text = distinct.cast(pa.string())
    valid = np.flatnonzero(np.asarray(pc.is_valid(text).to_numpy(zero_copy_only=False), dtype=np.bool_))
    text, counts = text.take(valid), counts[valid]
    present = int(counts.sum())
    parses, zones = _parses(text, counts) if is_text(type) else ({}, ())
    if found == "nested" or parses.get("json"):
        parses |= _turns(text, counts)
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
        types={found if present or found not in ("string", "nested") else "null": place[0]},
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


def is_images(column: pa.ChunkedArray) -> bool:
    """Structs of bytes and a path, as `datasets` keeps pictures; or bytes, since tables keep no others."""
    type = column.type
    if pa.types.is_struct(type):
        fields = {field.name: field.type for field in type}
        return set(fields) == {"bytes", "path"} and _is_bytes(fields["bytes"])
    return _is_bytes(type)


def as_images(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """What `is_images` says yes to → (rows,) of type IMAGE; a row without bytes is null."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_struct(array.type):
        data, paths = (cast("Any", array).field(name) for name in ("bytes", "path"))
        known = pc.and_(array.is_valid(), data.is_valid())
        paths = paths if is_text(paths.type) else nulls(len(array), pa.string())
    else:
        data, paths, known = array, nulls(len(array), pa.string()), array.is_valid()
    fields = [data.cast(pa.binary()), paths.cast(pa.string())]
    return cast("Any", pa.StructArray).from_arrays(fields, fields=list(IMAGE), mask=pc.invert(known))


def image_digests(images: pa.Array) -> pa.Array:
    """(rows,) of type IMAGE → a hash of the bytes of each, as text; null for a null."""
    cells = cast("Any", images).field("bytes")
    known = images.is_valid().to_pylist()
    return pa.array(
        [
            blake2b(cell.as_buffer(), digest_size=16).hexdigest() if valid else None
            for valid, cell in zip(known, cells, strict=True)
        ],
        pa.string(),
    )


def _is_bytes(type: pa.DataType) -> bool:
    return any(holds(type) for holds in _BYTES)


def _observe_images(name: str, place: tuple[str, int], column: pa.ChunkedArray) -> ColumnProfile:
    """Bytes of which none begins as a picture are of type `bytes`: some broken pictures, where other shards have whole ones."""
    images = as_images(column)
    digests = image_digests(images).drop_null()
    found = "image" if pa.types.is_struct(column.type) or _any_picture(images) else "bytes" if len(digests) else "null"
    coded = pc.value_counts(digests)
    return ColumnProfile(
        name=name,
        place=place,
        rows=len(column),
        nulls=len(column) - len(digests),
        types={found: place[0]},
        parses={},
        zones=(),
        minimum=None,
        maximum=None,
        low=None,
        high=None,
        decimals=0,
        characters=0,
        longest=0,
        spaces=0,
        values=_count(coded.field(0), np.asarray(coded.field(1), dtype=np.int64)),
    )


def _any_picture(images: pa.Array) -> bool:
    cells = cast("Any", images).field("bytes").filter(images.is_valid())
    return any(format_of(start) is not None for start in pc.binary_slice(cells, 0, HEAD_BYTES).to_pylist())


def _count(text: pa.Array, counts: NDArray[np.int64]) -> Counts:
    if not len(text):
        return _NOTHING
    words, first, inverse = np.unique(
        hash_texts(text), return_index=True, return_inverse=True
    )  # tidying may have made two values one
    sums = np.zeros(len(words), dtype=np.int64)
    np.add.at(sums, inverse, counts)
    kept = pc.utf8_slice_codeunits(text.take(first[:BOUND]), 0, _SHOWN_CHARACTERS).to_pylist()
    return Counts(words[:BOUND], sums[:BOUND], tuple(kept), int(counts.sum()))


def _parses(text: pa.Array, counts: NDArray[np.int64]) -> tuple[dict[str, int], tuple[int, ...]]:
    """How many cells each parser takes, and the UTC offsets of those with a zone."""
    found = {"integer": matches(text, INTEGER), "boolean": matches(text, BOOLEAN)}
    found["number"] = matches(text, NUMBER)
    parses = {key: int(counts[mask].sum()) for key, mask in found.items()}
    wordy = np.flatnonzero(~(found["number"] | found["boolean"]))
    digits = np.flatnonzero(found["integer"])
    cards = text.take(digits)
    parses["card"] = _cards(cards, counts[digits])
    text, counts = text.take(wordy), counts[wordy]
    parses["json"] = int(counts[matches(text, JSON)].sum())
    parses["uuid"] = int(counts[matches(text, r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")].sum())
    parses["e-mail"] = int(counts[matches(text, _PERSONAL["e-mail"])].sum())
    parses["phone"] = int(counts[matches(text, _PERSONAL["phone"])].sum())
    parses["card"] += _cards(text, counts)
    zones: set[int] = set()
    dated = np.flatnonzero(matches(text, r"^[0-9]{1,4}[-/.:][0-9]{1,2}"))
    text, counts = text.take(dated), counts[dated]
    parses["time"] = int(counts[moments(text, None, clock=True).parsed].sum())
    for order in ORDERS if len(text) else ():
        parses[f"date {order}"] = int(counts[moments(text, order, clock=False).parsed].sum())
        moment = moments(text, order, clock=True)
        parses[f"datetime {order}"] = int(counts[moment.parsed & ~moment.zoned].sum())
        zoned = moment.parsed & moment.zoned
        parses[f"datetime {order} zoned"] = int(counts[zoned].sum())
        zones.update(np.unique(moment.offset_minutes[zoned]).tolist())
    return parses, tuple(sorted(zones))


def _turns(text: pa.Array, counts: NDArray[np.int64]) -> dict[str, int]:
    """How many cells are lists of turns with a role, and how many are empty lists."""
    found, empty = role_lists(text)
    return {"turns": int(counts[found].sum()), "empty list": int(counts[empty].sum())}


def _cards(text: pa.Array, counts: NDArray[np.int64]) -> int:
    places = np.flatnonzero(matches(text, _PERSONAL["card"])).tolist()
    return sum(int(counts[at]) for at in places if _luhn(re.sub("[^0-9]", "", str(text[at].as_py()))))


def _luhn(digits: str) -> bool:
    """The check digit of card numbers (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number // 10 + number % 10 for number in doubled) % 10 == 0


def _as_numbers(text: pa.Array, type: pa.DataType, may_be: bool) -> NDArray[np.float64]:
    if is_text(type):
        text = text.filter(pa.array(matches(text, NUMBER))) if may_be else text.slice(0, 0)
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
