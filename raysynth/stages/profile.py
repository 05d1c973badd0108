"""A source → what a person should know of it before anything is learnt: the audit of its profile, duplicates, drift between shards, and of
pictures what they are and how many are broken."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.cleaning import row_hash
from raysynth.cluster.rows import map_ordered
from raysynth.column_profile import BOUND, Counts, is_images
from raysynth.drift import drift
from raysynth.errors import DataError, UnreadableError
from raysynth.picture_profile import Pictures
from raysynth.profile import Profile, audit, infer_schema
from raysynth.schema import ROW_ID, Column, Kind, Schema
from raysynth.sources.base import BadRow, Shard, Source

SHOWN = 5
FEW = 20  # rows of a label, below which it is told
UNREADABLE = -1


@dataclass(frozen=True)
class Bad:
    """How many rows cannot be read or kept, by reason (numbers left out), and the first of them by row id."""

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    first: tuple[tuple[str, int, str], ...] = ()

    @staticmethod
    def of(rows: list[BadRow]) -> "Bad":
        reasons = Counter(re.sub("[0-9][0-9,]*", "#", row.reason) for row in rows)
        return Bad(len(rows), reasons, tuple(sorted((row.path, row.row, row.reason) for row in rows)[:SHOWN]))

    def merge(self, other: "Bad") -> "Bad":
        first = tuple(sorted((*self.first, *other.first))[:SHOWN])
        return Bad(self.rows + other.rows, self.reasons + other.reasons, first)

    def to_json(self) -> dict[str, Any]:
        first = [{"file": path, "row": row, "reason": reason} for path, row, reason in self.first]
        return {"rows": self.rows, "reasons": dict(self.reasons.most_common(SHOWN)), "first": first}


@dataclass(frozen=True)
class Seen:
    """Of some tables: the profile of their columns, their rows by content, what their pictures are, and the rows that are bad."""

    profile: Profile = field(default_factory=Profile)
    rows: Counts = field(default_factory=lambda: _row_counts(None))
    pictures: Pictures = field(default_factory=Pictures)
    bad: Bad = field(default_factory=Bad)

    def merge(self, other: "Seen") -> "Seen":
        return Seen(
            self.profile.merge(other.profile),
            self.rows.merge(other.rows),
            self.pictures.merge(other.pictures),
            self.bad.merge(other.bad),
        )


def run(source: Source, shards: list[Shard], *, workers: int, notes: Sequence[str] = ()) -> dict[str, Any]:
    """One pass over all shards on Ray Data; JSON. `notes`: what the source tells of its files. DataError where no row can be read."""
    seen: list[Seen] = map_ordered(shards, partial(_surveyor, source), workers=workers)
    whole = reduce(Seen.merge, seen)
    profile, rows = whole.profile, whole.rows
    if not profile.rows and whole.bad.rows:
        raise DataError(f"no row can be read. File '{whole.bad.first[0][0]}': {whole.bad.first[0][2]}")
    repeats = rows.total - rows.distinct if rows.exact else round(rows.total * (1 - len(rows.texts) / int(rows.counts.sum())))
    # shards of many small files follow the order of their folders, and are not meant to be alike
    drifts = drift({_label(shard): one.profile for shard, one in zip(shards, seen, strict=True) if not shard.files}, profile)
    known: dict[str, Kind] = {name: kind for name, kind in source.kinds().items() if name in profile.columns}
    schema = infer_schema(profile, known)
    told = audit(profile, schema=schema, duplicates=repeats)
    found: dict[str, Any] = {"bad": whole.bad.to_json()}
    if whole.pictures.columns:
        found |= {"pictures": whole.pictures.to_json(profile.columns), "balance": _balance(profile, schema)}
    warnings = [*notes, *told["warnings"], *_told_of(found, profile.rows), *map(str, drifts)]
    drifted = [vars(one) for one in drifts]
    return {**told, **found, "warnings": warnings, "shards": len(shards), "drift": drifted, "duplicates_are_exact": rows.exact}


def _surveyor(source: Source) -> Callable[[Shard], Seen]:
    def survey(shard: Shard) -> Seen:
        seen = Seen()
        try:
            for table, unreadable in source.read(shard):
                pictures, broken = Pictures.observe(table)
                seen = seen.merge(Seen(Profile.observe(table), _row_counts(table), pictures, Bad.of([*unreadable, *broken])))
        except UnreadableError as error:  # as prepare does: it is one bad row, and what could be read of it is left out
            return Seen(bad=Bad.of([BadRow(shard.file.path, UNREADABLE, str(error), "")]))
        return seen

    return survey


def _label(shard: Shard) -> str:
    return f"{shard.file.path}, row {shard.first_row} on" if shard.first_row else shard.file.path


def _balance(profile: Profile, schema: Schema) -> dict[str, Any]:
    """Of each column of labels the least and the most frequent value, and how many there are."""
    balances: dict[str, Any] = {}
    for column in schema:
        values = profile.columns[column.name].values
        if column.kind in ("category", "boolean") and values.exact and values.texts:
            counts = sorted(zip(values.counts.tolist(), values.texts, strict=True))
            (fewest, least), (most, common) = counts[0], counts[-1]
            few = sum(count < FEW for count, _ in counts)
            ends = {"fewest": {"value": least, "count": fewest}, "most": {"value": common, "count": most}}
            balances[column.name] = {"values": len(counts), "below_20": few, **ends}
    return balances


def _told_of(found: dict[str, Any], rows: int) -> list[str]:
    bad, warnings = found["bad"], list[str]()
    if bad["rows"]:
        first = bad["first"][0]
        warnings.append(
            f"{bad['rows']:,} rows of {rows:,} cannot be kept, and prepare sets them apart; the first: '{first['file']}', "
            f"row {first['row']}: {first['reason']}"
        )
    for name, facts in found.get("pictures", {}).items():
        if facts["repeated"]:
            warnings.append(f"column '{name}': {facts['repeated']:,} pictures are byte for byte another one")
    for name, balance in found.get("balance", {}).items():
        if balance["below_20"]:
            least = balance["fewest"]
            warnings.append(
                f"column '{name}': {balance['below_20']:,} of its {balance['values']:,} values have fewer than {FEW} rows, the fewest "
                f"'{least['value']}' with {least['count']:,}"
            )
    return warnings


def _row_counts(table: pa.Table | None) -> Counts:
    """The rows of lowest content hash, with counts: exact up to BOUND distinct rows, an even sample above; nested cells left out."""
    if table is None:
        return Counts(np.zeros(0, np.uint64), np.zeros(0, np.int64), ())
    columns = [
        Column(field.name, "image" if is_images(table.column(field.name)) else "text", field.type)
        for field in table.schema
        if field.name not in ROW_ID
    ]
    words = row_hash(table, Schema(tuple(one for one in columns if one.kind == "image" or not pa.types.is_nested(one.type))))
    hashes, counts = np.unique(words, return_counts=True)
    return Counts(hashes[:BOUND], counts[:BOUND].astype(np.int64), ("",) * min(BOUND, len(hashes)), table.num_rows)
