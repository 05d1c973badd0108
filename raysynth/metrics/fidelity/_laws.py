"""Two sets of points → how far the laws apart are that they come from."""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]


def frechet(one: Points, two: Points) -> float:
    """|m − n|² + tr(A + B − 2 (A B)^½) of means m, n and covariances A, B: the squared Fréchet distance between two normal laws."""
    (m, a), (n, b) = (
        (points.mean(axis=0, dtype=np.float64), np.cov(points.astype(np.float64), rowvar=False)) for points in (one, two)
    )
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    together = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    return max(0.0, float(np.square(m - n).sum() + np.trace(a) + np.trace(b) - 2 * together))


def kernel_distance(one: Points, two: Points) -> float:
    """The squared maximum mean discrepancy by the kernel (x·y + 1)³ of points of length 1, without bias: of equal laws it is 0 on average,
    and may be a hair below (as KID, Bińkowski et al., ICLR 2018, whose points have a length of about the root of their dimensions)."""
    a, b = one.astype(np.float64), two.astype(np.float64)
    inside = [(_kernel(side, side).sum() - _diagonal(side).sum()) / (len(side) * (len(side) - 1)) for side in (a, b)]
    return float(inside[0] + inside[1] - 2 * _kernel(a, b).mean())


def _kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return (a @ b.T + 1) ** 3


def _diagonal(a: NDArray[np.float64]) -> NDArray[np.float64]:
    return (np.einsum("ij,ij->i", a, a) + 1) ** 3
