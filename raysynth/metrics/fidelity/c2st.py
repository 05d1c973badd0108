"""Hold-out and synthetic rows → the AUC of a detector that tells them apart: 0.5 where nothing does (Lopez-Paz & Oquab, ICLR 2017).

The detector is gradient boosting over all columns, cross-validated in five folds. A linear one, as is common, is fooled by columns
that are right one by one. The ceiling is the AUC of telling train rows from hold-out rows.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.features import Table, has_values
from raysynth.metrics.base import Metric, Score, Seen, Side

LEAST_ROWS = 30
MOST_ROWS = 20_000
UNSEEN = ("text", "turns", "image")  # kinds that have scores of their own
FOLDS = 5
_TELLING_ROWS = 4000
_TELLING_COLUMNS = 100


class C2st(Metric):
    """`columns`: the AUC of a small tree that sees the column alone: which of them give the rows away."""

    names = ("c2st_auc",)

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        no_rows = self.schema.arrow.empty_table()
        train, holdout, synthetic = (seen.samples.get(side, no_rows) for side in ("train", "holdout", "synthetic"))
        rows = min(MOST_ROWS, holdout.num_rows, synthetic.num_rows)
        table = Table.settle([train, holdout, synthetic], self.schema)
        if rows < LEAST_ROWS or not len(table.schema):
            why = f"it takes {LEAST_ROWS} hold-out and synthetic rows, and a column to look at"
            return [Score("c2st_auc", None, 1.0, 0.5, why=why)]
        held = table.of(holdout.slice(0, rows))
        value = detector_auc(table.of(synthetic.slice(0, rows)), held, table.classes)
        ceiling = None
        if train.num_rows >= LEAST_ROWS:
            few = min(rows, train.num_rows)
            ceiling = detector_auc(table.of(train.slice(0, few)), held[:few], table.classes)
        telling = self._telling(table, synthetic.slice(0, rows), holdout.slice(0, rows))
        unseen = [column.name for column in self.schema if column.kind in UNSEEN]
        facts = {"rows_of_each": rows, "folds": FOLDS, **({"not_looked_at": ", ".join(unseen)} if unseen else {})}
        return [Score("c2st_auc", value, 1.0, 0.5, ceiling, telling, facts)]

    def _telling(self, table: Table, synthetic: pa.Table, holdout: pa.Table) -> dict[str, float]:
        one, two = (table.of(rows.slice(0, _TELLING_ROWS)) for rows in (synthetic, holdout))
        names, half = table.schema.names[:_TELLING_COLUMNS], len(one) // 2
        return {name: _alone(one[:, [at]], two[:, [at]], half) for at, name in enumerate(names)}


def detector_auc(one: NDArray[np.float64], two: NDArray[np.float64], classes: list[bool]) -> float:
    """Five-fold cross-validated AUC of telling the rows of the two matrices apart; below 0.5 is chance, and stays as it is."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold
    from threadpoolctl import threadpool_limits

    rows, label = np.concatenate([one, two]), np.repeat([0, 1], [len(one), len(two)])
    boosting: Any = HistGradientBoostingClassifier
    chances = np.full(len(rows), 0.5)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with threadpool_limits(1):  # sums of several threads differ in the last bits, and threads that wait spin
        for learnt, asked in folds.split(rows, label):
            kept = has_values(rows[learnt])
            if kept.any():
                model = boosting(categorical_features=np.array(classes)[kept], early_stopping=False, random_state=0)
                model.fit(rows[learnt][:, kept], label[learnt])
                chances[asked] = model.predict_proba(rows[asked][:, kept])[:, 1]
    return round(float(roc_auc_score(label, chances)), 6)


def _alone(one: NDArray[np.float64], two: NDArray[np.float64], half: int) -> float:
    """Learnt on one half, judged on the other. Trees take float32: places in the order keep large numbers apart, and finite."""
    from sklearn.metrics import roc_auc_score
    from sklearn.tree import DecisionTreeClassifier

    label = np.repeat([0, 1], [half, half])
    one, two = np.split(_places(np.concatenate([one, two])), [len(one)])
    tree = DecisionTreeClassifier(max_leaf_nodes=32, min_samples_leaf=10, random_state=0)
    tree.fit(np.concatenate([one[:half], two[:half]]), label)
    chances: Any = tree.predict_proba(np.concatenate([one[half:], two[half:]]))
    return round(float(roc_auc_score(np.repeat([0, 1], [len(one) - half, len(two) - half]), chances[:, 1])), 6)


def _places(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """(rows, 1) values → their places among the distinct ones; NaN stays."""
    distinct = np.unique(column[~np.isnan(column)])
    return np.where(np.isnan(column), np.nan, np.searchsorted(distinct, column).astype(np.float64))
