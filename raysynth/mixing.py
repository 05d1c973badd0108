"""How many rows of each kind a mix takes, which ones they are, and the Hive folder that each goes to: no reading, no writing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.cleaning import flat_ids, row_hash
from raysynth.draws import Draws, Words, mix, row_words, word
from raysynth.errors import DataError, RecipeError
from raysynth.metrics.base import ORIGIN
from raysynth.parts import nearest
from raysynth.recipe import Mix
from raysynth.schema import FILE, ROW, Schema

Kind = Literal["real", "augmented", "synthetic"]
KINDS: tuple[Kind, ...] = ("real", "augmented", "synthetic")
NULL = "__HIVE_DEFAULT_PARTITION__"
MOST_FOLDERS = 10_000
_VALUE_BYTES = 200
_NAME_BYTES = 255  # what file systems allow
_LARGEST = np.uint64(2**64 - 1)
_DEVIATIONS = 8.0  # how far from the share candidates lie: standard deviations, and …
_ROWS_AROUND = 32.0  # … where so few are taken that the normal distribution says little, rows
_REMEDIES: Mapping[Kind, str] = {
    "real": "lower mix.rows or mix.real",
    "augmented": "lower mix.rows or mix.augmented, or raise the copies of augment's ops",
    "synthetic": "lower mix.rows or mix.synthetic, or raise generate.rows",
}


@dataclass(frozen=True)
class Last:
    """Of the rows that are taken, in the order of (hash, row number), the last."""

    word: int
    number: int


Selection = Mapping[str | None, Last]
"""By the value that rows are stratified by, as text; of a value that is not there, no row is taken. Without strata: one, under None."""


def check(asked: Mix, schema: Schema) -> None:
    """RecipeError, naming the nearest, on a column that is not there; also where folders would take every column or lose values."""
    names = schema.names
    if ORIGIN in names:
        raise RecipeError(f"mix: the rows have a column '{ORIGIN}', the name in which a mix says where a row is from. Rename it")
    if asked.stratify_by is not None and asked.stratify_by not in names:
        raise RecipeError(_unknown("mix.stratify_by", asked.stratify_by, names))
    if asked.stratify_by is not None and schema[asked.stratify_by].kind in ("turns", "image"):
        raise RecipeError(
            f"mix.stratify_by: '{asked.stratify_by}' is of kind {schema[asked.stratify_by].kind}, which has no shares. Choose a column of "
            "classes"
        )
    for column in asked.partition_by:
        if column not in (*names, ORIGIN):
            raise RecipeError(_unknown("mix.partition_by", column, [*names, ORIGIN]))
        if column != ORIGIN and not _in_folders(schema[column].type):
            raise RecipeError(
                f"mix.partition_by: '{column}' is of the type {schema[column].type}, which cannot be read back from a folder's name. "
                "Choose another column, or derive one"
            )
    if twice := [column for column in asked.partition_by if asked.partition_by.count(column) > 1]:
        raise RecipeError(f"mix.partition_by: '{twice[0]}' is named twice. Name it once")
    if set(names) <= set(asked.partition_by):
        raise RecipeError("mix.partition_by: names every column, and a file needs at least one. Leave one out")


def _unknown(key: str, name: str, known: list[str]) -> str:
    return f"{key}: no column '{name}'.{nearest(name, known)} Columns: {', '.join(known)}"


def _in_folders(type: pa.DataType) -> bool:
    try:
        pa.array([], type).cast(pa.string()).cast(type)
    except pa.ArrowNotImplementedError:
        return False
    return not (pa.types.is_binary(type) or pa.types.is_large_binary(type) or pa.types.is_fixed_size_binary(type))


# How many


def rows_to_take(asked: Mix, available: Mapping[Kind, int]) -> dict[Kind, int]:
    """With mix.rows, that many dealt by weight; else the share of each kind, halves rounded up. DataError where there are not as many."""
    weights = [Fraction(str(getattr(asked, kind))) for kind in KINDS]
    if asked.rows is None:
        taken = [int(weight * available[kind] + Fraction(1, 2)) for weight, kind in zip(weights, KINDS, strict=True)]
    else:
        taken = deal(asked.rows, weights)
    for kind, rows in zip(KINDS, taken, strict=True):
        if rows > available[kind]:
            key = "mix.rows" if asked.rows is not None else f"mix.{kind}"
            raise DataError(
                f"{key}: asks for {rows:,} {kind} rows, and there are {available[kind]:,}, none of which is taken twice. "
                f"So {_REMEDIES[kind]}"
            )
    if not sum(taken):
        raise DataError("mix: its shares come to no row at all. Raise mix.real, mix.augmented or mix.synthetic")
    return dict(zip(KINDS, taken, strict=True))


def deal(total: int, weights: Sequence[int | Fraction]) -> list[int]:
    """`total` in proportion to the weights, by largest remainder; of equal remainders the first comes first. Never above a weight where
    the weights are whole numbers whose sum is at least the total."""
    whole = sum((Fraction(weight) for weight in weights), Fraction())
    if not whole:
        return [0] * len(weights)
    quotas = [total * Fraction(weight) / whole for weight in weights]
    dealt = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda at: dealt[at] - quotas[at])
    for at in by_remainder[: total - sum(dealt)]:
        dealt[at] += 1
    return dealt


# Which ones


def mix_words(kind: Kind, rows: pa.Table, schema: Schema, *, seed: int, first: int) -> Words:
    """A 64-bit hash per row, by which rows are chosen. Real and augmented: of the row id, and of the contents of augmented rows, for
    several come from one real row. Synthetic: of the row number, `first` being that of the first."""
    if kind == "synthetic":
        return Draws.range(seed, "mix", first, first + rows.num_rows).words("mix")
    file = flat_ids(rows.column(FILE))
    files, index = [str(name) for name in file.dictionary.to_pylist()], np.asarray(file.indices).astype(np.int64)
    words = row_words(files, index, np.asarray(rows.column(ROW)).astype(np.int64), seed)
    if kind == "augmented":
        words = words + row_hash(rows, schema)
    return mix(words ^ word(seed, "mix", kind))


def strata(rows: pa.Table, column: str | None) -> tuple[NDArray[np.int64], list[str | None]]:
    """Each row's position in the list of the values, which are texts or None; without a column all rows are in one stratum."""
    if column is None:
        return np.zeros(rows.num_rows, np.int64), [None]
    coded = _text(rows.column(column)).dictionary_encode()
    values: list[str | None] = [*coded.dictionary.to_pylist(), None]
    return np.asarray(coded.indices.fill_null(len(values) - 1)).astype(np.int64), values


