"""Pictures as files, or in zips and tars → rows with their bytes as read, a label by folder, and the columns of their metadata.

Many small files are one shard, and a table holds many of them: 32 MiB or 1,000 rows. Nothing is decoded here. What can be told to be no row
without that (a file too large, a member of an archive that is broken) is a bad row by its name; the rest is seen when it is decoded.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, cast

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field

from raysynth.errors import DataError, UnreadableError
from raysynth.schema import IMAGE, ROW_ID, Kind
from raysynth.sources._archives import (
    ARCHIVES,
    Member,
    cut_zip,
    in_groups,
    is_archive,
    is_zip,
    stem_and_suffix,
    tar_members,
    too_large,
    zip_file,
    zip_members,
    zip_names,
)
from raysynth.sources._files import file_at, matched, nothing_in, open_file, with_row_ids
from raysynth.sources._metadata import FILES, NAMES, Lines, read_lines, written_alike
from raysynth.sources.base import BadRow, InputFile, Shard, Source
from raysynth.sources.jsonl import cells_of
from raysynth.stores.base import absolute, store_for

PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")
OTHERS = (".gif", ".bmp", ".tif", ".tiff", ".svg", ".heic", ".heif", ".avif", ".jxl", ".jp2")
"""Pictures that are not read: they are listed all the same, since one that is left out without a word is missed too late."""
BESIDE = (".json", ".cls", ".txt")
"""What WebDataset keeps in a tar beside a picture, under its name."""

SHARD_BYTES = 128 << 20
SHARD_FILES = 10_000
TABLE_BYTES = 32 << 20
TABLE_ROWS = 1_000
READERS = 8  # a small file costs its round trip, so several are on their way
_LINES_BYTES = 256 << 20  # of metadata in a zip
_SHOWN = 3


def _free_name(name: str) -> str:
    if not name.strip() or name in ROW_ID:
        raise ValueError(f"must be a name, and none of raysynth's own ({', '.join(ROW_ID)})")
    return name


def _known_suffix(name: str) -> str:
    if not name.lower().endswith(FILES):
        raise ValueError(f"must be the path or the URL of a file that ends in {', '.join(FILES)}")
    return name


Name = Annotated[str, AfterValidator(_free_name)]


@dataclass(frozen=True)
class _Found:
    """A picture, or the reason why it cannot be read. `file`, `row`: its row id. `name`: its path below the root, or in its archive.
    `cells`: what lies beside it."""

    file: str
    row: int
    name: str
    data: bytes | None
    reason: str = ""
    cells: Mapping[str, str | None] = field(default_factory=dict[str, str | None])

    @property
    def path(self) -> str:
        return self.name if self.name == self.file else f"{self.file}/{self.name}".rstrip("/")


class Images(Source):
    """Row ids: of a file its path and 0, of a picture in an archive the archive's path and the member's place. `label`: `folder` makes a
    column of the parent folder's name, `none` makes none; by default there is one where pictures lie in folders and no metadata is there.
    `metadata`: a CSV or JSON lines file, below the root or by its URL, whose `file_column` names the picture; by default metadata.jsonl or
    metadata.csv in the root. A file larger than `max_file_bytes` is a bad row and is never read."""

    def __init__(
        self,
        url: str,
        *,
        label: Literal["folder", "none"] | None = None,
        label_column: Name = "label",
        metadata: Annotated[str, AfterValidator(_known_suffix)] | None = None,
        file_column: str = "file_name",
        column: Name = "image",
        max_file_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = 50 << 20,
    ) -> None:
        self.url = url
        self.label: Literal["folder", "none"] | None = label
        self.label_column = label_column
        self.metadata = metadata
        self.file_column = file_column
        self.column = column
        self.max_file_bytes = max_file_bytes

    def files(self) -> list[InputFile]:
        """The metadata, where there is some, is the last."""
        root, found = matched(self.url, lambda path: path.lower().endswith((*PICTURES, *OTHERS, *ARCHIVES)))
        alone = [file.url for file in found] == [absolute(self.url)]
        found = [file for file in found if alone or not _is_hidden(file.path)]
        found = [file for file in found if not file.path.lower().endswith(FILES)]
        if not found:
            raise nothing_in(absolute(self.url), (*PICTURES, *ARCHIVES))
        for file in found:
            _check_name(file)
        return [*found, *self._metadata_at(root, found, alone)]

    def shards(self, files: list[InputFile]) -> list[Shard]:
        pictures, beside = _apart(files)
        made: list[Shard] = []
        for group in _groups(pictures, self.max_file_bytes, SHARD_BYTES, SHARD_FILES, is_archive):
            if is_archive(group[0].path):
                made += _shards_of(group[0], beside)
            else:
                made.append(Shard(group[0], files=tuple(group), beside=beside))
        return made

    def kinds(self) -> Mapping[str, Kind]:
        return {self.column: "image", self.label_column: "category"}

    def known_rows(self, files: list[InputFile]) -> int | None:
        pictures, _ = _apart(files)
        return None if any(is_archive(file.path) for file in pictures) else len(pictures)

    def notes(self, files: list[InputFile]) -> list[str]:
        pictures, beside = _apart(files)
        if not beside:
            return []
        lines = self._lines(beside[0])
        names = [name for file in pictures for name in _names(file)]
        told = [f"{len(lines.bad):,} lines cannot be read, the first at row {row.row}: {row.reason}" for row in lines.bad[:1]]
        if missing := lines.without_file(names):
            told.append(f"{len(missing):,} lines name no picture of the source: {_some(missing)}")
        known = set(cast("list[str]", lines.names.to_pylist()))
        if bare := [name for name in names if _is_picture(name) and written_alike(name) not in known]:
            told.append(f"{len(bare):,} pictures have no line, and nulls in its columns: {_some(bare)}")
        return [f"metadata '{lines.path}': {sentence}" for sentence in told]

    def read(self, shard: Shard) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        lines, file = self._lines(shard.beside[0]) if shard.beside else None, shard.file
        if not is_archive(file.path):
            yield from self._tables(self._plain(shard.files or (file,)), lines)
        elif is_zip(file.path):
            members = zip_members(file, _is_picture, self.max_file_bytes, shard.first_row, shard.rows)
            within = None if lines else self._lines_within(file)
            if within and within.bad and not shard.first_row:  # once, whatever shards the zip is cut into
                yield self._table([], None, {}), list(within.bad)
            yield from self._tables((_of_member(file, member) for member in members), lines or within)
        else:
            yield from self._tables(_of_tar(file, self.max_file_bytes), None)

    def _metadata_at(self, root: str, found: list[InputFile], alone: bool) -> list[InputFile]:
        """The file that says more of the pictures: one or none. DataError where it is not there, or there is no use for it."""
        if self.metadata is not None:
            metadata = file_at(self.metadata, root) or file_at(absolute(self.metadata), root)
            if metadata is None:
                raise DataError(f"source.metadata: '{self.metadata}' is not there. Give its path below {root}, or its URL")
        else:
            metadata = None if alone else next(filter(None, (file_at(name, root) for name in NAMES)), None)
        if metadata is not None and any(is_archive(file.path) and not is_zip(file.path) for file in found):
            raise DataError(
                f"source.metadata: '{metadata.path}' is there for pictures in a tar, and that brings its columns itself, as files beside "
                "each picture (.json, .cls, .txt). Pack a zip, or leave the metadata out"
            )
        return [] if metadata is None else [metadata]

    def _lines(self, metadata: InputFile) -> Lines:
        return read_lines(partial(open_file, metadata), metadata.path, self.file_column)

    def _lines_within(self, file: InputFile) -> Lines | None:
        """The metadata in the root of a zip."""
        for name in NAMES if self.metadata is None else ():
            if (data := zip_file(file, name, _LINES_BYTES)) is not None:
                return read_lines(partial(io.BytesIO, data), f"{file.path}/{name}", self.file_column)
        return None

    def _plain(self, files: Sequence[InputFile]) -> Iterator[_Found]:
        """As many files at a time as make a table, several of them on their way."""
        with ThreadPoolExecutor(READERS) as pool:
            for group in _groups(files, self.max_file_bytes, TABLE_BYTES, TABLE_ROWS):
                yield from pool.map(self._file, group)

    def _file(self, file: InputFile) -> _Found:
        if file.size_bytes > self.max_file_bytes:
            return _Found(file.path, 0, file.path, None, too_large(file.size_bytes, self.max_file_bytes))
        try:
            data = store_for(file.url).read_range(file.url, 0, file.size_bytes) if file.size_bytes else b""
        except FileNotFoundError as error:
            raise UnreadableError(f"file '{file.path}': it is gone since it was listed") from error
        return _Found(file.path, 0, file.path, data)

    def _tables(self, found: Iterable[_Found], lines: Lines | None) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        names: dict[str, None] = {}  # in order of first appearance, so that a table's columns only ever grow
        good: list[_Found] = []
        bad: list[BadRow] = []
        held_bytes = 0
        for item in found:
            if item.data is None:
                bad.append(BadRow(item.file, item.row, item.reason, item.path))
            else:
                good.append(item)
                held_bytes += len(item.data)
            if held_bytes >= TABLE_BYTES or len(good) + len(bad) >= TABLE_ROWS:
                yield self._table(good, lines, names), bad
                good, bad, held_bytes = [], [], 0
        if good or bad:
            yield self._table(good, lines, names), bad

    def _table(self, found: list[_Found], lines: Lines | None, names: dict[str, None]) -> pa.Table:
        cells = [{**self._label_of(item, lines), **item.cells} for item in found]
        for own in cells:
            names.update(dict.fromkeys(own))
        columns = {name: pa.array([own.get(name) for own in cells], pa.string()) for name in names}
        joined = pa.table({}) if lines is None else lines.of([item.name for item in found])
        if taken := {self.column} & {*names, *joined.column_names} or set(names) & set(joined.column_names):
            raise DataError(
                f"source '{self.url}': two columns would be '{min(taken)}'. Name that of the pictures by the option column, that of the "
                "folders by label_column, or rename what lies beside the pictures"
            )
        rows = pa.table({self.column: _images(found), **columns})
        for name in joined.column_names:
            rows = rows.append_column(name, joined.column(name))
        return with_row_ids(rows, [item.file for item in found], np.array([item.row for item in found], np.int64))

    def _label_of(self, item: _Found, lines: Lines | None) -> dict[str, str | None]:
        folder = item.name.rpartition("/")[0].rpartition("/")[2] or None
        by_itself = self.label is None and lines is None and folder is not None
        return {self.label_column: folder} if by_itself or self.label == "folder" else {}


def _names(file: InputFile) -> list[str]:
    """What is told by name; of a zip that cannot be opened, whoever reads it tells that."""
    try:
        return zip_names(file) if is_archive(file.path) else [file.path]
    except UnreadableError:
        return []


def _of_member(file: InputFile, member: Member, cells: Mapping[str, str | None] | None = None, reason: str = "") -> _Found:
    """`reason`: why the picture is no row although it can be read."""
    data = None if reason else member.data
    return _Found(file.path, member.row, member.name, data, member.reason or reason, cells or {})


def _of_tar(file: InputFile, max_file_bytes: int) -> Iterator[_Found]:
    """Pictures, each with what lies beside it under its name."""
    members = tar_members(file, lambda name: _is_picture(name) or name.lower().endswith(BESIDE), max_file_bytes)
    for group in in_groups(members):
        beside = [member for member in group if stem_and_suffix(member.name)[1] in BESIDE]
        cells, reason = _cells_beside(beside)
        yield from (_of_member(file, member, cells, reason) for member in group if member not in beside)


def _cells_beside(members: list[Member]) -> tuple[dict[str, str | None], str]:
    """`.json` → a column a key, `.cls` and `.txt` → one of that name; or why that cannot be."""
    cells: dict[str, str | None] = {}
    for member in members:
        suffix = stem_and_suffix(member.name)[1]
        try:
            text = (member.data or b"").decode("utf-8-sig")
            found = cells_of(text) if suffix == ".json" else {suffix[1:]: text.strip()}
        except (ValueError, RecursionError) as error:
            return {}, f"its {suffix} is no {'JSON object' if suffix == '.json' else 'text in UTF-8'} ({error})"
        if member.data is None:
            return {}, f"its {suffix}: {member.reason}"
        cells |= found
    return cells, ""


def _images(found: Sequence[_Found]) -> pa.Array:
    fields = [pa.array([item.data for item in found], pa.binary()), pa.array([item.path for item in found], pa.string())]
    return cast("Any", pa.StructArray).from_arrays(fields, fields=list(IMAGE))


def _groups(
    files: Sequence[InputFile],
    max_file_bytes: int,
    most_bytes: int,
    most_files: int,
    is_alone: Callable[[str], bool] = lambda _: False,
) -> Iterator[list[InputFile]]:
    """Files in their order, as many at a time as that; those that are too large are not read, and those alone are no part of others."""
    group: list[InputFile] = []
    held_bytes = 0
    for file in files:
        size_bytes = file.size_bytes if file.size_bytes <= max_file_bytes else 0
        full = held_bytes + size_bytes > most_bytes or len(group) == most_files
        if group and (full or is_alone(file.path) or is_alone(group[-1].path)):
            yield group
            group, held_bytes = [], 0
        group.append(file)
        held_bytes += size_bytes
    if group:
        yield group


def _shards_of(file: InputFile, beside: tuple[InputFile, ...]) -> list[Shard]:
    """A big zip is cut by its list; a tar has none, so it is one shard."""
    if not is_zip(file.path) or file.size_bytes <= SHARD_BYTES:
        return [Shard(file, beside=beside)]
    try:
        return [Shard(file, first, rows, beside=beside) for first, rows in cut_zip(file, SHARD_BYTES, SHARD_FILES)]
    except UnreadableError:  # told by whoever reads it
        return [Shard(file, beside=beside)]


def _apart(files: list[InputFile]) -> tuple[list[InputFile], tuple[InputFile, ...]]:
    """The pictures and archives, sorted by path, and the metadata."""
    metadata = tuple(file for file in files if file.path.lower().endswith(FILES))
    return sorted((file for file in files if file not in metadata), key=lambda file: file.path), metadata


def _is_picture(name: str) -> bool:
    """In an archive, by its name."""
    return name.lower().endswith((*PICTURES, *OTHERS)) and not _is_hidden(name)


def _is_hidden(path: str) -> bool:
    """Names with a dot before them, and folders with an underline: what systems keep there. Cameras write names such as _DSC0001.JPG."""
    *folders, name = path.split("/")
    return name.startswith(".") or any(folder.startswith((".", "_")) for folder in folders)


def _check_name(file: InputFile) -> None:
    try:
        file.path.encode()
    except UnicodeEncodeError:
        raise DataError(f"source: the name of the file {file.path!r} is no UTF-8. Rename it") from None


def _some(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
