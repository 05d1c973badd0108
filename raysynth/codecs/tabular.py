"""Rows of a table ↔ Fields: every column becomes one categorical field, or a coarse field and the digit inside it.

A column's coding is a list of cells: its specials (null, NaN, infinities), its atoms (single values) and, for a column of many
numbers, quantile intervals. Cells below `singles` are codes of their own; the others are written as (group, digit). A cell that is
an interval decodes by interpolation between sorted train values, rounded to the column's own precision: nothing is replayed.
Numbers, booleans, dates and times are int64 or float64 inside (`number_type`); everything else is compared as Arrow values.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.codecs.base import Codec, Stats
from raysynth.draws import Draws, mix, row_words, word
from raysynth.errors import DataError, RecipeError
from raysynth.layout import Array, Arrays, Batch, Facts, Field, Fields, FieldsGiven
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.where import Condition, Range, Values, Where

Cells = NDArray[np.int64]
Mask = NDArray[np.bool_]

CONTINUOUS = {"integer", "number", "date", "time", "datetime", "duration"}
SPECIALS = ("null", "nan", "-inf", "inf")
MAX_COUNTED = 131_072  # distinct values counted exactly; above it the sample of the rows stands for the column
MAX_SAMPLE_ROWS = 100_000
MAX_KNOTS = 16_384
MAX_DECIMALS = 9  # a float column with more has no precision to keep
SIGN = np.uint64(1 << 63)


# --- Arrow ↔ numbers ---------------------------------------------------------------------------------------------------------


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


def _specials(values: Array, nulls: Mask) -> NDArray[np.int8]:
    """(rows,) index in SPECIALS, or -1 for an ordinary value."""
    special = np.where(nulls, 0, -1).astype(np.int8)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        special[np.isnan(values) & ~nulls] = 1
        special[np.isneginf(values)] = 2
        special[np.isposinf(values)] = 3
    return special


def _decimals(values: Array, type_: pa.DataType) -> int:
    """The fewest decimals that write all the values; MAX_DECIMALS where there are more."""
    narrow: Any = type_.to_pandas_dtype() if pa.types.is_floating(type_) else np.float64
    with np.errstate(all="ignore"):
        for decimals in range(MAX_DECIMALS):
            if np.array_equal(np.round(values, decimals).astype(narrow), values.astype(narrow)):
                return decimals
    return MAX_DECIMALS


# --- statistics --------------------------------------------------------------------------------------------------------------


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
    return _whole(table["value"]), np.asarray(table["count_sum"].to_numpy(), dtype=np.int64)


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _observe_column(column: pa.Array) -> ColumnStats:
    if not is_number(column.type):
        known = column.drop_null()
        values, counts = _count_words(known, np.ones(len(known), dtype=np.int64))
        stats = ColumnStats(np.array([column.null_count, 0, 0, 0], dtype=np.int64), values, counts, 0)
    else:
        numbers, nulls = to_numbers(column)
        special = _specials(numbers, nulls)
        values, counts = np.unique(numbers[special < 0], return_counts=True)
        step = _decimals(values, column.type) if is_float(column.type) else _divisor(values)
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
        return TableStats(columns, *_lowest(words, sample))


def _lowest(words: NDArray[np.uint64], rows: pa.Table) -> tuple[NDArray[np.uint64], pa.Table]:
    order = np.argsort(words, kind="stable")[:MAX_SAMPLE_ROWS]
    return words[order], rows.take(order)


# --- codings -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coding:
    """How one learnt column is written down; see the top of the file for cells, singles and digits."""

    column: Column
    specials: tuple[int, ...]
    atoms: Any
    singles: int
    digits: int
    cells: int
    step: int = 1
    edges: Array = field(default_factory=lambda: np.zeros(0))
    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    knots: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def first_interval(self) -> int:
        return len(self.specials) + len(self.atoms)

    def fields(self) -> list[Field]:
        name, coarse = self.column.name, self.singles + -(-(self.cells - self.singles) // self.digits)
        fields = [Field(name, name, coarse)]
        return fields if self.digits == 1 else [*fields, Field(f"{name}.digit", name, self.digits)]

    def to_codes(self, cells: Cells) -> list[Cells]:
        if self.digits == 1:
            return [cells]
        beyond = np.maximum(cells - self.singles, 0)
        group, digit = np.divmod(beyond, self.digits)
        return [np.where(cells < self.singles, cells, self.singles + group), np.where(cells < self.singles, 0, digit)]

    def to_cells(self, codes: list[Cells]) -> Cells:
        if self.digits == 1:
            return codes[0]
        grouped = self.singles + (codes[0] - self.singles) * self.digits + codes[1]
        return np.where(codes[0] < self.singles, codes[0], np.minimum(grouped, self.cells - 1))

    def encode(self, column: pa.Array) -> Cells:
        """(rows,) cells; a value that the train rows never had goes to its neighbour (numbers) or to a cell by its hash."""
        first = len(self.specials)
        if not is_number(self.column.type):
            found = pc.index_in(column, value_set=self.atoms)
            cells = np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64) + first
            special = np.where(np.asarray(column.is_null()), 0, -1)
            for row in np.flatnonzero((cells < first) & (special < 0)):
                cells[row] = first + int(word(column[int(row)].as_py())) % max(len(self.atoms), 1)
        else:
            numbers, nulls = to_numbers(column)
            special = _specials(numbers, nulls)
            cells = first + self._place(numbers)
        for code in range(4):
            if (rows := special == code).any():
                cells[rows] = self.specials.index(code) if code in self.specials else 0
        return np.clip(cells, 0, self.cells - 1)

    def _place(self, numbers: Array) -> Cells:
        atom = np.searchsorted(self.atoms, numbers)
        if not len(self.edges):
            return atom
        interval = np.maximum(np.searchsorted(self.edges, numbers, side="right") - 1, 0) + len(self.atoms)
        if not len(self.atoms):
            return interval
        return np.where(self.atoms[np.minimum(atom, len(self.atoms) - 1)] == numbers, atom, interval)

    def decode(self, cells: Cells, draws: Draws) -> pa.Array:
        nulls = (cells == self.specials.index(0)) if 0 in self.specials else np.zeros(len(cells), dtype=np.bool_)
        if not is_number(self.column.type):
            index = np.maximum(cells - len(self.specials), 0)
            if not len(self.atoms):
                return pa.array([None] * len(cells), self.column.type)
            return self.atoms.take(pa.array(index, mask=nulls if nulls.any() else None))
        table = self._single_numbers()
        values = table[np.minimum(cells, len(table) - 1)] if len(table) else np.zeros(len(cells), dtype=self.knots.dtype)
        if len(self.edges):
            rows = np.flatnonzero(cells >= self.first_interval)
            if len(rows):
                uniform = draws.take(rows).uniform(f"decode.{self.column.name}")
                values[rows] = self._interpolate(cells[rows] - self.first_interval, uniform)
        return from_numbers(values, nulls, self.column.type)

    def _single_numbers(self) -> Array:
        specials = np.array([0.0, np.nan, -np.inf, np.inf])[list(self.specials)]
        dtype = np.float64 if is_float(self.column.type) else np.int64
        return np.concatenate(
            [np.where(np.isfinite(specials), specials, 0).astype(dtype) if dtype is np.int64 else specials, self.atoms]
        )

    def _interpolate(self, interval: Cells, uniform: NDArray[np.float64]) -> Array:
        """Uniform position among the interval's sorted train values, half a place beyond either end."""
        start = self.starts[interval]
        place = start + uniform * (self.starts[interval + 1] - start) - 0.5
        place = np.clip(place, 0, len(self.knots) - 1)
        below = np.minimum(place.astype(np.int64), max(len(self.knots) - 2, 0))
        above = np.minimum(below + 1, len(self.knots) - 1)
        low, high, part = self.knots[below], self.knots[above], place - below
        if low.dtype.kind == "f":
            with np.errstate(over="ignore"):
                values = low * (1 - part) + high * part
                return np.round(values, self.step) if self.step < MAX_DECIMALS else values
        # differences of int64 may need 64 bits without a sign, and more digits than a float has: so steps are counted
        step = np.uint64(max(self.step, 1))
        steps = (high.view(np.uint64) - low.view(np.uint64)) // step
        drawn = np.floor(np.minimum(part * steps.astype(np.float64) + 0.5, 2.0**64 - 2048)).astype(np.uint64)
        return (low.view(np.uint64) + np.minimum(drawn, steps) * step).view(np.int64)

    def allowed(self, condition: Condition) -> Mask:
        """(cells,) True where a row of the cell may satisfy the condition."""
        inside = np.zeros(self.cells, dtype=np.bool_)
        null = np.array([code == 0 for code in self.specials], dtype=np.bool_)
        if is_number(self.column.type):
            table = self._single_numbers()
            singles = from_numbers(table, np.pad(null, (0, len(table) - len(null))), self.column.type)
        else:
            singles = pa.concat_arrays([pa.array([None] * len(self.specials), self.column.type), self.atoms])
        inside[: len(singles)] = condition.holds(singles)
        if len(self.edges):
            inside[self.first_interval :] = self._reached(condition)
        return inside

    def _reached(self, condition: Condition) -> Mask:
        last = len(self.knots) - 1
        low = self.knots[np.clip(self.starts[:-1] - 1, 0, last)]
        high = self.knots[np.clip(self.starts[1:], 0, last)]
        if self.knots.dtype.kind == "f":  # rounding may carry a value just past the knot; knots themselves bear the precision
            low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
        if isinstance(condition, Values):
            wanted = np.sort(to_numbers(condition.values)[0])
            return np.searchsorted(wanted, low, side="left") < np.searchsorted(wanted, high, side="right")
        inside = np.ones(len(low), dtype=np.bool_)
        if condition.minimum is not None:
            inside &= high >= to_numbers(pa.array([condition.minimum.as_py()], self.column.type))[0][0]
        if condition.maximum is not None:
            inside &= low <= to_numbers(pa.array([condition.maximum.as_py()], self.column.type))[0][0]
        return inside


