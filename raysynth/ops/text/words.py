"""Texts → the same texts with words swapped with the next, left out or said twice (Wei & Zou, "EDA: Easy Data Augmentation
Techniques", EMNLP 2019, arXiv:1901.11196)."""

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.base import Op
from raysynth.ops.text._codes import EDGE, IDEOGRAPH, JOINER, ODD, Codes, Mask, Places, Texts
from raysynth.ops.text._lexicon import Lexicon, hash_words
from raysynth.ops.text._texts import NEGATIONS, changed, chosen_act, edits, text_columns
from raysynth.schema import Schema

Act = Literal["swap", "delete", "insert"]

_LISTED_NUMBERS = """
two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty
forty fifty sixty seventy eighty ninety hundred thousand million billion trillion
"""
_OPENERS, _CLOSERS = (np.array([ord(one) for one in marks], np.uint32) for marks in ("\"'(“‘（《「【", "\"')”’）》」】"))
_COMMAS = np.array([ord(one) for one in ",;:，；：、"], np.uint32)
_BLANK = ord(" ")


class Words(Op):
    """A word is what blanks and punctuation bound, and each Chinese character; `share` of them, at least one of each text of two or
    more, are changed.

    `acts`: swap (with the next word), delete, insert (a word of the text once more, before another). Punctuation stays where it is;
    numbers, addresses, placeholders, tags and emoji stay as they are; a negation is never deleted, since the label would not outlive
    it. `most`: at most so many changes in one text."""

    def __init__(
        self,
        schema: Schema,
        *,
        columns: tuple[str, ...] | None = None,
        share: Annotated[float, Field(gt=0, le=1)] = 0.1,
        most: Annotated[int, Field(ge=1)] = 100,
        acts: Annotated[tuple[Act, ...], Field(min_length=1)] = ("swap", "delete", "insert"),
    ) -> None:
        super().__init__(schema)
        self.columns = text_columns(schema, columns)
        self.share, self.most, self.acts = share, most, acts

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        return changed(rows, self.columns, draws, self._change)

    def _change(self, texts: Texts, draws: Draws, name: str) -> pa.Array:
        words = _Found.of(texts)
        able = np.flatnonzero(words.able)
        first = np.searchsorted(words.starts[able], texts.starts)
        sizes = np.diff(first, append=len(able))
        found = edits(draws, name, sizes, share=self.share, most=self.most, least=2)
        at = able[first[found.rows] + found.places]
        swap, delete = _Swap.of(words, found.rows, at), _Delete.of(words, at)
        can = {"swap": swap.can, "delete": delete.can, "insert": np.ones(len(at), np.bool_)}
        chosen, choices = chosen_act(np.stack([can[act] for act in self.acts]), found.choices)
        copied = able[first[found.rows] + choices % sizes[found.rows]]
        return self._written(texts, words, found.rows, at, chosen, swap, delete, copied)

    def _written(
        self,
        texts: Texts,
        words: "_Found",
        rows: Places,
        at: Places,
        chosen: Places,
        swap: "_Swap",
        delete: "_Delete",
        copied: Places,
    ) -> pa.Array:
        """The texts with, at each word of `at`, the act that was chosen: what is cut out and what comes in its place."""
        swaps, deletes, inserts = (
            chosen == (self.acts.index(act) if act in self.acts else -2) for act in ("swap", "delete", "insert")
        )
        left, right = swap.left, swap.left + 1
        copied = np.where(words.chinese[copied] == words.chinese[at], copied, at)  # else it could join the word beside it
        starts, stops = words.starts, words.stops
        cut = np.where(swaps, starts[left], np.where(deletes, delete.start, starts[at]))
        until = np.where(swaps, stops[right], np.where(deletes, delete.stop, starts[at]))
        cut[1:] = np.maximum(cut[1:], until[:-1])  # two deletions may want the same blank
        pieces = np.stack(
            (np.where(swaps, starts[right], starts[copied]), np.where(swaps, stops[left], len(texts.codes)), starts[left])
        )
        none = np.zeros_like(at)
        lengths = np.stack(
            (
                np.where(swaps, stops[right] - starts[right], np.where(inserts, stops[copied] - starts[copied], none)),
                np.where(swaps, starts[right] - stops[left], inserts & ~words.chinese[at]),
                np.where(swaps, stops[left] - starts[left], none),
            )
        )
        return texts.spliced(rows, cut, until, pieces.T, lengths.T, " ")


