"""RAYSYNTH_DATA's tables → how good, safe and fast the autoregressive generator is, as a table beside the ceiling of real rows.

    RAYSYNTH_DATA=../shared/data python benchmarks/quality.py [adult online_shoppers california_housing]

Trains on *.train (a tenth split off for early stopping), draws as many rows, and judges them on *.test: C2ST is the AUC of a
gradient-boosted detector of synthetic against test rows (0.5 is perfect), TSTR the score on test rows of a model trained on
synthetic rows, copies the share of rows that equal a train row, nearer the share that lies nearer to train than to test rows.
Real rows' figures stand in brackets. Settings are chosen with --inside, which never reads *.test. A run at the
defaults writes its lines into docs/benchmarks.md.
"""

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors

from raysynth.codecs.tabular import Tabular
from raysynth.draws import Draws
from raysynth.layout import Batch, Fields
from raysynth.models import Model
from raysynth.parts import find
from raysynth.schema import FILE, ROW, Column, Kind, Schema
from raysynth.training import fit, initialise

TARGETS = {"adult": "income", "online_shoppers": "Revenue", "california_housing": "median_house_value", "telco_churn": "Churn"}
TABLES = ("adult", "online_shoppers", "california_housing")
OPTIONS_OF_FIT = {"learning_rate", "weight_decay", "batch_rows", "average_decay", "patience"}
HEAD = "| table | C2ST (real) | TSTR (real) | copies (test rows) | nearer to train | training CPU-s | rows per CPU-s |"
DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"
SEED = 7


def schema_of(rows: pa.Table) -> Schema:
    """A schema by Arrow type alone, which is what these tables need."""
    return Schema(tuple(Column(field.name, kind_of(field.type), field.type) for field in rows.schema))


def kind_of(type_: pa.DataType) -> Kind:
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_):
        return "integer"
    return "number" if pa.types.is_floating(type_) else "category"


def learn(
    train: pa.Table,
    epochs: int,
    options: dict[str, Any],
    codec_options: dict[str, Any],
    verbose: bool = False,
    use: str = "autoregressive",
) -> tuple[Model, float]:
    """A model of the rows and the CPU-seconds it took. `options` of the generator and of training lie in one mapping."""
    start = time.process_time()
    codec, layout, batches, held = encoded_rows(train, SEED, codec_options)
    of_fit = {name: value for name, value in options.items() if name in OPTIONS_OF_FIT}
    of_generator = {name: value for name, value in options.items() if name not in OPTIONS_OF_FIT}
    generator = initialise(lambda: find("generators", use)(layout, **of_generator), SEED)
    reports = fit(
        generator, batches.take(np.flatnonzero(~held)), batches.take(np.flatnonzero(held)), seed=SEED, max_epochs=epochs,
        report=print if verbose else None, **of_fit,
    )  # fmt: skip
    seconds = time.process_time() - start
    best = min(reports, key=lambda report: report.validation_loss)
    print(f"  {len(layout.fields)} fields, {len(reports)} epochs; {best}; {seconds:.0f} CPU-s", flush=True)
    return Model(codec.schema, {}, codec, generator, "", {}), seconds


def encoded_rows(
    train: pa.Table, seed: int, options: Mapping[str, Any] = MappingProxyType({})
) -> tuple[Tabular, Fields, Batch, NDArray[np.bool_]]:
    """A codec that is settled without the held rows, its layout, all rows encoded, and (rows,) which a tenth is held."""
    rows = train.append_column(FILE, pa.array(["train"] * train.num_rows)).append_column(ROW, pa.array(range(train.num_rows)))
    held = Draws.range(seed, "split", 0, train.num_rows).uniform("validation") < 0.1
    codec = Tabular(schema_of(train), seed=seed, **options)
    layout = codec.settle(codec.observe(rows.filter(pa.array(~held))))
    return codec, layout, codec.encode(rows), held


