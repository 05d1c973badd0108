"""Rows ↔ the bytes of the five formats that are served: JSON, NDJSON, CSV, Arrow's stream and Parquet; and which one a request asks for.

What is decoded is what was encoded, to the last bit, for every type that raysynth keeps; how values are written in the three text
formats is told in texts.py.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from json.encoder import encode_basestring
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

from raysynth.commits import parquet_bytes
from raysynth.errors import DataError, StoreError
from raysynth.schema import IMAGE, TURNS
from raysynth.texts import images_of, is_nested, is_text, texts, values

pc = cast("Any", pyarrow.compute)  # the stubs of its functions refuse plain values and most unions of types

FORMATS: dict[str, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
"""Format → media type, in the order in which they are preferred where a request leaves the choice."""

ARROW_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # the end-of-stream mark: https://arrow.apache.org/docs/format/Columnar.html
BATCH_ROWS, BATCH_BYTES = 65_536, 1 << 28  # of text made at a time: an Arrow string array holds 2 GiB
_FORMULA = (
    r"\A([=+\-@\t\r'])"  # what a spreadsheet would run, and the mark itself: https://owasp.org/www-community/attacks/CSV_Injection
)


class CutError(StoreError):
    """The bytes stop before their end, or hold fewer rows than were announced."""


def negotiate(accept: str | None) -> str | None:
    """An Accept header (RFC 9110, section 12.5.1) → the format that it likes best, or None where it likes none (406).

    Of equal weights the one that is named beats a wildcard's, then the order of FORMATS counts. No header is `*/*`.
    """
    ranges = [found for part in (accept or "*/*").split(",") if (found := _range(part))]
    liked: list[tuple[float, int, str]] = []
    for format, media in FORMATS.items():
        kinds = (media, media.split("/")[0] + "/*", "*/*")
        weights = [(2 - kinds.index(kind), weight) for kind, weight in ranges if kind in kinds]
        if weights:
            closest, weight = max(weights)
            liked.append((weight, closest, format))
    best = max(liked, key=lambda one: one[:2], default=(0.0, 0, ""))
    return best[2] if best[0] > 0 else None


def _range(part: str) -> tuple[str, float] | None:
    """`text/csv;q=0.5` → ('text/csv', 0.5); None where the weight is no weight."""
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weights = [value.strip() for name, _, value in (piece.partition("=") for piece in parameters) if name.strip() == "q"]
    if any(not re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", weight) for weight in weights):
        return None
    return kind, float(weights[0]) if weights else 1.0


class Writer(ABC):
    """Tables of `schema`'s columns (others are left out), one after another → the pieces of one file: begin, rows …, end. DataError on a
    column that has no text."""

    def __init__(self, schema: pa.Schema, head: Mapping[str, Any]) -> None:
        self.schema = schema
        self.head = head

    @abstractmethod
    def begin(self) -> bytes: ...

    @abstractmethod
    def rows(self, table: pa.Table) -> bytes: ...

    @abstractmethod
    def end(self) -> bytes: ...


class Json(Writer):
    """One object: what `head` says, `columns`, and `rows` as arrays, a line each."""

    def begin(self) -> bytes:
        self.separator = ""
        text = json.dumps({**self.head, "columns": self.schema.names}, ensure_ascii=False)
        return text[:-1].encode() + b', "rows": ['

    def rows(self, table: pa.Table) -> bytes:
        between = ["[", *[","] * (len(self.schema) - 1), "]"]
        found: list[bytes] = []
        for batch in _batches(table, self.schema):
            lines = _lines([_json_cells(column) for column in batch.columns], [",\n" + between[0], *between[1:]], "null")
            found.append(lines if self.separator else lines[1:])
            self.separator = ","
        return b"".join(found)

    def end(self) -> bytes:
        return b"\n]}\n"


class Ndjson(Writer):
    """One object a line."""

    def begin(self) -> bytes:
        names = [encode_basestring(name) + ":" for name in self.schema.names]
        self.between = ["{" + names[0], *["," + name for name in names[1:]], "}\n"]
        return b""

    def rows(self, table: pa.Table) -> bytes:
        batches = _batches(table, self.schema)
        return b"".join(_lines([_json_cells(column) for column in batch.columns], self.between, "null") for batch in batches)

    def end(self) -> bytes:
        return b""


class Csv(Writer):
    """RFC 4180 with line feeds. Text is quoted, so that an empty one is not a null; a text that a spreadsheet would run as a formula, or
    that starts with ', has one ' put before it. Turns and images are a text of JSON."""

    def begin(self) -> bytes:
        self.between = ["", *[","] * (len(self.schema) - 1), "\n"]
        return _lines([_csv_cells(pa.array([name])) for name in self.schema.names], self.between, "")

    def rows(self, table: pa.Table) -> bytes:
        batches = _batches(table, self.schema)
        return b"".join(_lines([_csv_cells(column) for column in batch.columns], self.between, "") for batch in batches)

    def end(self) -> bytes:
        return b""


class Arrow(Writer):
    """Arrow's IPC stream: a record batch per table."""

    def begin(self) -> bytes:
        return self.schema.serialize().to_pybytes()

    def rows(self, table: pa.Table) -> bytes:
        batches = _batches(table, self.schema, max(1, table.num_rows))
        return b"".join(batch.serialize().to_pybytes() for batch in batches)

    def end(self) -> bytes:
        return ARROW_END


