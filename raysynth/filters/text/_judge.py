"""Labelled texts → a linear judge that tells the label of a text, as plain arrays: TF-IDF of its words and pairs of words, and a logistic
regression of each class against the rest (Wang & Manning, "Baselines and bigrams", ACL 2012).

It only ever filters: the judges that score learn by themselves (metrics/utility). What it says of a text does not depend on the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cells import hash_texts
from raysynth.draws import Words
from raysynth.words import ngrams, words

MOST_TERMS = 50_000
MOST_LETTERS = 5000  # of one text
_DAMPED = np.concatenate([[0.0], 1.0 + np.log(np.arange(1, 2 * MOST_LETTERS + 1))])  # from a table: the same in any batch


@dataclass(frozen=True)
class Judge:
    """T terms by their hashes, sorted, and C classes: `rarity` (T,), `weights` (T, C), `bias` (C,)."""

    terms: Words
    rarity: NDArray[np.float64]
    weights: NDArray[np.float32]
    bias: NDArray[np.float64]

    @staticmethod
    def learn(texts: Sequence[str], labels: NDArray[np.int64], classes: int) -> "Judge":
        """`labels`: (texts,) numbers of classes; at least two of them must be there."""
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        hashes, owners = _terms_of(texts)
        terms, rarity = _chosen(hashes, owners, len(texts))
        judge = Judge(terms, rarity, np.zeros((len(terms), classes), np.float32), np.full(classes, -np.inf))
        matrix = judge._weighed(hashes, owners, len(texts))
        with threadpool_limits(1):  # sums of several threads differ in the last bits
            for label in np.unique(labels).tolist():
                model: Any = LogisticRegression(C=10.0, solver="liblinear", random_state=0)
                model.fit(matrix, labels == label)
                judge.weights[:, label], judge.bias[label] = model.coef_[0], model.intercept_[0]
        return judge

    def labels(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """(texts,) the class of each."""
        matrix = self._weighed(*_terms_of(texts), len(texts))
        used, matrix.indices = np.unique(matrix.indices, return_inverse=True)  # else all weights would be made doubles each time
        matrix.resize(len(texts), len(used))
        return np.asarray((matrix @ self.weights[used].astype(np.float64) + self.bias).argmax(axis=1), np.int64)

    def _weighed(self, hashes: Words, owners: NDArray[np.int64], texts: int) -> Any:
        """(texts, T) sparse: each term's damped count times its rarity, each text of length 1."""
        from scipy.sparse import csr_matrix

        places = np.minimum(np.searchsorted(self.terms, hashes), max(0, len(self.terms) - 1))
        known = self.terms[places] == hashes if len(self.terms) else np.zeros(len(hashes), np.bool_)
        cells, counts = np.unique(owners[known] * len(self.terms) + places[known], return_counts=True)
        rows, columns = np.divmod(cells, max(1, len(self.terms)))
        values = _DAMPED[np.minimum(counts, len(_DAMPED) - 1)] * self.rarity[columns]
        lengths = np.sqrt(np.bincount(rows, values * values, minlength=texts))
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=texts))])
        return csr_matrix((values / lengths[rows], columns, starts), shape=(texts, len(self.terms)))


def _terms_of(texts: Sequence[str]) -> tuple[Words, NDArray[np.int64]]:
    """The hash of each word and pair of words, and the text that it stands in."""
    found: list[str] = []
    counts: list[int] = []
    for text in texts:
        spoken = words(text[:MOST_LETTERS])
        terms = [*spoken, *(" ".join(pair) for pair in ngrams(spoken, 2))]
        found += terms
        counts.append(len(terms))
    return hash_texts(pa.array(found, pa.string())), np.repeat(np.arange(len(texts)), counts)


def _chosen(hashes: Words, owners: NDArray[np.int64], texts: int) -> tuple[Words, NDArray[np.float64]]:
    """The MOST_TERMS terms that most texts have (of equals those of the lower hashes), sorted, and how rare each is."""
    terms, which = np.unique(hashes, return_inverse=True)
    pairs = np.unique(which * texts + owners)
    spread = np.bincount(pairs // texts, minlength=len(terms))
    kept = np.sort(np.argsort(-spread, kind="stable")[:MOST_TERMS])
    return terms[kept], np.log((1 + texts) / (1 + spread[kept])) + 1
