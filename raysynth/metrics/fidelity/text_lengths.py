"""Train, hold-out and synthetic texts → are they as long as real ones, and made of the same words?

`text_lengths`: 1 − the Kolmogorov-Smirnov distance between the lengths in words, missing texts as a length of their own. `vocabulary`: the
share of the synthetic words that a sample of train texts has too; words that none has are invented, or misspelt. Hold-out texts have some
as well: the ceiling.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.metrics._corpus import MOST_ROWS, Corpus, Pair, by_column, coded, text_columns, texts_of
from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.metrics.fidelity.column_shapes import LEAST_ROWS, alike
from raysynth.schema import Column, Schema

_LENGTH = Column("words", "integer", pa.int64())


class TextLengths(Metric):
    """Words count as often as they are used."""

    names = ("text_lengths", "vocabulary")

    @classmethod
    def applies(cls, schema: Schema, target: str | None) -> bool:
        return bool(text_columns(schema))

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        lengths: dict[str, Pair] = {}
        known: dict[str, Pair] = {}
        for column in text_columns(self.schema):
            texts = [texts_of(seen, side, column) for side in ("train", "holdout", "synthetic")]
            (train, holdout, synthetic), _ = coded(*texts)
            missing = [_missing(seen, side, column) for side in ("train", "holdout", "synthetic")]
            real, held, made = (_lengths(corpus, count) for corpus, count in zip((train, holdout, synthetic), missing, strict=True))
            lengths[column] = (_alike(real, made), _alike(real, held))
            known[column] = (_share_known(synthetic, train), _share_known(holdout, train))
        least = f"it takes {LEAST_ROWS} train and synthetic rows"
        return [
            by_column("text_lengths", lengths, 0.0, 1.0, least),
            by_column("vocabulary", known, 0.0, 1.0, "it takes train and synthetic texts with words"),
        ]


def _missing(seen: Seen, side: Side, column: str) -> int:
    return seen.samples[side].column(column).slice(0, MOST_ROWS).null_count if side in seen.samples else 0


def _lengths(texts: Corpus, missing: int) -> pa.Table:
    values: Any = [*texts.lengths.tolist(), *[None] * missing]
    return pa.table({"words": pa.array(values, pa.int64())})


def _alike(real: pa.Table, other: pa.Table) -> float | None:
    return alike(real, other, _LENGTH) if min(real.num_rows, other.num_rows) >= LEAST_ROWS else None


def _share_known(texts: Corpus, known: Corpus) -> float | None:
    if not len(texts.codes) or not len(known.codes):
        return None
    found: NDArray[np.bool_] = np.isin(texts.codes, np.unique(known.codes))
    return float(found.mean())
