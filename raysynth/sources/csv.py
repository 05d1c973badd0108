"""CSV files (also .gz) → tables of strings; dialect and encoding are detected; records of another width are bad rows."""

import codecs
import csv
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Annotated, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.csv import ConvertOptions, InvalidRow, ParseOptions, ReadOptions, open_csv
from pydantic import AfterValidator, Field

from raysynth.errors import DataError, UnreadableError
from raysynth.sources._files import TEXT_BYTES, apart, list_files, open_file, with_row_ids
from raysynth.sources.base import BadRow, InputFile, Shard, Source

_SAMPLE_BYTES = 256 << 10
_BLOCK_BYTES = 4 << 20  # a row may not be longer
_DELIMITERS = ",;\t|"
_HALVES = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
csv.field_size_limit(max(csv.field_size_limit(), _SAMPLE_BYTES))  # of this process: a cell may be as long as the sample
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def _one_character(text: str) -> str:
    if len(text) != 1 or not text.isascii() or text in "\r\n":
        raise ValueError("must be one ASCII character and no line break")
    return text


def _known_encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError:
        raise ValueError("must be an encoding that Python knows, such as utf-8, cp1252 or latin-1") from None
    return name


@dataclass(frozen=True)
class Dialect:
    """How a file is written; `names` are its columns, `header` whether its first row says them."""

    delimiter: str
    quote: str
    encoding: str
    header: bool
    names: tuple[str, ...]


class Csv(Source):
    """What is not given is detected for each file from its first 256 KiB. Without `header` the columns are column_1, column_2, …

    A row is a record (a quoted cell may hold line breaks); `_row` counts the records after the header; blank lines are not counted.
    """

    cuts = ("block_bytes",)

    def __init__(
        self,
        url: str,
        *,
        delimiter: Annotated[str, AfterValidator(_one_character)] | None = None,
        quote: Annotated[str, AfterValidator(_one_character)] | None = None,
        encoding: Annotated[str, AfterValidator(_known_encoding)] | None = None,
        header: bool = True,
        block_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = _BLOCK_BYTES,
    ) -> None:
        self.url = url
        self.delimiter = delimiter
        self.quote = quote
        self.encoding = encoding
        self.header = header
        self.block_bytes = block_bytes

    def files(self) -> list[InputFile]:
        return list_files(self.url, (".csv", ".tsv", ".csv.gz", ".tsv.gz"))

    def shards(self, files: list[InputFile]) -> list[Shard]:
        return [Shard(file) for file in sorted(files, key=lambda file: file.path)]

    def read(self, shard: Shard) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        path = shard.file.path
        try:
            with open_file(shard.file) as stream:
                sample = stream.read(_SAMPLE_BYTES)
            if not sample.strip():
                raise UnreadableError(f"file '{path}': it is empty. Leave it out of the source")
            dialect = self.dialect(sample, path)
            with open_file(shard.file) as stream:
                yield from read_csv(stream, path, dialect, block_bytes=self.block_bytes)
        except (EOFError, zlib.error, OSError) as error:
            raise UnreadableError(f"file '{path}': it cannot be unpacked or read ({error}). Write the file again") from error
        except (ValueError, LookupError, csv.Error) as error:
            raise DataError(
                f"file '{path}': it cannot be read as text ({error}). Check the file, or set the option encoding"
            ) from error

    def dialect(self, sample: bytes, path: str) -> Dialect:
        """The head of a file → how it is written, where the options do not say."""
        encoding = self.encoding or detect_encoding(sample)
        text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(sample).lstrip("\ufeff")
        quote = self.quote or detect_quote(text)
        delimiter = self.delimiter or detect_delimiter(text, quote)
        lines = text.splitlines(keepends=True)
        records = csv.reader(lines, delimiter=delimiter, quotechar=quote)
        first = next((row for row in records if row), [])
        if not first:
            raise DataError(f"file '{path}': no row could be found. Set the options delimiter, quote and encoding")
        if records.line_num == len(lines) > 1 and text.count(quote) % 2:
            raise DataError(
                f"file '{path}': a quote ({quote}) that is opened in its first record is not closed in its first "
                f"{_SAMPLE_BYTES >> 10} KiB. Close it, or set the option quote"
            )
        if self.header and "\ufffd" in "".join(first) and b"\xef\xbf\xbd" not in sample:
            raise DataError(f"file '{path}': its header has bytes that are no {encoding}. Mend it, or set the option encoding")
        names = unique_names(first) if self.header else unique_names([""] * len(first))
        return Dialect(delimiter, quote, encoding, self.header, names)


