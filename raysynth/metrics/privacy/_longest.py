"""Texts that are asked about and texts that are known, as codes of words → the longest run of words that each has in common with any known
one.

All positions of all texts are sorted by the words that follow them (a suffix array, by prefix doubling: Manber & Myers, SODA 1990); what
follows a position has most in common with its next neighbours in that order. Shapes: N positions, each text's words and one more, its end.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysynth.metrics._corpus import Corpus

LEVELS = 5
MOST = 1 << LEVELS
"""Longer runs count as this long."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Suffixes:
    """`ranks[k]`: (N,) equal where the next 2^k words are, and in their order; 0 at ends. `ends`: (N,) where the position's text ends."""

    ranks: tuple[Ints, ...]
    ends: Ints

    @staticmethod
    def of(texts: Corpus) -> "_Suffixes":
        """`texts`: codes from 1."""
        flat = np.zeros(len(texts.codes) + texts.texts, np.int64)
        flat[np.arange(len(texts.codes)) + texts.owners] = texts.codes
        last = texts.starts[1:] + np.arange(texts.texts)
        ends = np.repeat(last, texts.lengths + 1)
        ranks = [flat]
        for level in range(LEVELS):
            now = ranks[-1]
            ahead = np.minimum(np.arange(len(flat)) + (1 << level), ends)
            _, following = np.unique(now * (int(now.max(initial=0)) + 1) + now[ahead], return_inverse=True)
            ranks.append(following.astype(np.int64))
        return _Suffixes(tuple(ranks), ends)

    def common(self, one: Ints, two: Ints) -> Ints:
        """(pairs,) how many words follow both positions of each pair alike."""
        length = np.zeros(len(one), np.int64)
        for level in reversed(range(LEVELS)):
            left, right = (np.minimum(at + length, self.ends[at]) for at in (one, two))
            length += (self.ranks[level][left] == self.ranks[level][right]) << np.int64(level)
        length += self.ranks[LEVELS][one] == self.ranks[LEVELS][two]
        return np.minimum(length, self.ends[one] - one)


def longest_common(asked: Corpus, known: Corpus) -> Ints:
    """(asked texts,) the number of words, at most MOST, of the longest run that some known text has too."""
    suffixes = _Suffixes.of(asked.and_then(known))
    border = len(asked.codes) + asked.texts  # positions from here on are known
    order = np.argsort(suffixes.ranks[LEVELS], kind="stable")
    place = np.arange(len(order))
    before = np.maximum.accumulate(np.where(order >= border, place, -1))
    after = np.minimum.accumulate(np.where(order >= border, place, len(order))[::-1])[::-1]
    best = np.zeros(border, np.int64)
    for neighbour in (before, after):
        there = (order < border) & (neighbour >= 0) & (neighbour < len(order))
        at = order[there]
        best[at] = np.maximum(best[at], suffixes.common(at, order[neighbour[there]]))
    found = np.zeros(asked.texts, np.int64)
    np.maximum.at(found, np.repeat(np.arange(asked.texts), asked.lengths + 1), best)
    return found
