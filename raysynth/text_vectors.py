"""Texts → sparse points of unit length (TF-IDF): words, pairs of words and pieces of long words, each hashed to a place, weighted by how
rare it is. Pairs stand for Chinese words, pieces for what inflection and typing errors leave of a word.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from raysynth.words import ngrams, words

PLACES = 2**18
"""Of hashed terms: at 100,000 distinct terms a third share their place, which costs linear models little (Weinberger et al., ICML 2009)."""
MOST_CHARACTERS = 5000  # of one text
_PIECE = 4


class Weights:
    """How rare each place is among the texts given: its inverse document frequency, (PLACES,) float64."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = counted(texts)
        seen = np.bincount(counts.indices, minlength=PLACES)
        self.rarity: NDArray[np.float64] = np.log((1 + len(texts)) / (1 + seen)) + 1

    def of(self, texts: Sequence[str]) -> csr_matrix:
        """(texts, PLACES) rows of length 1, or of zeros where a text has no word."""
        points = counted(texts)
        points.data = (1 + np.log(points.data)) * self.rarity[points.indices]
        squares = np.add.reduceat(np.append(np.square(points.data), 0.0), points.indptr[:-1])
        lengths = np.sqrt(np.where(np.diff(points.indptr) > 0, squares, 1.0))
        points.data /= np.repeat(lengths, np.diff(points.indptr))
        return points


def counted(texts: Sequence[str]) -> csr_matrix:
    """(texts, PLACES) how often each text has the terms of each place."""
    from sklearn.feature_extraction import FeatureHasher

    hasher: Any = FeatureHasher(PLACES, input_type="string", alternate_sign=False)
    return cast("csr_matrix", hasher.transform(_terms(text) for text in texts))


def _terms(text: str) -> Iterator[str]:
    found = words(text[:MOST_CHARACTERS])
    yield from found
    yield from map(" ".join, ngrams(found, 2))
    for word in found:
        if len(word) > _PIECE:
            bounded = f"<{word}>"
            yield from (f"#{bounded[at : at + _PIECE]}" for at in range(len(bounded) - _PIECE + 1))
