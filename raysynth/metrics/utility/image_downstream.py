"""Train, synthetic and mixed pictures → how well a network that learnt from each of them labels hold-out pictures (train on synthetic, test
on real); and whether the labels of synthetic pictures are what a network of real ones says of them.

The measure is the macro F1: the mean over the labels, rare ones counting as much as frequent ones. The network is small and learns from
scratch, by some twenty thousand looks at a picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysynth.image_frames import Frame, image_columns
from raysynth.metrics._images import MOST_CLASSES, Pictured, label_classes, tells_label
from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.schema import Schema

SIDE_OF: dict[str, Side] = {"image_utility_synthetic": "synthetic", "image_utility_real": "train", "image_utility_mix": "mix"}
FIDELITY = "image_label_fidelity"
LEAST_ROWS = 30
SIDE = 32

Facts = dict[str, Any]


@dataclass(frozen=True)
class _Rows:
    """Pictures of one size, (N, H, W, C), and their labels, (N,), their number where it is none of the classes."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def head(self, count: int) -> "_Rows":
        return _Rows(self.pixels[:count], self.labels[:count])


class ImageDownstream(Metric):
    """`evaluate.target` names the label. The real network, the ceiling, learns from no more pictures than the synthetic one; the one that
    judges labels learns from all real ones there are. Of at most 5,000 rows of a side; of several columns of images the first that the
    target is not computed from."""

    names = (*SIDE_OF, FIDELITY)
    packages = ("torch", "opencv-python-headless")

    @classmethod
    def applies(cls, schema: Schema, target: str | None) -> bool:
        return bool(image_columns(schema)) and tells_label(schema, target)

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        if not self.applies(self.schema, self.target):
            return self._none("evaluate.target names no label")
        columns = image_columns(self.schema, self.told_by)
        if not columns:
            return self._none(f"no column of images is left: '{self.target}' is computed from them")
        task = _Task(seen, columns[0], str(self.target), self.seed)
        if task.why:
            return self._none(task.why)
        found = {name: task.utility(side) for name, side in SIDE_OF.items()}
        real = found["image_utility_real"][0]
        utilities = [Score(name, value, 0.0, 1.0, real, facts=facts, why=why) for name, (value, facts, why) in found.items()]
        return [*utilities, task.label_fidelity()]

    def _none(self, why: str) -> list[Score]:
        return [Score(name, None, 0.0, 1.0, why=why) for name in self.names]


class _Task:
    """All sides in one frame and one coding of labels, and the networks that learnt from them. `why`: why nothing can be judged, or
    empty."""

    def __init__(self, seen: Seen, column: str, target: str, seed: int) -> None:
        self.seed, self.target = seed, target
        self.classes = label_classes(seen.samples["train"], target) if "train" in seen.samples else []
        pictured = {
            side: Pictured.of(seen, side, column, target, self.classes).labelled()
            for side in ("train", "holdout", "synthetic", "mix")
            if side in seen.samples
        }
        empty = Pictured([], np.zeros(0, np.int64))
        synthetic, train = (pictured.get(side, empty).pictures for side in ("synthetic", "train"))
        frame = Frame.around(synthetic, train, SIDE)
        self.sides = {side: _Rows(frame.of(found.pictures), found.labels) for side, found in pictured.items()}
        self.train, self.holdout, self.synthetic = (
            self.sides.get(side, _Rows(frame.of([]), empty.labels)) for side in ("train", "holdout", "synthetic")
        )
        self._networks: dict[tuple[str, int], Any] = {}
        self.why = self._why_not()

    def _why_not(self) -> str:
        if not self.classes:
            return f"it takes train rows with 2 to {MOST_CLASSES} values of evaluate.target '{self.target}'"
        if min(len(self.train.labels), len(self.holdout.labels)) < LEAST_ROWS:
            return f"it takes {LEAST_ROWS} train and hold-out rows with a picture and a label"
        return ""

    def utility(self, side: Side) -> tuple[float | None, Facts, str]:
        """(macro F1, facts, why there is none) of the network that learns from that side."""
        if side == "mix" and side not in self.sides:
            return None, {}, "the recipe makes no mix"
        rows = self.sides.get(side, self.synthetic)
        if side == "train":
            rows = rows.head(len(self.synthetic.labels) or len(rows.labels))
        usual = rows.labels[rows.labels < len(self.classes)]
        if len(usual) < LEAST_ROWS or len(np.unique(usual)) < 2:
            return None, {}, f"it takes {LEAST_ROWS} rows with a picture and two values of '{self.target}' at least"
        said = self._said(side, rows, self.holdout)
        value, facts = _judged(self.holdout.labels, said, self.classes)
        return value, {"measure": "macro F1", "rows": len(rows.labels), "holdout_rows": len(said), **facts}, ""

    def label_fidelity(self) -> Score:
        if not len(self.synthetic.labels):
            return Score(FIDELITY, None, 0.0, 1.0, why="there is no synthetic row with a picture and a label")
        value, ceiling = (self._agreed(rows) for rows in (self.synthetic, self.holdout))
        right = self._said("train", self.train, self.synthetic) == self.synthetic.labels
        by_class = {
            name: round(float(right[self.synthetic.labels == at].mean()), 4)
            for at, name in enumerate(self.classes)
            if np.any(self.synthetic.labels == at)
        }
        facts = {"synthetic_rows": len(right), "holdout_rows": len(self.holdout.labels), "classes": by_class}
        return Score(FIDELITY, value, 0.0, 1.0, ceiling, facts=facts)

    def _agreed(self, rows: _Rows) -> float:
        return round(float((self._said("train", self.train, rows) == rows.labels).mean()), 6)

    def _said(self, side: str, known: _Rows, asked: _Rows) -> NDArray[np.int64]:
        """(N,) what the network that learnt from those rows says of the asked ones."""
        from raysynth.metrics._network import learnt, one_thread  # a table needs no torch

        key = (side, len(known.labels))
        if key not in self._networks:
            self._networks[key] = learnt(known.pixels, known.labels, classes=len(self.classes), redraws=False, seed=self.seed)
        with one_thread():
            return self._networks[key].labels(asked.pixels)


def _judged(labels: NDArray[np.int64], said: NDArray[np.int64], classes: list[str]) -> tuple[float, Facts]:
    from sklearn.metrics import precision_recall_fscore_support

    by_label: Any = precision_recall_fscore_support
    there = [label for label in np.unique(labels).tolist() if label < len(classes)]
    judged = by_label(labels, said, labels=there, zero_division=0)
    by_class = {
        classes[label]: {
            "precision": round(float(judged[0][at]), 4),
            "recall": round(float(judged[1][at]), 4),
            "f1": round(float(judged[2][at]), 4),
            "holdout_rows": int(judged[3][at]),
        }
        for at, label in enumerate(there)
    }
    return round(float(np.mean(judged[2])), 6), {"accuracy": round(float((said == labels).mean()), 4), "classes": by_class}
