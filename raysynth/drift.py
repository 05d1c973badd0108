"""Profiles of single shards → the columns in which a shard differs from all of them together, in sentences."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from raysynth.column_profile import ColumnProfile, Counts
from raysynth.profile import Profile

LEAST_ROWS = 50  # of a shard, before anything is said of it
LEAST_DISTANCE = 0.1


@dataclass(frozen=True)
class Drift:
    """`distance` is 0 … 1: of Kolmogorov and Smirnov for numbers, the total variation for categories, a difference of shares for missing."""

    column: str
    shard: str
    measure: str
    distance: float

    def __str__(self) -> str:
        return f"column '{self.column}': shard '{self.shard}' differs from the whole ({self.measure} {self.distance:.2f})"


def drift(shards: Mapping[str, Profile], whole: Profile) -> list[Drift]:
    """The worst shard of each column that drifts by more than LEAST_DISTANCE and chance (the KS test's bound at 0.1 %), worst first."""
    worst: dict[str, Drift] = {}
    for label, profile in shards.items():
        if profile.rows < LEAST_ROWS or profile.rows == whole.rows:
            continue
        for name, column in whole.columns.items():
            for found in _drifts(name, label, profile, column, whole):
                if name not in worst or found.distance > worst[name].distance:
                    worst[name] = found
    return sorted(worst.values(), key=lambda found: (-found.distance, found.column))


def _drifts(name: str, label: str, profile: Profile, column: ColumnProfile, whole: Profile) -> list[Drift]:
    seen = profile.columns.get(name)
    missing = 1.0 if seen is None else profile.missing(seen) / profile.rows
    measured = [("missing values", abs(missing - whole.missing(column) / whole.rows), profile.rows)]
    if seen is not None and min(seen.present, column.present) >= LEAST_ROWS:
        rows = min(seen.values.counts.sum(), column.values.counts.sum())
        if column.all("integer", "number") or (column.minimum is not None and seen.minimum is not None):
            measured.append(("Kolmogorov-Smirnov distance", _ks(seen.values, column.values), int(rows)))
        elif column.values.exact:
            measured.append(("total variation", _total_variation(seen.values, column.values), int(rows)))
    return [
        Drift(name, label, measure, distance)
        for measure, distance, rows in measured
        if distance > LEAST_DISTANCE + 1.95 * (2 / max(rows, 1)) ** 0.5
    ]


def _ks(left: Counts, right: Counts) -> float:
    sides = [_numbers(left), _numbers(right)]
    points = np.unique(np.concatenate([values for values, _ in sides]))
    if not len(points):
        return 0.0
    shares = [
        np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])[np.searchsorted(values, points, "right")]
        for values, counts in sides
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def _numbers(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Sorted values and their counts; what reads as no number is left out."""
    pairs = [(_number(text), int(count)) for text, count in zip(counts.texts, counts.counts.tolist(), strict=True)]
    kept = sorted(pair for pair in pairs if np.isfinite(pair[0]))
    return np.array([value for value, _ in kept]), np.array([count for _, count in kept])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _total_variation(left: Counts, right: Counts) -> float:
    shares = [
        {text: count / side.counts.sum() for text, count in zip(side.texts, side.counts.tolist(), strict=True)}
        for side in (left, right)
    ]
    return 0.5 * sum(abs(shares[0].get(text, 0.0) - shares[1].get(text, 0.0)) for text in {*shares[0], *shares[1]})
