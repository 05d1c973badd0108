"""A small published run, made without Ray: a trained model, two parts of synthetic rows, published.json."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raysynth.codecs.tabular import Tabular
from raysynth.commits import commit, commit_files, write_task
from raysynth.generators.autoregressive import Autoregressive
from raysynth.models import load_model, model_files
from raysynth.orders import Order, files_of
from raysynth.runs import Run, folder_id
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
    grades = ("=1+1", "<script>alert(1)</script>", "it's", None)
    grade = noise.choice(4, rows, p=[0.4, 0.3, 0.2, 0.1])
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


@pytest.fixture(scope="session")
def published_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its URL."""
    return published(str(tmp_path_factory.mktemp("run") / "shop"))


@pytest.fixture(scope="session")
def publish() -> Callable[..., str]:
    """(url, name=, epochs=, rows=) → the URL of a run that is published there."""
    return published


def published(url: str, *, name: str = "shop", epochs: int = 3, rows: int = ROWS) -> str:
    run = Run(url)
    codec = Tabular(SCHEMA.learnt, seed=SEED)
    real = real_rows()
    layout = codec.settle(codec.observe(real))
    generator = initialise(lambda: Autoregressive(layout, hidden=16, embedding=8), SEED)
    assert isinstance(generator, Autoregressive)
    batch = codec.encode(real)
    fit(generator, batch, batch.take(slice(0, 300)), seed=SEED, max_epochs=epochs, batch_rows=250, learning_rate=5e-3)
    parts = {"codec": {"use": "tabular"}, "generator": {"use": "autoregressive", "hidden": 16, "embedding": 8}}
    facts = {"name": name, "seed": SEED, "schema": SCHEMA.to_json(), "derive": {"dear": "price > 20"}, "parts": parts}
    model = run.folder("model", folder_id({"epochs": epochs}))
    files = model_files(codec, generator, facts)
    for file, data in files.items():
        model.store.put(join(model.url, file), data)
    commit_files(model, files)
    loaded = load_model(model)
    order = Order(loaded.digest, SEED, RULES, rows, ROWS_PER_PART, {}, 10_000, "avx2")
    plan = order.plan(len(SCHEMA))
    synthetic = run.folder("synthetic", folder_id(order.facts()))
    synthetic.write_plan(plan)
    write_task(synthetic, plan, range(plan.parts), files_of(Sampler(loaded, seed=SEED, rules=RULES), plan))
    commit(synthetic, plan)
    run.point("model", model)
    run.point("synthetic", synthetic)
    run.publish([synthetic], {"name": name, "model": model.id, "evaluation": None, "gates": [], "forced": False})
    return run.url


@pytest.fixture(autouse=True)
def no_keys_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYSYNTH_KEYS", str(tmp_path / "keys.json"))
