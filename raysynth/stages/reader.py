"""A shard of the input → its rows as prepare keeps them: read, cleaned, with new texts and joined facts; and what was not fit for that.

A shard's rows are one table, but those with pictures are several, of GROUP_BYTES: an archive is one shard, however large it is.
"""

import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import pyarrow as pa

from raysynth.cleaning import MAX_PIXELS, clean
from raysynth.errors import UnreadableError
from raysynth.knowledge import Knowledge
from raysynth.schema import Schema
from raysynth.sources.base import BadRow, InputFile, Shard, Source
from raysynth.stages.prepare_text import Texts
from raysynth.stages.snapshot import check_unchanged, of_each

UNREADABLE = -1  # the `_row` of a file that is in quarantine as a whole
GROUP_BYTES = 128 << 20


class PackedShards(Sequence[Shard]):
    """Shards as they travel with every task: of a million files, a worker that reads some makes no million objects."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._packed = tuple(map(_packed, shards))

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, part: int) -> Shard: ...
    @overload
    def __getitem__(self, part: slice) -> list[Shard]: ...
    def __getitem__(self, part: int | slice) -> Shard | list[Shard]:
        return [_unpacked(one) for one in self._packed[part]] if isinstance(part, slice) else _unpacked(self._packed[part])


def _packed(shard: Shard) -> bytes:
    files = [
        [[file.path, file.url, file.size_bytes, file.etag] for file in some] for some in ((shard.file,), shard.files, shard.beside)
    ]
    return zlib.compress(json.dumps([shard.first_row, shard.rows, shard.groups, files]).encode(), 1)


def _unpacked(data: bytes) -> Shard:
    first_row, rows, groups, files = json.loads(zlib.decompress(data))
    (file,), some, beside = ([InputFile(*one) for one in these] for these in files)
    return Shard(file, first_row, rows, tuple(groups), tuple(some), tuple(beside))


@dataclass
class Kept:
    """Some of a shard's rows: those that pass the filters of texts (`first`: the place of the first of them among all of the shard), the
    bad ones, and how many the filters took, by reason."""

    rows: pa.Table | None
    first: int = 0
    bad: list[BadRow] = field(default_factory=list[BadRow])
    filtered: Counter[str] = field(default_factory=Counter[str])


@dataclass(frozen=True)
class Reader:
    """All that a worker needs to read a part: the part's number is the shard's. `texts`: what prepare.text asks for; `known`: whose facts
    become columns; `max_pixels`: of a picture."""

    source: Source
    shards: Sequence[Shard]
    schema: Schema
    formats: dict[str, str]
    texts: Texts | None = None
    known: Knowledge | None = None
    max_pixels: int = MAX_PIXELS

    def kept(self, part: int) -> Iterator[Kept]:
        """What is kept of a shard, in its order; of rows with pictures some at a time."""
        first = 0
        for pieces, bad in self.cleaned(part):
            if not pieces:
                yield Kept(None, first, bad)
                continue
            rows, filtered = pa.concat_tables(pieces), Counter[str]()
            if self.texts is not None:
                rows, filtered = self.texts.kept(rows, self.schema)
            yield Kept(rows, first, bad, filtered)
            first += rows.num_rows

    @property
    def read_schema(self) -> Schema:
        """Without the columns of facts, which are joined to what is read."""
        joined = {column.name for column in self.known.columns} if self.known is not None else set()
        return Schema(tuple(column for column in self.schema if column.name not in joined))

    def cleaned(self, part: int) -> Iterator[tuple[list[pa.Table], list[BadRow]]]:
        """A shard's rows in the schema's types, and the rows that are not fit for it: a broken file counts as one."""
        shard, texts = self.shards[part], self.texts
        told = texts.told if texts is not None and texts.replaces else None
        most_bytes = GROUP_BYTES if any(column.kind == "image" for column in self.schema) else None
        pieces: list[pa.Table] = []
        bad: list[BadRow] = []
        try:
            for table, unreadable in self.source.read(shard):
                rows, unfit = clean(table, self.read_schema, formats=self.formats, told=told, max_pixels=self.max_pixels)
                made = rows if texts is None else texts.rows(rows, self.schema)
                pieces.append(made if self.known is None else self.known.joined(made))
                bad += [*(unreadable if texts is None else map(texts.bad, unreadable)), *unfit]
                if most_bytes is not None and sum(piece.nbytes for piece in pieces) >= most_bytes:
                    yield pieces, bad
                    pieces, bad = [], []
        except UnreadableError as error:  # whatever could be read of it is left out too, but for groups that are done
            pieces, bad = [], [BadRow(shard.file.path, UNREADABLE, str(error), "")]
        of_each(shard.all_files, check_unchanged)
        yield pieces, bad
