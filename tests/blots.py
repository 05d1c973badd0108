"""A small published run of pictures, made without Ray: what `shop` is for tables. Its generator is a fake, integration/fakes/blots.py."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pictures_of import SCHEMA, law

import raysynth.generators
from raysynth.codecs.image import Image
from raysynth.commits import commit, commit_files, write_task
from raysynth.histograms import histograms
from raysynth.models import load_model, model_files
from raysynth.orders import Order, files_of
from raysynth.parts import find
from raysynth.runs import Run, folder_id
from raysynth.sampler import Sampler
from raysynth.schema import FILE, ROW
from raysynth.stores.base import join
from raysynth.training import initialise

FAKES = Path(__file__).parent / "integration" / "fakes"
SEED = 5
SIDE = 12
ROWS, ROWS_PER_PART = 60, 40


@contextmanager
def on_shelf() -> Generator[None]:
    """Its generator stands on the shelf of this process."""
    raysynth.generators.__path__.append(str(FAKES))
    yield
    raysynth.generators.__path__.remove(str(FAKES))


def published(url: str) -> str:
    """The URL of the run that is published there, by the name of `blots`, while its generator is `on_shelf`."""
    run, real = Run(url), law(50, 1)
    codec = Image(SCHEMA.learnt, seed=SEED, size=(SIDE, SIDE))
    ids = {FILE: pa.array(["a"] * real.num_rows), ROW: pa.array(range(real.num_rows))}
    layout = codec.settle(codec.observe(pa.table({**{name: real[name] for name in real.column_names}, **ids})))
    blots: Any = find("generators", "blots")
    generator: Any = initialise(lambda: blots(layout), SEED)
    parts = {"codec": {"use": "image", "size": [SIDE, SIDE]}, "generator": {"use": "blots"}}
    facts = {"seed": SEED, "schema": SCHEMA.to_json(), "derive": {}, "parts": parts}
    model = run.folder("model", folder_id(facts))
    files = model_files(codec, generator, facts)
    for name, data in files.items():
        model.store.put(join(model.url, name), data)
    commit_files(model, files)
    loaded = load_model(model)
    order = Order(loaded.digest, SEED, (), ROWS, ROWS_PER_PART, {}, 10_000, "avx2")
    plan = order.plan(len(SCHEMA))
    synthetic = run.folder("synthetic", folder_id(order.facts()))
    synthetic.write_plan(plan)
    write_task(synthetic, plan, range(plan.parts), files_of(Sampler(loaded, seed=SEED), plan))
    commit(synthetic, plan)
    evaluation = run.folder("evaluation", folder_id({"of": "blots"}))
    evaluation.write_json("scores.json", {"version": 1, "target": "shape", "rows": {}, "sample_rows": 100, "scores": []})
    evaluation.write_json("histograms.json", histograms(real, SCHEMA))
    commit_files(evaluation, ["scores.json", "histograms.json"])
    for name, folder in (("model", model), ("synthetic", synthetic), ("evaluation", evaluation)):
        run.point(name, folder)
    run.publish([synthetic], {"name": "blots", "model": model.id, "evaluation": evaluation.id, "gates": [], "forced": False})
    return run.url
