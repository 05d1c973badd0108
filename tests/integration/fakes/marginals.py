"""Every column drawn on its own, from counts: the least Fitted generator, which stands for trees and copulas in the tests."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from raysynth.draws import Draws
from raysynth.generators.base import Fitted
from raysynth.layout import Arrays, Batch, Facts, Fields, FieldsGiven, Given, Layout


@dataclass(frozen=True)
class Counts:
    counts: NDArray[np.int64]

    def merge(self, other: "Counts") -> "Counts":
        return Counts(self.counts + other.counts)


class Marginals(Fitted):
    accepts: ClassVar[tuple[type[Layout], ...]] = (Fields,)
    kernel_rows = 1024

    def __init__(self, layout: Fields) -> None:
        self.sizes = layout.sizes
        self.counts: list[NDArray[np.int64]] = []

    def tasks(self) -> list[str]:
        return [str(field) for field in range(len(self.sizes))]

    def fit(self, task: str, rows: Iterable[Batch]) -> Counts:
        size = self.sizes[int(task)]
        return Counts(sum((np.bincount(batch["codes"][:, int(task)], minlength=size) for batch in rows), np.zeros(size, np.int64)))

    def merge(self, stats: list[Counts]) -> None:
        self.counts = [seen.counts for seen in stats]

    def sample(self, draws: Draws, given: Given | None) -> Batch:
        masks = given.masks if isinstance(given, FieldsGiven) else {}
        cdfs = [np.cumsum(counts * masks.get(field, np.array(True))) for field, counts in enumerate(self.counts)]
        codes = [np.searchsorted(cdf, draws.uniform(f"f{i}") * cdf[-1], side="right") for i, cdf in enumerate(cdfs)]
        return Batch({"codes": np.stack(codes, axis=1).astype(np.int32)})

    def state(self) -> tuple[Arrays, Facts]:
        return {str(field): counts for field, counts in enumerate(self.counts)}, {}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        self.counts = [arrays[str(field)] for field in range(len(self.sizes))]
