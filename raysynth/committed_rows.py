"""What a run has committed → its rows, table by table, in the columns of their schema; of a mix, with those that its folders tell."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds

from raysynth.draws import Draws
from raysynth.errors import DataError
from raysynth.metrics.base import ORIGIN
from raysynth.runs import Folder, Run, read_rows
from raysynth.schema import Column, Schema

Rows = Literal["mixed", "synthetic", "real"]
_FOLDERS: dict[Rows, str] = {"mixed": "mixed", "synthetic": "synthetic", "real": "prepared"}
_REMEDIES: dict[Rows, str] = {
    "mixed": "Give the recipe the key `mix` and run it, or say --rows synthetic or --rows real",
    "synthetic": "Run: raysynth generate RECIPE",
    "real": "Run: raysynth prepare RECIPE",
}


@dataclass(frozen=True)
class Committed:
    """The rows of one committed folder. `schema`: what can be told of each; of a mix with `_origin` last."""

    rows: Rows
    folder: Folder
    schema: Schema

    def tables(self, split: Literal["train", "test"], most: int) -> Iterator[pa.Table]:
        """About `most` rows of a split, or all: which ones, their numbers tell alone. Synthetic rows are all of the train split."""
        sub = {"mixed": split, "synthetic": "", "real": {"train": "train", "test": "holdout"}[split]}[self.rows]
        urls = [] if self.rows == "synthetic" and split == "test" else self.folder.part_urls(sub)
        counts = {
            url: int(rows or 0)
            for url, rows in zip(self.folder.part_urls(), self.folder.manifest()["rows"].to_pylist(), strict=True)
        }
        share = min(1.0, most / max(1, sum(counts[url] for url in urls)))
        first = 0
        for url in urls:
            rows = read_rows(url)
            if self.rows == "mixed":
                rows = with_folders(rows, url, self.schema, split)
            taken = Draws.range(0, "committed", first, first + rows.num_rows).uniform("row") < share
            first += rows.num_rows
            yield rows.select(self.schema.names).filter(pa.array(taken))


def committed(run: Run, rows: Rows) -> Committed:
    """The run's current folder of such rows. DataError, naming what to do, where there is none."""
    folder = run.current(_FOLDERS[rows])
    if folder is None:
        raise DataError(f"run '{run.url}': it has no {rows} rows. {_REMEDIES[rows]}")
    if rows == "mixed":
        columns = Schema.from_json(folder.plan().facts["columns"])
        return Committed(rows, folder, columns.with_column(Column(ORIGIN, "category", pa.string(), nullable=False)))
    if rows == "real":
        return Committed(rows, folder, Schema.from_json(folder.plan().facts["schema"]))
    model = run.current("model")
    if model is None:
        raise DataError(f"run '{run.url}': its synthetic rows are there, and the model that made them is not. Copy the whole run")
    return Committed(rows, folder, Schema.from_json(model.read_json("model.json")["schema"]))


def with_folders(rows: pa.Table, url: str, schema: Schema, split: str = "train") -> pa.Table:
    """A part of a mix with the columns that stand in its path alone, below the split's folder (Hive's partitions)."""
    steps = [step for step in url.rsplit(f"/{split}/", 1)[1].split("/") if "=" in step]
    types = {ORIGIN: pa.string(), **{column.name: column.type for column in schema}}
    fields = [pa.field(name, types[name]) for name in (unquote(step.partition("=")[0]) for step in steps)]
    found = ds.get_partition_keys(ds.partitioning(pa.schema(fields), flavor="hive").parse("/".join([*steps, ""])))
    for field in fields:  # a null has no key
        value: Any = pa.scalar(found.get(field.name), field.type)
        rows = rows.append_column(field, pa.repeat(value, rows.num_rows))
    return rows
