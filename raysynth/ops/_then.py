"""Ops one after the other as one op: each takes what the one before it gives. `augment: [{use: image.rotate, then: [image.flip]}]`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import pyarrow as pa

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.ops.base import Asking, Op, Stats, Work
from raysynth.row_ids import id_words
from raysynth.schema import FILE, ROW, ROW_ID, Schema

STEP = "#then"


@dataclass(frozen=True)
class _EachStats:
    """Of each op what it saw."""

    each: tuple[Stats | None, ...]

    def merge(self, other: "_EachStats") -> "_EachStats":
        pairs = zip(self.each, other.each, strict=True)
        return _EachStats(tuple(None if one is None or two is None else one.merge(two) for one, two in pairs))


class Then(Op):
    """All observe the real train rows. Derived columns stay those of the row that each comes from until the last op has made its own.
    RecipeError for an op that asks a server (its replies are kept by the rows that it is asked for), and where two add one column."""

    def __init__(self, ops: Sequence[Op]) -> None:
        super().__init__(ops[0].schema)
        self.ops = tuple(ops)
        self.most_pixels = max(op.most_pixels for op in ops)
        if any(isinstance(op, Asking) for op in ops):
            raise RecipeError("then: an op that asks a server stands alone. Give it an entry of its own in augment")
        added = Counter(column.name for op in ops for column in op.made if column.name not in self.schema)
        if twice := [name for name, count in added.items() if count > 1]:
            raise RecipeError(f"then: two ops add a column '{twice[0]}', and a row has one. Give one of them an entry of its own")

    @property
    def made(self) -> Schema:
        return reduce(Schema.with_column, (column for op in self.ops for column in op.made), self.schema)

    @property
    def observes(self) -> bool:
        return any(op.observes for op in self.ops)

    def facts(self) -> dict[str, Any]:
        told = [op.facts() for op in self.ops]
        return {"each": told} if any(told) else {}

    def observe(self, rows: pa.Table) -> _EachStats:
        return _EachStats(tuple(op.observe(rows) for op in self.ops))

    def settle(self, stats: Stats | None) -> None:
        each = cast("_EachStats", stats).each if stats is not None else (None,) * len(self.ops)
        for op, seen in zip(self.ops, each, strict=True):
            op.settle(seen)

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        """A row of which an op makes several draws anew in the next one, by its number among them."""
        waiting: list[Work] = []  # done together: a picture is at hand from one op to the next
        for number, op in enumerate(self.ops):
            drawn = _draws_of(rows, draws, number) if number else draws
            work = op.work(drawn)
            if waiting and not (work and waiting[0].takes(work)):
                rows, waiting = waiting[0].done(rows, waiting[1:]), []
            if work:
                waiting.append(work)
            else:
                rows = op(rows, drawn)
        return waiting[0].done(rows, waiting[1:]) if waiting else rows


def _draws_of(rows: pa.Table, draws: Draws, step: int) -> Draws:
    ids: dict[str, Any] = {FILE: pa.array(numbered(rows, STEP), pa.string()), ROW: rows.column(ROW)}
    return Draws.of(draws.seed, f"{draws.purpose}/{step}", id_words(pa.table(ids), draws.seed))


def numbered(rows: pa.Table, mark: str = "") -> list[str]:
    """(rows,) the `_file` of each with `mark` behind it, and `-n` for the n-th row more of one row: unique together with `_row`."""
    seen: dict[tuple[str, int], int] = {}
    names: list[str] = []
    for file, row in zip(*(rows.column(name).to_pylist() for name in ROW_ID), strict=True):
        count = seen[file, row] = seen.get((file, row), -1) + 1
        names.append(f"{file}{mark}" + (f"-{count}" if count else ""))
    return names
