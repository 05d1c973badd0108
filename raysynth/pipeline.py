"""The stages in their order: each is given what the one before committed, and skips what is done."""

import os
from dataclasses import dataclass
from typing import Any

from raysynth.cluster.session import is_embedded, one_session
from raysynth.errors import DataError, RecipeError
from raysynth.expressions import Expression
from raysynth.progress import say
from raysynth.recipe import Recipe
from raysynth.runs import Folder, Run
from raysynth.schema import ROW_ID, Schema
from raysynth.sources.base import InputFile
from raysynth.stages import generate, prepare, publish, train
from raysynth.where import parse_where

STAGES = ("prepare", "train", "generate", "publish")


@dataclass
class Made:
    """The folders that the stages made or found."""

    prepared: Folder | None = None
    model: Folder | None = None
    synthetic: Folder | None = None
    published: bool = False


def run_to(recipe: Recipe, last: str = STAGES[-1]) -> Made:
    """All stages up to `last`, on one connected Ray that is only started if something is left to make."""
    run, made = Run(recipe.run), Made()
    check(recipe, run)
    with one_session():
        made.prepared = prepare.run(recipe, run)
        if last == "prepare":
            return made
        check_asked(recipe, made.prepared)
        made.model = train.run(recipe, run, made.prepared)
        if last == "train":
            return made
        made.synthetic = generate.run(recipe, run, made.prepared, made.model)
        if last == "generate":
            return made
        publish.run(recipe, run, made.synthetic)
        made.published = True
    return made


def check(recipe: Recipe, run: Run) -> None:
    """Refuses, before Ray starts and before the run's folder is touched, what cannot come to an end: no input, no such device, no store."""
    prepare.check_source(recipe)
    _check_machine(recipe)
    for warning in run.store.check(run.url, write=True):
        say(stage="store", warning=warning)


def check_asked(recipe: Recipe, prepared: Folder) -> None:
    """What is known once the columns are, before hours of training: RecipeError on a rule or a condition that does not fit them,
    DataError where all are ids."""
    schema = Schema.from_json(prepared.plan().facts["schema"])
    if all(column.kind == "id" for column in schema.learnt):
        raise DataError(
            f"source.url: '{recipe.source.url}': every column is taken for an id ({', '.join(schema.learnt.names)}), and ids are made "
            "anew, so that nothing is left to learn. Set schema.columns.NAME.kind, or for CSV the option delimiter"
        )
    for number, text in enumerate(recipe.rules):
        Expression.parse(text, f"rules.{number}").holds(schema.arrow.empty_table())
    parse_where(recipe.generate.where, schema)


def _check_machine(recipe: Recipe) -> None:
    """Of the embedded Ray, which would wait forever; a cluster may still grow."""
    if not is_embedded():
        return
    cpus = os.cpu_count() or 1
    if recipe.train.workers > cpus:
        raise RecipeError(
            f"train.workers: {recipe.train.workers}, and this machine has {cpus} CPUs. "
            f"Ask for {cpus} at most, or name a cluster by RAY_ADDRESS"
        )
    if recipe.train.use_gpu is True:
        import torch

        if not torch.cuda.is_available():
            raise RecipeError(
                "train.use_gpu: true, and this machine has no GPU that torch can use. Say auto or false, or name a cluster by RAY_ADDRESS"
            )


def planned(recipe: Recipe) -> dict[str, Any]:
    """What would be made, from a listing of the input and its first rows (or, where the run has prepared it, from those): nothing is
    written. Bytes are an estimate: the real rows' own, before any is synthetic."""
    files = prepare.check_source(recipe)
    columns, row_bytes, seen = _seen(recipe, files)
    rows = recipe.generate.rows
    size = recipe.generate.rows_per_part or generate.rows_per_part(columns)
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
    }


def _seen(recipe: Recipe, files: list[InputFile]) -> tuple[int, float, str]:
    """(columns of the synthetic rows, bytes of a row, where that was seen)."""
    current = Run(recipe.run).current("prepared")
    if current is not None:
        facts, outcome = current.plan().facts, current.outcome() or {}
        same = {(entry["path"], entry["bytes"]) for entry in facts["snapshot"]} == {(file.path, file.size_bytes) for file in files}
        names = {column.name for column in Schema.from_json(facts["schema"])}
        if same and outcome.get("rows") and names >= set(recipe.derive):
            return len(names), outcome["bytes"] / outcome["rows"], "the prepared rows"
    source = prepare.source_of(recipe)
    shard, table = prepare.first_rows(recipe, source, source.shards(files))
    rows = table.drop_columns([*ROW_ID])
    return rows.num_columns + len(recipe.derive), rows.nbytes / rows.num_rows, f"the first rows of '{shard.file.path}'"
