"""A recipe's input → its first rows as prepare makes them, what reading and preparing them cost, and how many rows there are in all."""

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, reduce
from statistics import median
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysynth.commits import parquet_bytes
from raysynth.errors import UnreadableError
from raysynth.expressions import Expression
from raysynth.profile import Profile, date_formats
from raysynth.recipe import Recipe
from raysynth.schema import IMAGE, ROW_ID, Schema
from raysynth.sources._files import RangeFile
from raysynth.sources.base import BadRow, InputFile, Shard, Source
from raysynth.stages import prepare
from raysynth.stages.known import joined_by
from raysynth.stages.prepare_text import texts_of
from raysynth.stages.reader import Reader
from raysynth.stores.base import store_for

PROBE_ROWS = 10_000
PROBE_BYTES = 64 << 20
"""Of the first rows, where they are wide: pictures fill a memory long before there are so many of them."""
COUNT_SECONDS = 3.0
"""CPU-seconds for which rows are counted by reading; of more input the rest is reckoned by its bytes."""
WARM_ROWS = 50
"""Go first through whatever is measured: imports and first calls are no cost of a row."""
ADDED, ADDED_SECONDS = 500_000, 0.016
"""Numbers that are added up one by one, and the CPU-seconds of that where what nobody probes was measured: starting Ray, say."""
FOOTERS = 16
HEAD_BYTES = 1 << 20

Result = TypeVar("Result")


def measured(work: Callable[[], Result]) -> tuple[Result, float]:
    """What it returns, and the CPU-seconds of this process that it took."""
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


@cache
def slowness() -> float:
    """How many times longer than there Python takes here, at least 1."""

    def add() -> None:
        total = 0
        for number in range(ADDED):
            total += number

    return max(1.0, median(measured(add)[1] for _ in range(3)) / ADDED_SECONDS)


@dataclass(frozen=True)
class FirstRows:
    """`splits`: the first rows by split, in the schema's types. `total_rows`: of the whole input. Seconds are CPU-seconds of one row."""

    schema: Schema
    splits: dict[str, pa.Table]
    rows: int
    total_rows: float
    read_seconds: float
    profile_seconds: float
    prepare_seconds: float

    def total(self, split: str) -> float:
        """Rows of a split in all, by its share of the first ones."""
        return self.total_rows * self.splits[split].num_rows / max(1, self.rows)

    def held_by(self, rules: Mapping[str, str]) -> float:
        """The share of the first train rows in which all rules hold, at least 1 %: so many synthetic ones are taken to stand."""
        train = self.splits["train"]
        parsed = [Expression.parse(text, key) for key, text in rules.items()]
        holds = reduce(lambda held, rule: held & rule.holds(train), parsed, np.ones(train.num_rows, np.bool_))
        return max(0.01, float(holds.mean()) if train.num_rows else 1.0)


def first_rows(recipe: Recipe, files: list[InputFile]) -> FirstRows:
    """DataError or RecipeError where prepare would give it, as far as the first rows show."""
    source = prepare.source_of(recipe)
    shards = source.shards(files)
    (table, shard, read, total), read_seconds = measured(lambda: _read(recipe, source, files, shards))
    Profile.observe(table.slice(0, WARM_ROWS))
    profile, profile_seconds = measured(lambda: Profile.observe(table))
    known = joined_by(recipe)
    schema = prepare.schema_of(recipe, profile, known)
    formats, texts = date_formats(profile, schema), texts_of(recipe)
    _prepared(
        recipe, Reader(_Read(table.slice(0, WARM_ROWS)), (shard,), schema, formats, texts, known, prepare.max_pixels_of(recipe))
    )
    reader = Reader(_Read(table), (shard,), schema, formats, texts, known, prepare.max_pixels_of(recipe))
    made, prepare_seconds = measured(lambda: _prepared(recipe, reader))
    empty = pa.table({name: pa.array([], pa.string() if name == ROW_ID[0] else pa.int64()) for name in ROW_ID})
    for column in schema:
        empty = empty.append_column(column.name, pa.array([], column.type))
    rows = max(1, table.num_rows)
    splits = {split: made.get(split, empty) for split in prepare.SPLITS}
    if not splits["train"].num_rows:  # so few rows are all in other splits
        splits["train"] = next((table for table in splits.values() if table.num_rows), empty)
    return FirstRows(schema, splits, rows, total, read_seconds / max(1, read), profile_seconds / rows, prepare_seconds / rows)


