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
    """Part → the places, among the rows that are kept of it, to leave out: of equal rows, the one of the lowest row id stays."""
    parts = list(range(len(reader.shards)))
    found: list[pa.Table] = map_reduce(parts, partial(_cut_hashes, reader), _repeated, buckets=_DUPLICATE_BUCKETS)
    table = pa.concat_tables(found)
    part, place = table["part"].to_numpy(), table["place"].to_numpy()
    return {int(number): np.sort(place[part == number]) for number in np.unique(part)}


def _cut_hashes(reader: Reader, part: int) -> list[pa.Table]:
    hashes = [row_hash(kept.rows, reader.schema) for kept in reader.kept(part) if kept.rows is not None]
    words = np.concatenate([np.zeros(0, np.uint64), *hashes])
    parts, places = np.full(len(words), part, np.int64), np.arange(len(words), dtype=np.int64)
    table = pa.table({"hash": pa.array(words), "part": pa.array(parts), "place": pa.array(places)})
    bucket = words % np.uint64(_DUPLICATE_BUCKETS)
    return [table.filter(pa.array(bucket == number)) for number in range(_DUPLICATE_BUCKETS)]


def _repeated(_bucket: int, tables: list[pa.Table]) -> pa.Table:
    """Shards come in the order of (path, first row), and rows in that of their file, so (part, place) orders as row ids do."""
    ordered = pa.concat_tables(tables).sort_by([("hash", "ascending"), ("part", "ascending"), ("place", "ascending")])
    words = ordered["hash"].to_numpy()
    repeated = np.concatenate([np.zeros(min(1, len(words)), np.bool_), words[1:] == words[:-1]])
    return ordered.filter(pa.array(repeated)).select(["part", "place"])


def near_duplicates_of(reader: Reader, rows: int) -> dict[int, Any]:
    """Part → the places, among the rows that are kept of it, to leave out: of rows with nearly the same texts, the one of the lowest row
    id stays."""
    if reader.texts is None or reader.texts.options.near_duplicates is None:
        return {}
    kept = partial(_kept, reader)
    return near_duplicates(reader.texts.options.near_duplicates, len(reader.shards), rows, kept, reader.schema)


def _kept(reader: Reader, part: int) -> pa.Table:
    """The texts of what is kept of a part, and the place of each as its `_row`: several files may be in one part."""
    names = text_columns(reader.schema)
    empty = pa.table({name: pa.array([], reader.schema[name].type) for name in names})
    texts = pa.concat_tables([empty, *(kept.rows.select(names) for kept in reader.kept(part) if kept.rows is not None)])
    return texts.add_column(0, ROW, pa.array(np.arange(texts.num_rows, dtype=np.int64)))
