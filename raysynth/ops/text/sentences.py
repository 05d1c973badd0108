"""Texts → the same texts with their sentences in another order."""

import numpy as np
import pyarrow as pa

from raysynth.draws import Draws
from raysynth.ops.base import Op
from raysynth.ops.text import _sentences as cut
from raysynth.ops.text._codes import Places, Texts
from raysynth.ops.text._texts import changed, ragged, text_columns
from raysynth.schema import Schema


class Sentences(Op):
    """None stays at its place (a random cycle: Sattolo, "An algorithm to generate a random cyclic permutation", 1986). A text of one
    sentence stays as it is. Sentences end at . ! ? … 。！？ and line breaks; the blanks between them stay where they are."""

    def __init__(self, schema: Schema, *, columns: tuple[str, ...] | None = None) -> None:
        super().__init__(schema)
        self.columns = text_columns(schema, columns)

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        return changed(rows, self.columns, draws, self._change)

    def _change(self, texts: Texts, draws: Draws, name: str) -> pa.Array:
        found = cut.Sentences.of(texts)
        words = ragged(draws, f"order-{name}", np.maximum(0, found.counts - 1)).tolist()
        order = np.arange(len(found.starts))
        ends = order.copy()  # of which sentence the punctuation is
        at, used = 0, 0
        for count in found.counts.tolist():
            if count > 1:
                places = _cycle(words[used : used + count - 1])
                order[at : at + count] = places + at
                ends[at : at + count] = order[at : at + count]
                if found.ends[at + count - 1] == found.gaps[at + count - 1]:  # without a full stop it would run into the next:
                    last = at + int(np.argmax(places))  # it takes that of the one that is now last
                    ends[last], ends[at + count - 1] = ends[at + count - 1], ends[last]
                used += count - 1
            at += count
        pieces = np.stack((found.starts[order], found.ends[ends], found.gaps), axis=1)
        lengths = (found.ends - found.starts)[order], (found.gaps - found.ends)[ends], found.stops - found.gaps
        rows = np.repeat(np.arange(len(texts.texts)), found.counts)
        return texts.spliced(rows, found.starts, found.stops, pieces, np.stack(lengths, axis=1))


def _cycle(words: list[int]) -> Places:
    """Sattolo's: each place from the last on is exchanged with one before it."""
    order = list(range(len(words) + 1))
    for place, word in zip(range(len(words), 0, -1), words, strict=True):
        other = (word * place) >> 64
        order[place], order[other] = order[other], order[place]
    return np.array(order)
