"""A few words to be recognised among all the words of many texts at once."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysynth.ops.text._codes import Codes, Mask, Places


@dataclass(frozen=True)
class Lexicon:
    """Words that are to be recognised: the hashes of all, and which first and last letters go with which lengths, to be asked first."""

    hashes: NDArray[np.uint64]
    heads: Mask

    @staticmethod
    def of(listed: Iterable[str]) -> "Lexicon":
        words = sorted(listed)
        codes = np.frombuffer("".join(words).encode("utf-32-le"), "<u4")
        lengths = np.array([len(word) for word in words], np.int64)
        stops = np.cumsum(lengths)
        starts = stops - lengths
        heads = np.zeros(1 << 14, np.bool_)
        heads[_heads(codes, starts, stops)] = True
        return Lexicon(hash_words(codes, starts, stops), heads)

    def holds(self, codes: Codes, starts: Places, stops: Places) -> Mask:
        """Which of the words it has, whatever their case."""
        found = self.heads[_heads(codes, starts, stops)]
        where = np.flatnonzero(found & (starts < stops))
        found[:] = False
        found[where] = np.isin(hash_words(codes, starts[where], stops[where]), self.hashes)
        return found


def _heads(codes: Codes, starts: Places, stops: Places) -> Places:
    first, last = (codes[places].astype(np.int64) & 31 for places in (starts, stops - 1))
    return (first << 9) | (last << 4) | np.minimum(stops - starts, 15)


def hash_words(codes: Codes, starts: Places, stops: Places) -> NDArray[np.uint64]:
    """A 64-bit hash of each word, in lower case where it is ASCII; words of any length above 0."""
    lengths = stops - starts
    ends = np.cumsum(lengths)
    nth = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    letters = codes[np.repeat(starts, lengths) + nth]
    letters = np.where((letters >= ord("A")) & (letters <= ord("Z")), letters + 32, letters).astype(np.uint64)
    weights = (2 * nth.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    terms = (letters + np.uint64(0xBF58476D1CE4E5B9)) * (weights ^ (weights >> np.uint64(29)))
    terms ^= terms >> np.uint64(32)
    return np.add.reduceat(terms, ends - lengths) if len(ends) else terms
