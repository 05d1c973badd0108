"""A small published run, made without Ray: a trained model, parts of synthetic rows, an evaluation of one score, published.json."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.codecs.tabular import Tabular
from raysynth.commits import commit, commit_files, write_task
from raysynth.filter_files import filter_files, load_filters, made_filter
from raysynth.gates import Gate
from raysynth.generators.autoregressive import Autoregressive
from raysynth.histograms import histograms
from raysynth.metrics.base import Seen, Side
from raysynth.metrics.fidelity.column_shapes import ColumnShapes
from raysynth.models import load_model, model_files
from raysynth.orders import Order, files_of
from raysynth.report import Report, page
from raysynth.runs import Folder, Run, folder_id
from raysynth.sampler import Sampler
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.stores.base import join
from raysynth.training import fit, initialise

SEED = 11
ROWS, ROWS_PER_PART = 1500, 1000
RULES = ("stock < 15",)
SCHEMA = Schema(
    (
        Column("grade", "category", pa.string()),
        Column("price", "number", pa.float64()),
        Column("stock", "integer", pa.int64()),
        Column("day", "date", pa.date32()),
        Column("seen", "datetime", pa.timestamp("us", "UTC")),
        Column("sold", "boolean", pa.bool_()),
        Column("dear", "boolean", pa.bool_(), derived=True),
    )
)


def real_rows(rows: int = 2000) -> pa.Table:
    noise = np.random.default_rng(0)
    grades = ("plain", "<script>alert(1)</script>", "=1+1", "it's", None)
    grade = noise.choice(5, rows, p=[0.35, 0.25, 0.2, 0.1, 0.1])
    price = np.round(noise.lognormal(2 + 0.4 * grade, 0.5), 2)
    moments = [dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=int(s)) for s in noise.integers(0, 10**6, rows)]
    return pa.table(
        {
            "grade": pa.array([grades[code] for code in grade], pa.string()),
            "price": price,
            "stock": noise.poisson(6, rows),
            "day": pa.array([dt.date(2024, 1, 1) + dt.timedelta(int(day)) for day in noise.integers(0, 366, rows)], pa.date32()),
            "seen": pa.array(moments, pa.timestamp("us", "UTC")),
            "sold": price < 12,
            FILE: ["a.csv"] * rows,
            ROW: range(rows),
        }
    )


def published(url: str, *, name: str = "shop", epochs: int = 3, rows: int = ROWS) -> str:
    """The URL of the run that is published there; other `epochs` are another model."""
    run = Run(url)
    codec = Tabular(SCHEMA.learnt, seed=SEED)
    real = real_rows()
    layout = codec.settle(codec.observe(real))
    generator = initialise(lambda: Autoregressive(layout, hidden=16, embedding=8), SEED)
    assert isinstance(generator, Autoregressive)
    batch = codec.encode(real)
    fit(generator, batch, batch.take(slice(0, 300)), seed=SEED, max_epochs=epochs, batch_rows=250, learning_rate=5e-3)
    parts = {"codec": {"use": "tabular"}, "generator": {"use": "autoregressive", "hidden": 16, "embedding": 8}}
    facts = {"seed": SEED, "schema": SCHEMA.to_json(), "derive": {"dear": "price > 20"}, "parts": parts}
    model = run.folder("model", folder_id({"epochs": epochs}))
    files = model_files(codec, generator, facts)
    for file, data in files.items():
        model.store.put(join(model.url, file), data)
    commit_files(model, files)
    run.point("model", model)
    synthetic, sampler = _synthetic(run, model, rows, ())
    evaluation = evaluated(run, real, sampler)
    gates = [{"text": "column_shapes >= 0.5", "holds": True, "values": {"column_shapes": 0.9}}]
    run.publish([synthetic], {"name": name, "model": model.id, "evaluation": evaluation.id, "gates": gates, "forced": False})
    return run.url


def filtered(url: str, *, rows: int, filters: Sequence[dict[str, Any]]) -> str:
    """The run that is published there publishes other rows of its model: those that the filters, {use, **options} of each, let pass."""
    run = Run(url)
    model, told = run.current("model"), run.published()
    assert model is not None and told is not None
    synthetic, _ = _synthetic(run, model, rows, filters)
    run.publish([synthetic], {key: told[key] for key in ("name", "model", "evaluation", "gates", "forced")})
    return run.url


def _synthetic(run: Run, model: Folder, rows: int, filters: Sequence[dict[str, Any]]) -> tuple[Folder, Sampler]:
    loaded, folder = load_model(model), _settled(run, filters) if filters else None
    settled = load_filters(folder, SCHEMA) if folder is not None else None
    told = None if folder is None or settled is None else {"asked": list(filters), "digest": settled.digest, "path": folder.path}
    order = Order(loaded.digest, SEED, RULES, rows, ROWS_PER_PART, {}, 10_000, "avx2", filters=told)
    plan = order.plan(len(SCHEMA))
    synthetic = run.folder("synthetic", folder_id(order.facts()))
    synthetic.write_plan(plan)
    sampler = Sampler(loaded, seed=SEED, rules=RULES, filters=settled.filters if settled is not None else ())
    write_task(synthetic, plan, range(plan.parts), files_of(sampler, plan))
    commit(synthetic, plan)
    run.point("synthetic", synthetic)
    return synthetic, sampler


def _settled(run: Run, asked: Sequence[dict[str, Any]]) -> Folder:
    """As stages/filters.py does it, in this process."""
    real = real_rows()
    rows = real.append_column("dear", pc.greater(real["price"], 20.0))
    made = [made_filter("rules", one["use"], {key: one[key] for key in one if key != "use"}, SCHEMA, SEED) for one in asked]
    for one in made:
        one.know(None)
        if one.learns:
            one.settle(one.observe(rows))
    folder = run.folder("filters", folder_id({"asked": list(asked)}))
    files = filter_files(made, {"seed": SEED}, asked)
    for file, data in files.items():
        folder.store.put(join(folder.url, file), data)
    commit_files(folder, files)
    return folder


def evaluated(run: Run, real: pa.Table, sampler: Sampler) -> Folder:
    rows = real.append_column("dear", pc.greater(real["price"], 20.0)).select(SCHEMA.names)
    samples: dict[Side, pa.Table] = {"train": rows.slice(0, 1500), "holdout": rows.slice(1500), "synthetic": sampler.range(0, 500)}
    counts: dict[Side, int] = {side: table.num_rows for side, table in samples.items()}
    scores = ColumnShapes(SCHEMA).score(Seen(samples, counts), {})
    told: dict[str, Any] = {
        "version": 1,
        "target": None,
        "rows": counts,
        "sample_rows": 1500,
        "scores": [asdict(score) for score in scores],
    }
    folder = run.folder("evaluation", folder_id(told))
    folder.write_json("scores.json", told)
    folder.write_json("histograms.json", histograms(samples["train"], SCHEMA))
    report = Report(
        name="shop",
        scores=told["scores"],
        gates=[Gate("column_shapes >= 0.5 and column_shapes <= holdout.column_shapes + 0.1", True, {"column_shapes": 0.9})],
        schema=SCHEMA,
        samples=samples,
        rows=counts,
        recipe={"name": "shop", "rules": list(RULES)},
        stages=[{"stage": "train", "id": "0", "rows": 1500, "bytes": None, "seconds": 1.0, "cpu_seconds": 1.0}],
        warnings=["<script>alert(2)</script>"],
    )
    folder.store.put(join(folder.url, "report.html"), page(report).encode())
    commit_files(folder, ["scores.json", "histograms.json", "report.html"])
    return folder
