"""Prepared, augmented and synthetic rows → RUN/mixed/<id>/{train,validation,test}/: one data set, each row saying where it is from.

Where not all rows of a kind are taken, or values become folders, a first pass collects what decides it, some hashes a part; the second
writes, an output part for each input part. The hold-out goes to test/ and nowhere else.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.cluster.parts import FilesOf, write_parts
from raysynth.cluster.rows import map_ordered
from raysynth.commits import Table
from raysynth.draws import Words
from raysynth.errors import CorruptRunError, RecipeError
from raysynth.markers import canonical, digest
from raysynth.metrics.base import ORIGIN
from raysynth.mixing import (
    KINDS,
    Candidates,
    Kind,
    Selection,
    by_folder,
    candidates,
    check,
    check_folders,
    folders,
    is_taken,
    mix_words,
    rows_to_take,
    select,
    strata,
    with_origin,
)
from raysynth.progress import say
from raysynth.recipe import Mix, Recipe
from raysynth.runs import Folder, Plan, Run, folder_id, read_rows
from raysynth.schema import ROW_ID, Column, Schema
from raysynth.stores.base import join, store_for

__all__ = ["check", "check_rows", "mix_facts", "run"]

ROWS_VERSION = 2
_UNKNOWN_ROWS = 10**15
_SPLITS = {"validation": "validation", "holdout": "test"}  # of the prepared rows → of the mix


@dataclass(frozen=True)
class Input:
    """One part that is read: where it lies, how many rows of its kind come before it, how many it has, and the split it goes to."""

    kind: Kind
    split: str
    url: str
    first: int
    rows: int


@dataclass(frozen=True)
class Glimpse:
    """What the first pass saw of one input; candidates where its kind is not taken whole."""

    columns: pa.Schema
    candidates: Candidates | None
    folders: list[str]


@dataclass(frozen=True)
class Job:
    """What every worker needs. `shares`: of the kinds that are not taken whole, how much is; `selection`: which rows."""

    mix: Mix
    schema: Schema
    seed: int
    shares: Mapping[Kind, float]
    selection: Mapping[Kind, Selection] = field(default_factory=dict[Kind, Selection])
    extras: tuple[Column, ...] = ()

    @property
    def columns(self) -> Schema:
        return Schema((*self.schema.columns, *self.extras))

    def chooses(self, one: Input) -> bool:
        return one.split == "train" and one.kind in self.shares

    def words(self, one: Input, rows: pa.Table) -> Words:
        return mix_words(one.kind, rows, self.schema, seed=self.seed, first=one.first)


def run(recipe: Recipe, run: Run, prepared: Folder, augmented: Folder | None, synthetic: Folder) -> Folder:
    """DataError if it asks for more rows of a kind than there are, or for too many folders. The recipe's `mix` must not be null."""
    if recipe.mix is None:
        raise RecipeError("mix: null, so there is nothing to mix. Give it at least one of real, augmented and synthetic")
    schema = Schema.from_json(prepared.plan().facts["schema"])
    check(recipe.mix, schema)
    folder = run.folder("mixed", folder_id(mix_facts(recipe, prepared, augmented, synthetic)))
    if not folder.committed:
        found = _inputs(prepared, augmented, synthetic)
        available: dict[Kind, int] = {
            kind: sum(one.rows for one in found if (one.kind, one.split) == (kind, "train")) for kind in KINDS
        }
        taken = rows_to_take(recipe.mix, available)
        inputs = [one for one in found if one.split != "train" or taken[one.kind]]
        shares: dict[Kind, float] = {kind: taken[kind] / available[kind] for kind in KINDS if 0 < taken[kind] < available[kind]}
        job = _looked_at(Job(recipe.mix, schema, recipe.seed, shares), inputs, taken, workers=recipe.generate.workers)
        plan = _plan(inputs, available, taken, job)
        write_parts(folder, plan, partial(_make, job, inputs), stage="mix", workers=recipe.generate.workers, keep=False)
        say(stage="mix", **{f"{kind}_rows": rows for kind, rows in taken.items()})
    _check_counts(folder)
    run.point("mixed", folder)
    return folder


def check_rows(asked: Mix, prepared: Folder, *, synthetic_rows: int) -> None:
    """Before anything is trained: DataError if it asks for more rows of a kind than there will be (of augmented ones nobody knows yet)."""
    real = sum(entry["rows"] for entry in prepared.manifest().to_pylist() if entry["sub"].split("/")[0] == "train")
    rows_to_take(asked, {"real": real, "augmented": _UNKNOWN_ROWS, "synthetic": synthetic_rows})


def mix_facts(recipe: Recipe, prepared: Folder, augmented: Folder | None, synthetic: Folder) -> dict[str, Any]:
    """What decides the bytes of the mix, and nothing else."""
    used = augmented if recipe.mix is not None and recipe.mix.augmented else None
    return {
        "stage": "mix",
        "rows_version": ROWS_VERSION,
        "read": {folder.name: folder.id.split(".")[0] for folder in (prepared, used, synthetic) if folder is not None},
        "mix": recipe.model_dump(mode="json")["mix"],
        "seed": recipe.seed,
        "pyarrow": pa.__version__,
    }


def _inputs(prepared: Folder, augmented: Folder | None, synthetic: Folder) -> list[Input]:
    found = _parts("real", "train", prepared, "train")
    found += _parts("augmented", "train", augmented, "") if augmented is not None else []
    found += _parts("synthetic", "train", synthetic, "")
    for sub, split in _SPLITS.items():
        found += _parts("real", split, prepared, sub)
    return found


