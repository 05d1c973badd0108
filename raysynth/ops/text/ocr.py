"""Texts → the same texts with what optical character recognition mistakes: 0 for O, 1 for l, m for rn, a Chinese character for one
that looks like it."""

from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.base import Op
from raysynth.ops.text._alike import Alike, pair_key
from raysynth.ops.text._codes import Texts
from raysynth.ops.text._shapes import LOOKALIKES
from raysynth.ops.text._texts import changed, edits, text_columns
from raysynth.schema import Schema

_ONE = {
    **{"0": "Oo", "1": "lI", "2": "Z", "5": "S", "6": "b", "8": "B", "9": "g"},  # never another digit
    **{
        "O": "0Q",
        "o": "0c",
        "l": "1I",
        "I": "l1",
        "i": "lj",
        "j": "i",
        "Z": "2",
        "z": "2",
        "S": "5",
        "s": "5",
        "B": "8",
        "b": "6h",
    },
    **{"g": "9q", "q": "g9", "h": "b", "G": "C6", "C": "G", "D": "O", "Q": "O", "E": "F", "F": "E", "U": "V", "V": "U", "P": "F"},
    **{"R": "K", "r": "n", "e": "c", "c": "e", "u": "v", "v": "u", "n": "u", "t": "f", "f": "t", "y": "v", "a": "o"},
    **LOOKALIKES,
}
_TWO = {"m": "rn", "d": "cl", "w": "vv", "M": "IVI", "W": "VV", "H": "I-I", "k": "lc", "n": "ri", "u": "ii"}
_PAIRS = {"rn": "m", "nn": "m", "cl": "d", "vv": "w", "VV": "W", "ri": "n", "ii": "u", "li": "h", "lc": "k", "fi": "h"}


class Ocr(Op):
    """`share` of the characters, at least one of each text that has some that may be mistaken, are: English letters, digits and Chinese
    characters. A digit becomes a letter, never another digit. Addresses, placeholders and tags stay.
    `most`: at most so many mistakes in one text."""

    def __init__(
        self,
        schema: Schema,
        *,
        columns: tuple[str, ...] | None = None,
        share: Annotated[float, Field(gt=0, le=1)] = 0.02,
        most: Annotated[int, Field(ge=1)] = 100,
    ) -> None:
        super().__init__(schema)
        self.columns = text_columns(schema, columns)
        self.share, self.most = share, most
        self._ones = Alike.of({one: [*_ONE.get(one, ""), *([_TWO[one]] if one in _TWO else [])] for one in {**_ONE, **_TWO}})
        self._pairs = Alike.of(_PAIRS)
        self._able = np.zeros(0x10000, np.bool_)
        self._able[self._ones.keys.astype(np.int64)] = True

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        return changed(rows, self.columns, draws, self._change)

    def _change(self, texts: Texts, draws: Draws, name: str) -> pa.Array:
        codes = texts.codes
        able = self._able[np.minimum(codes.astype(np.uint32), 0xFFFF)] & ~texts.protected(numbers=False)
        places = np.flatnonzero(able)
        first = np.searchsorted(places, texts.starts)
        mistakes = edits(draws, name, np.diff(first, append=len(places)), share=self.share, most=self.most)
        at = places[first[mistakes.rows] + mistakes.places]
        edited = np.concatenate((at[1:] == at[:-1] + 1, [False]))[: len(at)]
        paired = self._pairs.has(pair_key(codes[at], codes[at + 1])) & able[at + 1] & ~edited & (mistakes.choices % 2 == 0)
        one, pair = (
            np.stack(alike.chosen(keys, mistakes.choices // 2))
            for alike, keys in ((self._ones, pair_key(codes[at])), (self._pairs, pair_key(codes[at], codes[at + 1])))
        )
        pair[0] += len(self._ones.letters)
        pieces, lengths = np.where(paired, pair, one)
        extra = self._ones.letters + self._pairs.letters
        return texts.spliced(mistakes.rows, at, at + 1 + paired, len(codes) + pieces[:, None], lengths[:, None], extra)
