"""Texts of all shards → the rows to leave out, so that of rows with nearly the same text the lowest row id stays.

MinHash signatures (Broder, SEQUENCES 1997) estimate the Jaccard index of two texts' shingles: three words, or five characters where the
text is Chinese. Rows that agree in a whole band of their signatures are compared (locality-sensitive hashing: Leskovec, Rajaraman, Ullman,
"Mining of Massive Datasets", section 3.4), whatever shards they lie in. Two shuffles: the first carries eight bytes a band and row and finds
the bands that more than one row has, the second carries signatures, of those rows alone. Results depend on no order and no cut.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.draws import Words, mix, word
from raysynth.errors import MissingExtraError
from raysynth.schema import ROW, TURNS
from raysynth.turns import contents
from raysynth.words import language, ngrams, words

PERMUTATIONS = 128
WORDS, CHARACTERS = 3, 5
FOUND = 0.99
"""Pairs at the threshold that share a band, at least: the wider the bands, the fewer pairs are compared in vain."""

MOST_COMPARED = 500
"""Rows of one band that each of its rows is compared with, in the order of the rows; copies of one signature count as one."""

_SEED = 20_260_101
_CHUNK_ROWS = 4096
_COMPARED_AT_ONCE = 65_536
_PAIRS_KEPT = 4_000_000
_ROW_BITS = 40
_BAND_ROWS_A_BUCKET = 4_000_000
_MOST_BUCKETS = 1024
_SEPARATOR = "\x1f"
_KEYS = pa.schema([("key", pa.uint64()), ("part", pa.int32()), ("row", pa.int64())])
_SIGNED = pa.schema([*_KEYS, pa.field("signature", pa.binary(PERMUTATIONS))])
PAIRS = pa.schema([("part", pa.int32()), ("row", pa.int64()), ("other_part", pa.int32()), ("other_row", pa.int64())])


@dataclass(frozen=True)
class Bands:
    """How a signature is cut: `count` bands of `width` values. Two rows share one with probability 1 - (1 - J^width)^count."""

    threshold: float
    count: int
    width: int

    @staticmethod
    def of(threshold: float) -> "Bands":
        for width in range(PERMUTATIONS, 0, -1):
            count = PERMUTATIONS // width
            if 1 - (1 - threshold**width) ** count >= FOUND:
                return Bands(threshold, count, width)
        return Bands(threshold, PERMUTATIONS, 1)

    def buckets(self, rows: int) -> int:
        """Of the shuffles for so many rows: none is too big for a worker."""
        return min(_MOST_BUCKETS, max(1, -(-rows * self.count // _BAND_ROWS_A_BUCKET)))


def check_rensa() -> None:
    """MissingExtraError where the package that signs is not installed."""
    if find_spec("rensa") is None:
        raise MissingExtraError("prepare.text.near_duplicates: needs the package 'rensa'. Install it: pip install 'raysynth[text]'")


def cut_keys(bands: Bands, buckets: int, part: int, rows: pa.Table, columns: Sequence[str]) -> list[pa.Table]:
    """First shuffle, one shard: a table (key, part, row) for each bucket, by the keys of its rows' bands."""
    found = [(at, _band_keys(bands, signed)) for at, signed in _signatures(rows, columns)]
    numbers = np.asarray(rows.column(ROW), dtype=np.int64)
    at = np.concatenate([np.zeros(0, np.int64), *(at for at, _ in found)])
    keys = np.concatenate([np.zeros((0, bands.count), np.uint64), *(keys for _, keys in found)])
    table = _table(_KEYS, keys.ravel(), np.full(keys.size, part, np.int32), np.repeat(numbers[at], bands.count))
    return _by_bucket(table, buckets)


def shared_keys(_bucket: int, tables: list[pa.Table]) -> pa.Table:
    """First shuffle, one bucket: of its rows those whose key another row has too."""
    table = pa.concat_tables(tables)
    _, inverse, counts = np.unique(table["key"].to_numpy(), return_inverse=True, return_counts=True)
    return table.filter(pa.array(counts[inverse] > 1))


def candidates(shared: Iterable[pa.Table]) -> dict[int, pa.Table]:
    """Part → its rows of all buckets (key, row), for the second shuffle."""
    table = pa.concat_tables([_KEYS.empty_table(), *shared])
    return {part: table.take(at).select(["key", "row"]) for part, at in _by_part(table["part"].to_numpy())}


