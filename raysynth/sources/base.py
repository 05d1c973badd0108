"""Source: real rows as shards. A shard is one file, or a run of row groups of a big one, with ids and an order that never change."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from raysynth.schema import Kind


@dataclass(frozen=True)
class InputFile:
    """One file of the snapshot: path relative to the source's root, its absolute URL, size, and the store's tag of its content."""

    path: str
    url: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class Shard:
    """One unit of input: a file (first_row 0, rows None = all), or `rows` rows of it from `first_row` (row groups in `groups`); or `files`,
    small ones that are read together, of which `file` is the first. `beside`: what else must be read for its rows, such as their labels;
    several shards may share it."""

    file: InputFile
    first_row: int = 0
    rows: int | None = None
    groups: tuple[int, ...] = ()
    files: tuple[InputFile, ...] = ()
    beside: tuple[InputFile, ...] = ()

    @property
    def all_files(self) -> tuple[InputFile, ...]:
        return (*(self.files or (self.file,)), *self.beside)


@dataclass(frozen=True)
class BadRow:
    """A row that could not be read: where, why, and its raw text (cut at 10,000 characters)."""

    path: str
    row: int
    reason: str
    text: str


class Source(ABC):
    """Subclasses take `url` and their options as keyword arguments of the constructor. Sources are picklable."""

    cuts: ClassVar[tuple[str, ...]] = ()
    """The options that only say how much is read at a time: they are in no id, since they change no row."""

    @abstractmethod
    def files(self) -> list[InputFile]:
        """The input, sorted by relative path. StoreError / DataError if there is none or it cannot be reached."""

    @abstractmethod
    def shards(self, files: list[InputFile]) -> list[Shard]:
        """The units of reading, sorted by (path, first row)."""

    def kinds(self) -> Mapping[str, Kind]:
        """Column → its kind, where the source knows it better than the values tell; the recipe's own word goes before it."""
        return {}

    def notes(self, files: list[InputFile]) -> list[str]:
        """What a person should be told of the input that is in no row, such as labels of files that are not there; in sentences."""
        return []

    def known_rows(self, files: list[InputFile]) -> int | None:
        """How many rows there are, bad ones included, where that is known without reading them."""
        return None

    @abstractmethod
    def read(self, shard: Shard) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        """Tables in file order with the row-id columns `_file` (dictionary of strings) and `_row` (int64) first, and then the file's
        columns as found (text sources: all strings). A file that is broken raises UnreadableError naming it, one that wants other
        options DataError."""