def read_csv(
    stream: IO[bytes], path: str, dialect: Dialect, *, block_bytes: int = _BLOCK_BYTES
) -> Iterator[tuple[pa.Table, list[BadRow]]]:
    """A CSV stream → tables of strings with row ids, and the records that have another number of cells than the header."""
    ragged: list[InvalidRow] = []

    def skip(row: InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    good, reported = 0, 0
    columns = pa.schema([(name, pa.binary()) for name in dialect.names])
    last: list[dict[str, bytes | None]] = []
    tail = _Tail(stream)
    try:
        for batch in _open(cast("IO[bytes]", tail), dialect, skip, block_bytes):
            first = 2 if dialect.header else 1  # Arrow counts from one, and the header too
            seen = ragged[:]  # Arrow reads ahead on a thread of its own: more may be skipped while this batch is looked at
            ragged_rows = np.array([int(row.number or 0) - first for row in seen], dtype=np.int64)
            rows = _rows_between(ragged_rows, good, good + batch.num_rows)
            good += batch.num_rows
            bad = [_ragged(row, path, at) for row, at in zip(seen[reported:], ragged_rows[reported:].tolist(), strict=True)]
            reported = len(seen)
            table, undecodable = _decode(with_row_ids(pa.Table.from_batches([batch]), path, rows), path)
            last = batch.slice(batch.num_rows - 1).to_pylist() or last
            yield table, bad + undecodable
        if _is_unclosed(ragged, last, tail.text(dialect.encoding), dialect):
            raise DataError(
                f"file '{path}': a quote ({dialect.quote}) that is opened in its last record, row {good + len(ragged) - 1}, is never "
                "closed, so that what follows it is one cell. Close it, or set the option quote"
            )
        if late := ragged[reported:]:  # after the last good record, or without any
            empty, _ = _decode(with_row_ids(columns.empty_table(), path, np.zeros(0, np.int64)), path)
            yield empty, [_ragged(row, path, int(row.number or 0) - (2 if dialect.header else 1)) for row in late]
    except pa.ArrowInvalid as error:
        raise DataError(
            f"file '{path}': it cannot be read as CSV with delimiter {dialect.delimiter!r}, quote {dialect.quote!r} and encoding "
            f"{dialect.encoding} ({error}). Set the options delimiter, quote or encoding"
        ) from error


class _Tail(io.RawIOBase):
    """A stream that remembers the last bytes that were read of it."""

    _KEPT_BYTES = 400

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream
        self._last = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._last = (self._last + data[-self._KEPT_BYTES :])[-self._KEPT_BYTES :]
        return len(data)

    def text(self, encoding: str) -> str:
        return self._last.decode(encoding, errors="replace")


def _is_unclosed(ragged: list[InvalidRow], last: list[dict[str, bytes | None]], tail: str, dialect: Dialect) -> bool:
    """Arrow takes what follows an open quote for one cell, to the file's end and without a word: that cell ends as the file does."""
    if ragged and "\n" in ragged[-1].text and ragged[-1].text.count(dialect.quote) % 2:
        return True
    cell = (list(last[0].values())[-1] or b"").decode(errors="replace") if last else ""
    return bool(re.search(r"[\r\n]", cell)) and tail.endswith(cell[-50:])


def detect_encoding(sample: bytes) -> str:
    """UTF-8 where nearly all bytes are, so that a row that is broken does not turn the others into another script; what
    charset-normalizer finds for other scripts; else cp1252.

    Latin code pages cannot be told apart by a few accents: central European files in one of them need the option.
    """
    for bom, encoding in _BOMS.items():
        if sample.startswith(bom):
            return encoding
    if _is_mostly_utf8(sample):
        return "utf-8"
    from charset_normalizer import from_bytes  # only odd files need it

    sample = sample[: sample.rfind(b"\n") + 1] or sample  # half a character at its end would make GBK none
    high = re.findall(rb"[\x80-\xff]+", sample)
    in_runs = sum(map(len, high)) >= 2 * len(high)  # accents stand alone, the letters of other scripts do not
    best = from_bytes(sample).best() if in_runs else None
    return best.encoding if best is not None and best.encoding not in ("ascii", "utf_8") else "cp1252"


def _is_mostly_utf8(sample: bytes) -> bool:
    """Of what is no ASCII four characters are whole for each that is not; halves of surrogate pairs, which only UTF-8's own scheme can
    write, are no sign of another encoding. A text in a code page has hardly any whole one: of GBK's a fifth, of cp1252's a hundredth."""
    text = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(_HALVES.sub(b"", sample))
    broken = text.count("\ufffd")
    return len(text) - len(text.encode("ascii", "ignore")) - broken >= 4 * broken


def detect_quote(text: str) -> str:
    """The single quote where cells open and close with it and none does with the double one; else the double quote."""
    edges = Counter(cell[0] for line in text.splitlines()[:200] for cell in _cells(line) if len(cell) > 1 and cell[0] == cell[-1])
    return "'" if edges["'"] and not edges['"'] else '"'


def detect_delimiter(text: str, quote: str) -> str:
    """The delimiter that cuts the most lines into equally many cells (two at least); else what csv.Sniffer says; else the comma."""
    lines = text.splitlines(keepends=True)[:-1][:200] or text.splitlines()
    best, best_score = "", 0.0
    for delimiter in _DELIMITERS:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter, quotechar=quote) if row)
        width, count = widths.most_common(1)[0] if widths else (0, 0)
        score = count / max(1, widths.total()) + min(width, 1000) / 1e4  # on a tie the finer cut
        if width > 1 and score > best_score:
            best, best_score = delimiter, score
    if best:
        return best
    try:
        found = csv.Sniffer().sniff("".join(lines)).delimiter
        return found if not found.isalnum() and found not in " .-_:\r\n" else ","
    except csv.Error:
        return ","


