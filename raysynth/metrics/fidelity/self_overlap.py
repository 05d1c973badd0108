"""Hold-out and synthetic texts → the share of their 4-grams that stand in another text of the same side too.

What self-BLEU (Zhu et al., SIGIR 2018) tells of, texts that repeat one another, in linear time. The more text, the more it overlaps: both
sides are measured on the same number of 4-grams.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysynth.metrics._corpus import Pair, by_column, coded, text_columns, texts_of
from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.schema import Schema

N = 4


class SelfOverlap(Metric):
    """A 4-gram that one text repeats within itself does not count."""

    names = ("self_overlap",)

    @classmethod
    def applies(cls, schema: Schema, target: str | None) -> bool:
        return bool(text_columns(schema))

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        found: dict[str, Pair] = {}
        counted = 0
        for column in text_columns(self.schema):
            (synthetic, holdout), _ = coded(texts_of(seen, "synthetic", column), texts_of(seen, "holdout", column))
            (keys, owners), (held, held_owners) = synthetic.keys(N), holdout.keys(N)
            count = min(len(keys), len(held) or len(keys))
            found[column] = (_overlap(keys[:count], owners[:count]), _overlap(held[:count], held_owners[:count]))
            counted += count
        why, facts = f"it takes synthetic texts of {N} words", {"n_grams_of_each": counted}
        return [by_column("self_overlap", found, 1.0, 0.0, why, facts)]


def _overlap(keys: NDArray[np.uint64], owners: NDArray[np.int64]) -> float | None:
    if not len(keys):
        return None
    _, which = np.unique(keys, return_inverse=True)
    pairs = np.unique(which * (int(owners.max()) + 1) + owners)
    texts = np.bincount(pairs // (int(owners.max()) + 1))
    return float((texts[which] > 1).mean())
