"""Every train text against the synthetic ones → how much of what was made is repeated: whole texts, and runs of words.

`text_copies`: the share of synthetic texts that are a train text, but for case, spacing and Unicode's forms; all texts are compared up to a
million different ones a side, and beyond that those of the lowest hashes, a sample that no order decides. `copied_8grams`: of the synthetic
texts of eight words and more, the share in which eight words stand in a row as in some train text. `longest_copy`: the mean length of the
longest such run, where 32 and more words count as 32. Runs are looked for in every train text, from a sample of synthetic ones: of a sample
of train texts most copies would go unseen. Hold-out texts, asked the same, are the ceiling.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.cells import hash_texts
from raysynth.metrics._corpus import Corpus, Pair, by_column, coded, text_columns, texts_of
from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.metrics.privacy._longest import MOST, longest_common
from raysynth.schema import Schema
from raysynth.words import folded, words

MOST_ASKED = 10_000
MOST_CONTENTS = 1 << 20
RUN = 8
_BLOCK_WORDS = 1_000_000
_SLICE_ROWS = 10_000


@dataclass(frozen=True)
class _Contents:
    """Of a side's texts the distinct hashes, sorted, and how many texts have each: all of them, or the MOST_CONTENTS lowest."""

    hashes: NDArray[np.uint64]
    counts: NDArray[np.int64]
    texts: int

    @staticmethod
    def of(texts: Iterable[str]) -> "_Contents":
        found = hash_texts(pa.array(filter(None, map(folded, texts)), pa.string()))
        hashes, counts = np.unique(found, return_counts=True)
        return _Contents(hashes[:MOST_CONTENTS], counts[:MOST_CONTENTS], len(found))

    def merge(self, other: "_Contents") -> "_Contents":
        hashes, which = np.unique(np.concatenate([self.hashes, other.hashes]), return_inverse=True)
        counts = np.bincount(which, weights=np.concatenate([self.counts, other.counts]), minlength=len(hashes)).astype(np.int64)
        return _Contents(hashes[:MOST_CONTENTS], counts[:MOST_CONTENTS], self.texts + other.texts)

    def copies(self, known: "_Contents") -> tuple[int, int]:
        """(texts that `known` has, texts looked at)."""
        full = [side.hashes[-1] for side in (self, known) if len(side.hashes) == MOST_CONTENTS]
        below = self.hashes <= min(full) if full else np.ones(len(self.hashes), np.bool_)
        counts = self.counts[below]
        return int(counts[np.isin(self.hashes[below], known.hashes)].sum()), int(counts.sum())


@dataclass(frozen=True)
class _Found:
    """By column. `longest`: of train rows alone, (asked texts,) the longest run that each has in common with any of them."""

    contents: Mapping[str, _Contents]
    longest: Mapping[str, NDArray[np.int64]]

    def merge(self, other: "_Found") -> "_Found":
        contents = {name: found.merge(other.contents[name]) for name, found in self.contents.items()}
        return _Found(contents, {name: np.maximum(found, other.longest[name]) for name, found in self.longest.items()})


@dataclass(frozen=True)
class _Asked:
    """A column's sampled texts, synthetic and then hold-out ones; `words`: those of them, whose place + 1 is their code."""

    texts: Corpus
    words: pa.Array
    synthetic: int

    @staticmethod
    def of(seen: Seen, column: str) -> "_Asked":
        samples = [texts_of(seen, side, column, MOST_ASKED) for side in ("synthetic", "holdout")]
        (synthetic, holdout), vocabulary = coded(*samples)
        texts = synthetic.and_then(holdout)
        return _Asked(Corpus(texts.codes + 1, texts.starts), vocabulary, synthetic.texts)

    def longest(self, texts: Iterable[str]) -> NDArray[np.int64]:
        best = np.zeros(self.texts.texts, np.int64)
        for block in _blocks(texts):
            best = np.maximum(best, longest_common(self.texts, self._known(block)))
        return best

    def _known(self, block: list[list[str]]) -> Corpus:
        flat: Any = pa.array(chain.from_iterable(block), pa.string())
        compute: Any = pc
        codes = compute.fill_null(compute.index_in(flat, value_set=self.words), len(self.words)).to_numpy(zero_copy_only=False)
        return Corpus(codes.astype(np.int64) + 1, np.cumsum([0, *map(len, block)]))


