"""The stages in their order: each is given what the one before committed, and skips what is done."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raysynth.cases import check_shares
from raysynth.cluster import metrics
from raysynth.cluster.devices import has_gpu
from raysynth.cluster.limits import limited, limits
from raysynth.cluster.meter import METER
from raysynth.cluster.session import is_embedded, one_session
from raysynth.cluster.submit import check_run
from raysynth.costs import cost
from raysynth.errors import DataError, RecipeError
from raysynth.expressions import Expression
from raysynth.markers import canonical
from raysynth.orders import rows_per_part
from raysynth.parts import nearest
from raysynth.progress import say
from raysynth.recipe import Recipe
from raysynth.runs import Folder, Run
from raysynth.schema import ROW_ID, Schema
from raysynth.sources.base import InputFile
from raysynth.stages import augment, choose, evaluate, filters, generate, mix, model_parts, prepare, probe, publish, train
from raysynth.stages.filters import filters_of
from raysynth.stages.first_rows import first_rows
from raysynth.stages.foreseen import foreseen_calls
from raysynth.stages.known import knowledge_of
from raysynth.uniqueness import columns_of
from raysynth.where import parse_where

STAGES = ("prepare", "augment", "train", "generate", "mix", "evaluate", "publish")
TIMING = "_raysynth/timing.json"


@dataclass
class Made:
    """The folders that the stages made or found; None where the recipe asks for none, or the stage was not reached."""

    prepared: Folder | None = None
    augmented: Folder | None = None
    model: Folder | None = None
    synthetic: Folder | None = None
    mixed: Folder | None = None
    evaluation: Folder | None = None
    published: bool = False

    @property
    def folders(self) -> dict[str, Folder]:
        """Those there are, in the order of the stages."""
        return {name: folder for name, folder in vars(self).items() if isinstance(folder, Folder)}


def run_to(recipe: Recipe, last: str = STAGES[-1], *, force: bool = False) -> Made:
    """All stages up to `last`, on one connected Ray that is only started if something is left to make. GateError if a gate fails,
    unless `force`."""
    run, made = Run(recipe.run), Made()
    check(recipe, run, last)
    with limited(recipe), one_session():
        _make(recipe, run, made, last, force)
    return made


def _make(recipe: Recipe, run: Run, made: Made, last: str, force: bool) -> None:
    made.prepared = prepared = _timed("prepare", lambda: prepare.run(recipe, run, learns=last not in ("prepare", "augment")))
    check_asked(recipe, prepared)
    if last == "prepare":
        return
    if recipe.augment:
        made.augmented = _timed("augment", lambda: augment.run(recipe, run, prepared))
    if last == "augment":
        return
    recipe = choose.run(recipe, run, prepared)
    if last != "train":
        filters.run(recipe, run, prepared)  # what they cannot learn is told before hours of training
    made.model = model = _timed("train", lambda: train.run(recipe, run, prepared, made.augmented))
    if last == "train":
        return
    made.synthetic = synthetic = _timed("generate", lambda: generate.run(recipe, run, prepared, model))
    if last == "generate":
        return
    if recipe.mix is not None:
        made.mixed = _timed("mix", lambda: mix.run(recipe, run, prepared, made.augmented, synthetic))
    if last == "mix":
        return
    if recipe.evaluate is not None:
        made.evaluation = _timed(
            "evaluate", lambda: evaluate.run(recipe, run, prepared, synthetic, made.mixed, _told(made), made.augmented)
        )
    if last == "evaluate":
        return
    publish.run(recipe, run, prepared, model, synthetic, made.mixed, made.evaluation, force=force)
    made.published = True


def _timed(stage: str, make: Callable[[], Folder]) -> Folder:
    """What it cost stands beside the folder that was made; of a folder that was there already, nothing is written. StoppedError where
    the stages before it have used up the command's budget."""
    spending = limits().spending
    if spending.made:
        limits().check()
    began, spent, METER.went_on = time.monotonic(), METER.cpu_seconds, False
    with spending.stage(stage):
        folder = make()
    cost = {"seconds": round(time.monotonic() - began, 2), "cpu_seconds": round(METER.cpu_seconds - spent, 2)}
    if not folder.store.exists(folder.system_url("timing.json")):
        folder.store.put(folder.system_url("timing.json"), canonical({**cost, "went_on": METER.went_on}))
        metrics.stage_ended(stage, folder, **cost)
        spending.made = True
    return folder


def _told(made: Made) -> list[dict[str, Any]]:
    """What the report says of each stage: its folder, rows, bytes, and what it cost whoever finished it."""
    told: list[dict[str, Any]] = []
    for name, folder in made.folders.items():
        outcome = folder.outcome() or {}
        cost = {"seconds": None, "cpu_seconds": None}
        if folder.store.exists(folder.system_url("timing.json")):
            cost = folder.read_json(TIMING)
        told.append({"stage": name, "id": folder.id, "rows": outcome.get("rows"), "bytes": outcome.get("bytes"), **cost})
    return told


