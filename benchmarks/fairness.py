"""RAYSYNTH_DATA's adult → how far a target's rate differs between groups where both are dealt apart, and what rows still teach.

    RAYSYNTH_DATA=../shared/data python benchmarks/fairness.py

`trees` learn adult.train. Rows are drawn without a condition, and with `where: {income: {shares: as_is}, sex: {shares: as_is}}`: both
columns keep their rates, and neither tells of the other. The gap is the difference of the target's rate between groups, in points; TSTR the
AUC on adult.test of a model that learnt from the rows. Medians of three seeds; writes its table into docs/benchmarks.md.
"""

import numpy as np
import pandas as pd
import torch
from quality import TARGETS, encoded_rows, features, levels_of, tables, utility, write_into_docs

from raysynth.generators.trees import Trees
from raysynth.models import Model
from raysynth.sampler import Sampler

TABLE, GROUP = "adult", "sex"
SEEDS = (1, 2, 3)
HEAD = ["| rows | gap, points | TSTR |", "| --- | --- | --- |"]


def gap(rows: pd.DataFrame, target: str) -> float:
    """Between the largest and the smallest rate of the target's last level, in points."""
    rates = (rows[target].cat.codes == len(rows[target].cat.categories) - 1).groupby(rows[GROUP], observed=True).mean()
    return 100 * float(rates.max() - rates.min())


def learn(seed: int) -> Model:
    codec, layout, batches, _ = encoded_rows(tables(TABLE)[0], seed)
    trees = Trees(layout)
    trees.merge([trees.fit(task, [batches]) for task in trees.tasks()])
    return Model(codec.schema, {}, codec, trees, "", {})


def main() -> None:
    torch.set_num_threads(1)
    train, test = tables(TABLE)
    target, levels = TARGETS[TABLE], levels_of(train)
    held = features(test, levels)
    wheres = {"drawn as learnt": {}, "income and sex dealt apart": {name: {"shares": "as_is"} for name in (target, GROUP)}}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in wheres}
    for seed in SEEDS:
        model = learn(seed)
        for name, where in wheres.items():
            rows = features(Sampler(model, seed=seed, where=where).range(0, train.num_rows), levels)
            found[name].append((gap(rows, target), utility(rows, held, target)))
            print(f"  seed {seed}, {name}: {found[name][-1]}", flush=True)
    real = features(train, levels)
    lines = [*HEAD, f"| real train rows | {gap(real, target):.1f} | {utility(real, held, target):.3f} |"]
    for name, scores in found.items():
        gaps, useful = np.median(scores, axis=0)
        lines.append(f"| {name} | {gaps:.1f} | {useful:.3f} |")
    print(*lines, sep="\n")
    write_into_docs("fairness", lines)


if __name__ == "__main__":
    main()
