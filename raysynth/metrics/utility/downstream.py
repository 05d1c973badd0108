"""Train, synthetic and mixed rows → how good a model that learnt from each of them is on hold-out rows (train on synthetic, test on real).

The model is gradient boosting; how long it learns is settled on the real validation rows. A target of a few values is classified
(ROC AUC; of several classes the mean of one against the rest), any other number is estimated (R²). The ceiling is the model of real rows.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.features import NO_VALUES, Table, codes, has_values, is_class, levels, numbers
from raysynth.metrics.base import SIDES, Metric, Score, Seen, Side

LEAST_ROWS = 30
MOST_ROWS = 50_000
MOST_CLASSES = 20
SIDE_OF: dict[str, Side] = {"utility_synthetic": "synthetic", "utility_real": "train", "utility_mix": "mix"}

Pair = tuple[NDArray[np.float64], NDArray[Any]]


class Downstream(Metric):
    """`evaluate.target` names the column to predict, without those that it is computed from; rows without a value of it are left out."""

    names = tuple(SIDE_OF)

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        if self.target is None:
            return [_none(name, "evaluate.target is not set") for name in self.names]
        task = _Task(seen, self.schema, self.target, self.told_by)
        if why := task.why:
            return [_none(name, why) for name in self.names]
        found = {name: task.result(side) for name, side in SIDE_OF.items()}
        real = found["utility_real"][0]
        worst = 0.5 if task.classes else 0.0
        return [Score(name, value, worst, 1.0, real, facts=facts, why=why) for name, (value, facts, why) in found.items()]


def _none(name: str, why: str) -> Score:
    return Score(name, None, 0.0, 1.0, why=why)


class _Task:
    """The target of all sides in one coding, and the hold-out rows that everything is judged on."""

    def __init__(self, seen: Seen, schema: Any, target: str, told_by: frozenset[str]) -> None:
        column = schema[target]
        self.target = target
        given: dict[Side, pa.Table] = {side: schema.arrow.empty_table() for side in SIDES if side != "mix"}
        given |= seen.samples
        self.samples = {side: _with_target(rows.slice(0, MOST_ROWS), target) for side, rows in given.items()}
        distinct = 0 if column.kind in NO_VALUES else pc.count_distinct(self.samples["train"].column(target)).as_py()
        few = column.kind == "integer" and distinct <= MOST_CLASSES
        self.classes = levels([self.samples["train"]], target) if is_class(column) or few else []
        self.why = self._why_not(column.kind, distinct)
        if not self.why:
            self.unit = 1.0 if self.classes else _unit(numbers(self.samples["train"].column(target)))
            self.table = Table.settle(list(self.samples.values()), schema, without=[target, *told_by])
            self.held = self._pair("holdout")
            self.validation = self._pair("validation")
            self.why = "" if len(np.unique(self.held[1])) > 1 else f"evaluate.target '{target}' has one value in the hold-out rows"

    def _why_not(self, kind: str, distinct: int) -> str:
        if kind in NO_VALUES:
            return f"evaluate.target '{self.target}' is of kind {kind}, which no model here predicts"
        if distinct == 0:
            return f"evaluate.target '{self.target}' has no value in the train rows"
        if distinct < 2:
            return f"evaluate.target '{self.target}' has one value in the train rows"
        if len(self.classes) > MOST_CLASSES:
            return f"evaluate.target '{self.target}' has {len(self.classes)} classes, and at most {MOST_CLASSES} are scored"
        if self.samples["holdout"].num_rows < LEAST_ROWS:
            return f"it takes {LEAST_ROWS} hold-out rows with a target"
        return ""

    def result(self, side: Side) -> tuple[float | None, dict[str, Any], str]:
        """(score, facts, why there is none) of the model that learns from that side."""
        if side not in self.samples:
            return None, {}, "the recipe makes no mix"
        known, wanted = self._pair(side)
        if len(wanted) < LEAST_ROWS or len(np.unique(wanted)) < 2:
            return None, {}, f"it takes {LEAST_ROWS} rows with two values of '{self.target}' at least"
        if not has_values(known).any():
            return None, {}, f"there is no column to predict '{self.target}' from"
        value, facts = self._classified(known, wanted) if self.classes else self._estimated(known, wanted)
        return round(value, 6), {"rows": len(wanted), "holdout_rows": len(self.held[1]), **facts}, ""

    def _pair(self, side: Side) -> Pair:
        rows = self.samples[side]
        column = rows.column(self.target)
        wanted = codes(column, self.classes) if self.classes else numbers(column) / self.unit
        kept = wanted < len(self.classes) if self.classes else ~np.isnan(wanted)
        return self.table.of(rows)[kept], wanted[kept]

    def _classified(self, known: NDArray[np.float64], wanted: NDArray[Any]) -> tuple[float, dict[str, Any]]:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

        by_label: Any = precision_recall_fscore_support
        model, asked = self._fitted(HistGradientBoostingClassifier, known, wanted)
        chances = np.zeros((len(self.held[1]), len(self.classes)))
        chances[:, np.asarray(model.classes_, dtype=np.int64)] = model.predict_proba(asked)
        there = [number for number in np.unique(self.held[1]) if 0 < (self.held[1] == number).mean() < 1]
        aucs = [float(roc_auc_score(self.held[1] == number, chances[:, number])) for number in there]
        numbers_ = list(range(len(self.classes)))
        judged = by_label(self.held[1], chances.argmax(axis=1), labels=numbers_, zero_division=0)
        by_class = {
            name: {
                "precision": round(float(judged[0][at]), 4),
                "recall": round(float(judged[1][at]), 4),
                "f1": round(float(judged[2][at]), 4),
                "holdout_rows": int(judged[3][at]),
            }
            for at, name in enumerate(self.classes)
        }
        return float(np.mean(aucs)), {"kind": "classification", "measure": "ROC AUC", "classes": by_class}

    def _estimated(self, known: NDArray[np.float64], wanted: NDArray[Any]) -> tuple[float, dict[str, Any]]:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

        model, asked = self._fitted(HistGradientBoostingRegressor, known, wanted)
        said = model.predict(asked)
        errors = {
            "mean_absolute_error": float(f"{mean_absolute_error(self.held[1], said) * self.unit:.6g}"),
            "root_mean_squared_error": float(f"{root_mean_squared_error(self.held[1], said) * self.unit:.6g}"),
        }
        return float(r2_score(self.held[1], said)), {"kind": "regression", "measure": "R²", **errors}

    def _fitted(self, boosting: Any, known: NDArray[np.float64], wanted: NDArray[Any]) -> tuple[Any, NDArray[np.float64]]:
        """A model and the hold-out rows as it takes them. Early stopping on the real validation rows, where there are enough."""
        from threadpoolctl import threadpool_limits

        (seen, said), columns = self.validation, has_values(known)
        usual = {"categorical_features": np.array(self.table.classes)[columns], "random_state": 0}
        kept = np.isin(said, np.unique(wanted)) if self.classes else np.ones(len(said), np.bool_)
        with threadpool_limits(1):  # sums of several threads differ in the last bits, and threads that wait spin
            stops = bool(kept.sum() >= LEAST_ROWS)
            judge = {"X_val": seen[kept][:, columns], "y_val": said[kept]} if stops else {}
            return boosting(early_stopping=stops, **usual).fit(known[:, columns], wanted, **judge), self.held[0][:, columns]


def _unit(values: NDArray[np.float64]) -> float:
    """About how far values lie apart, as a power of two: measured in it, no square overflows or vanishes, and no bit is lost."""
    values = values[~np.isnan(values)]
    largest = float(np.abs(values).max(initial=0.0))
    if not largest:
        return 1.0
    scaled = values / largest
    spread = float(np.abs(scaled - np.median(scaled)).mean()) or 1.0
    return float(np.exp2(np.clip(np.round(np.log2(spread) + np.log2(largest)), -1074, 1023)))


def _with_target(rows: pa.Table, target: str) -> pa.Table:
    return rows.filter(pc.is_valid(rows.column(target)))
