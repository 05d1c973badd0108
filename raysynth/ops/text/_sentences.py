"""Texts → their sentences and what stands between them; English and Chinese."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from raysynth.ops.text._codes import CLOSING, ENDING, FULL, IDEOGRAPH, SPACE, Mask, Places, Texts
from raysynth.ops.text._lexicon import Lexicon

_LISTED_ABBREVIATIONS = """
mr mrs ms dr prof st sr jr vs etc inc ltd co corp no fig vol pp cf al jan feb mar apr jun jul aug sep sept oct nov dec approx dept est
"""


@dataclass(frozen=True)
class Sentences:
    """The sentences of all texts, as places in `codes`: the body from `starts`, then from `ends` the punctuation that ends it, with
    what it closes, then from `gaps` up to `stops` the blanks behind it. `counts`: how many each text has."""

    starts: Places
    ends: Places
    gaps: Places
    stops: Places
    counts: Places

    @staticmethod
    def of(texts: Texts) -> "Sentences":
        """Cut behind . ! ? … 。！？ and at line breaks; not in 3.14, behind Mr. or an initial. Every text but a blank one has one."""
        begin, end = _content(texts)
        marks, gaps, stops = _joined(texts, *_cuts(texts), begin)
        rows = texts.rows_of(marks)
        first = np.diff(rows, prepend=-1) != 0
        starts = np.where(first, begin[rows], np.concatenate(([0], stops[:-1]))[: len(rows)])
        last = begin.copy()
        last[rows] = stops  # of several the last one stays
        rest = np.flatnonzero(last < end)
        order = np.argsort(np.concatenate((starts, last[rest])), kind="stable")
        pairs = ((starts, last), (marks, end), (gaps, end), (stops, end))
        starts, ends, gaps, stops = (np.concatenate((column, more[rest]))[order] for column, more in pairs)
        counts = np.bincount(np.concatenate((rows, rest)), minlength=len(texts.texts))
        return Sentences(starts, ends, gaps, stops, counts)


def _content(texts: Texts) -> tuple[Places, Places]:
    """Where each text begins, blanks aside, and where it ends."""
    end = texts.starts + texts.lengths
    return np.minimum(_behind(texts.having(SPACE), texts.starts), end), end


def _behind(mask: Mask, places: Places) -> Places:
    """The first place at or behind each of the places that is not marked."""
    stops = np.append(np.flatnonzero(mask[:-1] & ~mask[1:]) + 1, len(mask))
    return np.where(mask[places], stops[np.searchsorted(stops, places, side="right")], places)


def _cuts(texts: Texts) -> tuple[Places, Places, Places]:
    """Where sentences end: the first mark, behind the last one, behind the blanks; at a line break alone there is no mark."""
    codes, space = texts.codes, texts.having(SPACE)
    ending = texts.having(ENDING) & ~texts.opened
    marks = np.flatnonzero(ending[1:] & ~ending[:-1]) + 1
    last = np.flatnonzero(ending[:-1] & ~ending[1:]) + 1
    gaps = _behind(texts.having(CLOSING), last)
    limits = (texts.starts + texts.lengths)[texts.rows_of(marks)]
    stops = np.minimum(_behind(space, gaps), limits)
    full = np.zeros(len(marks), np.bool_)
    full[np.searchsorted(marks, np.flatnonzero(ending & texts.having(FULL)), side="right") - 1] = True
    ends = full | (stops > gaps) | (gaps == limits) | texts.having(IDEOGRAPH)[gaps]
    ends &= ~((gaps == marks + 1) & (gaps < limits) & (codes[marks] == ord(".")) & _abbreviated(texts, space, marks))
    marks, gaps, stops = marks[ends], gaps[ends], stops[ends]
    breaks, behind = _line_breaks(texts, space)
    alone = ~np.isin(breaks, gaps)
    breaks, behind = breaks[alone], behind[alone]
    order = np.argsort(np.concatenate((marks, breaks)), kind="stable")
    marks, gaps, stops = (np.concatenate(pair)[order] for pair in ((marks, breaks), (gaps, breaks), (stops, behind)))
    return marks, gaps, stops


def _abbreviated(texts: Texts, space: Mask, marks: Places) -> Mask:
    """Whether the word before each full stop is one that has one, or an initial."""
    blanks = np.flatnonzero(space)
    begin = blanks[np.searchsorted(blanks, marks) - 1] + 1
    begin += (texts.codes[begin] == ord("(")) & (begin < marks)
    letter, before = texts.codes[marks - 1], texts.codes[marks - 2]
    alone = (marks - begin == 1) & (letter != ord("I"))
    initial = (letter >= ord("A")) & (letter <= ord("Z")) & (alone | ((marks - begin > 2) & (before == ord("."))))  # J. or J.D.
    return initial | _abbreviations().holds(texts.codes, begin, marks)


def _line_breaks(texts: Texts, space: Mask) -> tuple[Places, Places]:
    """Blanks with a line break in them, within a text: from where to where."""
    feeds = texts.codes == ord("\n")
    feeds[texts.starts - 1] = feeds[-1] = False
    places = np.flatnonzero(feeds)
    rows = texts.rows_of(places)
    begins = np.append(0, np.flatnonzero(space[1:] & ~space[:-1]) + 1)
    begin = begins[np.searchsorted(begins, places, side="right") - 1]
    begin = np.maximum(begin, texts.starts[rows])
    stop = np.minimum(_behind(space, places), (texts.starts + texts.lengths)[rows])
    begin, first = np.unique(begin, return_index=True)
    return begin, stop[first]


def _joined(texts: Texts, marks: Places, gaps: Places, stops: Places, begin: Places) -> tuple[Places, Places, Places]:
    """Marks with only blanks between them, as in `? !`, end one sentence; marks before which a text has nothing end none."""
    if not len(marks):
        return marks, gaps, stops
    apart = marks != np.concatenate(([-1], stops[:-1]))
    first = np.flatnonzero(apart)
    last = np.concatenate((first[1:], [len(marks)])) - 1
    kept = marks[first] > begin[texts.rows_of(marks[first])]
    return marks[first][kept], gaps[last][kept], stops[last][kept]


@cache
def _abbreviations() -> Lexicon:
    return Lexicon.of(_LISTED_ABBREVIATIONS.split())
