"""Lines of text files (also .gz) → tables of one string column; lines that are too long or are no UTF-8 are bad rows."""

import codecs
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Annotated

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field

from raysynth.errors import DataError, UnreadableError
from raysynth.schema import ROW_ID, Kind
from raysynth.sources._files import TEXT_BYTES, list_files, open_file, with_row_ids
from raysynth.sources.base import BadRow, InputFile, Shard, Source

_TABLE_BYTES = 32 << 20  # of text in one table, however few its rows
_WIDE_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # UTF-32 LE begins as UTF-16 LE does
_EDGE_BYTES = len(codecs.BOM_UTF8 + b"\r\n")  # what a line may hold beside its text


def _free_name(name: str) -> str:
    if not name.strip() or name in ROW_ID:
        raise ValueError(f"must be a name, and none of raysynth's own ({', '.join(ROW_ID)})")
    return name


class Text(Source):
    """A row is a line in UTF-8, which ends in \\n or \\r\\n; lines of white space alone are skipped but counted, so `_row` is the line
    number from zero. A byte-order mark is dropped, everything else stays as written. A line longer than `max_line_bytes` is a bad row
    and is never held whole."""

    cuts = ("rows_per_table",)

    def __init__(
        self,
        url: str,
        *,
        column: Annotated[str, AfterValidator(_free_name)] = "text",
        max_line_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = 1 << 20,
        rows_per_table: Annotated[int, Field(ge=1)] = 65_536,
    ) -> None:
        self.url = url
        self.column = column
        self.max_line_bytes = max_line_bytes
        self.rows_per_table = rows_per_table

    def files(self) -> list[InputFile]:
        return list_files(self.url, (".txt", ".txt.gz"))

    def shards(self, files: list[InputFile]) -> list[Shard]:
        return [Shard(file) for file in sorted(files, key=lambda file: file.path)]

    def kinds(self) -> Mapping[str, Kind]:
        return {self.column: "text"}

    def read(self, shard: Shard) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        path = shard.file.path
        try:
            with open_file(shard.file) as stream:
                yield from self._tables(stream, path)
        except (EOFError, zlib.error, OSError) as error:
            raise UnreadableError(f"file '{path}': it cannot be unpacked ({error}). Write the file again") from error

    def _tables(self, stream: IO[bytes], path: str) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        texts: list[str] = []
        rows: list[int] = []
        bad: list[BadRow] = []
        held_bytes = 0
        for row, (line, whole) in enumerate(_lines(stream, path, self.max_line_bytes)):
            found = self._text(path, row, line, whole)
            if isinstance(found, BadRow):
                bad.append(found)
                line = line[:TEXT_BYTES]
            elif found.strip():
                texts.append(found)
                rows.append(row)
            held_bytes += len(line)
            if len(rows) + len(bad) >= self.rows_per_table or held_bytes >= _TABLE_BYTES:
                yield self._table(path, texts, rows), bad
                texts, rows, bad, held_bytes = [], [], [], 0
        if rows or bad:
            yield self._table(path, texts, rows), bad

    def _text(self, path: str, row: int, line: bytes, whole: bool) -> str | BadRow:
        reason = f"a line of more than {self.max_line_bytes:,} bytes; the option max_line_bytes takes longer ones"
        if whole:
            try:
                return line.decode()
            except UnicodeDecodeError as error:
                reason = f"bytes that are no UTF-8, from byte {error.start} of the line on"
        return BadRow(path, row, reason, line[:TEXT_BYTES].decode(errors="replace"))

    def _table(self, path: str, texts: list[str], rows: list[int]) -> pa.Table:
        return with_row_ids(pa.table({self.column: pa.array(texts, pa.string())}), path, np.array(rows, dtype=np.int64))


def _lines(stream: IO[bytes], path: str, max_line_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Each line without its end, and whether it is whole: of one that is too long only the head is kept. DataError on UTF-16 or -32."""
    piece_bytes = max_line_bytes + _EDGE_BYTES
    first = True
    while piece := stream.readline(piece_bytes):
        line = piece.removesuffix(b"\n").removesuffix(b"\r")
        if first:
            if piece.startswith(_WIDE_BOMS):
                raise DataError(f"file '{path}': it is written in UTF-16 or UTF-32, as its first bytes say. Write it in UTF-8")
            line = line.removeprefix(codecs.BOM_UTF8)
            first = False
        yield line, len(line) <= max_line_bytes
        while len(piece) == piece_bytes and not piece.endswith(b"\n"):  # the rest of a line that is too long
            piece = stream.readline(piece_bytes)
