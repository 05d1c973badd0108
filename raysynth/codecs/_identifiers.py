"""A row's number → its id in the form that the real ids have: a keyed permutation of all that the form can say, so that none comes twice."""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.codecs._numbers import is_number
from raysynth.draws import Draws, mix, word
from raysynth.errors import DataError
from raysynth.schema import Column


@dataclass(frozen=True)
class Identifier:
    """A column that is made anew: `alphabets`, one per character of a string, or none for an integer below `capacity`."""

    column: Column
    alphabets: tuple[str, ...]
    capacity: int

    def decode(self, draws: Draws, seed: int) -> pa.Array:
        """Row number → id, a keyed permutation of the capacity: unique. DataError beyond it."""
        name = self.column.name
        if len(draws) and int(draws.rows.max()) >= self.capacity:
            raise DataError(f"column '{name}': its ids can number {self.capacity:,} rows; make it a wider type or drop it")
        number = permute(draws.rows, self.capacity, word(seed, "id", name))
        if not self.alphabets:
            return pa.array(number.astype(np.int64)).cast(self.column.type)
        spare = draws.words(f"id.{name}")
        characters = np.zeros((len(draws), len(self.alphabets)), dtype=np.uint8)
        room = 1
        for place in reversed(range(len(self.alphabets))):
            alphabet = np.frombuffer(self.alphabets[place].encode("latin-1"), dtype=np.uint8)
            size = np.uint64(len(alphabet))
            if room < self.capacity:
                number, digit = np.divmod(number, size)
            else:  # the number is spent: what remains of a long id (a UUID) is noise
                spare = mix(spare)
                digit = (spare >> np.uint64(32)) % size
            room *= len(alphabet)
            characters[:, place] = alphabet[digit.astype(np.int64)]
        width = len(self.alphabets)
        offsets = pa.py_buffer((np.arange(len(draws) + 1, dtype=np.int64) * width).tobytes())
        text = pa.Array.from_buffers(pa.large_binary(), len(draws), [None, offsets, pa.py_buffer(characters.tobytes())])
        return text.cast(pa.large_string()).cast(self.column.type)


def permute(rows: NDArray[np.uint64], capacity: int, key: np.uint64) -> NDArray[np.uint64]:
    """A keyed bijection of 0 … capacity-1 (below 2^63): rounds that are invertible on so many bits, walked until inside."""
    bits = max((capacity - 1).bit_length(), 2)
    mask, half = np.uint64((1 << bits) - 1), np.uint64(bits // 2 + 1 if bits < 4 else bits // 2)
    numbers = rows.copy()
    todo = np.arange(len(rows))
    while len(todo):
        walk = numbers[todo]
        for turn in range(4):
            step = mix(np.array([key + np.uint64(turn)], dtype=np.uint64))[0]
            walk = ((walk ^ (step & mask)) * (step | np.uint64(1))) & mask
            walk ^= walk >> half
        numbers[todo] = walk
        todo = todo[walk >= np.uint64(capacity)]
    return numbers


_CLASSES = ("0123456789", "0123456789abcdef", "0123456789ABCDEF", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789abcdefghijklmnopqrstuvwxyz",
            "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")  # fmt: skip


def identifier_of(column: Column, sample: pa.Array) -> Identifier:
    if is_number(column.type):
        bits = min((pa.types.is_integer(column.type) and column.type.bit_width - 1) or 40, 53)
        return Identifier(column, (), 1 << bits)
    texts = [str(value) for value in sample.drop_null().cast(pa.string()).slice(0, 1000).to_pylist() if str(value).isascii()]
    places = [set(place) for place in zip(*texts, strict=True)] if len({len(text) for text in texts}) == 1 else []
    alphabets = [_alphabet(place) for place in places] or list("id-")
    capacity = math.prod(len(alphabet) for alphabet in alphabets)
    start = next((i for i, alphabet in enumerate(alphabets) if len(alphabet) > 1), len(alphabets))
    while capacity < 1 << 40:  # three digits cannot number a million rows: the id grows longer
        alphabets.insert(start, "0123456789")
        capacity *= 10
    return Identifier(column, tuple(alphabets), min(capacity, 1 << 62))


def _alphabet(characters: set[str]) -> str:
    if len(characters) == 1:
        return next(iter(characters))
    return next((known for known in _CLASSES if characters <= set(known)), "".join(sorted(characters | set(_CLASSES[0]))))
