"""Labelled texts → a judge that tells the label of a text: TF-IDF of its words and pairs of words, and logistic regression of each class
against the rest.

Linear, quick and hard to beat on short texts (Wang & Manning, "Baselines and bigrams", ACL 2012).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.features import codes, levels, may_label
from raysynth.metrics._corpus import text_columns
from raysynth.metrics.base import Seen, Side
from raysynth.schema import Schema
from raysynth.words import ngrams, words

LEAST_ROWS = 30
MOST_ROWS = 20_000
MOST_CLASSES = 300
MOST_LETTERS = 5000  # of one text
MOST_TERMS = 2_000_000  # of one side
_FEATURES = 100_000  # a linear judge has a weight for each, and for each class

Terms = list[str]


def judges_labels(schema: Schema, target: str | None) -> bool:
    """Whether there are texts and a target that can be a label."""
    if target is None or target not in schema or not text_columns(schema):
        return False
    return may_label(schema[target])


@dataclass(frozen=True)
class Labelled:
    """Rows with a text and a label: `terms` of each, and (rows,) the place of its label among the classes; their number where it is none
    of them."""

    terms: Sequence[Terms]
    labels: NDArray[np.int64]

    def head(self, rows: int) -> "Labelled":
        return Labelled(self.terms[:rows], self.labels[:rows])


class Labels:
    """The classes of the train rows, and each side's rows in one coding. `why`: why nothing can be judged, or empty."""

    def __init__(self, seen: Seen, schema: Schema, target: str, told_by: frozenset[str]) -> None:
        self._seen, self._schema, self._target = seen, schema, target
        self._texts = text_columns(schema, told_by | {target})
        self.classes = levels([self._rows("train")], target)
        self.train, self.holdout = self.of("train"), self.of("holdout")
        self.why = self._why_not()

    def of(self, side: Side) -> Labelled:
        """The side's rows that have a label and a text, up to the one that brings them to MOST_TERMS words and pairs."""
        rows = self._rows(side)
        columns: list[list[str | None]] = [rows.column(name).to_pylist() for name in self._texts]
        labels = codes(rows.column(self._target), self.classes)
        terms: list[Terms] = []
        kept: list[int] = []
        count = 0
        for at in np.flatnonzero(labels >= 0).tolist():
            if count >= MOST_TERMS:
                break
            if found := _terms([column[at] or "" for column in columns]):
                terms.append(found)
                kept.append(at)
                count += len(found)
        return Labelled(terms, labels[kept])

    def known(self, side: Side) -> bool:
        return side in self._seen.samples

    def _rows(self, side: Side) -> pa.Table:
        return self._seen.samples.get(side, self._schema.arrow.empty_table()).slice(0, MOST_ROWS)

    def _why_not(self) -> str:
        if not self._texts:
            return f"no column of texts is left: '{self._target}' is computed from them"
        if len(self.classes) < 2:
            return f"it takes train rows with two values of evaluate.target '{self._target}'"
        if len(self.classes) > MOST_CLASSES:
            return f"evaluate.target '{self._target}' has {len(self.classes)} values, and at most {MOST_CLASSES} labels are judged"
        if min(len(self.train.labels), len(self.holdout.labels)) < LEAST_ROWS:
            return f"it takes {LEAST_ROWS} train and hold-out rows with a text and a label"
        return ""


class Judge:
    """Learns from rows of two labels at least; some of the given ones must be among the classes."""

    def __init__(self, known: Labelled, classes: int) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier
        from threadpoolctl import threadpool_limits

        usual = known.labels < classes
        learnt = [terms for terms, kept in zip(known.terms, usual.tolist(), strict=True) if kept]
        weights: Any = TfidfVectorizer
        self._weights = weights(analyzer=_same, sublinear_tf=True, max_features=_FEATURES)
        self._model: Any = OneVsRestClassifier(LogisticRegression(C=10.0, solver="liblinear"))
        with threadpool_limits(1):  # sums of several threads differ in the last bits, and threads that wait spin
            self._model.fit(self._weights.fit_transform(learnt), known.labels[usual])

    def labels(self, rows: Labelled) -> NDArray[np.int64]:
        """(rows,) what it says of their texts."""
        return np.asarray(self._model.predict(self._weights.transform(rows.terms)), np.int64)


def varied(rows: Labelled, classes: int) -> bool:
    """Whether a judge can learn from them."""
    usual = rows.labels[rows.labels < classes]
    return len(usual) >= LEAST_ROWS and len(np.unique(usual)) > 1


def _terms(texts: Sequence[str]) -> Terms:
    found: Terms = []
    for text in texts:
        split = words(text[:MOST_LETTERS])
        found += [*split, *(" ".join(pair) for pair in ngrams(split, 2))]
    return found


def _same(terms: Terms) -> Terms:
    return terms