def cut_signatures(
    bands: Bands, buckets: int, part: int, rows: pa.Table, columns: Sequence[str], shared: pa.Table
) -> list[pa.Table]:
    """Second shuffle, one shard: (key, part, row, signature) for each bucket, of the keys that other rows have too."""
    keys, numbers = shared["key"].to_numpy(), shared["row"].to_numpy()
    rows = rows.filter(pa.array(np.isin(np.asarray(rows.column(ROW), dtype=np.int64), numbers)))
    found = list(_signatures(rows, columns))
    kept = np.asarray(rows.column(ROW), dtype=np.int64)[np.concatenate([np.zeros(0, np.int64), *(at for at, _ in found)])]
    signed = np.concatenate([np.zeros((0, PERMUTATIONS), np.uint32), *(signed for _, signed in found)])
    order = np.argsort(kept)
    short = _short(signed[order])[np.searchsorted(kept[order], numbers)]
    signatures = pa.FixedSizeBinaryArray.from_buffers(pa.binary(PERMUTATIONS), len(keys), [None, pa.py_buffer(short.tobytes())])
    table = _table(_SIGNED, keys, np.full(len(keys), part, np.int32), numbers, signatures)
    return _by_bucket(table, buckets)


def similar_pairs(bands: Bands, _bucket: int, tables: list[pa.Table]) -> pa.Table:
    """Second shuffle, one bucket: PAIRS of rows with the threshold's similarity, as many as join what belongs together."""
    table = pa.concat_tables(tables)
    part, row, key = table["part"].to_numpy(), table["row"].to_numpy(), table["key"].to_numpy()
    signed = _bytes(table["signature"])
    hashed = _hashed(signed)
    order = np.lexsort((row, part, hashed, key))
    copies = np.flatnonzero((np.diff(key[order]) == 0) & (np.diff(hashed[order]) == 0))  # the next one has the same signature
    pairs = _Pairs(part, row)
    pairs.add(order[copies], order[copies + 1])
    firsts = np.delete(order, copies + 1)
    firsts = firsts[np.lexsort((row[firsts], part[firsts], key[firsts]))]
    keys, near = key[firsts], np.arange(len(firsts))
    for distance in range(1, MOST_COMPARED + 1):
        near = near[near < len(firsts) - distance]
        near = near[keys[near] == keys[near + distance]]
        if not len(near):
            break
        for start in range(0, len(near), _COMPARED_AT_ONCE):
            a = firsts[near[start : start + _COMPARED_AT_ONCE]]
            b = firsts[near[start : start + _COMPARED_AT_ONCE] + distance]
            alike = _similarity(signed, a, b) >= bands.threshold
            pairs.add(a[alike], b[alike])
    a, b = pairs.forest()
    return _table(PAIRS, part[a], row[a], part[b], row[b])


def surplus(pairs: Iterable[pa.Table]) -> dict[int, NDArray[np.int64]]:
    """All pairs → part → the rows to leave out: of rows that pairs join, directly or through others, the lowest stays."""
    table = pa.concat_tables([PAIRS.empty_table(), *pairs])
    part = np.concatenate([table["part"].to_numpy(), table["other_part"].to_numpy()])
    row = np.concatenate([table["row"].to_numpy(), table["other_row"].to_numpy()])
    if not len(part):
        return {}
    half = table.num_rows
    _, others = _forest(part, row, np.arange(half), np.arange(half, 2 * half))
    return {number: np.sort(row[others[at]]) for number, at in _by_part(part[others])}


class _Pairs:
    """Pairs of rows, by their positions, of which no more are kept than join the same rows."""

    def __init__(self, part: NDArray[np.int32], row: NDArray[np.int64]) -> None:
        self.part, self.row = part, row
        self._left, self._right = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        self._since = 0

    def add(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        self._left.append(left)
        self._right.append(right)
        self._since += len(left)
        if self._since > _PAIRS_KEPT:
            self._since = 0
            left, right = self.forest()
            self._left, self._right = [left], [right]

    def forest(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return _forest(self.part, self.row, np.concatenate(self._left), np.concatenate(self._right))


def _signatures(rows: pa.Table, columns: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint32]]]:
    """Some rows at a time: the positions of those with a word in them, and their signatures (rows, PERMUTATIONS)."""
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]

    sign: Any = cast("Any", RMinHash).digest_matrix_from_token_sets
    for start in range(0, rows.num_rows, _CHUNK_ROWS):
        some = rows.slice(start, _CHUNK_ROWS)
        shingled = [list[str]() for _ in range(some.num_rows)]
        for place, name in enumerate(columns):
            prefix = f"{place}{_SEPARATOR}" if place else ""
            for row, text in _texts(some.column(name)):
                shingled[row] += shingles_of(text, prefix)
        at = np.flatnonzero([bool(shingles) for shingles in shingled])
        if len(at):
            signed = sign([shingles for shingles in shingled if shingles], PERMUTATIONS, _SEED).to_rows()
            yield start + at, np.array(signed, np.uint32)


