"""Validation rows and drawn ones → whether what a row's codes say is found in its drawn texts as often as in real ones.

The judge is naive Bayes over the tokens that a row has (Manning et al., "Introduction to information retrieval", 2008, chapter 13): so
simple that some hundred texts teach it. What it gets wrong it gets wrong in both, and only the two shares are compared.

Shapes: B rows, C codes of a field, V tokens that there are.
"""

import numpy as np
from numpy.typing import NDArray

from raysynth.layout import Batch, Tokens

MOST_CODES = 256  # of a field that is looked at: one of more has too few texts to each
FOLDS = 2


class CodesInTexts:
    """`real`: the share of the codes that are found in the texts of `rows`, each half of them judged by what the other half taught."""

    def __init__(self, layout: Tokens, rows: Batch) -> None:
        self.layout = layout
        self.fields = [number for number, field in enumerate(layout.fields) if 1 < field.size <= MOST_CODES]
        halves = [rows.take(slice(fold, None, FOLDS)) for fold in range(FOLDS if self.fields else 0)]
        self.judges = [self._taught(half) for half in halves]
        found = [self._found(judge, half) for judge, half in zip(self.judges, reversed(halves), strict=True)]
        self.real = float(np.concatenate(found).mean()) if found else 0.0

    def fewer(self, drawn: Batch) -> bool:
        """Never where there is no field to look at."""
        if not self.fields:
            return False
        return float(np.concatenate([self._found(judge, drawn) for judge in self.judges]).mean()) < self.real

    def _taught(self, rows: Batch) -> list[NDArray[np.float64]]:
        """Of each field (V + 1, C): the logarithm of how often a row of a code has a token, then of how frequent the code is."""
        tokens_BV, taught = self._tokens(rows), list[NDArray[np.float64]]()
        for field in self.fields:
            is_code_BC = np.eye(self.layout.fields[field].size)[rows["codes"][:, field]]
            told_VC = tokens_BV.T @ is_code_BC + 0.1
            codes_C = is_code_BC.sum(axis=0) + 0.1
            taught.append(np.log(np.concatenate([told_VC / told_VC.sum(axis=0), codes_C[None] / codes_C.sum()])))
        return taught

    def _found(self, judge: list[NDArray[np.float64]], rows: Batch) -> NDArray[np.bool_]:
        """(B, fields)."""
        tokens_BV = self._tokens(rows)
        guesses = [np.argmax(tokens_BV @ told[:-1] + told[-1], axis=1) for told in judge]
        return np.stack(guesses, axis=1) == rows["codes"][:, self.fields]

    def _tokens(self, rows: Batch) -> NDArray[np.float64]:
        """(B, V): 1 where a row has the token."""
        has_BV = np.zeros((rows.rows, self.layout.vocabulary))
        np.put_along_axis(has_BV, rows["tokens"].astype(np.int64), 1.0, axis=1)
        has_BV[:, : Tokens.NULL] = 0
        return has_BV
