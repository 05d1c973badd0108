"""RAYSYNTH_DATA's adult with a fifth of its cells hidden → how well they are filled in, beside scikit-learn's IterativeImputer.

    RAYSYNTH_DATA=../shared/data python benchmarks/imputation.py

Of adult.train every fifth cell is hidden by chance. `autoregressive` learns from what is left, and tabular.impute fills it in;
IterativeImputer (as it comes, categories as numbers, what it says rounded to the nearest one there is) does too, once by its means and once
drawing from its posterior. Accuracy: of the hidden cells of a column, how often the very value is found, and of a number one within a tenth
of the column's spread; the mean over the columns. C2ST: the AUC of a detector of the filled rows against adult.test. Writes its table into
docs/benchmarks.md.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from quality import SEED, detector_auc, features, learn, levels_of, schema_of, tables, write_into_docs
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # pyright: ignore[reportUnusedImport]
from sklearn.impute import IterativeImputer

from raysynth.draws import Draws
from raysynth.ops.tabular.impute import Impute

TABLE, HIDDEN, EPOCHS = "adult", 0.2, 50
NEAR = 0.1  # of a column's standard deviation
HEAD = [
    "| filled in by | accuracy | categories | numbers | C2ST (fresh real rows) | CPU-s |",
    "| --- | --- | --- | --- | --- | --- |",
]
Holes = NDArray[np.bool_]
"""(rows, columns)"""


def with_holes(rows: pa.Table, holes: Holes) -> pa.Table:
    columns = [_hidden(rows.column(name), holes[:, at]) for at, name in enumerate(rows.column_names)]
    return pa.table(columns, names=rows.column_names)


def _hidden(column: pa.ChunkedArray, gone: NDArray[np.bool_]) -> pa.Array:
    kept = [None if hide else value for value, hide in zip(column.to_pylist(), gone.tolist(), strict=True)]
    return pa.array(kept, column.type)


def by_raysynth(rows: pa.Table, levels: dict[str, list[Any]]) -> pd.DataFrame:
    model, _ = learn(rows, EPOCHS, {}, {})
    op = Impute(schema_of(rows), model="the one at hand")
    op.lend(model)
    return features(op(rows, Draws.range(SEED, "augment-0-0", 0, rows.num_rows)), levels)


def by_iterative(*, drawn: bool) -> Callable[[pa.Table, dict[str, list[Any]]], pd.DataFrame]:
    def fill(rows: pa.Table, levels: dict[str, list[Any]]) -> pd.DataFrame:
        frame = features(rows, levels)
        numbers = pd.DataFrame({name: _as_number(frame[name]) for name in frame})
        found = IterativeImputer(random_state=SEED, sample_posterior=drawn).fit_transform(numbers)
        made = pd.DataFrame(found, columns=frame.columns)
        for name in frame:
            if name in levels:
                codes = np.clip(np.round(made[name]), 0, len(levels[name]) - 1).astype(int)
                made[name] = pd.Categorical.from_codes(codes, categories=levels[name])
            else:
                known = np.sort(frame[name].dropna().unique())
                after = np.clip(np.searchsorted(known, made[name]), 1, len(known) - 1)
                low, high = known[after - 1], known[after]
                made[name] = np.where(made[name] - low < high - made[name], low, high)
        return made

    return fill


def _as_number(column: pd.Series) -> pd.Series:
    return column.cat.codes.where(column.notna()) if isinstance(column.dtype, pd.CategoricalDtype) else column


def accuracies(made: pd.DataFrame, whole: pd.DataFrame, holes: Holes, levels: dict[str, list[Any]]) -> dict[str, float]:
    """Column → the share of its hidden cells that are right."""
    found: dict[str, float] = {}
    for at, name in enumerate(whole.columns):
        gone = holes[:, at] & whole[name].notna().to_numpy()
        one, two = made[name][gone], whole[name][gone]
        if name in levels:
            right = one.astype(object).to_numpy() == two.astype(object).to_numpy()
        else:
            right = (one - two).abs().to_numpy() <= NEAR * whole[name].std()
        found[name] = float(np.mean(right))
    return found


def main() -> None:
    torch.set_num_threads(1)
    train, test = tables(TABLE)
    levels = levels_of(pa.concat_tables([train, test], promote_options="permissive"))
    holes = Draws.range(SEED, "holes", 0, train.num_rows).uniform("cell", train.num_columns) < HIDDEN
    rows, whole, held = with_holes(train, holes), features(train, levels), features(test, levels)
    lines, ceiling = list(HEAD), detector_auc(whole, held)
    ways = {
        "raysynth, autoregressive": by_raysynth,
        "IterativeImputer, drawn": by_iterative(drawn=True),
        "IterativeImputer, means": by_iterative(drawn=False),
    }
    for name, fill in ways.items():
        start = time.process_time()
        made = fill(rows, levels)
        seconds = time.process_time() - start
        right = accuracies(made, whole, holes, levels)
        of_kinds = (list(right), [n for n in right if n in levels], [n for n in right if n not in levels])
        told = " | ".join(f"{np.mean([right[n] for n in names]):.3f}" for names in of_kinds)
        lines.append(f"| {name} | {told} | {detector_auc(made, held):.3f} ({ceiling:.3f}) | {seconds:.0f} |")
        print(lines[-1], {key: round(value, 3) for key, value in right.items()}, flush=True)
    write_into_docs("imputation", lines)


if __name__ == "__main__":
    main()
