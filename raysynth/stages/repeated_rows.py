"""All shards → which of their rows repeat another one, or nearly: of them the one of the lowest row id stays."""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.cleaning import row_hash
from raysynth.cluster.map_reduce import map_reduce
from raysynth.schema import ROW
from raysynth.stages.prepare_text import near_duplicates, text_columns
from raysynth.stages.reader import Reader

_DUPLICATE_BUCKETS = 16


def duplicates(reader: Reader) -> dict[int, Any]:
    """Part → the `_row` numbers to leave out: of equal rows, the one of the lowest row id stays."""
    parts = list(range(len(reader.shards)))
    found: list[pa.Table] = map_reduce(parts, partial(_cut_hashes, reader), _repeated, buckets=_DUPLICATE_BUCKETS)
    table = pa.concat_tables(found)
    part, row = table["part"].to_numpy(), table["row"].to_numpy()
    return {int(number): np.sort(row[part == number]) for number in np.unique(part)}


def _cut_hashes(reader: Reader, part: int) -> list[pa.Table]:
    rows, _, _ = reader.kept(part)
    if rows is None:
        return [
            pa.table({"hash": pa.array([], pa.uint64()), "part": pa.array([], pa.int64()), "row": pa.array([], pa.int64())})
        ] * _DUPLICATE_BUCKETS
    words = row_hash(rows, reader.schema)
    parts = pa.array(np.full(rows.num_rows, part, np.int64))
    table = pa.table({"hash": pa.array(words), "part": parts, "row": rows.column(ROW).combine_chunks()})
    bucket = words % np.uint64(_DUPLICATE_BUCKETS)
    return [table.filter(pa.array(bucket == number)) for number in range(_DUPLICATE_BUCKETS)]


def _repeated(_bucket: int, tables: list[pa.Table]) -> pa.Table:
    """Shards come in the order of (path, first row), so (part, row) orders as row ids do."""
    ordered = pa.concat_tables(tables).sort_by([("hash", "ascending"), ("part", "ascending"), ("row", "ascending")])
    words = ordered["hash"].to_numpy()
    repeated = np.concatenate([np.zeros(min(1, len(words)), np.bool_), words[1:] == words[:-1]])
    return ordered.filter(pa.array(repeated)).select(["part", "row"])


def near_duplicates_of(reader: Reader, rows: int) -> dict[int, Any]:
    """Part → the `_row` numbers to leave out: of rows with nearly the same texts, the one of the lowest row id stays."""
    if reader.texts is None or reader.texts.options.near_duplicates is None:
        return {}
    kept = partial(_kept, reader)
    return near_duplicates(reader.texts.options.near_duplicates, len(reader.shards), rows, kept, reader.schema)


def _kept(reader: Reader, part: int) -> pa.Table:
    rows, _, _ = reader.kept(part)
    empty = pa.table(
        {ROW: pa.array([], pa.int64()), **{name: pa.array([], reader.schema[name].type) for name in text_columns(reader.schema)}}
    )
    return empty if rows is None else rows
