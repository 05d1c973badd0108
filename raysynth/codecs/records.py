"""Rows ↔ Records: each row as a JSON object, for a generator that reads and writes text; ids are made anew, from the row's number."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute

from raysynth.codecs._column_stats import TableStats, column_of
from raysynth.codecs._json_values import from_json, is_text, json_of, order_of, to_json, value_of
from raysynth.codecs.base import Codec, Stats
from raysynth.codecs.tabular import Tabular
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import Arrays, Batch, Facts, RecordColumn, Records, RecordsGiven
from raysynth.schema import Column, Schema, arrow_type
from raysynth.turns import MOST_ROLES, contents, few, roles_in
from raysynth.where import Condition, Range, Starts, Values, Where

pc = cast("Any", pyarrow.compute)  # the stubs of its functions refuse most unions of types
NAMED = {"category", "boolean"}  # kinds of which a value that no train row has is none


@dataclass(frozen=True)
class ColumnSeen:
    """`values`: those there were, None once they are more than may be named. The bounds are scalars, of texts their characters.
    Of turns, `roles`: as turns.few has them, and `empty_turns`: whether any says nothing."""

    nullable: bool
    values: frozenset[Any] | None
    minimum: Any
    maximum: Any
    roles: tuple[str, ...] = ()
    empty_turns: bool = False

    def merge(self, other: "ColumnSeen", most: int) -> "ColumnSeen":
        values = None if self.values is None or other.values is None else self.values | other.values
        lows = [bound for bound in (self.minimum, other.minimum) if bound is not None]
        highs = [bound for bound in (self.maximum, other.maximum) if bound is not None]
        return ColumnSeen(
            self.nullable or other.nullable,
            None if values is None or len(values) > most else values,
            min(lows, key=order_of, default=None),
            max(highs, key=order_of, default=None),
            few([*self.roles, *other.roles]),
            self.empty_turns or other.empty_turns,
        )


@dataclass(frozen=True)
class RecordStats:
    """Of each column what it holds, and of the ids what `tabular` must know. `most`: values that are named."""

    columns: tuple[ColumnSeen, ...]
    ids: TableStats | None
    most: int

    def merge(self, other: "RecordStats") -> "RecordStats":
        columns = tuple(one.merge(two, self.most) for one, two in zip(self.columns, other.columns, strict=True))
        ids = self.ids.merge(other.ids) if self.ids is not None and other.ids is not None else None
        return RecordStats(columns, ids, self.most)


class RecordCodec(Codec):
    """`max_values`: a category with more of them is taken for text: none is named, and any may come."""

    def __init__(self, schema: Schema, *, seed: int = 0, max_values: int = 200) -> None:
        super().__init__(schema, seed=seed)
        if max_values < 2:
            raise RecipeError(f"codec.max_values: must be at least 2 (got {max_values})")
        self.max_values = max_values
        self.ids = Tabular(Schema(tuple(column for column in schema if _is_id(column))), seed=seed)
        self.told = [column for column in schema if not _is_id(column)]

    def observe(self, rows: pa.Table) -> RecordStats:
        columns = tuple(_seen(column, column_of(rows, column), self.max_values) for column in self.told)
        return RecordStats(columns, self.ids.observe(rows) if len(self.ids.schema) else None, self.max_values)

    def settle(self, stats: Stats) -> Records:
        stats = cast(RecordStats, stats)
        if stats.ids is not None:
            self.ids.settle(stats.ids)
        self.layout = Records(tuple(_column(*pair) for pair in zip(self.told, stats.columns, strict=True)))
        return self.layout

    def encode(self, rows: pa.Table) -> Batch:
        columns = {column.name: to_json(column_of(rows, column)) for column in self.told}
        found = [_text(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
        return Batch({"rows": texts_of(found if columns else ["{}"] * rows.num_rows)})

    def decode(self, batch: Batch, draws: Draws) -> pa.Table:
        rows = [json.loads(text) or {} for text in batch["rows"].tolist()]
        columns = {column.name: from_json([row.get(column.name) for row in rows], column.type) for column in self.told}
        if len(self.ids.schema):
            made = self.ids.decode(Batch({"codes": np.zeros((len(rows), 0), dtype=np.int32)}), draws)
            columns |= {name: made.column(name).combine_chunks() for name in made.column_names}
        return pa.table([columns[name] for name in self.schema.names], schema=self.schema.arrow)

    def condition(self, where: Where) -> RecordsGiven | None:
        if ids := [name for name in where if name in self.ids.schema]:
            raise RecipeError(f"where.{ids[0]}: ids are made anew from the row's number, so none can be asked for. Leave it out")
        columns = cast("Records", self.layout).columns
        narrowed = tuple(_narrowed(column, where[column.name]) if column.name in where else column for column in columns)
        return RecordsGiven(narrowed) if narrowed != columns else None

    def state(self) -> tuple[Arrays, Facts]:
        arrays, facts = self.ids.state()
        return arrays, {"columns": [asdict(column) for column in cast("Records", self.layout).columns], "ids": facts}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        self.ids.load(arrays, facts["ids"])
        fixed = ("values", "roles")
        found: list[dict[str, Any]] = [{**column, **{name: _fixed(column[name]) for name in fixed}} for column in facts["columns"]]
        self.layout = Records(tuple(RecordColumn(**column) for column in found))


def _fixed(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def texts_of(rows: list[str]) -> Any:
    """Texts → (rows,) of numpy's StringDType."""
    return np.array(rows, dtype=np.dtypes.StringDType())


