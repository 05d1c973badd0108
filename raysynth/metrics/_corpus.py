"""Columns of texts → their words as numbers in flat arrays, and scores by column: what the metrics of texts have in common.

Counts of words grow with the text that they are counted in: compare equal numbers of them only (`Corpus.keys`, cut to the same length).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.draws import mix
from raysynth.metrics.base import Score, Seen, Side
from raysynth.schema import Schema
from raysynth.words import words

MOST_ROWS = 20_000
MOST_WORDS = 400_000  # of one side and column
MOST_LETTERS = 20_000  # of one text
_STEP = np.uint64(0x9E3779B97F4A7C15)

Pair = tuple[float | None, float | None]
"""A value and its ceiling."""


def text_columns(schema: Schema, without: frozenset[str] = frozenset()) -> list[str]:
    """The columns of texts, derived ones left out."""
    return [column.name for column in schema.learnt if column.kind == "text" and column.name not in without]


def texts_of(seen: Seen, side: Side, column: str, most: int = MOST_ROWS) -> list[str]:
    """The texts of a side's first `most` sampled rows, nulls left out, each cut at MOST_LETTERS."""
    if side not in seen.samples:
        return []
    found: list[str | None] = seen.samples[side].column(column).slice(0, most).to_pylist()
    return [text[:MOST_LETTERS] for text in found if text is not None]


@dataclass(frozen=True)
class Corpus:
    """Texts as codes of their words, (words,) int64; `starts`: (texts + 1,) where each text begins, and the last one ends."""

    codes: NDArray[np.int64]
    starts: NDArray[np.int64]

    @property
    def texts(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(texts,) in words."""
        return np.diff(self.starts)

    @property
    def owners(self) -> NDArray[np.int64]:
        """(words,) the text that each word stands in."""
        return np.repeat(np.arange(self.texts), self.lengths)

    def and_then(self, other: "Corpus") -> "Corpus":
        """The texts of both, whose codes must mean the same."""
        starts = np.concatenate([self.starts, other.starts[1:] + self.starts[-1]])
        return Corpus(np.concatenate([self.codes, other.codes]), starts)

    def head(self, texts: int) -> "Corpus":
        texts = min(texts, self.texts)
        return Corpus(self.codes[: self.starts[texts]], self.starts[: texts + 1])

    def keys(self, n: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Of each run of n words, in order: a 64-bit hash, and the text that it stands in."""
        runs = max(0, len(self.codes) - n + 1)
        key = np.zeros(runs, np.uint64)
        for place in range(n):
            key = mix(key + (self.codes[place : place + runs].astype(np.uint64) + np.uint64(1)) * _STEP)
        owners = self.owners
        whole = owners[:runs] == owners[n - 1 : n - 1 + runs]
        return key[whole], owners[:runs][whole]


def coded(*sides: Sequence[str]) -> tuple[list[Corpus], pa.Array]:
    """Texts of several sides → a corpus each, and the words, whose places are their codes. A side ends with the text that brings it to
    MOST_WORDS words."""
    split = [_split(side) for side in sides]
    lengths = [np.array([len(text) for text in side], np.int64) for side in split]
    every: Any = pa.array(chain.from_iterable(chain.from_iterable(split)), pa.string()).dictionary_encode()
    parts = np.split(np.asarray(every.indices, dtype=np.int64), np.cumsum([int(length.sum()) for length in lengths])[:-1])
    corpora = [Corpus(codes, np.append(0, np.cumsum(length))) for codes, length in zip(parts, lengths, strict=True)]
    return corpora, every.dictionary


def _split(texts: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = []
    count = 0
    for text in texts:
        if count >= MOST_WORDS:
            break
        found.append(words(text))
        count += len(found[-1])
    return found


def by_column(
    name: str,
    found: Mapping[str, Pair],
    worst: float,
    best: float,
    why: str,
    facts: Mapping[str, Any] | None = None,
) -> Score:
    """One score of several columns: the mean over those that have a value; its ceiling, where each of them has one. `why`: what it
    takes, told where none has."""
    values = {column: round(value, 6) for column, (value, _) in found.items() if value is not None}
    ceilings = [found[column][1] for column in values]
    if not values:
        return Score(name, None, worst, best, why=why)
    known = [ceiling for ceiling in ceilings if ceiling is not None]
    ceiling = round(float(np.mean(known)), 6) if len(known) == len(values) else None
    return Score(name, round(float(np.mean(list(values.values()))), 6), worst, best, ceiling, values, facts or {})
