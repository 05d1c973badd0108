"""Texts → the same texts with slips of the keyboard: a neighbouring key, letters swapped, dropped or doubled, characters that sound or
look alike."""

from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.base import Op
from raysynth.ops.text._alike import Alike, pair_key
from raysynth.ops.text._codes import CHINESE, LETTER, Places, Texts
from raysynth.ops.text._shapes import LOOKALIKES
from raysynth.ops.text._texts import Edits, changed, chosen_act, edits, text_columns
from raysynth.schema import Schema

_LETTER = 1
Act = Literal["neighbour", "swap", "drop", "double", "homophone", "lookalike"]

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")  # each set half a key to the right of the one above it


def _neighbours() -> dict[str, str]:
    """Letter → the letters on the keys that touch its key (QWERTY), in its case."""
    at = {letter: (row, key) for row, letters in enumerate(_ROWS) for key, letter in enumerate(letters)}
    steps = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0))
    letters = {place: letter for letter, place in at.items()}
    near = {
        letter: "".join(letters.get((row + down, key + right), "") for down, right in steps) for letter, (row, key) in at.items()
    }
    return near | {letter.upper(): others.upper() for letter, others in near.items()}


class Typos(Op):
    """`share` of the English letters and Chinese characters, at least one of each text that has some, are mistyped.

    `acts`: neighbour (English; the next key of a QWERTY keyboard), drop (English), swap and double (both), lookalike (Chinese; one
    that differs in a stroke or a component) and homophone (Chinese: what an input method offers for the same pinyin, tones aside,
    among the 3,755 common characters of GB 2312; needs the package pypinyin). Numbers, addresses, placeholders and tags stay.
    `most`: at most so many slips in one text."""

    def __init__(
        self,
        schema: Schema,
        *,
        columns: tuple[str, ...] | None = None,
        share: Annotated[float, Field(gt=0, le=1)] = 0.02,
        most: Annotated[int, Field(ge=1)] = 100,
        acts: Annotated[tuple[Act, ...], Field(min_length=1)] = ("neighbour", "swap", "drop", "double", "lookalike"),
    ) -> None:
        super().__init__(schema)
        self.columns = text_columns(schema, columns)
        self.share, self.most, self.acts = share, most, acts
        self._alike: dict[Act, Alike] = {"neighbour": Alike.of(_neighbours()), "lookalike": Alike.of(LOOKALIKES)}
        if "homophone" in acts:
            from raysynth.ops.text._homophones import homophones

            self._alike["homophone"] = Alike.of(homophones())

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        return changed(rows, self.columns, draws, self._change)

    def _change(self, texts: Texts, draws: Draws, name: str) -> pa.Array:
        kinds = np.where(texts.protected(), 0, texts.having(LETTER) + 2 * texts.having(CHINESE).astype(np.uint8))
        able = np.flatnonzero(kinds)
        first = np.searchsorted(able, texts.starts)
        slips = edits(draws, name, np.diff(first, append=len(able)), share=self.share, most=self.most)
        return self._mistyped(texts, able[first[slips.rows] + slips.places], kinds, slips)

    def _mistyped(self, texts: Texts, at: Places, kinds: NDArray[np.uint8], slips: Edits) -> pa.Array:
        """At each place one of the acts that can be done there; where none can, nothing."""
        codes = texts.codes
        keys = pair_key(codes[at])
        edited = np.concatenate((at[1:] == at[:-1] + 1, [False]))[: len(at)]
        kin_behind = (kinds[at + 1] == kinds[at]) & ~edited
        kin_before = (kinds[at - 1] == kinds[at]) & ~np.concatenate(([False], edited[:-1]))[: len(at)]
        can = {
            "swap": kin_behind & (codes[at] != codes[at + 1]),
            "drop": (kinds[at] == _LETTER) & (kin_behind | kin_before),
            "double": np.ones(len(at), np.bool_),
            **{act: alike.has(keys) for act, alike in self._alike.items()},
        }
        chosen, choices = chosen_act(np.stack([can[act] for act in self.acts]), slips.choices)
        swapped, dropped, doubled = (chosen == self._number(act) for act in ("swap", "drop", "double"))
        pieces, lengths = np.stack((at + swapped, at), axis=1), np.ones((len(at), 2), np.int64)
        lengths[:, 0] -= dropped
        lengths[:, 1] = swapped | doubled
        end = len(codes)
        for act, alike in self._alike.items():
            where = np.flatnonzero(chosen == self._number(act))
            start, lengths[where, 0] = alike.chosen(keys[where], choices[where])
            pieces[where, 0] = end + start
            end += len(alike.letters)
        extra = "".join(alike.letters for alike in self._alike.values())
        return texts.spliced(slips.rows, at, at + 1 + swapped, pieces, lengths, extra)

    def _number(self, act: Act) -> int:
        return self.acts.index(act) if act in self.acts else -2
