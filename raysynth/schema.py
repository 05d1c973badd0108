"""What the columns of a data set are: name, kind and Arrow type, in order; as JSON and back."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import pyarrow as pa

from raysynth.errors import DataError

Kind = Literal[
    "boolean", "integer", "number", "category", "date", "time", "datetime", "duration", "id", "text", "turns", "image", "json"
]
KINDS: tuple[Kind, ...] = get_args(Kind)

FILE = "_file"  # with ROW: the row id of a prepared row, the relative path of its input file …
ROW = "_row"  # … and the absolute, zero-based index of the row in that file
ROW_ID = (FILE, ROW)

TURNS = pa.list_(pa.field("element", pa.struct([("role", pa.string()), ("content", pa.string())])))
"""What a column of kind turns holds: conversations, each a list of who says what. The inner name is the one that Parquet gives."""


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""What a column of kind image holds: an encoded picture and where it came from, as Hugging Face's `datasets` keeps them."""


@dataclass(frozen=True)
class Column:
    """One column of the real and of the synthetic rows. `derived`: recomputed by an expression, never learnt."""

    name: str
    kind: Kind
    type: pa.DataType
    nullable: bool = True
    derived: bool = False


@dataclass(frozen=True)
class Schema:
    """The columns in order; row-id columns are never among them."""

    columns: tuple[Column, ...]

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __contains__(self, name: object) -> bool:
        return any(column.name == name for column in self.columns)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise DataError(f"column '{name}': no such column. Columns: {', '.join(self.names)}")

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def learnt(self) -> "Schema":
        """The columns that a codec sees: all but the derived ones."""
        return Schema(tuple(column for column in self.columns if not column.derived))

    @property
    def arrow(self) -> pa.Schema:
        return pa.schema([pa.field(column.name, column.type) for column in self.columns])

    def to_json(self) -> list[dict[str, object]]:
        return [
            {
                "name": column.name,
                "kind": column.kind,
                "type": str(column.type),
                "nullable": column.nullable,
                "derived": column.derived,
            }
            for column in self.columns
        ]

    @staticmethod
    def from_json(columns: list[dict[str, object]]) -> "Schema":
        return Schema(
            tuple(
                Column(
                    name=str(column["name"]),
                    kind=cast(Kind, column["kind"]),
                    type=arrow_type(str(column["type"])),
                    nullable=bool(column["nullable"]),
                    derived=bool(column["derived"]),
                )
                for column in columns
            )
        )

    def with_column(self, column: Column) -> "Schema":
        """The same schema with one more column, or with the column of that name replaced."""
        if column.name in self:
            return Schema(tuple(column if old.name == column.name else old for old in self.columns))
        return Schema((*self.columns, column))

    def with_kind(self, name: str, kind: Kind) -> "Schema":
        return self.with_column(replace(self[name], kind=kind))


def arrow_type(text: str) -> pa.DataType:
    """`str(type)` → the Arrow type: scalars, timestamps with a zone, decimals, durations, turns, images. DataError on any other."""
    if text in (str(TURNS), str(IMAGE)):
        return TURNS if text == str(TURNS) else IMAGE
    if match := re.fullmatch(r"timestamp\[(s|ms|us|ns)(?:, tz=(.+))?\]", text):
        return pa.timestamp(cast(Literal["s", "ms", "us", "ns"], match[1]), tz=match[2])
    if match := re.fullmatch(r"decimal(128|256)\((\d+), (-?\d+)\)", text):
        make = pa.decimal128 if match[1] == "128" else pa.decimal256
        return make(int(match[2]), int(match[3]))
    aliases = {"float": "float32", "double": "float64", "halffloat": "float16"}
    try:
        return pa.type_for_alias(cast("Any", aliases.get(text, text)))
    except ValueError:
        raise DataError(f"type '{text}': raysynth keeps no column of this Arrow type") from None