def _texts(column: pa.ChunkedArray) -> Iterator[tuple[int, str]]:
    """The column's texts, nulls left out, each with its row; of turns what is said in each of them."""
    values = column.combine_chunks()
    if values.type == TURNS:
        texts, rows = contents(values)
        yield from zip(rows.tolist(), map(str, texts.to_pylist()), strict=True)
    else:
        yield from ((row, str(text)) for row, text in enumerate(values.to_pylist()) if text is not None)


def shingles_of(text: str, prefix: str = "") -> list[str]:
    """Runs of three words, or in Chinese of five characters; of a shorter text all of it; of one without words nothing."""
    found = words(text)
    size = CHARACTERS if not text.isascii() and language(text) == "zh" else WORDS
    if len(found) <= size:
        return [prefix + _SEPARATOR.join(found)] if found else []
    return [prefix + _SEPARATOR.join(run) for run in ngrams(found, size)]


def _band_keys(bands: Bands, signed: NDArray[np.uint32]) -> Words:
    """(rows, bands) 64-bit hashes of the band's number and its values."""
    parts = signed[:, : bands.count * bands.width].astype(np.uint64).reshape(len(signed), bands.count, bands.width)
    keys = np.tile(np.array([word("band", number) for number in range(bands.count)], np.uint64), (len(signed), 1))
    for place in range(bands.width):
        keys = mix(keys + parts[:, :, place])
    return keys


def _short(signed: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Eight bits of each value: two that differ have the same ones in 1 of 256 (b-bit MinHash: Li and König, WWW 2010)."""
    return (mix(signed.astype(np.uint64)) >> np.uint64(56)).astype(np.uint8)


def _similarity(signed: NDArray[np.uint8], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    """The estimated Jaccard index of rows `a` and `b`."""
    share = np.count_nonzero(signed[a] == signed[b], axis=1) / PERMUTATIONS
    return (share - 2.0**-8) / (1 - 2.0**-8)


def _hashed(signed: NDArray[np.uint8]) -> Words:
    """(rows, PERMUTATIONS) → one hash each."""
    total = np.zeros(len(signed), np.uint64)
    for values in signed.view(np.uint64).T:
        total = mix(total + values + np.uint64(1))
    return total


def _bytes(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Binary values of one length → (rows, length)."""
    array = column.combine_chunks()
    data: Any = array.buffers()[1]
    start = array.offset * PERMUTATIONS
    return np.frombuffer(data, np.uint8)[start : start + len(array) * PERMUTATIONS].reshape(-1, PERMUTATIONS)


def _table(schema: pa.Schema, *columns: Any) -> pa.Table:
    return pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)


def _by_bucket(table: pa.Table, buckets: int) -> list[pa.Table]:
    bucket = (table["key"].to_numpy() >> np.uint64(32)) % np.uint64(buckets)
    return [table.filter(pa.array(bucket == number)) for number in range(buckets)]


def _by_part(part: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each part with the positions that name it."""
    order = np.argsort(part, kind="stable")
    numbers, starts = np.unique(part[order], return_index=True)
    yield from zip(numbers.tolist(), np.split(order, starts)[1:], strict=True)


def _forest(
    part: NDArray[np.int32], row: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of positions → as few pairs that join the same rows: each row that is not the lowest of its cluster with the lowest."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    places = np.concatenate([a, b])
    ids = (part[places].astype(np.int64) << _ROW_BITS) | row[places]  # in the order of row ids
    rows, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    count = len(rows)
    if not count:
        return a, b
    graph = coo_array((np.ones(len(a)), (inverse[: len(a)], inverse[len(a) :])), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    _, lowest = np.unique(label, return_index=True)  # the first of a label is its lowest row id
    others = np.setdiff1d(np.arange(count), lowest)
    return places[first[lowest[label[others]]]], places[first[others]]