@dataclass(frozen=True)
class Candidates:
    """What decides the choice, of some rows of a kind: by stratum how many there are, and of the hashes those that lie where the last row
    taken must be, between `low` and `high`, with the numbers of their rows; how many lie lower."""

    values: list[str | None]
    held: NDArray[np.int64]
    lower: NDArray[np.int64]
    low: Words
    high: Words
    words: Words
    codes: NDArray[np.int64]
    numbers: NDArray[np.int64]


def candidates(words: Words, first: int, codes: NDArray[np.int64], values: list[str | None], share: float | None) -> Candidates:
    """Rows of the numbers from `first` on, of whose kind that share is taken: about 16 √rows hashes of each stratum; all if it is None.
    Hashes are uniform, so the last one taken lies near the share, nearer the more rows a stratum has: here, at least those seen."""
    held = np.bincount(codes, minlength=len(values)).astype(np.int64)
    seen = np.maximum(held, 1)
    middle = 0.5 if share is None else share
    reach = np.ones(len(values)) if share is None else _DEVIATIONS * np.sqrt(share * (1 - share) / seen) + _ROWS_AROUND / seen
    low = (np.maximum(middle - reach, 0.0) * 2.0**64).astype(np.uint64)
    above = middle + reach
    high = np.where(above < 1, (np.minimum(above, 1 - 2.0**-53) * 2.0**64).astype(np.uint64), _LARGEST)
    near = np.flatnonzero((words >= low[codes]) & (words <= high[codes]))
    lower = np.bincount(codes[words < low[codes]], minlength=len(values)).astype(np.int64)
    return Candidates(values, held, lower, low, high, words[near], codes[near], first + near)


def select(parts: Sequence[Candidates], rows: int) -> dict[str | None, Last] | None:
    """All parts of a kind, in order → the last row taken of each stratum. `rows` are dealt in proportion to the strata; in each, those of
    lowest hash are taken, of equal hashes the lower row number. None if the last one is no candidate: then ask for all."""
    seen = _merged(parts)
    order = np.lexsort((seen.words, seen.codes))  # stable: equal hashes stay in the order of their numbers
    near = np.bincount(seen.codes, minlength=len(seen.values))
    starts = np.cumsum(near) - near
    in_order = sorted(range(len(seen.values)), key=lambda at: (seen.values[at] is None, seen.values[at] or ""))
    chosen: dict[str | None, Last] = {}
    for at, taken in zip(in_order, deal(rows, [int(seen.held[at]) for at in in_order]), strict=True):
        if not taken:
            continue
        position = taken - int(seen.lower[at]) - 1
        if not 0 <= position < near[at]:
            return None
        last = order[starts[at] + position]
        if not seen.low[at] <= seen.words[last] <= seen.high[at]:
            return None
        chosen[seen.values[at]] = Last(int(seen.words[last]), int(seen.numbers[last]))
    return chosen


