"""RAYSYNTH_DATA's tables → how good, safe and fast the autoregressive generator is, as a table beside the ceiling of real rows.

    RAYSYNTH_DATA=../shared/data python benchmarks/quality.py [adult online_shoppers california_housing]

Trains on *.train (a tenth split off for early stopping), draws as many rows, and judges them on *.test: C2ST is the AUC of a
gradient-boosted detector of synthetic against test rows (0.5 is perfect), TSTR the score on test rows of a model trained on
synthetic rows, copies the share of rows that equal a train row, nearer the share that lies nearer to train than to test rows.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors

from raysynth.codecs.tabular import Tabular
from raysynth.draws import Draws
from raysynth.generators.autoregressive import Autoregressive
from raysynth.schema import FILE, ROW, Column, Kind, Schema
from raysynth.training import fit, initialise

TARGETS = {"adult": "income", "online_shoppers": "Revenue", "california_housing": "median_house_value"}
SEED = 7


@dataclass(frozen=True)
class Cost:
    train_seconds: float
    rows_per_second: float


def schema_of(rows: pa.Table) -> Schema:
    """A schema by Arrow type alone, which is what these tables need."""
    return Schema(tuple(Column(field.name, kind_of(field.type), field.type) for field in rows.schema))


def kind_of(type_: pa.DataType) -> Kind:
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_):
        return "integer"
    return "number" if pa.types.is_floating(type_) else "category"


def synthesise(
    train: pa.Table, epochs: int, options: dict[str, Any], codec_options: dict[str, Any], verbose: bool
) -> tuple[pa.Table, Cost]:
    """As many synthetic rows as train has, and what they cost in CPU-seconds."""
    start = time.process_time()
    schema = schema_of(train)
    rows = train.append_column(FILE, pa.array(["train"] * train.num_rows)).append_column(ROW, pa.array(range(train.num_rows)))
    held = Draws.range(SEED, "split", 0, train.num_rows).uniform("validation") < 0.1
    codec = Tabular(schema, seed=SEED, **codec_options)
    layout = codec.settle(codec.observe(rows.filter(pa.array(~held))))
    batches = codec.encode(rows)
    fit_options = {
        name: options.pop(name)
        for name in list(options)
        if name in ("learning_rate", "weight_decay", "batch_rows", "average_decay", "patience")
    }
    generator = initialise(lambda: Autoregressive(layout, **options), SEED)
    reports = fit(
        generator, batches.take(np.flatnonzero(~held)), batches.take(np.flatnonzero(held)), seed=SEED, max_epochs=epochs,
        report=print if verbose else None, **fit_options,
    )  # fmt: skip
    train_seconds = time.process_time() - start
    best = min(reports, key=lambda report: report.validation_loss)
    print(f"  {len(layout.fields)} fields, {len(reports)} epochs; {best}; {train_seconds:.0f} CPU-s", flush=True)
    start = time.process_time()
    made = []
    wanted = max(train.num_rows, 4 * generator.kernel_rows)
    for first in range(0, wanted, generator.kernel_rows):
        draws = Draws.range(SEED, "generate", first, first + generator.kernel_rows)
        made.append(codec.decode(generator.sample(draws, None), draws))
    table = pa.concat_tables(made)
    return table.slice(0, train.num_rows), Cost(train_seconds, table.num_rows / (time.process_time() - start))


def features(rows: pa.Table, levels: dict[str, list[Any]]) -> pd.DataFrame:
    """Numbers as floats, categories as pandas categories of the same levels everywhere."""
    frame = rows.to_pandas()
    return pd.DataFrame(
        {
            name: pd.Categorical(frame[name].astype(object), categories=levels[name])
            if name in levels
            else frame[name].astype(float)
            for name in frame.columns
        }
    )


def levels_of(rows: pa.Table) -> dict[str, list[Any]]:
    return {
        field.name: sorted(value for value in pc.unique(rows.column(field.name)).to_pylist() if value is not None)
        for field in rows.schema
        if kind_of(field.type) in ("category", "boolean")
    }


def detector_auc(one: pd.DataFrame, two: pd.DataFrame) -> float:
    """AUC of telling equally many rows of the two apart, over five folds."""
    size = min(len(one), len(two))
    both = pd.concat([one.sample(size, random_state=0), two.sample(size, random_state=0)], ignore_index=True)
    label = np.repeat([0, 1], size)
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    return float(roc_auc_score(label, cross_val_predict(model, both, label, cv=5, method="predict_proba")[:, 1]))


def utility(train: pd.DataFrame, test: pd.DataFrame, target: str) -> float:
    """AUC of the target on test rows (R² of a numeric one) of a model trained on `train`."""
    known, wanted = train.drop(columns=target), test.drop(columns=target)
    if isinstance(train[target].dtype, pd.CategoricalDtype):
        model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
        model.fit(known, train[target].cat.codes)
        return float(roc_auc_score(test[target].cat.codes, model.predict_proba(wanted)[:, 1]))
    regressor = HistGradientBoostingRegressor(categorical_features="from_dtype", random_state=0).fit(known, train[target])
    return float(r2_score(test[target], regressor.predict(wanted)))


def copies(rows: pd.DataFrame, train: pd.DataFrame) -> float:
    known = set(pd.util.hash_pandas_object(train.astype(str), index=False))
    return float(np.mean([value in known for value in pd.util.hash_pandas_object(rows.astype(str), index=False)]))


def nearer(rows: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame) -> float:
    """Share of rows nearer to a train row than to a test row, of equally many; ties count half."""
    size = min(len(train), len(test))
    numbers = [name for name in train.columns if not isinstance(train[name].dtype, pd.CategoricalDtype)]

    def points(frame: pd.DataFrame) -> Any:
        scaled = (
            frame[numbers].rank(pct=True) if False else (frame[numbers] - train[numbers].mean()) / train[numbers].std()
        ).fillna(-3)
        dummies = pd.get_dummies(frame.drop(columns=numbers)).astype(float) / np.sqrt(2)
        return pd.concat([scaled, dummies], axis=1).to_numpy(dtype=np.float32)

    asked = points(rows.sample(min(len(rows), 5000), random_state=0))
    to_train, to_test = (
        NearestNeighbors(n_neighbors=1, algorithm="brute")
        .fit(points(known.sample(size, random_state=0)))
        .kneighbors(asked)[0][:, 0]
        for known in (train, test)
    )
    return float(np.mean(to_train < to_test) + 0.5 * np.mean(to_train == to_test))


def judge(
    name: str, folder: Path, epochs: int, options: dict[str, Any], codec_options: dict[str, Any], quick: bool, verbose: bool
) -> str:
    train, test = (pq.read_table(folder / f"{name}.{split}.parquet") for split in ("train", "test"))
    made, cost = synthesise(train, epochs, dict(options), codec_options, verbose)
    levels = levels_of(pa.concat_tables([train, test], promote_options="permissive"))
    real, held, synthetic = (features(rows, levels) for rows in (train, test, made))
    scores = [f"{detector_auc(synthetic, held):.3f} ({detector_auc(real, held):.3f})"]
    scores.append(f"{utility(synthetic, held, TARGETS[name]):.3f} ({utility(real, held, TARGETS[name]):.3f})")
    if not quick:
        scores.append(f"{copies(synthetic, real):.2%} ({copies(held, real):.2%})")
        scores.append(f"{nearer(synthetic, real, held):.3f}")
    return " | ".join([f"{name:20}", *scores, f"{cost.train_seconds:.0f}", f"{cost.rows_per_second:,.0f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=list(TARGETS))
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="leave copies and nearness out")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--set", nargs="*", default=[], help="options of the generator and of training, name=value")
    parser.add_argument("--codec", nargs="*", default=[], help="options of the codec, name=value")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(os.environ["RAYSYNTH_DATA"]) / "tabular"
    options, codec_options = (
        {key: number(value) for key, _, value in (item.partition("=") for item in items)} for items in (asked.set, asked.codec)
    )
    lines = [judge(name, folder, asked.epochs, options, codec_options, asked.quick, asked.verbose) for name in asked.tables]
    print(
        "table                | C2ST (real) | TSTR (real) | copies (test rows) | nearer to train | training CPU-s | rows per CPU-s"
    )
    print("\n".join(lines))


def number(text: str) -> float | int:
    return float(text) if "." in text or "e" in text else int(text)


if __name__ == "__main__":
    main()
