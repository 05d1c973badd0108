"""Labelled synthetic texts → the share whose label is what a judge of real train rows says of the text. Hold-out rows are the ceiling: no
judge is always right.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.metrics.utility._label_judge import Judge, Labelled, Labels, judges_labels
from raysynth.schema import Schema

_NAME = "label_fidelity"


class LabelFidelity(Metric):
    """The judge that scores is none that ever filtered rows: it learns here, from train rows. A label that no train row has is wrong."""

    names = (_NAME,)

    @classmethod
    def applies(cls, schema: Schema, target: str | None) -> bool:
        return judges_labels(schema, target)

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        if not judges_labels(self.schema, self.target):
            return [Score(_NAME, None, 0.0, 1.0, why="evaluate.target names no label")]
        task = Labels(seen, self.schema, str(self.target), self.told_by)
        synthetic = task.of("synthetic")
        if task.why or not len(synthetic.labels):
            return [Score(_NAME, None, 0.0, 1.0, why=task.why or "there is no synthetic row with a text and a label")]
        judge = Judge(task.train, len(task.classes))
        facts = {
            "synthetic_rows": len(synthetic.labels),
            "holdout_rows": len(task.holdout.labels),
            "classes": _by_class(judge, synthetic, task.classes),
        }
        return [Score(_NAME, _agreed(judge, synthetic), 0.0, 1.0, _agreed(judge, task.holdout), facts=facts)]


def _agreed(judge: Judge, rows: Labelled) -> float:
    return round(float((judge.labels(rows) == rows.labels).mean()), 6)


def _by_class(judge: Judge, rows: Labelled, classes: list[str]) -> dict[str, float]:
    """Label → the share of its rows that the judge agrees with."""
    right = judge.labels(rows) == rows.labels
    return {name: round(float(right[rows.labels == at].mean()), 4) for at, name in enumerate(classes) if np.any(rows.labels == at)}