class Parquet(Writer):
    """One whole file, the bytes of a part with these rows. Its directory is at the end, and its groups of rows are larger than what is
    served, so all is kept until then."""

    def begin(self) -> bytes:
        self.tables = [self.schema.empty_table()]
        return b""

    def rows(self, table: pa.Table) -> bytes:
        self.tables.append(table.select(self.schema.names).replace_schema_metadata(self.schema.metadata))
        return b""

    def end(self) -> bytes:
        return parquet_bytes(pa.concat_tables(self.tables))


_WRITERS: dict[str, type[Writer]] = {"json": Json, "ndjson": Ndjson, "csv": Csv, "arrow": Arrow, "parquet": Parquet}


def writer(format: str, schema: pa.Schema, head: Mapping[str, Any] | None = None) -> Writer:
    """A writer of one of FORMATS. `head`: what JSON says before its rows. DataError on another format, or without columns."""
    if format not in _WRITERS:
        raise DataError(f"format '{format}': must be one of {', '.join(FORMATS)}")
    if not len(schema):
        raise DataError("columns: rows without columns cannot be written. Name at least one")
    return _WRITERS[format](schema, head or {})


def encode(format: str, schema: pa.Schema, tables: Iterable[pa.Table], head: Mapping[str, Any] | None = None) -> Iterator[bytes]:
    """Tables → the bytes of one file, piece by piece; for callers that need not wait for tables."""
    made = writer(format, schema, head)
    yield made.begin()
    for table in tables:
        yield made.rows(table)
    yield made.end()


def decode(format: str, data: bytes, schema: pa.Schema, rows: int | None = None) -> pa.Table:
    """The bytes of a file → its rows in the types of `schema`. `rows`: how many were announced.

    CutError if the bytes stop before their end or hold another number of rows (NDJSON and CSV have no mark at their end: there only
    `rows` tells a cut between two lines). DataError if they are not of this format and these columns.
    """
    readers = {"json": _read_json, "ndjson": _read_ndjson, "csv": _read_csv, "arrow": _read_arrow, "parquet": _read_parquet}
    if format not in readers:
        raise DataError(f"format '{format}': must be one of {', '.join(FORMATS)}")
    try:
        table = readers[format](data, schema)
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{FORMATS[format]}: it is not what these columns are written as ({error})") from error
    if rows is not None and table.num_rows != rows:
        raise CutError(f"{FORMATS[format]}: {rows} rows were announced, {table.num_rows} came. Ask again")
    return table


