"""A CSV or JSON lines file with one line a picture → the cells of each picture, by the name of its file."""

import csv
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc_

from raysynth.errors import DataError
from raysynth.schema import ROW_ID
from raysynth.sources.base import BadRow
from raysynth.sources.csv import Csv, read_csv
from raysynth.sources.jsonl import read_jsonl

NAMES = ("metadata.jsonl", "metadata.csv")
"""Taken by themselves where they lie in the root, as Hugging Face's imagefolder does; the first that is there."""
FILES = (".csv", ".tsv", ".jsonl", ".ndjson")

_SAMPLE_BYTES = 256 << 10
pc = cast("Any", pc_)  # the stubs know few of its functions


@dataclass(frozen=True)
class Lines:
    """`names`: of the files, one a line. `cells`: the other columns, as text. `bad`: lines that cannot be read."""

    path: str
    names: pa.Array
    cells: pa.Table
    bad: tuple[BadRow, ...]

    def of(self, files: Sequence[str]) -> pa.Table:
        """The cells of each file, (files,); null where no line names it."""
        found = pc.index_in(pa.array([written_alike(name) for name in files], pa.string()), value_set=self.names)
        return self.cells.take(found)

    def without_file(self, files: Sequence[str]) -> list[str]:
        """The names that no file has."""
        there = pc.is_in(self.names, value_set=pa.array([written_alike(name) for name in files], pa.string()))
        return [str(name) for name in self.names.filter(pc.invert(there)).to_pylist()]


def read_lines(opened: Callable[[], AbstractContextManager[IO[bytes]]], path: str, file_column: str) -> Lines:
    """DataError on a file that cannot be read, has no such column, or names a picture twice."""
    try:
        pieces = list(_jsonl(opened, path) if path.lower().endswith((".jsonl", ".ndjson")) else _csv(opened, path))
    except (EOFError, zlib.error, OSError, ValueError, LookupError, csv.Error) as error:
        raise DataError(f"metadata '{path}': it cannot be read ({error}). Write the file again") from error
    tables = [table.drop_columns(list(ROW_ID)) for table, _ in pieces]
    rows = pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
    if file_column not in rows.column_names:
        raise DataError(
            f"metadata '{path}': there is no column '{file_column}', which names the picture of a line. Columns: "
            f"{', '.join(rows.column_names) or 'none'}. Say which it is by the option file_column"
        )
    named = rows.column(file_column).combine_chunks()
    names = pa.array([None if name is None else written_alike(str(name)) for name in named.to_pylist()], pa.string())
    counts = pc.value_counts(names.drop_null())
    if len(counts) < len(names) - names.null_count:
        twice = min(
            str(name) for name, count in zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True) if count > 1
        )
        raise DataError(f"metadata '{path}': two lines name '{twice}'. Write one line for a picture")
    kept = names.is_valid()
    cells = rows.drop_columns([file_column]).filter(kept)
    return Lines(path, names.filter(kept), cells, tuple(row for _, bad in pieces for row in bad))


def written_alike(name: str) -> str:
    """One spelling of a relative path: composed letters, slashes, no leading `./`."""
    plain = unicodedata.normalize("NFC", name).replace("\\", "/")
    while plain.startswith("./"):
        plain = plain[2:]
    return plain


def _jsonl(opened: Callable[[], AbstractContextManager[IO[bytes]]], path: str) -> Iterator[tuple[pa.Table, list[BadRow]]]:
    with opened() as lines:
        yield from read_jsonl(lines, path)


def _csv(opened: Callable[[], AbstractContextManager[IO[bytes]]], path: str) -> Iterator[tuple[pa.Table, list[BadRow]]]:
    with opened() as stream:
        sample = stream.read(_SAMPLE_BYTES)
    if not sample.strip():
        return
    dialect = Csv("").dialect(sample, path)
    with opened() as stream:
        yield from read_csv(stream, path, dialect)
