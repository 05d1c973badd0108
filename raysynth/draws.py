"""(seed, purpose, row numbers, attempts) → the random numbers of each row, by name: the same whoever asks, in any order or batch.

Counter-based: a draw is a 64-bit hash of its key, as in Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011),
with the finaliser of splitmix64 (Steele et al., OOPSLA 2014, variant 13 of D. Stafford) applied once per component of the key.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_TO_UNIT = 2.0**-53


def mix(words: Words) -> Words:
    """The finaliser of splitmix64: a bijection of 64-bit words in which every input bit reaches every output bit."""
    words = words ^ (words >> np.uint64(30))
    words *= _MIX_1
    words ^= words >> np.uint64(27)
    words *= _MIX_2
    words ^= words >> np.uint64(31)
    return words


def word(*key: object) -> np.uint64:
    """Any printable key → a 64-bit word (the head of its SHA-256)."""
    text = "\x1f".join(str(part) for part in key)
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], dtype="<u8")[0]


def row_words(files: Sequence[str], file_index: NDArray[np.int64], rows: NDArray[np.int64], seed: int = 0) -> Words:
    """Row ids (an index into `files`, a row in that file) → one 64-bit hash per row, keyed by `seed`. Shape (rows,)."""
    keys = np.array([word(seed, file) for file in files], dtype=np.uint64)
    return mix(keys[file_index] + mix(rows.astype(np.uint64) + _GOLDEN))


@dataclass(frozen=True)
class Draws:
    """The random numbers of `rows` (uint64 row numbers or row-id hashes, shape (rows,)), each at its own `attempts`."""

    seed: int
    purpose: str
    rows: Words
    attempts: Words

    @staticmethod
    def of(seed: int, purpose: str, rows: NDArray[np.integer]) -> "Draws":
        words = np.asarray(rows).astype(np.uint64)
        return Draws(seed, purpose, words, np.zeros(len(words), dtype=np.uint64))

    @staticmethod
    def range(seed: int, purpose: str, start: int, stop: int) -> "Draws":
        return Draws.of(seed, purpose, np.arange(start, stop, dtype=np.uint64))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: NDArray[np.integer]) -> "Draws":
        """The draws of some of the rows: `index` holds positions."""
        return Draws(self.seed, self.purpose, self.rows[index], self.attempts[index])

    def attempt(self, n: int) -> "Draws":
        """The same rows, drawn again: independent of every other attempt."""
        return Draws(self.seed, self.purpose, self.rows, np.full(len(self.rows), n, dtype=np.uint64))

    def words(self, name: str, *shape: int) -> Words:
        """Uniform 64-bit words, shape (rows, *shape)."""
        start = mix(self._row_words + self._key(name))
        if not shape:
            return start
        counter = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * _GOLDEN
        return mix(start[:, None] + counter[None, :]).reshape(len(self.rows), *shape)

    def uniform(self, name: str, *shape: int) -> NDArray[np.float64]:
        """Uniform in the open interval (0, 1): multiples of 2^-53 plus half a step. Shape (rows, *shape)."""
        return ((self.words(name, *shape) >> np.uint64(11)).astype(np.float64) + 0.5) * _TO_UNIT

    def normal(self, name: str, *shape: int) -> NDArray[np.float64]:
        """Standard normal by the inverse of its distribution function. Shape (rows, *shape)."""
        from scipy.special import ndtri  # 0.2 s to import, and few callers draw normals

        return ndtri(self.uniform(name, *shape))

    def _key(self, name: str) -> np.uint64 | Words:
        return word(self.seed, self.purpose, name)

    @cached_property
    def _row_words(self) -> Words:
        return mix(mix(self.rows + _GOLDEN) + mix(self.attempts * _MIX_1 + _GOLDEN))


@dataclass(frozen=True)
class SeededDraws(Draws):
    """Rows of several seeds in one batch, each with the random numbers that it has in `Draws` of its own seed. `seeds`: those there
    are (`seed` is not looked at); `which`: (rows,) the position of each row's."""

    seeds: tuple[int, ...]
    which: NDArray[np.int64]

    def take(self, index: NDArray[np.integer]) -> "SeededDraws":
        return SeededDraws(self.seed, self.purpose, self.rows[index], self.attempts[index], self.seeds, self.which[index])

    def attempt(self, n: int) -> "SeededDraws":
        return SeededDraws(self.seed, self.purpose, self.rows, np.full(len(self.rows), n, dtype=np.uint64), self.seeds, self.which)

    def _key(self, name: str) -> Words:
        return np.array([word(seed, self.purpose, name) for seed in self.seeds], dtype=np.uint64)[self.which]
