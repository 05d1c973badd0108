"""Hold-out and synthetic rows as points → precision, recall, density and coverage: do the rows lie where real ones lie, and everywhere?

What the four mean is told in `_cover`. In the ceilings train rows stand where the synthetic ones do.
"""

from collections.abc import Mapping
from typing import Any

from raysynth.features import Points
from raysynth.metrics.base import Metric, Score, Seen, Side
from raysynth.metrics.fidelity._cover import K, cover

LEAST_ROWS = 30
MOST_ROWS = 5000


class Neighbours(Metric):
    """Of at most 5,000 rows of each side."""

    names = ("precision", "recall", "density", "coverage")

    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        from threadpoolctl import threadpool_limits

        no_rows = self.schema.arrow.empty_table()
        train, holdout, synthetic = (seen.samples.get(side, no_rows) for side in ("train", "holdout", "synthetic"))
        points = Points.settle([train], self.schema)
        rows = min(MOST_ROWS, holdout.num_rows, synthetic.num_rows)
        if rows < LEAST_ROWS or not len(points.schema):
            why = f"it takes {LEAST_ROWS} hold-out and synthetic rows, and a column to look at"
            return [Score(name, None, 0.0, 1.0, why=why) for name in self.names]
        held, few = points.of(holdout.slice(0, rows)), min(rows, train.num_rows)
        with threadpool_limits(1):  # sums of several threads differ in the last bits
            values = cover(held, points.of(synthetic.slice(0, rows)))
            ceilings = cover(held[:few], points.of(train.slice(0, few))) if few >= LEAST_ROWS else (None,) * 4
        facts = {"rows_of_each": rows, "k": K}
        return [
            Score(name, value, 0.0, 1.0, ceiling, facts=facts)
            for name, value, ceiling in zip(self.names, values, ceilings, strict=True)
        ]