def _batches(table: pa.Table, schema: pa.Schema, most_rows: int = BATCH_ROWS) -> list[pa.RecordBatch]:
    rows = table.select(schema.names)
    most_rows = min(most_rows, max(1, BATCH_BYTES * rows.num_rows // max(1, rows.nbytes)))
    batches = rows.combine_chunks().to_batches(max_chunksize=most_rows)
    return [batch for batch in batches if batch.num_rows]


def _lines(cells: list[pa.Array], between: list[str], null: str) -> bytes:
    """Columns of text → the bytes of their rows, each value between two of `between`. Arrow keeps the texts of an array end to end: the
    joined rows need no further copy but one."""
    parts: list[Any] = [between[0]]
    for cell, after in zip(cells, between[1:], strict=True):
        parts += [cell, after]
    joined = pc.binary_join_element_wise(*parts, "", null_handling="replace", null_replacement=null)
    _, offsets, data = joined.buffers()
    ends = np.frombuffer(offsets, np.int32)[[joined.offset, joined.offset + len(joined)]]
    return b"" if data is None else data.slice(int(ends[0]), int(ends[1] - ends[0])).to_pybytes()


def _json_cells(column: pa.Array) -> pa.Array:
    type, text = column.type, texts(column)
    if is_text(type):
        if pc.any(pc.match_substring_regex(text, r'["\\\x00-\x1f]')).as_py():
            return pa.array([None if cell is None else encode_basestring(cell) for cell in text.to_pylist()], pa.string())
        return _quoted(text)
    if pa.types.is_floating(type):
        odd = pc.invert(pc.is_finite(column))
        return pc.if_else(odd, _quoted(text), text) if pc.any(odd).as_py() else text
    is_bare = pa.types.is_boolean(type) or pa.types.is_integer(type) or pa.types.is_duration(type) or is_nested(type)
    return text if is_bare else _quoted(text)


def _csv_cells(column: pa.Array) -> pa.Array:
    text = texts(column)
    if not is_text(column.type) and not is_nested(column.type):
        return text
    return _quoted(pc.replace_substring(pc.replace_substring_regex(text, _FORMULA, r"'\1"), '"', '""'))


def _quoted(text: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise('"', text, '"', "")


def _read_json(data: bytes, schema: pa.Schema) -> pa.Table:
    body = _loaded(data, "application/json")
    if not isinstance(body, dict) or cast("dict[str, Any]", body).get("columns") != schema.names:
        raise ValueError(f"its columns are not {', '.join(schema.names)}")
    rows = cast("list[list[Any]]", body["rows"])
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return _table([list(column) for column in columns], schema)


def _read_ndjson(data: bytes, schema: pa.Schema) -> pa.Table:
    if data and not data.endswith(b"\n"):
        raise CutError("application/x-ndjson: the last line has no end. Ask again")
    rows = cast("list[dict[str, Any]]", _loaded(b"[" + data[:-1].replace(b"\n", b",") + b"]", "application/x-ndjson"))
    if any(list(row) != schema.names for row in rows):
        raise ValueError(f"the names in a line are not {', '.join(schema.names)}")
    return _table([[row[name] for row in rows] for name in schema.names], schema)


def _loaded(data: bytes, media: str) -> Any:
    """JSON with its numbers as text: Arrow makes them values of the column's type, with no float in between."""
    try:
        return json.loads(data, parse_float=str, parse_int=str)
    except ValueError as error:
        raise CutError(f"{media}: it stops before its end ({error}). Ask again") from error


def _table(columns: list[list[Any]], schema: pa.Schema) -> pa.Table:
    made = [_column(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(made, schema=schema)


def _column(cells: list[Any], type: pa.DataType) -> pa.Array:
    """Parsed JSON → values."""
    if type == IMAGE:
        return images_of(cells)
    return pa.array(cells, type) if pa.types.is_boolean(type) or type == TURNS else values(pa.array(cells, pa.string()), type)


def _read_csv(data: bytes, schema: pa.Schema) -> pa.Table:
    if not data.endswith(b"\n") or data.count(b'"') % 2:
        raise CutError("text/csv: the last line has no end. Ask again")
    places = [str(place) for place in range(len(schema))]  # Arrow would trip over the names that the header gives
    read = pyarrow.csv.read_csv(
        cast("Any", pa.BufferReader(data)),
        pyarrow.csv.ReadOptions(column_names=places, block_size=min(len(data) + 1, 2**31 - 1), use_threads=False),
        pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(places, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    ).combine_chunks()
    names = [_unmarked(column.slice(0, 1).combine_chunks())[0].as_py() for column in read.columns]
    if names != schema.names:
        raise ValueError(f"its header is not {', '.join(schema.names)}")
    cells = [cast("pa.Array", column.slice(1).combine_chunks()) for column in read.columns]
    made = [
        _unmarked(cell).cast(field.type) if is_text(field.type) else values(cell, field.type)
        for cell, field in zip(cells, schema, strict=True)
    ]
    return pa.Table.from_arrays(made, schema=schema)


def _unmarked(text: Any) -> Any:
    return pc.replace_substring_regex(text, r"\A'", "")


def _read_arrow(data: bytes, schema: pa.Schema) -> pa.Table:
    """Arrow itself takes a missing end for an end."""
    if not data.endswith(ARROW_END):
        raise CutError(f"{FORMATS['arrow']}: its end is missing. Ask again")
    try:
        table = pa.ipc.open_stream(data).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise CutError(f"{FORMATS['arrow']}: it stops before its end ({error}). Ask again") from error
    if table.schema != schema:
        raise ValueError(f"its columns are {table.schema.to_string()}")
    return table


def _read_parquet(data: bytes, schema: pa.Schema) -> pa.Table:
    """Parquet has no seconds and no dates in milliseconds: those come back wider and are cast, which loses nothing."""
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise CutError(f"{FORMATS['parquet']}: it stops before its end ({error}). Ask again") from error
    return table if table.schema == schema else table.cast(schema)
