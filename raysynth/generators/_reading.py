"""The fields before a field → numbers that its trees can cut: values in order, codes sorted by what they say of it, and sums of all that.

Shapes: N rows, F fields, S codes of a field, D directions in which the target is told, V numbers that are read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from raysynth.layout import Array, Arrays, Field

MOST_FIELDS = 48  # that are read: those that tell most
TOLD_ROWS = 4_000  # that say which those are
DIRECTIONS = 2  # of a target of more than two unordered codes
DOUBT = 10.0  # rows' worth of the mean in what a code says
RIDGE = 1e-3  # of the mean variance of what is said
CUTS = 128  # of a sum: all that the trees can tell apart


@dataclass(frozen=True)
class Reading:
    """`sources`, `lengths` and `numbers` (L,): of each look-up the field, how many codes it has, and which number it adds to; `tables`: what
    it adds for each of them, one table behind the other. `told` (sums, all codes): what each code adds to each sum; `edges` (sums,
    CUTS - 1): where a sum is cut."""

    sources: NDArray[np.int32]
    lengths: NDArray[np.int32]
    numbers: NDArray[np.int32]
    tables: NDArray[np.float32]
    told: NDArray[np.float32]
    edges: NDArray[np.float32]

    def read(self, codes_FN: Array) -> NDArray[np.float32]:
        """(F, N) codes → (V, N): the numbers, then the sums."""
        count = int(self.numbers.max(initial=-1)) + 1
        read_VN = np.zeros((count + len(self.edges), codes_FN.shape[1]), np.float32)
        first = 0
        sums_VN = read_VN[count:]
        for source, length, number in zip(self.sources.tolist(), self.lengths.tolist(), self.numbers.tolist(), strict=True):
            codes_N, table = codes_FN[source], slice(first, first + length)
            read_VN[number] += self.tables[table][codes_N]
            for total_N, told in zip(sums_VN, self.told[:, table], strict=True):
                if told.any():
                    total_N += told[codes_N]
            first += length
        for total_N, edges in zip(sums_VN, self.edges, strict=True):
            total_N[:] = np.searchsorted(edges, total_N)
        return read_VN

    def state(self, name: str) -> Arrays:
        return {f"{name}.{key}": array for key, array in vars(self).items()}

    @classmethod
    def of(cls, arrays: Arrays, name: str) -> Self:
        return cls(*(arrays[f"{name}.{key}"] for key in ("sources", "lengths", "numbers", "tables", "told", "edges")))


def reading_of(fields: Sequence[Field], before: Sequence[int], target: int, codes_NF: NDArray[np.int32]) -> Reading:
    """What the trees of the field `target` read of those before it."""
    scores_SD = _scores(fields, before, target, codes_NF)
    scores_ND = scores_SD[codes_NF[:, target]]
    spread_D = scores_ND.var(axis=0).clip(min=1e-12)
    some = slice(None, None, max(1, len(codes_NF) // TOLD_ROWS))
    told = {source: _means(codes_NF[some, source], fields[source].size, scores_ND[some]) for source in before}
    shares = [float((told[source][codes_NF[some, source]].var(axis=0) / spread_D).sum()) for source in before]
    chosen = [before[at] for at in sorted(np.argsort(-np.array(shares), kind="stable")[:MOST_FIELDS].tolist())]
    means = {source: _means(codes_NF[:, source], fields[source].size, scores_ND) for source in chosen}
    lookups: list[_Lookup] = []
    for source in chosen:
        ranks, number = fields[source].ranks, lookups[-1].number + 1 if lookups else 0
        if ranks is not None:
            lookups.append(_Lookup(source, number, np.array(ranks, np.float32)))
            lookups += [_Lookup(inner, number, _inside(fields[inner])) for inner in _digits_of(fields, before, source)]
        else:
            lookups += [_Lookup(source, number + d, _ranked(means[source][:, d])) for d in range(scores_ND.shape[1])]
    told, edges = _sums(fields, lookups, means, codes_NF, scores_ND)
    sources, lengths, numbers = (
        (
            np.array(values, np.int32)
            for values in zip(*((lookup.source, len(lookup.table), lookup.number) for lookup in lookups), strict=True)
        )
        if lookups
        else (np.zeros(0, np.int32),) * 3
    )
    tables = np.concatenate([np.zeros(0, np.float32), *(lookup.table for lookup in lookups)])
    return Reading(sources, lengths, numbers, tables, told, edges)


@dataclass(frozen=True)
class _Lookup:
    source: int
    number: int
    table: NDArray[np.float32]


def _digits_of(fields: Sequence[Field], before: Sequence[int], source: int) -> list[int]:
    """The field of the digit inside a code of `source`, where it is known."""
    following = source + 1
    same = following < len(fields) and fields[following].column == fields[source].column
    return [following] if same and following in before else []


def _inside(field: Field) -> NDArray[np.float32]:
    """Parts of a step from one rank to the next."""
    return (np.array(field.ranks or range(field.size), np.float32) / field.size).astype(np.float32)


def _scores(fields: Sequence[Field], before: Sequence[int], target: int, codes_NF: NDArray[np.int32]) -> NDArray[np.float64]:
    """(S, D): where the target's codes lie: in their order; or in the directions in which other fields tell most of them apart, as
    correspondence analysis has it (Benzécri, 1973)."""
    field = fields[target]
    if field.ranks is not None:
        return _standard(normal_place(codes_NF[:, target], field)[:, None])
    if field.size <= 2:
        return _standard(np.arange(field.size, dtype=np.float64)[:, None])
    some = slice(None, None, max(1, len(codes_NF) // TOLD_ROWS))
    count_S = np.bincount(codes_NF[some, target], minlength=field.size).astype(np.float64)
    share_S = (count_S + 1) / (count_S.sum() + field.size)
    apart_SS = np.zeros((field.size, field.size))
    for source in before:
        size = fields[source].size
        pairs = np.bincount(
            codes_NF[some, source].astype(np.int64) * field.size + codes_NF[some, target], minlength=size * field.size
        )
        pairs_SS = pairs.reshape(size, field.size).astype(np.float64)
        rows_S1 = pairs_SS.sum(1, keepdims=True)
        told = (pairs_SS - rows_S1 * share_S) / np.sqrt((rows_S1 + DOUBT) * share_S)
        apart_SS += told.T @ told
    _, vectors = np.linalg.eigh(apart_SS)
    found = vectors[:, ::-1][:, :DIRECTIONS] / np.sqrt(share_S)[:, None]
    signs = np.sign(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])])
    return _standard(found * np.where(signs == 0, 1, signs))


def _standard(scores_SD: NDArray[np.float64]) -> NDArray[np.float64]:
    return (scores_SD - scores_SD.mean(axis=0)) / np.maximum(scores_SD.std(axis=0), 1e-9)


def _means(codes_N: Array, size: int, scores_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, D): the mean score of the rows of each code, drawn towards that of all."""
    count_S = np.bincount(codes_N, minlength=size).astype(np.float64)
    mean_D = scores_ND.mean(axis=0)
    total_SD = np.stack([np.bincount(codes_N, weights=scores, minlength=size) for scores in scores_ND.T], axis=1)
    return (total_SD + DOUBT * mean_D) / (count_S + DOUBT)[:, None]


