"""Text columns of rows → the same columns with each text changed; where the changes of a text fall."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from raysynth.draws import Draws, mix
from raysynth.errors import RecipeError
from raysynth.ops.text._codes import Texts
from raysynth.schema import Schema

pc = cast("Any", pyarrow.compute)  # the stubs of its functions refuse most unions of types

CHUNK_BYTES = 512 << 10  # of text at a time: it bounds the memory, about a hundred times as much

_LISTED_NEGATIONS = """
no not never nor none nothing nobody neither without cannot cant dont wont isnt wasnt arent werent doesnt didnt hasnt havent hadnt
couldnt shouldnt wouldnt aint 不 没 無 无 未 非 别 莫 勿 否
"""
NEGATIONS = frozenset(_LISTED_NEGATIONS.split())
"""Words that turn a sentence into its contrary: a label would not outlive the loss of one."""

Change = Callable[[Texts, Draws, str], pa.Array | list[str]]
"""Texts, their draws and the name of the column, to be part of the names of draws → the texts changed."""


def text_columns(schema: Schema, columns: tuple[str, ...] | None) -> list[str]:
    """Those named, by default all, of kind text that are not derived. RecipeError where one is of another kind or there is none."""
    able = [column.name for column in schema.learnt if column.kind == "text"]
    if wrong := [name for name in columns or () if name not in able]:
        raise RecipeError(f"columns: '{wrong[0]}' is no text column that is learnt. Those are: {', '.join(able) or 'none'}")
    chosen = [name for name in able if columns is None or name in columns]
    if not chosen:
        raise RecipeError("columns: no text column to change. Give one the kind text (schema.columns), or leave the op out")
    return chosen


def changed(rows: pa.Table, columns: list[str], draws: Draws, change: Change) -> pa.Table:
    """The rows with the texts of `columns` changed; nulls stay."""
    for name in columns:
        field = rows.schema.field(name)
        pieces = [_piece(texts, start, draws, name, change) for start, texts in pieces_of(rows.column(name))]
        made = pa.chunked_array([piece.cast(field.type) for piece in pieces], field.type)
        rows = rows.set_column(rows.column_names.index(name), field, made)
    return rows


def pieces_of(column: pa.ChunkedArray) -> Iterator[tuple[int, pa.Array]]:
    """The column in pieces of about CHUNK_BYTES, each with its first row."""
    column = column.cast(pa.large_string())
    ends = np.cumsum(np.asarray(pc.fill_null(pc.binary_length(column), 0)), dtype=np.int64)
    cuts = np.flatnonzero(np.diff(ends // CHUNK_BYTES)) + 1
    bounds = [0, *cuts.tolist(), len(ends)] if len(ends) else [0]
    for start, end in pairwise(bounds):
        yield start, column.slice(start, end - start).combine_chunks()


def _piece(texts: pa.Array, start: int, draws: Draws, name: str, change: Change) -> pa.Array:
    present = np.asarray(texts.is_valid())
    found = change(Texts(texts.drop_null()), draws.take(start + np.flatnonzero(present)), name)
    new = pa.array(found, pa.large_string()) if isinstance(found, list) else found
    if present.all():
        return new
    index: Any = pa.array(np.cumsum(present) - 1, mask=~present)
    return new.take(index)


@dataclass(frozen=True)
class Edits:
    """One entry an edit, by text and place, no place of a text twice: the text, the place in what may change of it, and a number from
    0 to 2^32 - 1 for what is chosen there."""

    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    choices: NDArray[np.int64]

    def by_row(self, rows: int) -> Iterator[list[tuple[int, int]]]:
        """(place, choice) of each of so many texts."""
        ends = np.cumsum(np.bincount(self.rows, minlength=rows)).tolist()
        pairs = list(zip(self.places.tolist(), self.choices.tolist(), strict=True))
        start = 0
        for end in ends:
            yield pairs[start:end]
            start = end


def edits(draws: Draws, name: str, sizes: NDArray[np.int64], *, share: float, most: int, least: int = 1) -> Edits:
    """Texts with so many things that may change → `share` × size of their places, the fraction by a draw, from 1 to `most`; none of
    texts with fewer than `least` things. One place in each of as many equal stretches, from a place drawn on: each place as likely."""
    wanted = np.floor(sizes * share + draws.uniform(f"count-{name}"))
    counts = np.where(sizes >= least, np.clip(wanted, 1, np.minimum(most, sizes)), 0).astype(np.int64)
    rows = np.repeat(np.arange(len(sizes)), counts)
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    words = ragged(draws, f"edit-{name}", counts)
    size, count = sizes[rows], counts[rows]
    start = nth * size // count
    width = (nth + 1) * size // count - start
    turn = _below(draws.words(f"turn-{name}"), np.maximum(1, sizes))[rows]
    keys = (rows << 32) | ((start + _below(words, width) + turn) % size)
    order = np.argsort(keys, kind="stable")
    return Edits(rows, keys[order] & (2**32 - 1), (words[order] & np.uint64(2**32 - 1)).astype(np.int64))


def _below(words: NDArray[np.uint64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from 0 to size - 1, by the high half of the words."""
    return ((words >> np.uint64(32)) * sizes.astype(np.uint64) >> np.uint64(32)).astype(np.int64)


def chosen_act(can: NDArray[np.bool_], choices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(acts, edits) what can be done → the number of one that can, each as likely, or -1; and what is left of the choice."""
    counts = can.sum(axis=0)
    nth = choices % np.maximum(1, counts)
    chosen = (np.cumsum(can, axis=0) <= nth).sum(axis=0)
    return np.where(counts > 0, chosen, -1), choices // np.maximum(1, counts)


def ragged(draws: Draws, name: str, counts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The first `counts[i]` words of row i in `draws.words(name, most)`, one row behind the other, without making the others."""
    ends = np.cumsum(counts)
    nth = np.arange(1, (int(ends[-1]) if len(ends) else 0) + 1) - np.repeat(ends - counts, counts)
    return mix(np.repeat(draws.words(name), counts) + nth.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