def _parts(kind: Kind, split: str, folder: Folder, sub: str) -> list[Input]:
    rows = {
        join(folder.url, *filter(None, (entry["sub"], entry["name"]))): entry["rows"] for entry in folder.manifest().to_pylist()
    }
    found: list[Input] = []
    first = 0
    for url in folder.part_urls(sub):
        found.append(Input(kind, split, url, first, rows[url]))
        first += rows[url]
    return found


def _plan(inputs: list[Input], available: Mapping[Kind, int], taken: Mapping[Kind, int], job: Job) -> Plan:
    """Counts and places, never a value: of what is taken, only the hash."""
    selection = {
        kind: sorted(([value or "", value is None, asdict(last)] for value, last in chosen.items()), key=str)
        for kind, chosen in job.selection.items()
    }
    facts = {
        "inputs": [[one.kind, one.split, one.url.rsplit("/", 1)[1], one.rows] for one in inputs],
        "available": dict(available),
        "train": dict(taken),
        **{split: sum(one.rows for one in inputs if one.split == split) for split in _SPLITS.values()},
        "strata": {kind: len(chosen) for kind, chosen in job.selection.items()},
        "selection": digest(canonical(selection)),
        "columns": job.columns.to_json(),
    }
    return Plan(len(inputs), facts)


# The first pass


def _looked_at(job: Job, inputs: list[Input], taken: Mapping[Kind, int], *, workers: int, near: bool = True) -> Job:
    """The job with what only the rows tell: which are taken, and the columns that augmented rows have beside the schema's."""
    partitioned = any(column != ORIGIN for column in job.mix.partition_by)
    asked = [one for one in inputs if partitioned or job.chooses(one) or one.kind == "augmented"]
    glimpses: list[Glimpse] = map_ordered(asked, partial(_glimpser, job, near), workers=workers)
    check_folders(name for glimpse in glimpses for name in glimpse.folders)
    seen = list(zip(asked, glimpses, strict=True))
    selection: dict[Kind, Selection] = {}
    for kind in job.shares:
        parts = [glimpse.candidates for one, glimpse in seen if one.kind == kind and glimpse.candidates is not None]
        chosen = select(parts, taken[kind])
        if chosen is None:  # hashes that are not spread as they should be: once in the age of the universe
            return _looked_at(job, inputs, taken, workers=workers, near=False)
        selection[kind] = chosen
    extras = _extras(job.schema, [glimpse.columns for one, glimpse in seen if one.kind == "augmented"])
    return replace(job, selection=selection, extras=extras)


def _glimpser(job: Job, near: bool) -> Callable[[Input], Glimpse]:
    data_columns = [column for column in (*job.mix.partition_by, job.mix.stratify_by) if column not in (None, ORIGIN)]

    def glimpse(one: Input) -> Glimpse:
        file = pq.ParquetFile(pa.BufferReader(store_for(one.url).read(one.url)))
        ids = [] if one.kind == "synthetic" else list(ROW_ID)
        every = one.kind == "augmented" and job.chooses(one)  # their contents decide
        rows = file.read() if every else file.read(columns=[*ids, *dict.fromkeys(data_columns)])
        rows = rows.append_column(ORIGIN, pa.repeat(pa.scalar(one.kind, pa.string()), rows.num_rows))
        names = [str(name) for name in folders(rows, job.mix.partition_by).unique().to_pylist()] if job.mix.partition_by else []
        check_folders(names)
        if not job.chooses(one):
            return Glimpse(file.schema_arrow, None, names)
        share = job.shares[one.kind] if near else None
        codes, values = strata(rows, job.mix.stratify_by)
        return Glimpse(file.schema_arrow, candidates(job.words(one, rows), one.first, codes, values, share), names)

    return glimpse


def _extras(schema: Schema, augmented: list[pa.Schema]) -> tuple[Column, ...]:
    """What augmented rows have beside the schema's columns, such as mixup's second label."""
    found: dict[str, Column] = {}
    for columns in augmented:
        for column in columns:
            if column.name not in schema and column.name not in (*ROW_ID, ORIGIN):
                kind = "number" if pa.types.is_floating(column.type) else "category"
                found.setdefault(column.name, Column(column.name, kind, column.type, derived=True))
    return tuple(found.values())


# The second


def _make(job: Job, inputs: list[Input]) -> FilesOf:
    """On a worker: a part is one input, of it what is taken, by folder."""
    columns, extras = job.columns.arrow, [column.name for column in job.extras]

    def files_of(part: int) -> Iterable[Table]:
        one = inputs[part]
        rows = read_rows(one.url)
        if job.chooses(one):
            codes, values = strata(rows, job.mix.stratify_by)
            rows = rows.filter(pa.array(is_taken(job.words(one, rows), one.first, codes, values, job.selection[one.kind])))
        for name, table in by_folder(with_origin(rows, columns, one.kind, extras), job.mix.partition_by):
            yield f"{one.split}/{name}", table

    return files_of


def _check_counts(folder: Folder) -> None:
    """CorruptRunError unless the manifest has exactly what the plan asks for, kind by kind and split by split."""
    facts = folder.plan().facts
    found: Counter[str] = Counter()
    for entry in folder.manifest().to_pylist():
        kind, split = facts["inputs"][entry["part"]][:2]
        if entry["sub"].split("/")[0] != split:
            raise CorruptRunError(f"{folder.path}: part {entry['part']} lies in {entry['sub']}, not in {split}. {_AGAIN}")
        found[kind if split == "train" else split] += entry["rows"]
    asked = {**facts["train"], **{split: facts[split] for split in _SPLITS.values()}}
    for name, rows in asked.items():
        if found[name] != rows:
            raise CorruptRunError(f"{folder.path}: {rows:,} rows of {name} were asked for, and it has {found[name]:,}. {_AGAIN}")


_AGAIN = "Something outside raysynth changed it: delete the folder, then run the same command again"