@dataclass(frozen=True)
class Identifier:
    """A column that is made anew: `alphabets`, one per character of a string, or none for an integer below `capacity`."""

    column: Column
    alphabets: tuple[str, ...]
    capacity: int

    def decode(self, draws: Draws, seed: int) -> pa.Array:
        """Row number → id, a keyed permutation of the capacity: unique. DataError beyond it."""
        name = self.column.name
        if len(draws) and int(draws.rows.max()) >= self.capacity:
            raise DataError(f"column '{name}': its ids can number {self.capacity:,} rows; make it a wider type or drop it")
        number = permute(draws.rows, self.capacity, word(seed, "id", name))
        if not self.alphabets:
            return pa.array(number.astype(np.int64)).cast(self.column.type)
        spare = draws.words(f"id.{name}")
        characters = np.zeros((len(draws), len(self.alphabets)), dtype=np.uint8)
        room = 1
        for place in reversed(range(len(self.alphabets))):
            alphabet = np.frombuffer(self.alphabets[place].encode("latin-1"), dtype=np.uint8)
            size = np.uint64(len(alphabet))
            if room < self.capacity:
                number, digit = np.divmod(number, size)
            else:  # the number is spent: what remains of a long id (a UUID) is noise
                spare = mix(spare)
                digit = (spare >> np.uint64(32)) % size
            room *= len(alphabet)
            characters[:, place] = alphabet[digit.astype(np.int64)]
        width = len(self.alphabets)
        offsets = pa.py_buffer((np.arange(len(draws) + 1, dtype=np.int64) * width).tobytes())
        text = pa.Array.from_buffers(pa.large_binary(), len(draws), [None, offsets, pa.py_buffer(characters.tobytes())])
        return text.cast(pa.large_string()).cast(self.column.type)


