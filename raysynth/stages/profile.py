"""A source → what a person should know of it before anything is learnt: the audit of its profile, duplicates, drift between shards."""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.cleaning import row_hash
from raysynth.cluster.rows import map_ordered
from raysynth.column_profile import BOUND, Counts
from raysynth.drift import drift
from raysynth.profile import Profile, audit, infer_schema
from raysynth.schema import ROW_ID, Column, Kind, Schema
from raysynth.sources.base import Shard, Source

Seen = tuple[Profile, Counts]


def run(source: Source, shards: list[Shard], *, workers: int) -> dict[str, Any]:
    """One pass over all shards on Ray Data; JSON."""
    seen: list[Seen] = map_ordered(shards, partial(_surveyor, source), workers=workers)
    whole, rows = reduce(_merged, seen)
    repeats = rows.total - rows.distinct if rows.exact else round(rows.total * (1 - len(rows.texts) / int(rows.counts.sum())))
    labels = [f"{shard.file.path}, row {shard.first_row} on" if shard.first_row else shard.file.path for shard in shards]
    drifts = drift({label: profile for label, (profile, _) in zip(labels, seen, strict=True)}, whole)
    known: dict[str, Kind] = {name: kind for name, kind in source.kinds().items() if name in whole.columns}
    told = audit(whole, schema=infer_schema(whole, known), duplicates=repeats)
    told["warnings"] = [*told["warnings"], *(str(found) for found in drifts)]
    return {**told, "shards": len(shards), "drift": [vars(found) for found in drifts], "duplicates_are_exact": rows.exact}


def _merged(left: Seen, right: Seen) -> Seen:
    return left[0].merge(right[0]), left[1].merge(right[1])


def _surveyor(source: Source) -> Callable[[Shard], Seen]:
    def survey(shard: Shard) -> Seen:
        seen = (Profile(), _row_counts(None))
        for table, _ in source.read(shard):
            seen = _merged(seen, (Profile.observe(table), _row_counts(table)))
        return seen

    return survey


def _row_counts(table: pa.Table | None) -> Counts:
    """The rows of lowest content hash, with counts: exact up to BOUND distinct rows, an even sample above; nested cells left out."""
    if table is None:
        return Counts(np.zeros(0, np.uint64), np.zeros(0, np.int64), ())
    flat = [field for field in table.schema if field.name not in ROW_ID and not pa.types.is_nested(field.type)]
    words = row_hash(table, Schema(tuple(Column(field.name, "text", field.type) for field in flat)))
    hashes, counts = np.unique(words, return_counts=True)
    return Counts(hashes[:BOUND], counts[:BOUND].astype(np.int64), ("",) * min(BOUND, len(hashes)), table.num_rows)
