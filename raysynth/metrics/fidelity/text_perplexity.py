"""Train, hold-out and synthetic texts → how well a trigram model of the one foresees the other, both ways.

`perplexity_of_synthetic`: how hard synthetic texts are to foresee for a model of real ones: above the ceiling, that of hold-out texts, they
are less fluent; far below it they are plainer than real texts are, or copies. `perplexity_by_synthetic`: how hard hold-out texts are for a
model that learnt from synthetic ones: the ceiling is a model of as many train texts. A perplexity of 90 means: as hard as a choice among 90
words.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysynth.metrics._corpus import Corpus, Pair, by_column, coded, text_columns, texts_of
from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.metrics.fidelity._kneser_ney import KneserNey
from raysynth.schema import Schema


class TextPerplexity(Metric):
    """The worst is what the words would have without their order."""

    names = ("perplexity_of_synthetic", "perplexity_by_synthetic")

    @classmethod
    def applies(cls, schema: Schema, target: str | None) -> bool:
        return bool(text_columns(schema))

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        of: dict[str, Pair] = {}
        by: dict[str, Pair] = {}
        worst: list[float] = []
        rows = 0
        for column in text_columns(self.schema):
            sides = [texts_of(seen, side, column) for side in ("train", "holdout", "synthetic")]
            (train, holdout, synthetic), words = coded(*sides)
            texts = min(train.texts, synthetic.texts)
            rows += texts
            if not texts:
                continue
            real, other = (KneserNey(side.head(texts), len(words)) for side in (train, synthetic))
            worst.append(real.scattered(holdout if holdout.texts else synthetic))
            of[column] = (real.perplexity(synthetic), _perplexity(real, holdout))
            by[column] = (_perplexity(other, holdout), _perplexity(real, holdout))
        base, facts = round(max(2.0, float(np.mean(worst or [2.0]))), 6), {"texts_learnt_from": rows}
        return [
            by_column(self.names[0], of, base, 1.0, "it takes train and synthetic texts", facts),
            by_column(self.names[1], by, base, 1.0, "it takes train, hold-out and synthetic texts", facts),
        ]


def _perplexity(model: KneserNey, texts: Corpus) -> float | None:
    return model.perplexity(texts) if texts.texts else None