def _ranked(means_S: NDArray[np.float64]) -> NDArray[np.float32]:
    place = np.empty(len(means_S), np.float32)
    place[np.argsort(means_S, kind="stable")] = np.arange(len(means_S), dtype=np.float32)
    return place


def _sums(
    fields: Sequence[Field],
    lookups: Sequence[_Lookup],
    means: Mapping[int, NDArray[np.float64]],
    codes_NF: NDArray[np.int32],
    scores_ND: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What each code adds to the sum of each direction, and where the sums are cut: a ridge regression of the score on what each field says
    of it alone and, of values with an order, on where they lie: what two of them say together, a ratio say, neither says alone. None
    with fewer than two fields: there is nothing to sum."""
    firsts = np.cumsum([0, *(len(lookup.table) for lookup in lookups)]).tolist()
    place = {lookup.source: first for lookup, first in zip(reversed(lookups), reversed(firsts[:-1]), strict=True)}
    if len(means) < 2:
        return np.zeros((0, firsts[-1]), np.float32), np.zeros((0, CUTS - 1), np.float32)
    told_DV = np.zeros((scores_ND.shape[1], firsts[-1]), np.float32)
    edges_D = np.zeros((scores_ND.shape[1], CUTS - 1), np.float32)
    order = [source for source in dict.fromkeys(lookup.source for lookup in lookups) if source in means]
    places = {source: normal_place(codes_NF[:, source], fields[source]) for source in order if fields[source].ranks is not None}
    for d, scores_N in enumerate(scores_ND.T):
        tables = [(source, means[source][:, d]) for source in order] + list(places.items())
        said_NV = np.stack([table[codes_NF[:, source]] for source, table in tables], axis=1)
        apart_NV = said_NV - said_NV.mean(axis=0)
        apart_NV /= np.maximum(apart_NV.std(axis=0), 1e-9)
        gram_VV = apart_NV.T @ apart_NV / len(apart_NV)
        weight_V = np.linalg.solve(
            gram_VV + RIDGE * np.eye(len(gram_VV)), apart_NV.T @ (scores_N - scores_N.mean()) / len(apart_NV)
        )
        for (source, table), weight, spread in zip(tables, weight_V, said_NV.std(axis=0), strict=True):
            told_DV[d, place[source] : place[source] + len(table)] += (weight / max(spread, 1e-9) * table).astype(np.float32)
        total_N = np.zeros(len(codes_NF), np.float32)
        for source in order:  # as they will be read
            total_N += told_DV[d, place[source] : place[source] + fields[source].size][codes_NF[:, source]]
        edges_D[d] = np.quantile(total_N, np.arange(1, CUTS) / CUTS)
    return told_DV, edges_D


def normal_place(codes_N: Array, field: Field) -> NDArray[np.float64]:
    """(S,) where the middle of each code's rows would lie, were they all normal: long tails become short."""
    from scipy.special import ndtri

    ranks = np.array(field.ranks)
    count_S = np.bincount(codes_N, minlength=field.size)[np.argsort(ranks, kind="stable")]
    middle = (np.cumsum(count_S) - count_S / 2 + 0.5) / (count_S.sum() + 1)
    return ndtri(middle)[ranks]
