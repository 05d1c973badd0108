"""What a worker does to a part of prepared rows before training: observe it, encode it, shuffle it. It needs no torch, and loads none."""

from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.cluster.feed import table_of
from raysynth.codecs.base import Codec, Stats
from raysynth.commits import write_task
from raysynth.row_ids import id_words
from raysynth.runs import Folder, Plan, read_rows


def observer(codec: Codec) -> Any:
    def observe(url: str) -> Stats:
        return codec.observe(read_rows(url))

    return observe


def cut(codec: Codec, buckets: int, seed: int, url: str | None) -> list[pa.Table]:
    """One prepared part → its encoded rows with their hash, one table per bucket of hashes."""
    if url is None:
        return [pa.table({"_word": pa.array([], pa.uint64())})] * buckets
    rows = read_rows(url)
    words = id_words(rows, seed)
    table = table_of(codec.encode(rows)).append_column("_word", pa.array(words))
    bucket = (words >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)
    return [table.filter(pa.array(bucket == number)) for number in range(buckets)]


def bring(folder: Folder, plan: Plan, split: str, first: int, bucket: int, tables: list[pa.Table]) -> int:
    rows = pa.concat_tables([table for table in tables if table.num_rows] or tables[:1])
    rows = rows.sort_by("_word").drop_columns(["_word"])
    part = first + bucket
    write_task(folder, plan, range(part, part + 1), lambda _: [(split, rows if rows.num_rows else None, {})])
    return rows.num_rows


def lowest_of(seed: int, count: int) -> Any:
    def lowest(url: str) -> pa.Table:
        rows = read_rows(url)
        words = id_words(rows, seed)
        order = np.argsort(words, kind="stable")[:count]
        return rows.take(order).append_column("_word", pa.array(words[order]))

    return lowest
