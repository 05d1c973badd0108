"""Rows with texts ↔ Tokens: the texts and conversations as token ids, every other column as the codes that `tabular` gives it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.codecs._base_tokenizer import BaseVocabulary, read_tokenizer
from raysynth.codecs._column_stats import TableStats, column_of, lowest
from raysynth.codecs._tokenizer import FIRST, Vocabulary, learn
from raysynth.codecs._turns import Ids, check_roles, decode_turns, encode_turns
from raysynth.codecs.base import Codec, Stats
from raysynth.codecs.tabular import Tabular
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import Array, Arrays, Batch, Beginning, Facts, Fields, FieldsGiven, Tokens, TokensGiven
from raysynth.row_ids import id_words
from raysynth.schema import TURNS, Schema
from raysynth.turns import Turn, contents, few, roles_in
from raysynth.where import Starts, Values, Where

MOST_CHARACTERS = 20_000  # of a text in the sample that tokens are learnt from
MOST_LEARNT = 2048  # tokens of a text, where the recipe names no length: one very long text would make all rows as wide
KEPT = 0.995  # of the texts are short enough to be learnt whole, where the recipe names no length


@dataclass(frozen=True)
class TextStats:
    """What the other columns hold, the texts of the rows whose row ids hash lowest, and by column of turns the roles of all rows."""

    table: TableStats | None
    words: NDArray[np.uint64]
    texts: pa.Table
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def merge(self, other: "TextStats") -> "TextStats":
        words, texts = np.concatenate([self.words, other.words]), pa.concat_tables([self.texts, other.texts])
        table = self.table.merge(other.table) if self.table is not None and other.table is not None else None
        roles = {name: few([*found, *other.roles[name]]) for name, found in self.roles.items()}
        return TextStats(table, *lowest(words, texts), roles)


class Text(Codec):
    """`tokens`: how many there may be, bytes and all (null: by how much text there is); `max_tokens`: of one text; longer ones are cut,
    which the model then tells, and no row is made of that length (null: what holds 99.5 % of the texts, and at most 2,048).
    `tokenizer`: the folder of a Hugging Face model whose tokens are taken instead of learning some (what a `base` of the generator gets by
    itself). It is kept whole with the model, which says of how many texts it changed something."""

    def __init__(
        self,
        schema: Schema,
        *,
        seed: int = 0,
        tokens: int | None = None,
        max_tokens: int | None = None,
        tokenizer: str | None = None,
    ) -> None:
        super().__init__(schema, seed=seed)
        if tokens is not None and tokenizer is not None:
            raise RecipeError(f"codec.tokens: the tokenizer '{tokenizer}' has its own. Leave tokens out (got {tokens})")
        if tokens is not None and tokens < 512:
            raise RecipeError(f"codec.tokens: the 256 bytes need room beside them. Give 512 or more (got {tokens})")
        if max_tokens is not None and max_tokens < 1:
            raise RecipeError(f"codec.max_tokens: must be at least 1 (got {max_tokens})")
        self.texts = [column for column in schema if column.kind in ("text", "turns")]
        if not self.texts:
            kinds = ", ".join(f"{column.name} ({column.kind})" for column in schema)
            raise RecipeError(
                f"codec.use: text needs a column of kind text or turns, and there is none: {kinds}. "
                "Say which it is, schema: {columns: {…: {kind: text}}}, or use tabular"
            )
        self.tokens, self.max_tokens, self.tokenizer = tokens, max_tokens, tokenizer
        self.vocabulary: Vocabulary | BaseVocabulary
        self.table = Tabular(Schema(tuple(column for column in schema if column not in self.texts)), seed=seed)
        self.roles: list[dict[str, int] | None] = []
        """Of each column of turns the tokens of its roles, which come behind all others."""
        self.lengths: list[int] = []
        self.nullable: list[bool] = []
        self.never: tuple[int, ...] = ()
        self.told: Facts = {}

    def observe(self, rows: pa.Table) -> TextStats:
        found = {
            column.name: column_of(rows, column) if column.kind == "turns" else column_of(rows, column).cast(pa.string())
            for column in self.texts
        }
        table = self.table.observe(rows) if len(self.table.schema) else None
        roles = {column.name: roles_in(found[column.name]) for column in self.texts if column.kind == "turns"}
        return TextStats(table, *lowest(id_words(rows, self.seed), pa.table(found)), roles)

    def settle(self, stats: Stats) -> Tokens:
        stats = cast(TextStats, stats)
        self.table.settle(stats.table or TableStats((), stats.words[:0], pa.table({})))
        check_roles(stats.roles)
        columns = [stats.texts[column.name].drop_null().combine_chunks() for column in self.texts]
        said = [contents(texts)[0] if texts.type == TURNS else texts for texts in columns]
        sample = [str(text)[:MOST_CHARACTERS] for texts in said for text in texts.to_pylist()]
        self.vocabulary = read_tokenizer(self.tokenizer) if self.tokenizer else learn(sample, self.tokens)
        self._number([stats.roles.get(column.name) for column in self.texts])
        found = [
            np.array([len(ids) for ids, _ in self._ids(number, texts.to_pylist())] or [1]) for number, texts in enumerate(columns)
        ]
        self.lengths = [
            self.max_tokens or max(1, min(MOST_LEARNT, int(np.quantile(lengths, KEPT, method="higher")))) for lengths in found
        ]
        cut = {
            column.name: {"texts": len(lengths), "cut": int((lengths > most).sum()), "max_tokens": most}
            for column, lengths, most in zip(self.texts, found, self.lengths, strict=True)
        }
        self.nullable = [
            stats.texts[column.name].null_count > 0 or roles == {} for column, roles in zip(self.texts, self.roles, strict=True)
        ]
        self.told = {"sampled": cut}
        if isinstance(self.vocabulary, BaseVocabulary):
            self.told["changed_by_tokenizer"] = len(sample) - self.vocabulary.kept(sample)
        else:
            self.never = self.vocabulary.unseen_controls(sample)
        return self._lay_out()

    def encode(self, rows: pa.Table) -> Batch:
        tokens = np.full((rows.num_rows, cast("Tokens", self.layout).length), Tokens.PAD, dtype=np.int32)
        filled = np.zeros(rows.num_rows, dtype=np.int64)
        for number, (column, most) in enumerate(zip(self.texts, self.lengths, strict=True)):
            texts = column_of(rows, column).to_pylist()
            for row, (ids, told) in enumerate(self._ids(number, texts)):
                found = [Tokens.NULL] if texts[row] is None else ids[:most]
                whole = told and len(ids) <= most
                if whole:
                    found = [*found, Tokens.END]
                # what follows a text that was cut is no longer a row that could be drawn
                if filled[row] >= 0:
                    tokens[row, filled[row] : filled[row] + len(found)] = found
                    filled[row] = filled[row] + len(found) if whole else -1
        return Batch({"codes": self.table.encode(rows)["codes"], "tokens": tokens})

    def decode(self, batch: Batch, draws: Draws) -> pa.Table:
        columns: dict[str, Any] = {}
        if len(self.table.schema):
            table = self.table.decode(batch, draws)
            columns = {name: table.column(name) for name in table.column_names}
        rows = [self._texts_of(tokens) for tokens in batch["tokens"].tolist()]
        for number, column in enumerate(self.texts):
            texts = pa.array([row[number] for row in rows], column.type if column.kind == "turns" else pa.string())
            columns[column.name] = texts.cast(column.type)
        return pa.table([columns[name] for name in self.schema.names], schema=self.schema.arrow)

    def condition(self, where: Where) -> FieldsGiven | None:
        """RecipeError too on a beginning that leaves its text no room to end."""
        self.check_where(where)
        codes = self.table.condition({name: wanted for name, wanted in where.items() if name in self.table.schema})
        if not any(isinstance(wanted, Starts) for wanted in where.values()):
            return codes
        begun = tuple(self._begun(column.name, most, where) for column, most in zip(self.texts, self.lengths, strict=True))
        return TokensGiven(codes.masks if codes else {}, begun)

    def check_where(self, where: Where) -> None:
        for name in (column.name for column in self.texts):
            if isinstance(wanted := where.get(name), Values) and len(wanted.values):
                raise RecipeError(
                    f"where.{name}: no generator of texts writes a whole text that is asked for. Say how it begins, {{starts: …}}, or null"
                )

    def _begun(self, name: str, most: int, where: Where) -> Beginning | None:
        wanted = where.get(name)
        if not isinstance(wanted, Starts):
            return None
        if (tokens := len(self.vocabulary.encode([wanted.text])[0])) > most:
            raise RecipeError(
                f"where.{name}: starts has {tokens} tokens, and a text of this model at most {most}. Give a shorter beginning, "
                "or train with a larger codec.max_tokens"
            )
        if unseen := {FIRST + byte for byte in wanted.text.encode()} & set(self.never):
            raise RecipeError(
                f"where.{name}: starts holds a control character that no train text has ({chr(min(unseen) - FIRST)!r})"
            )
        begun, roles = self.vocabulary.beginning(wanted.text), sum(len(roles or ()) for roles in self.roles)
        return Beginning(np.pad(begun.allowed, ((0, 0), (0, roles))), np.pad(begun.spelled, (0, roles)))

    def state(self) -> tuple[Arrays, Facts]:
        arrays, facts = self.table.state()
        arrays = {f"table.{name}": array for name, array in arrays.items()}
        if isinstance(self.vocabulary, BaseVocabulary):
            arrays["tokenizer"] = _joined([self.vocabulary.told])
        else:
            pairs = [part for pair in self.vocabulary.merges for part in pair]
            arrays |= {"characters": _joined(self.vocabulary.characters), "merges": _joined(pairs)}
        told: Facts = {
            "table": facts,
            "lengths": self.lengths,
            "nullable": self.nullable,
            "told": self.told,
            "never": list(self.never),
        }
        if any(roles is not None for roles in self.roles):
            told["roles"] = [None if roles is None else list(roles) for roles in self.roles]
        return arrays, told

    def load(self, arrays: Arrays, facts: Facts) -> None:
        table = {name.removeprefix("table."): array for name, array in arrays.items() if name.startswith("table.")}
        self.table.load(table, facts["table"])
        if "tokenizer" in arrays:
            self.vocabulary = BaseVocabulary(*_split(arrays["tokenizer"]))
        else:
            parts = _split(arrays["merges"])
            self.vocabulary = Vocabulary(tuple(_split(arrays["characters"])), tuple(zip(parts[::2], parts[1::2], strict=True)))
        self.lengths, self.nullable, self.told = list(facts["lengths"]), list(facts["nullable"]), facts["told"]
        self.never = tuple(facts["never"])
        self._number(facts.get("roles", [None] * len(self.texts)))
        self._lay_out()

    def _lay_out(self) -> Tokens:
        fields = cast("Fields", self.table.layout).fields
        size = self.vocabulary.size + sum(len(roles or ()) for roles in self.roles)
        turns = tuple(None if roles is None else tuple(roles.values()) for roles in self.roles)
        length = sum(self.lengths) + len(self.texts)
        layout = Tokens(
            fields, size, length, tuple(self.nullable), turns if any(ids is not None for ids in turns) else (), self.never
        )
        self.layout = layout
        return layout

    def _number(self, roles: Sequence[Sequence[str] | None]) -> None:
        numbers = count(self.vocabulary.size)
        self.roles = [None if names is None else {name: next(numbers) for name in names} for names in roles]

    def _ids(self, number: int, values: Sequence[Any]) -> list[Ids]:
        """Of each value of a text column its tokens, none of a null."""
        roles = self.roles[number]
        if roles is None:
            return [(ids, True) for ids in self.vocabulary.encode([text or "" for text in values])]
        return encode_turns(self.vocabulary, roles, values)

    def _value_of(self, number: int, ids: Sequence[int]) -> str | list[Turn] | None:
        if ids[:1] == [Tokens.NULL]:
            return None
        roles = self.roles[number]
        return self.vocabulary.decode(ids) if roles is None else decode_turns(self.vocabulary, roles, ids)

    def _texts_of(self, tokens: list[int]) -> list[str | list[Turn] | None]:
        """One row's texts; of a row that was cut, what there is of them."""
        texts: list[str | list[Turn] | None] = []
        start = 0
        while len(texts) < len(self.texts):
            end = tokens.index(Tokens.END, start) if Tokens.END in tokens[start:] else len(tokens)
            ids = tokens[start:end]
            texts.append(self._value_of(len(texts), ids))
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
