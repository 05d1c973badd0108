"""A small published run of texts, made without Ray: what `shop` is for tables."""

from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.codecs.text import Text
from raysynth.commits import commit, commit_files, write_task
from raysynth.generators.language_model import LanguageModel
from raysynth.histograms import histograms
from raysynth.models import load_model, model_files
from raysynth.orders import Order, files_of
from raysynth.runs import Run, folder_id
from raysynth.sampler import Sampler
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.stores.base import join
from raysynth.training import fit, initialise

SEED = 5
ROWS = 40
SCHEMA = Schema(
    (Column("tongue", "category", pa.string()), Column("tale", "text", pa.string()), Column("moral", "text", pa.string()))
)
WORDS = {
    "en": ["once", "upon", "a", "time", "the", "fox", "and", "bear", "walked", "home."],
    "zh": ["从前", "有", "一只", "狐狸", "和", "熊", "走", "回家。"],
    "ar": ["كان", "يا", "ما", "كان", "ثعلب", "و", "دب", "عاد."],
}


def real_rows(rows: int = 160) -> pa.Table:
    noise = np.random.default_rng(2)
    tongues = noise.choice(list(WORDS), rows, p=[0.5, 0.3, 0.2]).tolist()
    told: dict[str, list[str | None]] = {"tale": [], "moral": []}
    for row, tongue in enumerate(tongues):
        between = "" if tongue == "zh" else " "
        told["tale"].append(between.join(noise.choice(WORDS[tongue], noise.integers(4, 12))))
        told["moral"].append(None if row % 4 == 0 else between.join(noise.choice(WORDS[tongue], 3)))
    columns: dict[str, Any] = {"tongue": tongues, **{name: pa.array(texts, pa.string()) for name, texts in told.items()}}
    return pa.table({**columns, FILE: ["a.csv"] * rows, ROW: range(rows)})


def published(url: str) -> str:
    """The URL of the run that is published there, by the name of `tales`."""
    run, real = Run(url), real_rows()
    codec = Text(SCHEMA, seed=SEED, max_tokens=40)
    layout = codec.settle(codec.observe(real))
    options = {"width": 16, "layers": 1, "heads": 2}
    generator = initialise(lambda: LanguageModel(layout, **options), SEED)
    assert isinstance(generator, LanguageModel)
    batch = codec.encode(real)
    fit(generator, batch, batch.take(slice(0, 40)), seed=SEED, max_epochs=30, batch_rows=40, learning_rate=2e-2)
    parts = {"codec": {"use": "text", "max_tokens": 40}, "generator": {"use": "language_model", **options}}
    facts = {"seed": SEED, "schema": SCHEMA.to_json(), "derive": {}, "parts": parts}
    model = run.folder("model", folder_id(facts))
    files = model_files(codec, generator, facts)
    for name, data in files.items():
        model.store.put(join(model.url, name), data)
    commit_files(model, files)
    loaded = load_model(model)
    order = Order(loaded.digest, SEED, (), ROWS, ROWS, {}, 10_000, "avx2")
    plan = order.plan(len(SCHEMA))
    synthetic = run.folder("synthetic", folder_id(order.facts()))
    synthetic.write_plan(plan)
    write_task(synthetic, plan, range(plan.parts), files_of(Sampler(loaded, seed=SEED), plan))
    commit(synthetic, plan)
    evaluation = run.folder("evaluation", folder_id({"of": "tales"}))
    evaluation.write_json("scores.json", {"version": 1, "target": "tongue", "rows": {}, "sample_rows": 100, "scores": []})
    evaluation.write_json("histograms.json", histograms(real.select(SCHEMA.names), SCHEMA))
    commit_files(evaluation, ["scores.json", "histograms.json"])
    for name, folder in (("model", model), ("synthetic", synthetic), ("evaluation", evaluation)):
        run.point(name, folder)
    run.publish([synthetic], {"name": "tales", "model": model.id, "evaluation": evaluation.id, "gates": [], "forced": False})
    return run.url
