"""JSON Lines (also .gz) → tables of strings: numbers as spelled, nested values as JSON; other lines are bad rows."""

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Any, cast

import numpy as np
import pyarrow as pa
from pydantic import Field

from raysynth.errors import UnreadableError
from raysynth.sources._files import TEXT_BYTES, list_files, open_file, with_row_ids
from raysynth.sources.base import BadRow, InputFile, Shard, Source

_MAYBE_LONE = re.compile(r"\\u[dD][89a-fA-F]")
_AS_SPELLED = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)  # made once: json.loads makes one a line


class Jsonl(Source):
    """A row is a line; blank lines are skipped but counted, so `_row` is the line number from zero."""

    cuts = ("rows_per_table",)

    def __init__(self, url: str, *, rows_per_table: Annotated[int, Field(ge=1)] = 65_536) -> None:
        self.url = url
        self.rows_per_table = rows_per_table

    def files(self) -> list[InputFile]:
        return list_files(self.url, (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"))

    def shards(self, files: list[InputFile]) -> list[Shard]:
        return [Shard(file) for file in sorted(files, key=lambda file: file.path)]

    def read(self, shard: Shard) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        path = shard.file.path
        try:
            with open_file(shard.file) as lines:
                yield from read_jsonl(lines, path, self.rows_per_table)
        except (EOFError, zlib.error, OSError) as error:
            raise UnreadableError(f"file '{path}': it cannot be unpacked ({error}). Write the file again") from error


def read_jsonl(lines: Iterable[bytes], path: str, rows_per_table: int = 65_536) -> Iterator[tuple[pa.Table, list[BadRow]]]:
    names: dict[str, None] = {}  # in order of first appearance, so that a table's columns only ever grow
    row, left = 0, iter(lines)
    while batch := list(islice(left, rows_per_table)):
        yield _table(batch, path, row, names)
        row += len(batch)


def _table(lines: list[bytes], path: str, first_row: int, names: dict[str, None]) -> tuple[pa.Table, list[BadRow]]:
    objects: list[dict[str, str | None]] = []
    rows: list[int] = []
    bad: list[BadRow] = []
    for row, line in enumerate(lines, first_row):
        if not line.strip():
            continue
        try:
            parsed = cells_of(line.decode("utf-8-sig" if row == 0 else "utf-8"))
        except (ValueError, RecursionError) as error:
            bad.append(BadRow(path, row, f"no JSON object ({error})", line.decode(errors="replace")[:TEXT_BYTES].rstrip("\n")))
            continue
        objects.append(parsed)
        rows.append(row)
        names.update(dict.fromkeys(parsed))
    columns = {name: pa.array([found.get(name) for found in objects], pa.string()) for name in names}
    table = pa.table(columns) if columns else pa.table({"_": pa.nulls(len(rows))}).select([])
    return with_row_ids(table, path, np.array(rows, dtype=np.int64)), bad


def cells_of(line: str) -> dict[str, str | None]:
    """An object in JSON → its cells as text. ValueError or RecursionError where it is none."""
    found: object = _AS_SPELLED.decode(line)
    if not isinstance(found, dict):
        raise ValueError(f"the line holds a {type(found).__name__}")
    if _MAYBE_LONE.search(line):
        _check_characters(found)
    cells = cast("dict[str, Any]", found)
    if "[" in line or line.count("{") > 1:  # a nested value, most likely; its numbers stay numbers
        plain = cast("dict[str, Any]", json.loads(line))
        cells |= {
            name: json.dumps(cell, ensure_ascii=False, allow_nan=False)
            for name, cell in plain.items()
            if isinstance(cell, dict | list)
        }
    if "true" in line or "false" in line:
        cells |= {name: str(cell).lower() for name, cell in cells.items() if isinstance(cell, bool)}
    return cells


def _check_characters(found: object) -> None:
    """JSON can say half of a surrogate pair (RFC 8259, section 8.2), and no UTF-8 can."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no character") from None