def permute(rows: NDArray[np.uint64], capacity: int, key: np.uint64) -> NDArray[np.uint64]:
    """A keyed bijection of 0 … capacity-1 (below 2^63): rounds that are invertible on so many bits, walked until inside."""
    bits = max((capacity - 1).bit_length(), 2)
    mask, half = np.uint64((1 << bits) - 1), np.uint64(bits // 2 + 1 if bits < 4 else bits // 2)
    numbers = rows.copy()
    todo = np.arange(len(rows))
    while len(todo):
        walk = numbers[todo]
        for turn in range(4):
            step = mix(np.array([key + np.uint64(turn)], dtype=np.uint64))[0]
            walk = ((walk ^ (step & mask)) * (step | np.uint64(1))) & mask
            walk ^= walk >> half
        numbers[todo] = walk
        todo = todo[walk >= np.uint64(capacity)]
    return numbers


_CLASSES = ("0123456789", "0123456789abcdef", "0123456789ABCDEF", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789abcdefghijklmnopqrstuvwxyz",
            "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")  # fmt: skip


def _identifier(column: Column, sample: pa.Array) -> Identifier:
    if is_number(column.type):
        bits = min((pa.types.is_integer(column.type) and column.type.bit_width - 1) or 40, 53)
        return Identifier(column, (), 1 << bits)
    texts = [str(value) for value in sample.drop_null().cast(pa.string()).slice(0, 1000).to_pylist() if str(value).isascii()]
    places = [set(place) for place in zip(*texts, strict=True)] if len({len(text) for text in texts}) == 1 else []
    alphabets = [_alphabet(place) for place in places] or list("id-")
    capacity = math.prod(len(alphabet) for alphabet in alphabets)
    start = next((i for i, alphabet in enumerate(alphabets) if len(alphabet) > 1), len(alphabets))
    while capacity < 1 << 40:  # three digits cannot number a million rows: the id grows longer
        alphabets.insert(start, "0123456789")
        capacity *= 10
    return Identifier(column, tuple(alphabets), min(capacity, 1 << 62))


def _alphabet(characters: set[str]) -> str:
    if len(characters) == 1:
        return next(iter(characters))
    return next((known for known in _CLASSES if characters <= set(known)), "".join(sorted(characters | set(_CLASSES[0]))))


# --- the codec ---------------------------------------------------------------------------------------------------------------


class Tabular(Codec):
    """`max_values`: a numeric column with more distinct values is cut into `bins` quantile intervals of `digits` parts each, and into
    fewer where they would hold less than `rows_per_bin` train rows, which would be learnt by heart; `atom_share`: a value this
    frequent keeps a code of its own; `max_codes`: wider categories are written as two fields."""

    def __init__(
        self,
        schema: Schema,
        *,
        seed: int = 0,
        max_values: int = 256,
        bins: int = 64,
        rows_per_bin: int = 400,
        digits: int = 16,
        atom_share: float = 0.003,
        max_codes: int = 512,
    ) -> None:
        super().__init__(schema, seed=seed)
        self.max_values, self.bins, self.rows_per_bin, self.digits = max_values, bins, rows_per_bin, digits
        self.atom_share, self.max_codes = atom_share, max_codes
        self.codings: list[Coding | Identifier] = []

    def observe(self, rows: pa.Table) -> TableStats:
        columns = [self._column(rows, column) for column in self.schema]
        files = _whole(rows.column(FILE).cast(pa.string())).dictionary_encode()
        index = np.asarray(files.indices, dtype=np.int64)
        words = row_words(
            [str(file) for file in files.dictionary.to_pylist()], index, np.asarray(rows.column(ROW), dtype=np.int64), self.seed
        )
        sample = pa.table(columns, names=self.schema.names)
        return TableStats(tuple(_observe_column(column) for column in columns), *_lowest(words, sample))

    def settle(self, stats: Stats) -> Fields:
        stats = cast(TableStats, stats)
        self.codings = [
            self._settle_column(column, seen, _whole(stats.sample.column(column.name)))
            for column, seen in zip(self.schema, stats.columns, strict=True)
        ]
        return self._lay_out()

    def encode(self, rows: pa.Table) -> Batch:
        codes = [code for coding in self._learnt() for code in coding.to_codes(coding.encode(self._column(rows, coding.column)))]
        empty = np.zeros((rows.num_rows, 0), dtype=np.int32)
        return Batch({"codes": np.stack(codes, axis=1).astype(np.int32) if codes else empty})

    def decode(self, batch: Batch, draws: Draws) -> pa.Table:
        codes, place = np.ascontiguousarray(batch["codes"].T).astype(np.int64), 0
        columns: list[pa.Array] = []
        for coding in self.codings:
            if isinstance(coding, Identifier):
                columns.append(coding.decode(draws, self.seed))
                continue
            width = 1 if coding.digits == 1 else 2
            columns.append(coding.decode(coding.to_cells(list(codes[place : place + width])), draws))
            place += width
        return pa.table(columns, schema=self.schema.arrow)

    def condition(self, where: Where) -> FieldsGiven | None:
        for coding in self.codings:
            if isinstance(coding, Identifier) and coding.column.name in where:
                name = coding.column.name
                raise RecipeError(f"where.{name}: ids are made anew from the row's number, so none can be asked for. Leave it out")
        masks: dict[int, Mask] = {}
        place = 0
        for coding in self._learnt():
            name = coding.column.name
            if name in where:
                masks.update(_field_masks(coding, _allowed_cells(coding, where[name]), place))
            place += len(coding.fields())
        return FieldsGiven(masks) if masks else None

    def state(self) -> tuple[Arrays, Facts]:
        arrays: Arrays = {}
        facts: list[dict[str, Any]] = []
        for number, coding in enumerate(self.codings):
            if isinstance(coding, Identifier):
                facts.append({"alphabets": coding.alphabets, "capacity": coding.capacity})
                continue
            facts.append({"specials": list(coding.specials), "singles": coding.singles, "digits": coding.digits})
            facts[-1] |= {"cells": coding.cells, "step": coding.step}
            arrays |= {f"{number}.{name}": getattr(coding, name) for name in ("edges", "starts", "knots")}
            if is_number(coding.column.type):
                arrays[f"{number}.atoms"] = coding.atoms
            else:
                arrays[f"{number}.lengths"], arrays[f"{number}.bytes"] = _words_out(coding.atoms)
        return arrays, {"columns": facts}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        self.codings = []
        for number, (column, fact) in enumerate(zip(self.schema, facts["columns"], strict=True)):
            if "capacity" in fact:
                self.codings.append(Identifier(column, tuple(fact["alphabets"]), fact["capacity"]))
                continue
            named: dict[str, Any] = {name: arrays[f"{number}.{name}"] for name in ("edges", "starts", "knots")}
            if is_number(column.type):
                atoms: Any = arrays[f"{number}.atoms"]
            else:
                atoms = _words_in(arrays[f"{number}.lengths"], arrays[f"{number}.bytes"], column.type)
            sizes: dict[str, Any] = {name: fact[name] for name in ("singles", "digits", "cells", "step")}
            self.codings.append(Coding(column, tuple(fact["specials"]), atoms, **sizes, **named))
        self._lay_out()

    def _learnt(self) -> Iterator[Coding]:
        return (coding for coding in self.codings if isinstance(coding, Coding))

    def _lay_out(self) -> Fields:
        self.layout = Fields(tuple(field for coding in self._learnt() for field in coding.fields()))
        return self.layout

    def _column(self, rows: pa.Table, column: Column) -> pa.Array:
        if rows.schema.get_field_index(column.name) < 0:
            raise DataError(f"column '{column.name}': missing from the rows. They have: {', '.join(rows.column_names)}")
        found = rows.column(column.name)
        if found.type != column.type:
            raise DataError(f"column '{column.name}': of type {found.type} here, and of type {column.type} in the schema")
        return _whole(found)

    def _settle_column(self, column: Column, seen: ColumnStats, sample: pa.Array) -> Coding | Identifier:
        if column.kind == "id" and (pa.types.is_integer(column.type) or pa.types.is_string(column.type)):
            return _identifier(column, sample)
        if seen.counts is None:
            seen = replace(_observe_column(sample), specials=seen.specials, step=seen.step)
        counts = cast("NDArray[np.int64]", seen.counts)
        specials = tuple(int(code) for code in np.flatnonzero(seen.specials))
        if not is_number(column.type):
            order = np.argsort(-counts, kind="stable")
            return self._settle_atoms(column, specials, seen.values.take(pa.array(order)), min(len(counts), 128))
        if column.kind in CONTINUOUS and len(counts) > self.max_values:
            return self._settle_intervals(column, specials, seen.values, counts, seen.step)
        return self._settle_atoms(column, specials, seen.values, 0)

    def _settle_atoms(self, column: Column, specials: tuple[int, ...], atoms: Any, frequent: int) -> Coding:
        cells = len(specials) + len(atoms)
        if cells == 0:  # no row was seen at all: what is made is null
            specials, cells = (0,), 1
        if cells <= self.max_codes:
            return Coding(column, specials, atoms, cells, 1, cells)
        singles = len(specials) + frequent
        return Coding(column, specials, atoms, singles, math.isqrt(cells - singles) + 1, cells)

    def _settle_intervals(
        self, column: Column, specials: tuple[int, ...], values: Array, counts: NDArray[np.int64], step: int
    ) -> Coding:
        frequent = counts >= max(10, self.atom_share * counts.sum())
        atoms, rest = values[frequent], np.repeat(values[~frequent], counts[~frequent])
        if len(rest) > MAX_KNOTS:
            rest = rest[np.linspace(0, len(rest) - 1, MAX_KNOTS).astype(np.int64)]
        singles = len(specials) + len(atoms)
        if not len(rest):
            return Coding(column, specials, atoms, singles, 1, singles, step)
        bins = max(1, min(self.bins, len(rest) // self.rows_per_bin))
        digits = max(1, min(self.digits, len(rest) // (4 * bins)))
        edges = np.unique(rest[np.arange(bins * digits) * len(rest) // (bins * digits)])
        starts = np.append(np.searchsorted(rest, edges), len(rest)).astype(np.int64)
        return Coding(column, specials, atoms, singles, digits, singles + len(edges), step, edges, starts, rest)


def _allowed_cells(coding: Coding, condition: Condition) -> Mask:
    cells = coding.allowed(condition)
    wanted = [condition] if isinstance(condition, Range) else [Values(value) for value in _one_by_one(condition.values)]
    for one in wanted:
        if not coding.allowed(one).any():
            said = "this range" if isinstance(one, Range) else repr(one.values[0].as_py())
            raise RecipeError(f"where.{coding.column.name}: no train row has {said}, so that no row can be made for it")
    if not cells.any():
        raise RecipeError(f"where.{coding.column.name}: no train row is null, so that no row can be made for it")
    return cells


def _one_by_one(values: pa.Array) -> list[pa.Array]:
    return [values.slice(place, 1) for place in range(len(values))]


def _field_masks(coding: Coding, cells: Mask, place: int) -> Mapping[int, Mask]:
    masks = [np.zeros(field.size, dtype=np.bool_) for field in coding.fields()]
    for mask, codes in zip(masks, coding.to_codes(np.flatnonzero(cells)), strict=True):
        mask[codes] = True
    return {place + number: mask for number, mask in enumerate(masks) if not mask.all()}


def _words_out(words: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    known = [value or b"" for value in words.cast(pa.large_binary()).to_pylist()]
    return np.array([len(value) for value in known], dtype=np.int64), np.frombuffer(b"".join(known), dtype=np.uint8)


def _words_in(lengths: NDArray[np.int64], data: NDArray[np.uint8], type_: pa.DataType) -> pa.Array:
    ends, text = np.cumsum(lengths), data.tobytes()
    words = [text[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]
    if pa.types.is_fixed_size_binary(type_):
        return pa.array(words, type_)
    return pa.array(words, pa.large_binary()).cast(type_)
