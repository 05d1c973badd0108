"""Train, synthetic and mixed texts → how well a judge that learnt from each of them labels hold-out texts (train on synthetic, test on
real).

The measure is the macro F1: the mean over the labels, rare ones counting as much as frequent ones. `Downstream` asks the same of the
columns that are no texts.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.metrics.utility._label_judge import LEAST_ROWS, Judge, Labelled, Labels, judges_labels, varied
from raysynth.schema import Schema

SIDE_OF: dict[str, Side] = {"text_utility_synthetic": "synthetic", "text_utility_real": "train", "text_utility_mix": "mix"}


class TextDownstream(Metric):
    """`evaluate.target` names the label. The real judge, the ceiling, learns from no more rows than the synthetic one has."""

    names = tuple(SIDE_OF)

    @classmethod
    def applies(cls, schema: Schema, target: str | None) -> bool:
        return judges_labels(schema, target)

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        if not judges_labels(self.schema, self.target):
            return [Score(name, None, 0.0, 1.0, why="evaluate.target names no label") for name in self.names]
        task = Labels(seen, self.schema, str(self.target), self.told_by)
        if task.why:
            return [Score(name, None, 0.0, 1.0, why=task.why) for name in self.names]
        synthetic = task.of("synthetic")
        learnt: dict[str, Labelled] = {
            "text_utility_synthetic": synthetic,
            "text_utility_real": task.train.head(len(synthetic.labels) or len(task.train.labels)),
        }
        if task.known("mix"):
            learnt["text_utility_mix"] = task.of("mix")
        found = {name: _judged(rows, task) for name, rows in learnt.items() if varied(rows, len(task.classes))}
        real = found["text_utility_real"][0] if "text_utility_real" in found else None
        return [self._score(name, found, learnt, real) for name in self.names]

    def _score(
        self, name: str, found: Mapping[str, tuple[float, Mapping[str, Any]]], learnt: Mapping[str, Labelled], real: float | None
    ) -> Score:
        if name in found:
            value, facts = found[name]
            return Score(name, value, 0.0, 1.0, real, facts=facts)
        why = f"it takes {LEAST_ROWS} rows with a text and two values of '{self.target}' at least"
        return Score(name, None, 0.0, 1.0, real, why=why if name in learnt else "the recipe makes no mix")


def _judged(rows: Labelled, task: Labels) -> tuple[float, dict[str, Any]]:
    from sklearn.metrics import precision_recall_fscore_support

    by_label: Any = precision_recall_fscore_support
    said = Judge(rows, len(task.classes)).labels(task.holdout)
    there = [label for label in np.unique(task.holdout.labels).tolist() if label < len(task.classes)]
    judged = by_label(task.holdout.labels, said, labels=there, zero_division=0)
    by_class = {
        task.classes[label]: {
            "precision": round(float(judged[0][at]), 4),
            "recall": round(float(judged[1][at]), 4),
            "f1": round(float(judged[2][at]), 4),
            "holdout_rows": int(judged[3][at]),
        }
        for at, label in enumerate(there)
    }
    right = round(float((said == task.holdout.labels).mean()), 4)
    counts = {"rows": len(rows.labels), "holdout_rows": len(task.holdout.labels)}
    return round(float(np.mean(judged[2])), 6), {"measure": "macro F1", **counts, "accuracy": right, "classes": by_class}