def _is_id(column: Column) -> bool:
    return column.kind == "id" and (pa.types.is_integer(column.type) or pa.types.is_string(column.type))


def _seen(column: Column, values: pa.Array, most: int) -> ColumnSeen:
    nullable = any(value is None for value in to_json(values))  # a number that JSON has not is a null there
    known = values.drop_null()
    if column.kind in NAMED:
        unique = known.unique()
        return ColumnSeen(nullable, frozenset(to_json(unique)) if len(unique) <= most else None, None, None)
    if pa.types.is_floating(known.type):
        known = known.filter(pc.is_finite(known.cast(pa.float64())))
    sized = known
    if is_text(known.type) or pa.types.is_list(known.type):
        sized = (pc.utf8_length if is_text(known.type) else pc.list_value_length)(known)
    if not len(sized):
        return ColumnSeen(nullable, None, None, None)
    order = pc.array_sort_indices(sized)
    seen = ColumnSeen(nullable, None, sized[order[0].as_py()], sized[order[-1].as_py()])
    if column.kind != "turns":
        return seen
    empty = pc.any(pc.equal(contents(known)[0], "")).as_py()
    return replace(seen, roles=roles_in(known), empty_turns=bool(empty))


def _column(column: Column, seen: ColumnSeen) -> RecordColumn:
    values = tuple(sorted(seen.values)) if column.kind in NAMED and seen.values is not None else None
    made = RecordColumn(
        column.name, column.kind, str(column.type), seen.nullable, values, json_of(seen.minimum), json_of(seen.maximum)
    )
    if column.kind != "turns":
        return made
    return replace(made, roles=seen.roles if 0 < len(seen.roles) <= MOST_ROLES else None, empty_turns=seen.empty_turns)


def _narrowed(column: RecordColumn, condition: Condition) -> RecordColumn:
    """RecipeError on a value that the train rows never had."""
    if isinstance(condition, Starts):
        return replace(column, nullable=False, starts=condition.text)
    null, type_ = isinstance(condition, Values) and condition.null, arrow_type(column.type)
    if null and not column.nullable:
        raise RecipeError(f"where.{column.name}: no train row is null, so that no row can be made for it")
    if column.values is not None:
        held = condition.holds(from_json(list(column.values), type_)).tolist()
        values = tuple(value for value, holds in zip(column.values, held, strict=True) if holds)
        asked = to_json(condition.values) if isinstance(condition, Values) else [] if values else ["this range"]
        if strange := [value for value in asked if value not in values]:
            raise RecipeError(
                f"where.{column.name}: no train row has {strange[0]!r}, so that no row can be made for it. "
                f"There are: {', '.join(map(str, column.values[:20]))}"
            )
        return replace(column, nullable=null, values=values)
    if isinstance(condition, Values):
        return replace(column, nullable=null, values=tuple(to_json(condition.values)))
    return replace(column, nullable=False, **_bounds(column, condition, type_))


def _bounds(column: RecordColumn, asked: Range, type_: pa.DataType) -> dict[str, Any]:
    """The narrower ones of the column's and of those asked for."""
    lows = [(order_of(value_of(column.minimum, type_)), column.minimum)] if column.minimum is not None else []
    highs = [(order_of(value_of(column.maximum, type_)), column.maximum)] if column.maximum is not None else []
    if asked.minimum is not None:
        lows.append((order_of(asked.minimum), json_of(asked.minimum)))
    if asked.maximum is not None:
        highs.append((order_of(asked.maximum), json_of(asked.maximum)))
    low, high = max(lows, key=_first, default=None), min(highs, key=_first, default=None)
    if low is not None and high is not None and low[0] > high[0]:
        raise RecipeError(f"where.{column.name}: no train row has this range: they are from {column.minimum} to {column.maximum}")
    return {"minimum": low[1] if low else None, "maximum": high[1] if high else None}


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def _text(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)