def draw(model: Model, wanted: int) -> tuple[pa.Table, float]:
    """So many synthetic rows, and how many the bare loop makes and writes as Parquet in a CPU-second (of at least ten calls)."""
    size = model.generator.kernel_rows
    made: list[pa.Table] = []
    start = time.process_time()
    for first in range(0, max(wanted, 10 * size), size):
        draws = Draws.range(SEED, "generate", first, first + size)
        made.append(model.codec.decode(model.generator.sample(draws, None), draws))
    table = pa.concat_tables(made)
    pq.write_table(table, pa.BufferOutputStream(), compression="zstd")
    return table.slice(0, wanted), table.num_rows / (time.process_time() - start)


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
    """Share of rows nearer to a train row than to a test row, of equally many: the mean over disjoint parts of train, at most
    four, since one part's share is off by as much as 0.01; ties count half."""
    size = min(len(train), len(test))
    mixed = train.sample(len(train), random_state=0)
    parts = [mixed.iloc[start : start + size] for start in range(0, min(len(train) - size + 1, 4 * size), size)]
    numbers = [name for name in train.columns if not isinstance(train[name].dtype, pd.CategoricalDtype)]

    def points(frame: pd.DataFrame) -> Any:
        scaled = ((frame[numbers] - train[numbers].mean()) / train[numbers].std()).fillna(-3)
        dummies = pd.get_dummies(frame.drop(columns=numbers)).astype(float) / np.sqrt(2)
        return pd.concat([scaled, dummies], axis=1).to_numpy(dtype=np.float32)

    asked = points(rows.sample(min(len(rows), 10_000), random_state=0))

    def distances(known: pd.DataFrame) -> Any:
        return NearestNeighbors(n_neighbors=1, algorithm="brute").fit(points(known)).kneighbors(asked)[0][:, 0]

    to_test = distances(test.sample(size, random_state=0))
    shares = [np.mean(to_train < to_test) + 0.5 * np.mean(to_train == to_test) for to_train in map(distances, parts)]
    return float(np.mean(shares))


def judge(name: str, train: pa.Table, test: pa.Table, asked: argparse.Namespace) -> str:
    """A line of the table."""
    model, seconds = learn(train, asked.epochs, options_of(asked.set), options_of(asked.codec), asked.verbose, asked.generator)
    made, rate = draw(model, train.num_rows)
    levels = levels_of(pa.concat_tables([train, test], promote_options="permissive"))
    real, held, synthetic = (features(rows, levels) for rows in (train, test, made))
    scores = [f"{detector_auc(synthetic, held):.3f} ({detector_auc(real, held):.3f})"]
    scores.append(f"{utility(synthetic, held, TARGETS[name]):.3f} ({utility(real, held, TARGETS[name]):.3f})")
    scores.append(f"{copies(synthetic, real):.2%} ({copies(held, real):.2%})")
    scores.append(f"{nearer(synthetic, real, held):.3f}")
    return " | ".join([f"| {name}", *scores, f"{seconds:.0f}", f"{rate:,.0f} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=TABLES)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--inside", action="store_true", help="judge on a fifth of *.train instead: for choosing settings")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--generator", default="autoregressive", help="another that is trained by gradients")
    parser.add_argument("--set", nargs="*", default=[], help="options of the generator and of training, name=value")
    parser.add_argument("--codec", nargs="*", default=[], help="options of the codec, name=value")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines: dict[str, str] = {}
    for name in asked.tables:
        lines[name] = judge(name, *tables(name, asked.inside), asked)
        print(HEAD, lines[name], sep="\n", flush=True)
    if not (asked.inside or asked.set or asked.codec or asked.generator != "autoregressive"):
        known = {line.split(" ")[1]: line for line in from_docs("quality")[2:]}
        write_into_docs("quality", [HEAD, "|" + " --- |" * 7, *(known | lines).values()])


def tables(name: str, inside: bool = False) -> tuple[pa.Table, pa.Table]:
    """Train and test rows; `inside` leaves *.test alone and takes a fifth of *.train for it."""
    folder = Path(os.environ["RAYSYNTH_DATA"]) / "tabular"
    train = pq.read_table(folder / f"{name}.train.parquet")
    if not inside:
        return train, pq.read_table(folder / f"{name}.test.parquet")
    taken = pa.array(Draws.range(SEED, "inside", 0, train.num_rows).uniform("row") < 0.2)
    return train.filter(pc.invert(taken)), train.filter(taken)


def from_docs(part: str) -> list[str]:
    """The lines between the part's markers in docs/benchmarks.md."""
    _, rest = DOCS.read_text().split(f"<!-- {part}: written by benchmarks/{part}.py -->\n")
    return rest.split(f"<!-- end of {part} -->\n")[0].splitlines()


def write_into_docs(part: str, lines: list[str], docs: Path = DOCS) -> None:
    """Put the lines between the part's markers, and keep what people wrote around them."""
    text, opens, ends = docs.read_text(), f"<!-- {part}: written by benchmarks/{part}.py -->\n", f"<!-- end of {part} -->\n"
    head, rest = text.split(opens)
    docs.write_text(head + opens + "".join(f"{line}\n" for line in lines) + ends + rest.split(ends)[1])


def options_of(items: list[str]) -> dict[str, Any]:
    return {
        key: float(value) if "." in value or "e" in value else int(value) for key, _, value in (i.partition("=") for i in items)
    }


if __name__ == "__main__":
    main()
