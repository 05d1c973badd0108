"""A text is no near-copy of what was learnt: of its runs of words, at most a share stands in train texts."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from raysynth.cells import hash_texts
from raysynth.draws import Words, mix
from raysynth.filters._texts import check_text
from raysynth.filters.base import Filter
from raysynth.layout import Arrays, Facts
from raysynth.schema import Schema
from raysynth.words import words as split

MOST_RUNS = 1 << 24
"""Kept of the train texts, 8 bytes each. Of more, those of the lowest hashes; then only such runs are looked at."""
_SLICE_ROWS = 10_000
_STEP = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class _Runs:
    """The distinct hashes of the runs that were seen, sorted: all, or the MOST_RUNS lowest."""

    hashes: Words

    def merge(self, other: "_Runs") -> "_Runs":
        return _Runs(np.unique(np.concatenate([self.hashes, other.hashes]))[:MOST_RUNS])


class NearCopy(Filter):
    """`most`: the share of a text's runs of `words` words that may stand in train texts, in whichever of them. With 0 none may. A text
    with fewer words passes: short ones are common ones. Differences of case, spacing and Unicode's forms are none."""

    learns: ClassVar[bool] = True

    def __init__(
        self,
        schema: Schema,
        *,
        column: str,
        most: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        words: Annotated[int, Field(ge=2, le=32)] = 8,
        seed: int = 0,
    ) -> None:
        super().__init__(schema, seed=seed)
        self.column, self.most, self.words = check_text(schema, column), most, words
        self._known: Words = np.empty(0, np.uint64)

    def observe(self, rows: pa.Table) -> _Runs:
        found = _Runs(np.empty(0, np.uint64))
        for start in range(0, rows.num_rows, _SLICE_ROWS):
            texts: list[Any] = rows.column(self.column).slice(start, _SLICE_ROWS).drop_null().to_pylist()
            found = found.merge(_Runs(_runs(texts, self.words)[0]))
        return found

    def settle(self, stats: _Runs | None) -> None:
        self._known = np.empty(0, np.uint64) if stats is None else stats.hashes

    def holds(self, rows: pa.Table) -> NDArray[np.bool_]:
        runs, owners = _runs([text or "" for text in rows.column(self.column).to_pylist()], self.words)
        if len(self._known) == MOST_RUNS:
            looked_at = runs <= self._known[-1]
            runs, owners = runs[looked_at], owners[looked_at]
        places = np.searchsorted(self._known, runs)
        copied = places < len(self._known)
        copied[copied] = self._known[places[copied]] == runs[copied]
        counts = np.bincount(owners, minlength=rows.num_rows)
        return np.asarray(np.bincount(owners[copied], minlength=rows.num_rows) <= self.most * counts, np.bool_)

    def state(self) -> tuple[Arrays, Facts]:
        return {"runs": self._known}, {}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        self._known = arrays["runs"]


def _runs(texts: list[str], length: int) -> tuple[Words, NDArray[np.int64]]:
    """Of each run of `length` words, in order: its hash, and the text that it stands in."""
    spoken = [split(text) for text in texts]
    owners: Any = np.repeat(np.arange(len(spoken)), [len(words) for words in spoken])
    codes = hash_texts(pa.array([word for words in spoken for word in words], pa.string()))
    count = max(0, len(codes) - length + 1)
    hashes = np.zeros(count, np.uint64)
    for place in range(length):
        hashes = mix(hashes + codes[place : place + count] * _STEP)
    whole = owners[:count] == owners[length - 1 : length - 1 + count]
    return hashes[whole], owners[:count][whole]
