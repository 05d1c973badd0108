"""A corpus of words → the probability of each word after the two before it: an interpolated Kneser-Ney trigram.

Kneser & Ney, "Improved backing-off for m-gram language modeling" (ICASSP 1995); interpolated, with one discount an order as in Chen &
Goodman, "An empirical study of smoothing techniques for language modeling" (Computer Speech & Language 1999, section 2.7). The shortest
order is interpolated with the uniform distribution over the vocabulary, so that every word of it has a probability.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysynth.metrics._corpus import Corpus

START, END = 0, 1  # a word's code comes after these
_USUAL_DISCOUNT = 0.75  # where nothing was seen just once, or nothing just twice

Codes = NDArray[np.int64]
Chances = NDArray[np.float64]


@dataclass(frozen=True)
class _Order:
    """n-grams as sorted numbers, how often each was seen, and of each context how much was seen after it, of how many kinds."""

    grams: Codes
    counts: Codes
    contexts: Codes
    totals: Codes
    kinds: Codes
    discount: float

    @staticmethod
    def of(grams: Codes, counts: Codes, symbols: int) -> "_Order":
        contexts, which = np.unique(grams // symbols, return_inverse=True)
        totals = np.bincount(which, weights=counts).astype(np.int64)
        return _Order(grams, counts, contexts, totals, np.bincount(which), _discount(counts))

    def chances(self, grams: Codes, symbols: int, shorter: Chances) -> Chances:
        """(grams,) each one's probability after its context; `shorter`: what it is after a context that is a word shorter."""
        count = _looked_up(self.grams, self.counts, grams)
        total, kinds = (_looked_up(self.contexts, values, grams // symbols) for values in (self.totals, self.kinds))
        kept = np.maximum(count - self.discount, 0) + self.discount * kinds * shorter
        return np.where(total > 0, kept / np.maximum(total, 1), shorter)


class KneserNey:
    """`words`: how many there are in the vocabulary, of which `corpus` has codes; with START and END below 2^21."""

    def __init__(self, corpus: Corpus, words: int) -> None:
        self.symbols = words + 2
        triples, counts = np.unique(self._grams(corpus), return_counts=True)
        pairs, before = np.unique(triples % self.symbols**2, return_counts=True)  # after how many words each pair came
        singles, before_singles = np.unique(pairs % self.symbols, return_counts=True)
        self.triples = _Order.of(triples, counts, self.symbols)
        self.pairs = _Order.of(pairs, before, self.symbols)
        self.singles = _Order.of(singles, before_singles, self.symbols)

    def perplexity(self, corpus: Corpus) -> float:
        """exp of the mean of -log p over the words of the texts and their ends."""
        return float(np.exp(-np.log(self.chances(corpus)).mean()))

    def scattered(self, corpus: Corpus) -> float:
        """What the perplexity would be if words came without regard to those before them."""
        return float(np.exp(-np.log(self._single_chances(self._grams(corpus))).mean()))

    def chances(self, corpus: Corpus) -> Chances:
        """(words + texts,) of each word and of each text's end, after the two words before."""
        grams = self._grams(corpus)
        pairs = self.pairs.chances(grams % self.symbols**2, self.symbols, self._single_chances(grams))
        return self.triples.chances(grams, self.symbols, pairs)

    def _single_chances(self, grams: Codes) -> Chances:
        uniform = np.full(len(grams), 1 / (self.symbols - 1))  # no text goes on with a START
        return self.singles.chances(grams % self.symbols, self.symbols, uniform)

    def _grams(self, corpus: Corpus) -> Codes:
        """(words + texts,) each word and each end with the two symbols before it, as one number."""
        padded = np.full(len(corpus.codes) + 3 * corpus.texts, START, np.int64)
        padded[np.arange(len(corpus.codes)) + 3 * corpus.owners + 2] = corpus.codes + 2
        ends = corpus.starts[1:] + 3 * np.arange(1, corpus.texts + 1) - 1
        padded[ends] = END
        asked = np.ones(len(padded), np.bool_)
        first = corpus.starts[:-1] + 3 * np.arange(corpus.texts)
        asked[first], asked[first + 1] = False, False
        at = np.flatnonzero(asked)
        return (padded[at - 2] * self.symbols + padded[at - 1]) * self.symbols + padded[at]


def _discount(counts: Codes) -> float:
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return once / (once + 2 * twice) if once and twice else _USUAL_DISCOUNT


def _looked_up(known: Codes, values: Codes, asked: Codes) -> Codes:
    """Each asked number's value; 0 where it is not known."""
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where(known[at] == asked, values[at], 0)
