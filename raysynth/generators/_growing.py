"""Rows that are read and the codes of a field → one tree, grown on half of the rows and filled with all.

Shapes: N rows, S codes, V what is read, M nodes.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from raysynth.draws import Draws
from raysynth.layout import Array


@dataclass(frozen=True)
class Nodes:
    """Of trees that stand one behind the other. `reads` (M,): which of what is read a node asks, -1 in a leaf; `cuts` (M,): up to which it
    goes left; `left`, `right` and `above` (M,): the nodes beside it, a root is above itself; `start`, `stop` (M,): its rows in `codes`,
    which stand leaf by leaf."""

    reads: NDArray[np.int32]
    cuts: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    above: NDArray[np.int32]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    codes: Array

    @classmethod
    def joined(cls, trees: Sequence[Self], size: int) -> tuple[Self, NDArray[np.int32]]:
        """All of them, and where the root of each is. `size`: of the field whose codes they hold."""
        node = np.cumsum([0, *(len(tree.reads) for tree in trees)])[:-1]
        row = np.cumsum([0, *(len(tree.codes) for tree in trees)])[:-1]
        firsts = {"left": node, "right": node, "above": node, "start": row, "stop": row}
        none = np.zeros_like(node)
        whole = {
            name: np.concatenate([getattr(tree, name) + first for tree, first in zip(trees, firsts.get(name, none), strict=True)])
            for name in cls.__dataclass_fields__
        }
        types = {"reads": np.int32, "cuts": np.float32, "left": np.int32, "right": np.int32, "above": np.int32}
        types |= {"codes": np.min_scalar_type(max(0, size - 1))}
        return cls(**{name: array.astype(types.get(name, array.dtype)) for name, array in whole.items()}), node.astype(np.int32)


def halves(rows: int, trees: int, field: int) -> Iterator[NDArray[np.bool_]]:
    """(N,) which rows each tree grows on."""
    for tree in range(trees):
        yield Draws.range(field, f"tree-{tree}", 0, rows).words("half") < np.uint64(1 << 63)


def grown(
    read_VN: NDArray[np.float32],
    target_N: Array,
    aims_S: NDArray[np.float64] | None,
    half_N: NDArray[np.bool_],
    seed: int,
    *,
    leaf: int,
    share: float,
) -> Nodes:
    """`aims_S`: where the codes lie, if they have an order: then leaves are to hold codes that lie near one another, else equal ones.
    `half_N`: the rows that it grows on; see trees.Trees for `leaf` and `share`. The same tree every time."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # 0.5 s to import

    if not len(read_VN) or half_N.sum() < 2 * leaf:
        return _stump(target_N)
    x_NV = np.ascontiguousarray(read_VN.T)
    if aims_S is None:
        learner = DecisionTreeClassifier(criterion="entropy", min_samples_leaf=leaf, max_features=share, random_state=seed)
        with warnings.catch_warnings():  # that these may be no classes, but numbers: they are codes, however many
            warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning, "sklearn")
            learner.fit(x_NV[half_N], target_N[half_N])
    else:
        learner = DecisionTreeRegressor(min_samples_leaf=leaf, max_features=share, random_state=seed)
        learner.fit(x_NV[half_N], aims_S[target_N[half_N]])
    tree = learner.tree_
    left, right = tree.children_left.astype(np.int32), tree.children_right.astype(np.int32)
    leaf_N = tree.apply(x_NV)
    order_N = np.argsort(leaf_N, kind="stable")
    above, end = _walked(left, right)
    nodes = np.arange(len(left))
    return Nodes(
        np.where(left >= 0, tree.feature, -1).astype(np.int32),
        tree.threshold.astype(np.float32),
        np.maximum(left, 0),
        np.maximum(right, 0),
        above,
        np.searchsorted(leaf_N[order_N], nodes).astype(np.int64),
        np.searchsorted(leaf_N[order_N], end).astype(np.int64),
        target_N[order_N],
    )


def _stump(target_N: Array) -> Nodes:
    one, start = np.zeros(1, np.int32), np.zeros(1, np.int64)
    return Nodes(one - 1, one.astype(np.float32), one, one, one, start, start + len(target_N), target_N)


def _walked(left: NDArray[np.int32], right: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(M,) the node above each, and (M,) the first number behind those below each: nodes are numbered as a tree is walked, left side
    first, so that those below a node follow it."""
    above, end = np.zeros(len(left), np.int32), np.arange(1, len(left) + 1, dtype=np.int32)
    inner = np.flatnonzero(left >= 0)
    above[left[inner]] = above[right[inner]] = inner
    for node in inner[::-1]:
        end[node] = end[right[node]]
    return above, end
