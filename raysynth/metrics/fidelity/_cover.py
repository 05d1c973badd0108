"""Two sets of points → precision, recall, density and coverage: do the points lie where real ones lie, and everywhere?

A point is covered by another set if it lies within the distance from one of the set's points to its k-th neighbour there. precision: the
share of other points that real ones cover; recall: the other way round (Kynkäänniemi et al., NeurIPS 2019); density: how many real points
cover another one, over k; coverage: the share of real points that cover another one (Naeem et al., ICML 2020).
"""

import numpy as np
from numpy.typing import NDArray

K = 5
_BLOCK = 1000
_TIE = 1e-9


def cover(real: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """(precision, recall, density, coverage) of the other points; each set has more than K."""
    of_real, of_other = _radii(real), _radii(other)
    covers = np.zeros(len(other), np.int64)  # of each other point: how many real ones cover it
    covering, covered = np.zeros(len(real), np.bool_), np.zeros(len(real), np.bool_)
    for start in range(0, len(real), _BLOCK):
        block = slice(start, start + _BLOCK)
        between = _squared(real[block], other)
        within = between <= of_real[block, None]
        covers += within.sum(axis=0)
        covering[block] = within.any(axis=1)
        covered[block] = (between <= of_other[None, :]).any(axis=1)
    found = ((covers > 0).mean(), covered.mean(), covers.sum() / K / len(other), covering.mean())
    precision, recall, density, coverage = (round(float(value), 6) for value in found)
    return precision, recall, density, coverage


def _radii(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """(points,): the squared distance to the k-th neighbour, a hair more: where all columns are classes, ties are the rule."""
    blocks = (_squared(points[start : start + _BLOCK], points) for start in range(0, len(points), _BLOCK))
    return np.concatenate([np.partition(block, K, axis=1)[:, K] for block in blocks]) * (1 + _TIE) + _TIE


def _squared(one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.float64]:
    """(len(one), len(two)) squared distances."""
    a, b = one.astype(np.float64), two.astype(np.float64)
    norms = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)[None, :]
    return np.maximum(norms - 2 * a @ b.T, 0)