class TextCopies(Metric):
    """A copy is no proof of a leak: short texts are common ones, and hold-out texts repeat train texts too."""

    names = ("text_copies", "copied_8grams", "longest_copy")
    sides = ("train", "holdout", "synthetic")

    @classmethod
    def applies(cls, schema: Schema, target: str | None) -> bool:
        return bool(text_columns(schema))

    def settle(self, seen: Seen) -> None:
        self._asked = {column: _Asked.of(seen, column) for column in text_columns(self.schema)}

    def observe(self, rows: pa.Table, side: Side) -> _Found:
        columns = text_columns(self.schema)
        contents = {column: _Contents.of(_texts(rows, column)) for column in columns}
        longest = {column: self._asked[column].longest(_texts(rows, column)) for column in columns} if side == "train" else {}
        return _Found(contents, longest)

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        whole: dict[str, Pair] = {}
        runs: dict[str, Pair] = {}
        lengths: dict[str, Pair] = {}
        counted = {"texts": 0, "copies": 0, "train_texts": 0, "holdout_texts": 0, "holdout_copies": 0}
        for column, asked in self._asked.items():
            none = _Found({column: _Contents.of([])}, {column: np.zeros(asked.texts.texts, np.int64)})
            train, holdout, synthetic = (stats.get(side, none) for side in ("train", "holdout", "synthetic"))
            known = train.contents[column]
            if not known.texts:
                continue
            (copies, of), (held, of_held) = (side.contents[column].copies(known) for side in (synthetic, holdout))
            whole[column] = (copies / of if of else None, held / of_held if of_held else None)
            counted = _plus(counted, texts=of, copies=copies, train_texts=known.texts, holdout_texts=of_held, holdout_copies=held)
            longest, words_ = train.longest[column], asked.texts.lengths
            made, real = np.split(longest, [asked.synthetic]), np.split(words_, [asked.synthetic])
            pairs = list(zip(made, real, strict=True))
            runs[column] = (_share_of_runs(*pairs[0]), _share_of_runs(*pairs[1]))
            lengths[column] = (_mean_run(*pairs[0]), _mean_run(*pairs[1]))
        asked_texts = {"texts_asked": sum(asked.synthetic for asked in self._asked.values())}
        return [
            by_column("text_copies", whole, 1.0, 0.0, "it takes train and synthetic texts", counted),
            by_column("copied_8grams", runs, 1.0, 0.0, f"it takes train texts, and synthetic ones of {RUN} words", asked_texts),
            by_column("longest_copy", lengths, float(MOST), 0.0, "it takes train and synthetic texts", asked_texts),
        ]


def _texts(rows: pa.Table, column: str) -> Iterator[str]:
    """Without nulls; as Python's texts a whole part would take many times its size."""
    found: Any = rows.column(column).drop_null()
    for start in range(0, len(found), _SLICE_ROWS):
        yield from found.slice(start, _SLICE_ROWS).to_pylist()


def _blocks(texts: Iterable[str]) -> Iterator[list[list[str]]]:
    """The texts' words, some million at a time."""
    block: list[list[str]] = []
    count = 0
    for text in texts:
        block.append(words(text))
        count += len(block[-1])
        if count >= _BLOCK_WORDS:
            yield block
            block, count = [], 0
    if block:
        yield block


def _plus(counted: dict[str, int], **more: int) -> dict[str, int]:
    return {name: value + more[name] for name, value in counted.items()}


def _share_of_runs(longest: NDArray[np.int64], lengths: NDArray[np.int64]) -> float | None:
    long = lengths >= RUN
    return float((longest[long] >= RUN).mean()) if long.any() else None


def _mean_run(longest: NDArray[np.int64], lengths: NDArray[np.int64]) -> float | None:
    return float(longest[lengths > 0].mean()) if (lengths > 0).any() else None