@dataclass(frozen=True)
class _Found:
    """The words of all texts: from `starts` to `stops` in `codes`; whether they may be changed, are one Chinese character, and are in
    the text of the word before them. A word that is none stands before the first and behind the last."""

    codes: Codes
    edge: Mask
    run: Mask
    starts: Places
    stops: Places
    able: Mask
    chinese: Mask
    follows: Mask

    @staticmethod
    def of(texts: Texts) -> "_Found":
        codes, edge, ideograph, protected = texts.codes, texts.having(EDGE), texts.having(IDEOGRAPH), texts.protected()
        chinese = ideograph & ~protected
        run = ~(edge | ideograph) | protected
        joiners = np.flatnonzero(texts.having(JOINER))
        run[joiners[run[joiners - 1] & run[joiners + 1]]] = True
        starts, stops = chinese.copy(), chinese.copy()
        starts[1:] |= run[1:] & ~run[:-1]
        stops[:-1] |= run[:-1] & ~run[1:]
        outside = [len(codes) - 1]
        begin, end = (np.concatenate(([0], np.flatnonzero(mask), outside)) for mask in (starts, stops))
        end[1:-1] += 1
        able = ~_numbers().holds(codes, begin, end)
        able[[0, -1]] = False
        odd = np.flatnonzero((texts.having(ODD) & ~edge) | protected)
        able[np.searchsorted(begin, odd, side="right") - 1] = False
        follows = np.ones(len(begin), np.bool_)
        follows[np.searchsorted(begin, texts.starts)] = False
        follows[-1] = False
        return _Found(codes, edge, run, begin, end, able, chinese[begin], follows)

    def unlike(self, left: Places, right: Places) -> Mask:
        """Whether two words are of one script and not the same word."""
        here, there = self.starts[left], self.starts[right]
        size = self.stops[left] - here
        alike = (size == self.stops[right] - there) & (self.codes[here] == self.codes[there]) & (size > 0)
        where = np.flatnonzero(alike)
        one, two = (hash_words(self.codes, self.starts[side[where]], self.stops[side[where]]) for side in (left, right))
        alike[where] = one == two
        return (self.chinese[left] == self.chinese[right]) & ~alike


@dataclass(frozen=True)
class _Swap:
    """Where a word can be exchanged with the one behind it or, if not, with the one before it: the `left` of the two."""

    can: Mask
    left: Places

    @staticmethod
    def of(words: _Found, rows: Places, at: Places) -> "_Swap":
        behind, before = at + 1, at - 1
        edited_behind = np.concatenate((at[1:] == behind[:-1], [False]))[: len(at)]
        close = (at[:-1] >= at[1:] - 2) & (rows[:-1] == rows[1:])
        edited_before = np.concatenate(([False], close))[: len(at)]  # or perhaps taken by that edit
        with_next = words.able[behind] & words.follows[behind] & ~edited_behind & words.unlike(at, behind)
        with_last = words.able[before] & words.follows[at] & ~edited_before & words.unlike(before, at)
        return _Swap(with_next | with_last, np.where(with_next | ~with_last, at, before))


@dataclass(frozen=True)
class _Delete:
    """Where a word can be left out, and what goes with it: a blank, what encloses it alone, a comma behind the first word."""

    can: Mask
    start: Places
    stop: Places

    @staticmethod
    def of(words: _Found, at: Places) -> "_Delete":
        """Not a negation, nor the only word that stays; not 个 in 30个5, which would become another number."""
        codes, starts, stops = words.codes, words.starts[at], words.stops[at]
        edited = np.concatenate((at[1:] == at[:-1] + 1, [False]))[: len(at)] & words.follows[at + 1]
        stays = (words.follows[at + 1] & ~edited) | (words.follows[at] & ~np.concatenate(([False], edited[:-1]))[: len(at)])
        negation = _negations().holds(codes, starts, stops) | (
            (stops - starts >= 3) & (codes[stops - 1] == ord("t")) & np.isin(codes[stops - 2], [ord("'"), ord("’")])
        )
        enclosed = np.isin(codes[starts - 1], _OPENERS) & np.isin(codes[stops], _CLOSERS)
        blank = (codes[starts - 1] == _BLANK) & words.edge[stops]
        start = np.where(enclosed, starts - 1 - (codes[starts - 2] == _BLANK), starts - blank)
        stop = stops + (enclosed | (~words.follows[at] & np.isin(codes[stops], _COMMAS)))
        stop = stop + (~blank & ~enclosed & (codes[stop] == _BLANK))
        joins = words.run[start - 1] & (words.run[stop] | (words.chinese[at] & edited))  # the next may be left out as well
        return _Delete(stays & ~joins & ~negation, start, stop)


@cache
def _numbers() -> Lexicon:
    return Lexicon.of(_LISTED_NUMBERS.split())


@cache
def _negations() -> Lexicon:
    return Lexicon.of(NEGATIONS)