def check(recipe: Recipe, run: Run, last: str = STAGES[-1]) -> None:
    """Refuses, before Ray starts and before the run's folder is touched, what cannot come to an end: no input, no such device, no store."""
    _check_holdout(recipe, last)
    check_run(recipe)
    prepare.check_source(recipe)
    knowledge_of(recipe)
    evaluate.extractor_in(recipe.evaluate)
    model_parts.check_base(recipe)
    _check_machine(recipe)
    for warning in run.store.check(run.url, write=True):
        say(stage="store", warning=warning)


def _check_holdout(recipe: Recipe, last: str) -> None:
    if recipe.evaluate is not None and recipe.prepare.holdout == 0 and STAGES.index(last) >= STAGES.index("evaluate"):
        raise RecipeError(
            "prepare.holdout: 0, and scores stand beside those of hold-out rows. Set some apart (0.2, say), or say evaluate: null"
        )


def check_asked(recipe: Recipe, prepared: Folder) -> None:
    """What is known once the columns are, before hours of training: RecipeError on a rule or a condition that does not fit them,
    DataError where all are ids."""
    check_columns(recipe, Schema.from_json(prepared.plan().facts["schema"]))
    if recipe.mix is not None:
        mix.check_rows(recipe.mix, prepared, synthetic_rows=recipe.generate.rows)
    if recipe.evaluate is not None and recipe.evaluate.target is not None:
        prepare.check_varies(prepared, recipe.evaluate.target, "evaluate.target")


def check_columns(recipe: Recipe, schema: Schema) -> None:
    """What the columns alone tell, to a plan too."""
    if all(column.kind == "id" for column in schema.learnt):
        raise DataError(
            f"source.url: '{recipe.source.url}': every column is taken for an id ({', '.join(schema.learnt.names)}), and ids are made "
            "anew, so that nothing is left to learn. Set schema.columns.NAME.kind, or for CSV the option delimiter"
        )
    where = parse_where(recipe.generate.where, schema)
    model_parts.check_codec(recipe, schema, where)
    for key, text in recipe.expressions.items():
        Expression.parse(text, key).holds(schema.arrow.empty_table())
    filters_of(recipe, schema, knowledge_of(recipe) if recipe.filters else None)
    check_shares(where, schema, table=model_parts.parts_of(choose.assumed(recipe))["codec"]["use"] == "tabular")
    columns_of(recipe.generate.unique, schema)
    if recipe.mix is not None:
        mix.check(recipe.mix, schema)
    augment.ops_of(recipe, schema)
    if recipe.evaluate is not None and (target := recipe.evaluate.target) is not None and target not in schema:
        raise RecipeError(
            f"evaluate.target: no column '{target}'.{nearest(target, schema.names)} Columns: {', '.join(schema.names)}"
        )


def _check_machine(recipe: Recipe) -> None:
    """Of the embedded Ray, which would wait forever; a cluster may still grow."""
    if not is_embedded():
        return
    cpus = os.cpu_count() or 1
    if (recipe.train.min_workers or recipe.train.workers) > cpus:
        raise RecipeError(
            f"train.workers: {recipe.train.workers}, and this machine has {cpus} CPUs. "
            f"Ask for {cpus} at most, or name a cluster by RAY_ADDRESS"
        )
    for key, asked in (("train", recipe.train.use_gpu), ("generate", recipe.generate.use_gpu)):
        if asked is True and not has_gpu():
            raise RecipeError(
                f"{key}.use_gpu: true, and this machine has no GPU that torch can use. Say auto or false, or name a cluster by RAY_ADDRESS"
            )


def planned(recipe: Recipe) -> dict[str, Any]:
    """What would be made and what it would cost from nothing, from a listing of the input and its first rows (or from what the run has
    made): nothing is written. Bytes are an estimate: the real rows' own, before any is synthetic."""
    _check_holdout(recipe, STAGES[-1])
    files = prepare.check_source(recipe)
    row_bytes, seen = _seen(recipe, files)
    first = first_rows(recipe, files)
    check_columns(recipe, first.schema)
    recipe = choose.assumed(recipe)
    rows, columns = recipe.generate.rows, len(first.schema)
    size = recipe.generate.rows_per_part or rows_per_part(columns)
    return {
        "prepare": {"files": len(files), "bytes": sum(file.size_bytes for file in files)},
        "generate": {
            "rows": rows,
            "rows_per_part": size,
            "parts": -(-rows // size),
            "columns": columns,
            "bytes_estimated": round(rows * row_bytes),
            "estimated_from": seen,
        },
        "cost": cost(recipe, probe.estimates(recipe, first), foreseen_calls(recipe, first)),
    }


def _seen(recipe: Recipe, files: list[InputFile]) -> tuple[float, str]:
    """(bytes of a row, where that was seen)."""
    current = Run(recipe.run).current("prepared")
    if current is not None:
        facts, outcome = current.plan().facts, current.outcome() or {}
        same = {(entry["path"], entry["bytes"]) for entry in facts["snapshot"]} == {(file.path, file.size_bytes) for file in files}
        names = {column.name for column in Schema.from_json(facts["schema"])}
        if same and outcome.get("rows") and names >= set(recipe.derive):
            return outcome["bytes"] / outcome["rows"], "the prepared rows"
    source = prepare.source_of(recipe)
    shard, table = prepare.first_rows(recipe, source, source.shards(files))
    rows = table.drop_columns([*ROW_ID])
    return rows.nbytes / rows.num_rows, f"the first rows of '{shard.file.path}'"