def _prepared(recipe: Recipe, reader: Reader) -> dict[str, pa.Table]:
    """The very work of a task of prepare, its files but serialised."""
    made = {entry[0]: entry[1] for entry in prepare.make_files(recipe, reader, {})(0)}  # PROBE_BYTES are one group
    for table in made.values():
        if table is not None:
            parquet_bytes(table)
    return {split: table for split, table in made.items() if table is not None}


class _Read(Source):
    """Rows that have been read."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def files(self) -> list[InputFile]:
        return []

    def shards(self, files: list[InputFile]) -> list[Shard]:
        return []

    def read(self, shard: Shard) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        yield self.table, []


def _read(recipe: Recipe, source: Source, files: list[InputFile], shards: list[Shard]) -> tuple[pa.Table, Shard, int, float]:
    """The first rows, the shard of the first, how many rows were read and how many there are."""
    kept: list[pa.Table] = []
    first, rows, began, known = shards[0], 0, time.process_time(), source.known_rows(files)
    for shard in shards:
        with suppress(UnreadableError):
            for table, _ in source.read(shard):
                if not rows and table.num_rows:
                    first = shard
                wanted = PROBE_ROWS - sum(piece.num_rows for piece in kept)
                held_bytes = sum(piece.nbytes for piece in kept)
                if wanted and held_bytes < PROBE_BYTES and (not kept or table.schema == kept[0].schema):
                    kept.append(table.slice(0, wanted))
                rows += table.num_rows
                seen = rows >= PROBE_ROWS or held_bytes >= PROBE_BYTES
                counted = known is not None or time.process_time() - began > COUNT_SECONDS
                if seen and counted and not shard.file.url.startswith("examples:"):
                    head = pa.concat_tables(kept)
                    total = _reckoned(recipe, files, head) if known is None else float(known)
                    return head, first, rows, max(float(rows), total)
    return pa.concat_tables(kept), first, rows, float(rows)


def _reckoned(recipe: Recipe, files: list[InputFile], head: pa.Table) -> float:
    """Rows of an input that is too big to be counted: of Parquet by some footers, of text by the bytes of the first rows."""
    size_bytes = sum(file.size_bytes for file in files)
    if recipe.source.use == "parquet":
        some = [files[at] for at in np.unique(np.linspace(0, len(files) - 1, min(FOOTERS, len(files))).astype(int))]
        counted = [(file.size_bytes, _footer_rows(file)) for file in some]
        return sum(rows for _, rows in counted) * size_bytes / max(1, sum(size for size, _ in counted))
    names = [name for name in head.column_names if name not in ROW_ID]
    if any(head[name].type == IMAGE for name in names):  # packed as they lie in their archive
        return size_bytes / (head.nbytes / head.num_rows)
    cells = sum(pc.sum(cast("Any", pc).binary_length(head[name].cast(pa.string()))).as_py() or 0 for name in names)
    keys = 2 + sum(len(name) + 6 for name in names) if recipe.source.use == "jsonl" else len(names)
    return size_bytes * _unpacked(files[0]) / (cells / head.num_rows + keys)


def _footer_rows(file: InputFile) -> int:
    try:
        opened: Any = RangeFile(file)
        return pq.ParquetFile(opened).metadata.num_rows
    except (pa.ArrowException, OSError):
        return 0


def _unpacked(file: InputFile) -> float:
    """Bytes of text for each byte of the file."""
    if not file.path.endswith(".gz"):
        return 1.0
    packed = store_for(file.url).read_range(file.url, 0, HEAD_BYTES)
    return len(zlib.decompressobj(31).decompress(packed)) / max(1, len(packed))