def _merged(parts: Sequence[Candidates]) -> Candidates:
    """Each part numbers its values anew. Between the highest `low` and the lowest `high`, every hash is a candidate."""
    position: dict[str | None, int] = {}
    places = [np.array([position.setdefault(value, len(position)) for value in part.values], np.int64) for part in parts]
    held, lower = np.zeros(len(position), np.int64), np.zeros(len(position), np.int64)
    low, high = np.zeros(len(position), np.uint64), np.full(len(position), _LARGEST)
    for part, place in zip(parts, places, strict=True):
        there = place[part.held > 0]
        held[place] += part.held
        lower[place] += part.lower
        low[there] = np.maximum(low[there], part.low[part.held > 0])
        high[there] = np.minimum(high[there], part.high[part.held > 0])
    return Candidates(
        values=list(position),
        held=held,
        lower=lower,
        low=low,
        high=high,
        words=np.concatenate([part.words for part in parts]),
        codes=np.concatenate([place[part.codes] for part, place in zip(parts, places, strict=True)]),
        numbers=np.concatenate([part.numbers for part in parts]),
    )


def is_taken(
    words: Words, first: int, codes: NDArray[np.int64], values: Sequence[str | None], chosen: Selection
) -> NDArray[np.bool_]:
    """Some rows of a kind, from the number `first` on → which of them are taken."""
    lasts = [chosen.get(value) or Last(0, -1) for value in values]
    last_words = np.array([last.word for last in lasts], np.uint64)[codes]
    last_numbers = np.array([last.number for last in lasts], np.int64)[codes]
    numbers = np.arange(first, first + len(words))
    return (words < last_words) | ((words == last_words) & (numbers <= last_numbers))


# Where to


def with_origin(rows: pa.Table, schema: pa.Schema, kind: Kind, extras: Sequence[str] = ()) -> pa.Table:
    """The rows in the mix's columns, and `_origin`; of the `extras` those that they lack are null."""
    columns = [
        pa.nulls(rows.num_rows, field.type)
        if field.name in extras and field.name not in rows.column_names
        else rows.column(field.name).cast(field.type)
        for field in schema
    ]
    origin = pa.repeat(pa.scalar(kind, pa.string()), rows.num_rows)
    return pa.table([*columns, origin], schema=pa.schema([*schema, pa.field(ORIGIN, pa.string())]))


def by_folder(rows: pa.Table, partition_by: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """(Hive folder, its rows without the columns that the folder tells), sorted by folder; rows keep their order."""
    if not rows.num_rows:
        return
    if not partition_by:
        yield "", rows
        return
    coded = folders(rows, partition_by).dictionary_encode()
    names = [str(name) for name in coded.dictionary.to_pylist()]
    codes = np.asarray(coded.indices)
    sorted_rows = rows.drop_columns(list(partition_by)).take(np.argsort(codes, kind="stable"))
    held = np.bincount(codes, minlength=len(names))
    starts = np.cumsum(held) - held
    for at in sorted(range(len(names)), key=names.__getitem__):
        yield names[at], sorted_rows.slice(int(starts[at]), int(held[at]))


def folders(rows: pa.Table, partition_by: Sequence[str]) -> pa.StringArray:
    """The Hive folder of each row, `column=value/column=value`."""
    steps: list[pa.StringArray] = []
    for column in partition_by:
        codes, values = strata(rows, column)
        used = np.zeros(len(values), np.bool_)
        used[codes] = True
        names = [folder_name(column, value) if use else None for value, use in zip(values, used, strict=True)]
        steps.append(pa.array(names, pa.string()).take(codes))
    joined: Any = pc.call_function("binary_join_element_wise", [*steps, pa.scalar("/")])
    return joined


def folder_name(column: str, value: str | None) -> str:
    """`column=value`, percent-encoded so that it is one step below its root whatever the text. DataError if it is too long, or the
    text is the very one by which Hive means null. An empty text stays apart from null (`column=`)."""
    if value == NULL:
        raise DataError(f"mix.partition_by: '{column}' has the text {NULL}, by which folders mean null. Choose another column")
    told = NULL if value is None else quote(value, safe="")
    name = f"{_plain_name(column)}={told}"
    if len(told) > _VALUE_BYTES or len(name.encode()) > _NAME_BYTES:
        raise DataError(
            f"mix.partition_by: a value of '{column}' needs {len(told)} bytes as a folder's name; at most {_VALUE_BYTES} are allowed, and "
            f"{_NAME_BYTES} with the column. Choose a column of short values"
        )
    return name


def check_folders(names: Iterable[str]) -> None:
    """DataError on more distinct folders than a reader could list."""
    if (count := len(set(names))) > MOST_FOLDERS:
        raise DataError(
            f"mix.partition_by: gives {count:,} folders or more, and {MOST_FOLDERS:,} are allowed. Choose columns of fewer values"
        )


def _plain_name(column: str) -> str:
    """Only what would break the path is encoded: DuckDB and Polars decode values, not names. Readers skip folders whose names start with _
    or a dot."""
    name = "".join(quote(letter, safe="") if letter in "/=%\\" or not letter.isprintable() else letter for letter in column)
    return {"_": "%5F", ".": "%2E"}.get(name[:1], name[:1]) + name[1:]


def _text(column: pa.ChunkedArray) -> pa.Array:
    texts = column.cast(pa.string()).combine_chunks()
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
