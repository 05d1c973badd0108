"""Rows with texts ↔ Tokens: the texts as token ids, every other column as the codes that `tabular` gives it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.codecs._column_stats import TableStats, column_of, id_words, lowest
from raysynth.codecs._tokenizer import Vocabulary, learn
from raysynth.codecs.base import Codec, Stats
from raysynth.codecs.tabular import Tabular
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import Array, Arrays, Batch, Facts, Fields, FieldsGiven, Tokens
from raysynth.schema import Schema
from raysynth.where import Where

MOST_CHARACTERS = 20_000  # of a text in the sample that tokens are learnt from
KEPT = 0.995  # of the texts are short enough to be learnt whole, where the recipe names no length


@dataclass(frozen=True)
class TextStats:
    """What the other columns hold, and the texts of the rows whose row ids hash lowest."""

    table: TableStats | None
    words: NDArray[np.uint64]
    texts: pa.Table

    def merge(self, other: "TextStats") -> "TextStats":
        words, texts = np.concatenate([self.words, other.words]), pa.concat_tables([self.texts, other.texts])
        table = self.table.merge(other.table) if self.table is not None and other.table is not None else None
        return TextStats(table, *lowest(words, texts))


class Text(Codec):
    """`tokens`: how many there may be, bytes and all (null: by how much text there is); `max_tokens`: of one text; longer ones are cut,
    which the model then tells, and no row is made of that length (null: what holds 99.5 % of the texts)."""

    def __init__(self, schema: Schema, *, seed: int = 0, tokens: int | None = None, max_tokens: int | None = None) -> None:
        super().__init__(schema, seed=seed)
        if tokens is not None and tokens < 512:
            raise RecipeError(f"codec.tokens: the 256 bytes need room beside them. Give 512 or more (got {tokens})")
        if max_tokens is not None and max_tokens < 1:
            raise RecipeError(f"codec.max_tokens: must be at least 1 (got {max_tokens})")
        self.texts = [column for column in schema if column.kind == "text"]
        if not self.texts:
            kinds = ", ".join(f"{column.name} ({column.kind})" for column in schema)
            raise RecipeError(
                f"codec.use: text needs a column of kind text, and there is none: {kinds}. "
                "Say which it is, schema: {columns: {…: {kind: text}}}, or use tabular"
            )
        self.tokens, self.max_tokens = tokens, max_tokens
        self.table = Tabular(Schema(tuple(column for column in schema if column.kind != "text")), seed=seed)
        self.lengths: list[int] = []
        self.nullable: list[bool] = []
        self.told: Facts = {}

    def observe(self, rows: pa.Table) -> TextStats:
        texts = pa.table(
            [column_of(rows, column).cast(pa.string()) for column in self.texts], names=[column.name for column in self.texts]
        )
        table = self.table.observe(rows) if len(self.table.schema) else None
        return TextStats(table, *lowest(id_words(rows, self.seed), texts))

    def settle(self, stats: Stats) -> Tokens:
        stats = cast(TextStats, stats)
        self.table.settle(stats.table or TableStats((), stats.words[:0], pa.table({})))
        columns = [[text for text in stats.texts[column.name].to_pylist() if text is not None] for column in self.texts]
        self.vocabulary = learn([text[:MOST_CHARACTERS] for texts in columns for text in texts], self.tokens)
        found = [np.array([len(ids) for ids in self.vocabulary.encode(texts)] or [1]) for texts in columns]
        self.lengths = [self.max_tokens or max(1, int(np.quantile(lengths, KEPT, method="higher"))) for lengths in found]
        cut = {
            column.name: {"texts": len(lengths), "cut": int((lengths > most).sum()), "max_tokens": most}
            for column, lengths, most in zip(self.texts, found, self.lengths, strict=True)
        }
        self.nullable = [stats.texts[column.name].null_count > 0 for column in self.texts]
        self.told = {"sampled": cut}
        return self._lay_out()

    def encode(self, rows: pa.Table) -> Batch:
        tokens = np.full((rows.num_rows, cast("Tokens", self.layout).length), Tokens.PAD, dtype=np.int32)
        filled = np.zeros(rows.num_rows, dtype=np.int64)
        for column, most in zip(self.texts, self.lengths, strict=True):
            texts = column_of(rows, column).to_pylist()
            for row, ids in enumerate(self.vocabulary.encode([text or "" for text in texts])):
                found = [Tokens.NULL] if texts[row] is None else ids[:most]
                if len(ids) <= most:
                    found = [*found, Tokens.END]
                # what follows a text that was cut is no longer a row that could be drawn
                if filled[row] >= 0:
                    tokens[row, filled[row] : filled[row] + len(found)] = found
                    filled[row] = filled[row] + len(found) if len(ids) <= most else -1
        return Batch({"codes": self.table.encode(rows)["codes"], "tokens": tokens})

    def decode(self, batch: Batch, draws: Draws) -> pa.Table:
        columns: dict[str, Any] = {}
        if len(self.table.schema):
            table = self.table.decode(batch, draws)
            columns = {name: table.column(name) for name in table.column_names}
        rows = [self._texts_of(tokens) for tokens in batch["tokens"].tolist()]
        for number, column in enumerate(self.texts):
            columns[column.name] = pa.array([row[number] for row in rows], pa.string()).cast(column.type)
        return pa.table([columns[name] for name in self.schema.names], schema=self.schema.arrow)

    def condition(self, where: Where) -> FieldsGiven | None:
        return self.table.condition({name: wanted for name, wanted in where.items() if name in self.table.schema})

    def state(self) -> tuple[Arrays, Facts]:
        arrays, facts = self.table.state()
        pairs = [part for pair in self.vocabulary.merges for part in pair]
        arrays = {f"table.{name}": array for name, array in arrays.items()}
        arrays |= {"characters": _joined(self.vocabulary.characters), "merges": _joined(pairs)}
        return arrays, {"table": facts, "lengths": self.lengths, "nullable": self.nullable, "told": self.told}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        table = {name.removeprefix("table."): array for name, array in arrays.items() if name.startswith("table.")}
        self.table.load(table, facts["table"])
        parts = _split(arrays["merges"])
        self.vocabulary = Vocabulary(tuple(_split(arrays["characters"])), tuple(zip(parts[::2], parts[1::2], strict=True)))
        self.lengths, self.nullable, self.told = list(facts["lengths"]), list(facts["nullable"]), facts["told"]
        self._lay_out()

    def _lay_out(self) -> Tokens:
        fields = cast("Fields", self.table.layout).fields
        layout = Tokens(fields, self.vocabulary.size, sum(self.lengths) + len(self.texts), tuple(self.nullable))
        self.layout = layout
        return layout

    def _texts_of(self, tokens: list[int]) -> list[str | None]:
        """One row's texts; of a row that was cut, what there is of them."""
        texts: list[str | None] = []
        start = 0
        while len(texts) < len(self.texts):
            end = tokens.index(Tokens.END, start) if Tokens.END in tokens[start:] else len(tokens)
            ids = tokens[start:end]
            texts.append(None if ids[:1] == [Tokens.NULL] else self.vocabulary.decode(ids))
            start = end + 1
        return texts


def _joined(texts: Sequence[str]) -> Array:
    """How many, the bytes of each, and the texts one behind the other: safetensors stores no words."""
    data = [text.encode() for text in texts]
    lengths = np.array([len(datum) for datum in data], dtype="<i4")
    return np.frombuffer(np.int32(len(data)).tobytes() + lengths.tobytes() + b"".join(data), dtype=np.uint8)


def _split(array: Array) -> list[str]:
    data = array.tobytes()
    (number,) = np.frombuffer(data[:4], dtype="<i4")
    ends = np.cumsum(np.frombuffer(data[4 : 4 + 4 * number], dtype="<i4"), dtype=np.int64) + 4 + 4 * int(number)
    starts = [4 + 4 * int(number), *ends[:-1].tolist()] if number else []
    return [data[start:end].decode() for start, end in zip(starts, ends.tolist(), strict=True)]
