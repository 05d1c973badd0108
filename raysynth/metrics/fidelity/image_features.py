"""Train, hold-out and synthetic pictures as points of an encoder's → do they show what real ones show, and all of it?

The encoder is the run's own: a small network that learnt from real train pictures to give them back, and to tell their label where
`evaluate.target` is one. So the numbers compare runs of one data set, not those of others, and need no weights from elsewhere. Where the
recipe names a network (`evaluate.extractor`), that one sees the pictures; its points too are brought to length 1.

`image_frechet`: the squared Fréchet distance between the normal laws of the two sets of points (as FID, Heusel et al., NeurIPS 2017): 0 is
the same, 2 has nothing in common. `image_kid`: the kernel distance of the two (Bińkowski et al., ICLR 2018): 0 is the same, 14 has nothing
in common. The next four are told in `_cover`. `image_diversity`: how far apart the pictures of one label lie, over how far real ones do.
In the ceilings train pictures stand where the synthetic ones do; the encoder has not learnt from those.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysynth.extractor import Extractor
from raysynth.image_frames import Frame, image_columns
from raysynth.metrics._corpus import Pair, by_column
from raysynth.metrics._images import Pictured, label_classes, tells_label
from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.metrics.fidelity._cover import cover
from raysynth.metrics.fidelity._laws import frechet, kernel_distance
from raysynth.schema import Schema

if TYPE_CHECKING:
    from raysynth.pictures import Pixels

LEAST_PICTURES = 30
LEAST_OF_A_CLASS = 5
MOST_PICTURES = 2000  # of each side that are compared
MOST_LEARNT_FROM = 3000
SIDE = 32
_WORST_BEST = ((2.0, 0.0), (14.0, 0.0), *[(0.0, 1.0)] * 5)
_BLOCK = 500


@dataclass(frozen=True)
class _Points:
    """Pictures as points, (N, F), and their labels, (N,)."""

    points: NDArray[np.float32]
    labels: NDArray[np.int64]

    def head(self, count: int) -> "_Points":
        return _Points(self.points[:count], self.labels[:count])


@dataclass(frozen=True)
class _Compared:
    """A column's pictures as one encoder sees them; `train`: those that it has not learnt from. `classes`: of the labels."""

    train: _Points
    holdout: _Points
    synthetic: _Points
    learnt_from: int
    classes: list[str]

    @staticmethod
    def of(
        seen: Seen, column: str, target: str | None, classes: list[str], seed: int, extractor: Extractor | None
    ) -> "_Compared | None":
        """None where there are too few."""
        train, holdout, synthetic = (Pictured.of(seen, side, column, target, classes) for side in ("train", "holdout", "synthetic"))
        count = min(MOST_PICTURES, len(holdout), len(synthetic))
        apart = min(count, len(train) // 2)
        if min(count, len(train) - apart) < LEAST_PICTURES:
            return None
        known = train.cut(apart, apart + (MOST_LEARNT_FROM if extractor is None else 0))
        points_of = (
            extractor.points
            if extractor is not None
            else _own(Frame.around(synthetic.pictures, train.pictures, SIDE), known, classes, seed)
        )

        def points(side: Pictured, most: int) -> _Points:
            return _Points(points_of(side.pictures[:most]), side.labels[:most])

        return _Compared(points(train, apart), points(holdout, count), points(synthetic, count), len(known), classes)

    def seven(self) -> list[Pair]:
        """In the order of the metric's names."""
        return list(zip(self._of(self.holdout, self.synthetic), self._of(self.holdout, self.train), strict=True))

    def spreads(self) -> dict[str, float]:
        """Label → how far apart its synthetic pictures lie, over how far its hold-out pictures do."""
        found = _spreads(self.holdout, self.synthetic, len(self.classes))
        return {self.classes[at] if self.classes else "all": round(share, 4) for at, share in found.items()}

    def _of(self, real: _Points, other: _Points) -> tuple[float | None, ...]:
        real = real.head(len(other.labels))
        if len(real.labels) < LEAST_PICTURES:
            return (None,) * 7
        spreads = list(_spreads(real, other, len(self.classes)).values())
        diversity = float(np.mean(spreads)) if spreads else None
        return (
            frechet(real.points, other.points),
            kernel_distance(real.points, other.points),
            *cover(real.points, other.points),
            diversity,
        )


def _own(frame: Frame, known: Pictured, classes: list[str], seed: int) -> "Callable[[Sequence[Pixels]], NDArray[np.float32]]":
    """What a network that learns from the known pictures sees of others."""
    from raysynth.metrics._network import learnt, one_thread  # a table needs no torch

    network = learnt(frame.of(known.pictures), known.labels, classes=len(classes), redraws=True, seed=seed)

    def points(pictures: "Sequence[Pixels]") -> NDArray[np.float32]:
        with one_thread():
            return network.points(frame.of(pictures))

    return points


class ImageFeatures(Metric):
    """Of as many pictures of each side, at most 2,000; the encoder learns from at most 3,000 others."""

    names = (
        "image_frechet",
        "image_kid",
        "image_precision",
        "image_recall",
        "image_density",
        "image_coverage",
        "image_diversity",
    )
    packages = ("torch", "opencv-python-headless")

    @classmethod
    def applies(cls, schema: Schema, target: str | None) -> bool:
        return bool(image_columns(schema))

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        from threadpoolctl import threadpool_limits

        target = self.target if tells_label(self.schema, self.target) else None
        classes = label_classes(seen.samples["train"], target) if target is not None and "train" in seen.samples else []
        found: list[dict[str, Pair]] = [{} for _ in self.names]
        facts: dict[str, Any] = {
            "features": _named(self.extractor),
            "label": target if classes else None,
            "pictures_of_each": 0,
            "learnt_from": 0,
        }
        spreads: dict[str, dict[str, float]] = {}
        with threadpool_limits(1):  # sums of several threads differ in the last bits
            for column in image_columns(self.schema):
                compared = _Compared.of(seen, column, target, classes, self.seed, self.extractor)
                if compared is None:
                    continue
                for into, pair in zip(found, compared.seven(), strict=True):
                    into[column] = pair
                spreads[column] = compared.spreads()
                facts["pictures_of_each"] += len(compared.synthetic.labels)
                facts["learnt_from"] += compared.learnt_from
        why = f"it takes {LEAST_PICTURES} hold-out and synthetic pictures, and {2 * LEAST_PICTURES} of train"
        told = [*[facts] * 6, {**facts, "classes": spreads}]
        return [
            by_column(name, values, *scale, why, about)
            for name, values, scale, about in zip(self.names, found, _WORST_BEST, told, strict=True)
        ]


def _named(extractor: Extractor | None) -> str:
    return "own" if extractor is None else f"onnx {extractor.sha256[:16]}"


def _spreads(real: _Points, other: _Points, classes: int) -> dict[int, float]:
    """Class (0, where there are no labels) → the mean distance between two of its other pictures, over that of its real ones; of classes
    that have LEAST_OF_A_CLASS on both sides."""
    found: dict[int, float] = {}
    for label in range(max(1, classes)):
        both = [side.points[side.labels == label] if classes else side.points for side in (real, other)]
        if min(map(len, both)) >= LEAST_OF_A_CLASS and (spread := _mean_distance(both[0])) > 0:
            found[label] = _mean_distance(both[1]) / spread
    return found


def _mean_distance(points: NDArray[np.float32]) -> float:
    """Between two different ones of them."""
    a = points.astype(np.float64)
    total = sum(
        float(np.sqrt(np.maximum(2 - 2 * (a[start : start + _BLOCK] @ a.T), 0)).sum()) for start in range(0, len(a), _BLOCK)
    )
    return total / (len(a) * (len(a) - 1))
