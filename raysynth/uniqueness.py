"""Rows, and the columns that no two of them may share → a key of each, the rows that repeat a lower one, and who wins a value in a round.

Texts that fold alike are equal, so are turns that say such texts; any other values are compared as they are. A null equals a null, but
a row whose columns are all null is like no other. Keys are 64-bit hashes: two that agree by chance cost a draw, and never let a copy pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cleaning import row_hash
from raysynth.draws import Words
from raysynth.errors import RecipeError
from raysynth.parts import nearest
from raysynth.schema import TURNS, Schema
from raysynth.turns import as_text
from raysynth.words import folded

_BUCKET_ROWS = 4_000_000
_MOST_BUCKETS = 1024


def columns_of(asked: Literal[True] | Sequence[str] | None, schema: Schema) -> tuple[str, ...]:
    """generate.unique → the columns, in one order; none without the key. True: all that are learnt, but ids, which never repeat."""
    if asked is None:
        return ()
    if asked is True:
        return tuple(sorted(column.name for column in schema.learnt if column.kind != "id"))
    for name in asked:
        if name not in schema:
            raise RecipeError(
                f"generate.unique: no column '{name}'.{nearest(name, schema.names)} Columns: {', '.join(schema.names)}"
            )
    return tuple(sorted(set(asked)))


def keys_of(rows: pa.Table, schema: Schema, columns: Sequence[str]) -> tuple[Words, NDArray[np.bool_]]:
    """(rows,) a hash of what the columns say together, and whether they say anything."""
    table, said = rows.select(list(columns)), np.zeros(rows.num_rows, np.bool_)
    for place, name in enumerate(columns):
        values = table.column(place)
        said |= np.asarray(values.is_valid().to_numpy(), np.bool_)
        if schema[name].kind in ("text", "turns"):
            texts = as_text(values) if values.type == TURNS else values
            made = [None if text is None else folded(str(text)) for text in texts.to_pylist()]
            table = table.set_column(place, name, pa.array(made, pa.large_string()))
    return row_hash(table, Schema(tuple(replace(schema[name], derived=False) for name in columns))), said


def buckets(rows: int) -> int:
    """For the keys of so many rows: those of one bucket fit into a worker's memory."""
    return min(_MOST_BUCKETS, -(-rows // _BUCKET_ROWS))


def bucket_of(words: Words, buckets: int) -> NDArray[np.int64]:
    return ((words >> np.uint64(32)) % np.uint64(buckets)).astype(np.int64)


def repeats(rows: NDArray[np.uint64], words: Words) -> NDArray[np.int64]:
    """The places of the rows whose key a lower row has too."""
    order = np.lexsort((rows, words))
    return order[1:][words[order][1:] == words[order][:-1]]


@dataclass(frozen=True)
class Candidates:
    """What rows that draw again have drawn: `slot`, (candidates,) ascending, is the row, each with its candidates in the order of their
    attempts; `free`: nobody has that key yet; `said`: as of `keys_of`."""

    slot: NDArray[np.int64]
    words: Words
    said: NDArray[np.bool_]
    free: NDArray[np.bool_]

    def winners(self, slots: int) -> tuple[NDArray[np.int64], int]:
        """(slots,) the place of the candidate that each row keeps, or -1; and how many candidates were looked at.

        As if each row that has none drew once a turn: of those that draw the same free value in one turn the lowest row keeps it. So
        it does not matter how many candidates were drawn ahead."""
        won, shown = np.full(slots, -1), 0
        ids = np.unique(self.words, return_inverse=True)[1]
        gone = np.zeros(len(ids), np.bool_)
        gone[ids[self.said & ~self.free]] = True
        for at in self._turns():
            at = at[won[self.slot[at]] < 0]
            shown += len(at)
            new = at[self.said[at] & ~gone[ids[at]]]
            new = new[np.unique(ids[new], return_index=True)[1]]  # the first of a key is its lowest row's
            gone[ids[new]] = True
            kept = np.concatenate([new, at[~self.said[at]]])
            won[self.slot[kept]] = kept
        return won, shown

    def _turns(self) -> list[NDArray[np.int64]]:
        """The places of each row's first candidates, of the second ones, and so on."""
        turn = np.arange(len(self.slot)) - np.searchsorted(self.slot, self.slot)
        order = np.lexsort((self.slot, turn))
        return np.split(order, np.cumsum(np.bincount(turn))[:-1]) if len(order) else []
