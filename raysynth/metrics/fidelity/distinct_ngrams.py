"""Hold-out and synthetic texts → how varied their words are: distinct n-grams per n-gram (Li et al., NAACL 2016, arXiv 1510.03055).

The more text, the more of its n-grams were there before: both sides are measured on the same number of n-grams. A generator that says the
same over and over stays below its ceiling, the value of hold-out texts; one that strings words at random rises above it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysynth.metrics._corpus import Pair, by_column, coded, text_columns, texts_of
from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.schema import Schema


class DistinctNgrams(Metric):
    """Of one, two and three words."""

    names = ("distinct_1", "distinct_2", "distinct_3")

    @classmethod
    def applies(cls, schema: Schema, target: str | None) -> bool:
        return bool(text_columns(schema))

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        found: dict[int, dict[str, Pair]] = {1: {}, 2: {}, 3: {}}
        counted = dict.fromkeys(found, 0)
        for column in text_columns(self.schema):
            (synthetic, holdout), _ = coded(texts_of(seen, "synthetic", column), texts_of(seen, "holdout", column))
            for n in found:
                keys, held = synthetic.keys(n)[0], holdout.keys(n)[0]
                count = min(len(keys), len(held) or len(keys))
                found[n][column] = (_distinct(keys[:count]), _distinct(held[:count]))
                counted[n] += count
        return [
            by_column(name, found[n], 0.0, 1.0, f"it takes synthetic texts of {n} words", {"n_grams_of_each": counted[n]})
            for n, name in enumerate(self.names, 1)
        ]


def _distinct(keys: Any) -> float | None:
    return len(np.unique(keys)) / len(keys) if len(keys) else None
