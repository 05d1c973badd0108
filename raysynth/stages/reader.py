"""A shard of the input → its rows as prepare keeps them: read, cleaned, with new texts and joined facts; and what was not fit for that."""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from raysynth.cleaning import MAX_PIXELS, clean
from raysynth.errors import UnreadableError
from raysynth.knowledge import Knowledge
from raysynth.schema import Schema
from raysynth.sources.base import BadRow, Shard, Source
from raysynth.stages.prepare_text import Texts
from raysynth.stages.snapshot import check_unchanged

UNREADABLE = -1  # the `_row` of a file that is in quarantine as a whole


@dataclass(frozen=True)
class Reader:
    """All that a worker needs to read a part: the part's number is the shard's. `texts`: what prepare.text asks for; `known`: whose facts
    become columns; `max_pixels`: of a picture."""

    source: Source
    shards: tuple[Shard, ...]
    schema: Schema
    formats: dict[str, str]
    texts: Texts | None = None
    known: Knowledge | None = None
    max_pixels: int = MAX_PIXELS

    def kept(self, part: int) -> tuple[pa.Table | None, list[BadRow], Counter[str]]:
        """A shard's rows that pass the filters of texts, the bad ones, and how many the filters took, by reason."""
        pieces, bad = self.cleaned(part)
        if not pieces:
            return None, bad, Counter()
        rows = pa.concat_tables(pieces)
        if self.texts is None:
            return rows, bad, Counter()
        rows, filtered = self.texts.kept(rows, self.schema)
        return rows, bad, filtered

    @property
    def read_schema(self) -> Schema:
        """Without the columns of facts, which are joined to what is read."""
        joined = {column.name for column in self.known.columns} if self.known is not None else set()
        return Schema(tuple(column for column in self.schema if column.name not in joined))

    def cleaned(self, part: int) -> tuple[list[pa.Table], list[BadRow]]:
        """A shard's rows in the schema's types, and the rows that are not fit for it: a broken file counts as one."""
        shard, texts = self.shards[part], self.texts
        told = texts.told if texts is not None and texts.replaces else None
        pieces: list[pa.Table] = []
        bad: list[BadRow] = []
        try:
            for table, unreadable in self.source.read(shard):
                rows, unfit = clean(table, self.read_schema, formats=self.formats, told=told, max_pixels=self.max_pixels)
                made = rows if texts is None else texts.rows(rows, self.schema)
                pieces.append(made if self.known is None else self.known.joined(made))
                bad += [*(unreadable if texts is None else map(texts.bad, unreadable)), *unfit]
        except UnreadableError as error:  # whatever could be read of it is left out too
            pieces, bad = [], [BadRow(shard.file.path, UNREADABLE, str(error), "")]
        for file in shard.files or (shard.file,):
            check_unchanged(file)
        return pieces, bad
