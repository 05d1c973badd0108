"""Some rows and a candidate → how good, useful and safe rows are that it draws once it has learnt them: a short trial in one process."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import process_time
from typing import Any, cast

import numpy as np
import pyarrow as pa

from raysynth.cleaning import row_hash
from raysynth.generators.base import Fitted, Generator, Trained
from raysynth.layout import Batch
from raysynth.metrics.base import WORD, Metric, Seen, Side
from raysynth.metrics.fidelity.c2st import C2st
from raysynth.metrics.privacy.exact_copies import ExactCopies
from raysynth.metrics.privacy.nearest import Nearest
from raysynth.metrics.utility.downstream import Downstream
from raysynth.models import Model, codec_of, generator_of
from raysynth.sampler import Sampler
from raysynth.schema import Schema
from raysynth.training import fit, initialise

EPOCHS = 20  # of a network, at most: early stopping ends sooner
STOPPED = 5  # every so many-th train row says when it has learnt enough


@dataclass(frozen=True)
class Sample:
    """Rows to learn from and, of the same law, rows to judge by; both with their row ids and WORD, by which they are sorted. `target`: of a
    model that learns from what is drawn, with what tells it (`told_by`)."""

    schema: Schema
    derive: Mapping[str, str]
    codec: Mapping[str, Any]
    seed: int
    learnt: pa.Table
    held: pa.Table
    target: str | None
    told_by: frozenset[str]

    def of_rows(self, rows: int) -> "Sample":
        """A sample of the sample."""
        return replace(self, learnt=self.learnt.slice(0, rows), held=self.held.slice(0, rows))


def trial(sample: Sample, candidate: Mapping[str, Any]) -> dict[str, float | None]:
    """{c2st_auc, utility, nearer_to_train, exact_copies, holdout_copies, cpu_seconds}; None: it could not be had."""
    began = process_time()
    rows = sample.learnt.drop_columns([WORD])
    codec = codec_of(dict(sample.codec), sample.schema, sample.seed)
    codec.settle(codec.observe(rows))
    batch = codec.encode(rows)
    generator = _learnt(sample, lambda: generator_of(dict(candidate), codec), batch)
    model = Model(sample.schema, dict(sample.derive), codec, generator, "", {})
    made = Sampler(model, seed=sample.seed).range(0, rows.num_rows)
    spent = process_time() - began
    return {**_scores(sample, made), "cpu_seconds": round(spent, 2)}


def _learnt(sample: Sample, make: Any, batch: Batch) -> Generator:
    generator: Generator = make()
    if isinstance(generator, Fitted):
        generator.merge([generator.fit(task, [batch]) for task in generator.tasks()])
        return generator
    trained = initialise(lambda: cast("Trained", make()), sample.seed)
    stops = np.arange(batch.rows) % STOPPED == 0
    fit(trained, batch.take(np.flatnonzero(~stops)), batch.take(np.flatnonzero(stops)), seed=sample.seed, max_epochs=EPOCHS)
    return trained


def _scores(sample: Sample, made: pa.Table) -> dict[str, float | None]:
    names = sample.schema.names
    made = made.select(names).append_column(WORD, pa.array(np.arange(made.num_rows, dtype=np.uint64)))
    sides: dict[Side, pa.Table] = {
        "train": sample.learnt.select([*names, WORD]),
        "holdout": sample.held.select([*names, WORD]),
        "validation": sample.held.select([*names, WORD]),
        "synthetic": made,
    }
    contents = {side: np.unique(row_hash(sides[side], sample.schema)) for side in ("train", "holdout")}
    seen = Seen(sides, {side: rows.num_rows for side, rows in sides.items()}, cast("Any", contents))
    found: dict[str, float | None] = {}
    for kind in (C2st, Downstream, Nearest, ExactCopies):
        metric: Metric = kind(sample.schema, seed=sample.seed, target=sample.target, told_by=sample.told_by)
        metric.settle(seen)
        stats: dict[Side, Any] = {side: metric.observe(sides[side], side) for side in metric.sides}
        for score in metric.score(seen, stats):
            found[score.name] = score.value
            if score.name == "exact_copies":
                found["holdout_copies"] = score.ceiling
    return {
        "c2st_auc": found["c2st_auc"],
        "utility": found["utility_synthetic"],
        **{name: found[name] for name in ("nearer_to_train", "exact_copies", "holdout_copies")},
    }
