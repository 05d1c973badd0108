"""Two sets of points → MAUVE (Pillutla et al., NeurIPS 2021, arXiv 2102.01454): how far one law must be bent to be taken for the other.

Both sets are sorted into the same clusters (k-means of all points, as many clusters as a tenth of the smaller set); P and Q are the shares
of each set in them. For the mixtures R = λP + (1 − λ)Q the curve of (exp(−c·KL(Q|R)), exp(−c·KL(P|R))), c = 5, runs from (1, 0) to
(0, 1): the area under it is 1 for equal laws and near 0 for laws with nothing in common. Constants are the paper's.
"""

import numpy as np
from numpy.typing import NDArray

from raysynth.draws import Draws

SCALE = 5.0  # c
MIXTURES = 25
POINTS_A_CLUSTER = 10
KEPT_VARIANCE = 0.9  # of the points, by their main axes; what the others say is noise to the clusters
ROUNDS = 40

Points = NDArray[np.float64]


def mauve(real: NDArray[np.float32], other: NDArray[np.float32], seed: int) -> float:
    """Of two sets of some ten points at least. It does not know which is which."""
    points = _main_axes(np.concatenate([real, other]).astype(np.float64))
    clusters = max(2, round(min(len(real), len(other)) / POINTS_A_CLUSTER))
    places = _clustered(points, clusters, seed)
    p, q = (np.bincount(some, minlength=clusters) / len(some) for some in np.split(places, [len(real)]))
    return round(_area(p, q), 6)


def _area(p: Points, q: Points) -> float:
    """The mean of the areas as seen from either axis, by trapezia."""
    mixed = [weight * p + (1 - weight) * q for weight in np.linspace(1e-6, 1 - 1e-6, MIXTURES)]
    curve = np.array([(1.0, 0.0), *((np.exp(-SCALE * _kl(q, r)), np.exp(-SCALE * _kl(p, r))) for r in mixed), (0.0, 1.0)])
    return float(np.mean([_under(curve[:, 0], curve[:, 1]), _under(curve[:, 1], curve[:, 0])]))


def _under(x: Points, y: Points) -> float:
    order = np.argsort(x, kind="stable")
    return float(np.trapezoid(y[order], x[order]))


def _kl(p: Points, r: Points) -> float:
    """Σ p ln(p / r), in nats; r is above 0 wherever p is."""
    there = p > 0
    return max(0.0, float((p[there] * np.log(p[there] / r[there])).sum()))


def _main_axes(points: Points) -> Points:
    centred = points - points.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    shares = np.cumsum(values[::-1]) / max(float(values.sum()), 1e-12)
    return centred @ axes[:, ::-1][:, : int(np.searchsorted(shares, KEPT_VARIANCE)) + 1]


def _clustered(points: Points, clusters: int, seed: int) -> NDArray[np.int64]:
    """(points,) the cluster of each, by Lloyd's rounds; a cluster that loses all its points stays where it is."""
    centres = _first_centres(points, clusters, Draws.range(seed, "mauve", 0, 1).uniform("centre", clusters)[0])
    places = np.full(len(points), -1)
    for _ in range(ROUNDS):
        nearest = _squared(points, centres).argmin(axis=1)
        if np.array_equal(nearest, places):
            break
        places = nearest
        counts = np.bincount(places, minlength=clusters)
        sums = np.zeros_like(centres)
        np.add.at(sums, places, points)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    return places


def _first_centres(points: Points, clusters: int, chosen: Points) -> Points:
    """k-means++ (Arthur and Vassilvitskii, SODA 2007): each next one is a point, the likelier the farther it is from those before."""
    found = [int(chosen[0] * len(points))]
    away = _squared(points, points[found])[:, 0]
    for share in chosen[1:]:
        far = np.cumsum(away)
        found.append(min(int(np.searchsorted(far, share * far[-1], side="right")), len(points) - 1))
        away = np.minimum(away, _squared(points, points[found[-1:]])[:, 0])
    return points[found]


def _squared(one: Points, two: Points) -> Points:
    """(len(one), len(two)) squared distances."""
    norms = np.square(one).sum(axis=1)[:, None] + np.square(two).sum(axis=1)[None, :]
    return np.maximum(norms - 2 * one @ two.T, 0)
