"""Parquet files → tables of 65,536 rows, or of fewer where these are large. Files over 128 MiB are cut into shards of row groups. A
second column `a` is a_2."""

from collections.abc import Iterator
from typing import Annotated, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from raysynth.errors import UnreadableError
from raysynth.schema import ROW
from raysynth.sources._files import RangeFile, apart, list_files, with_row_ids
from raysynth.sources.base import BadRow, InputFile, Shard, Source

TABLE_BYTES = 128 << 20


class Parquet(Source):
    """Columns keep their Arrow types. `shard_bytes`: the size above which a file is cut, at row groups."""

    cuts = ("shard_bytes", "rows_per_table")

    def __init__(
        self,
        url: str,
        *,
        shard_bytes: Annotated[int, Field(ge=1)] = 128 << 20,
        rows_per_table: Annotated[int, Field(ge=1)] = 65_536,
    ) -> None:
        self.url = url
        self.shard_bytes = shard_bytes
        self.rows_per_table = rows_per_table

    def files(self) -> list[InputFile]:
        return list_files(self.url, (".parquet", ".pq"))

    def shards(self, files: list[InputFile]) -> list[Shard]:
        return [shard for file in sorted(files, key=lambda file: file.path) for shard in self._shards_of(file)]

    def read(self, shard: Shard) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        opened = _open(shard.file)
        names = apart(opened.schema_arrow.names)
        groups = list(shard.groups) or list(range(opened.metadata.num_row_groups))
        row = shard.first_row
        try:
            for batch in opened.iter_batches(batch_size=min(self.rows_per_table, _fitting(opened.metadata)), row_groups=groups):
                rows = np.arange(row, row + batch.num_rows, dtype=np.int64)
                table = with_row_ids(pa.Table.from_batches([batch]).rename_columns(names), shard.file.path, rows)
                yield _readable(table, shard.file.path)
                row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise UnreadableError(
                f"file '{shard.file.path}': its Parquet pages cannot be read ({error}). Write the file again"
            ) from error

    def _shards_of(self, file: InputFile) -> list[Shard]:
        if file.size_bytes <= self.shard_bytes:
            return [Shard(file)]
        try:
            footer = _open(file).metadata
        except UnreadableError:  # told by whoever reads it
            return [Shard(file)]
        shards: list[Shard] = []
        groups: list[int] = []
        first_row, rows, size_bytes = 0, 0, 0
        for index in range(footer.num_row_groups):
            group = footer.row_group(index)
            group_bytes = sum(group.column(column).total_compressed_size for column in range(group.num_columns))
            if groups and size_bytes + group_bytes > self.shard_bytes:
                shards.append(Shard(file, first_row, rows, tuple(groups)))
                first_row, rows, size_bytes, groups = first_row + rows, 0, 0, []
            groups.append(index)
            rows += group.num_rows
            size_bytes += group_bytes
        return [*shards, Shard(file, first_row, rows, tuple(groups))] if groups else [Shard(file)]


def _readable(table: pa.Table, path: str) -> tuple[pa.Table, list[BadRow]]:
    """Rows with a text that is no UTF-8 become bad rows: who wrote the file did not look, and whoever reads on would stumble."""
    broken: dict[int, str] = {}
    for name in table.column_names:
        try:
            table.column(name).validate(full=True)
        except pa.ArrowInvalid:
            found = [row for row, cell in enumerate(table.column(name)) if not _is_text(cell)]
            if not found:
                raise
            broken |= dict.fromkeys(found, name)
    if not broken:
        return table, []
    ids = table.column(ROW).to_pylist()
    bad = [BadRow(path, int(str(ids[row])), f"column '{broken[row]}': bytes that are no UTF-8", "") for row in sorted(broken)]
    return table.filter(pa.array([row not in broken for row in range(table.num_rows)])), bad


def _is_text(cell: pa.Scalar) -> bool:
    try:
        cell.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _fitting(footer: pq.FileMetaData) -> int:
    """How many rows of the file make TABLE_BYTES, by what it says that they have unpacked: pictures are larger than numbers."""
    unpacked = sum(footer.row_group(index).total_byte_size for index in range(footer.num_row_groups))
    return max(1, TABLE_BYTES * footer.num_rows // max(1, unpacked))


def _open(file: InputFile) -> pq.ParquetFile:
    """UnreadableError if the footer is absent or broken: a truncated file is never read in part."""
    try:
        return pq.ParquetFile(cast("str", RangeFile(file)), pre_buffer=True)  # the stubs want a name; a file object is fine
    except (pa.ArrowException, OSError) as error:
        raise UnreadableError(
            f"file '{file.path}': no whole Parquet file ({error}). Write it again, or leave it out of the source"
        ) from error