def unique_names(header: list[str]) -> tuple[str, ...]:
    """The header's names, trimmed; an empty one is its place (column_3), and a second `a` is a_2."""
    return tuple(apart(cell.strip() or f"column_{place}" for place, cell in enumerate(header, 1)))


def _open(stream: IO[bytes], dialect: Dialect, skip: object, block_bytes: int) -> Iterator[pa.RecordBatch]:
    utf8 = codecs.lookup(dialect.encoding).name == "utf-8"
    return iter(
        open_csv(
            stream,
            read_options=ReadOptions(
                use_threads=False,  # with threads Arrow does not number the ragged rows
                block_size=block_bytes,
                column_names=list(dialect.names),
                skip_rows_after_names=int(dialect.header),
                encoding="utf8" if utf8 else dialect.encoding,
            ),
            parse_options=ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=dialect.quote,
                newlines_in_values=True,
                invalid_row_handler=skip,  # pyright: ignore[reportArgumentType]
            ),
            # bytes, since one bad byte in a string column would refuse the whole file
            convert_options=ConvertOptions(column_types={name: pa.binary() for name in dialect.names}, strings_can_be_null=False),
        )
    )


def _decode(table: pa.Table, path: str) -> tuple[pa.Table, list[BadRow]]:
    """Binary cells → strings; rows with bytes that are no UTF-8 become bad rows."""
    arrow = pa.schema([field.with_type(pa.string()) if pa.types.is_binary(field.type) else field for field in table.schema])
    try:
        return table.cast(arrow), []
    except pa.ArrowInvalid:
        keep = np.ones(table.num_rows, dtype=np.bool_)
        bad: list[BadRow] = []
        for index, row in enumerate(table.to_pylist()):
            cells = [cell for cell in row.values() if isinstance(cell, bytes)]
            if any(not _is_utf8(cell) for cell in cells):
                keep[index] = False
                text = b" | ".join(cells).decode(errors="replace")[:TEXT_BYTES]
                bad.append(BadRow(path, int(row["_row"]), "bytes that are no UTF-8; the option encoding names another", text))
        return table.filter(pa.array(keep)).cast(arrow), bad


def _is_utf8(cell: bytes) -> bool:
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True


def _rows_between(ragged_rows: NDArray[np.int64], start: int, stop: int) -> NDArray[np.int64]:
    """The rows of the good records `start` to `stop`: good record n follows every ragged one with at most n before it."""
    ordinals = np.arange(start, stop, dtype=np.int64)
    return ordinals + np.searchsorted(ragged_rows - np.arange(len(ragged_rows)), ordinals, side="right")


def _ragged(row: InvalidRow, path: str, at: int) -> BadRow:
    return BadRow(path, at, f"{row.actual_columns} cells where the header has {row.expected_columns}", row.text[:TEXT_BYTES])


def _cells(line: str) -> list[str]:
    for delimiter in _DELIMITERS:
        line = line.replace(delimiter, "\x00")
    return line.split("\x00")
