"""A run with a committed mix and nothing else, made without Ray."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from raysynth.commits import commit, write_task
from raysynth.metrics.base import ORIGIN
from raysynth.mixing import by_folder
from raysynth.runs import Plan, Run
from raysynth.schema import Column, Schema


def mixed(url: str, splits: Mapping[str, pa.Table], kinds: Mapping[str, str], partition_by: Sequence[str] = ()) -> str:
    """The run's URL. `splits`: train and test rows, each with `_origin`, a part each; `kinds`: column → text, category …"""
    run = Run(url)
    folder = run.folder("mixed", "0123456789ab")
    rows = list(splits.items())
    columns = [Column(name, kinds[name], rows[0][1].schema.field(name).type) for name in rows[0][1].column_names if name != ORIGIN]  # type: ignore[arg-type]
    plan = Plan(len(rows), {"columns": Schema(tuple(columns)).to_json()})
    folder.write_plan(plan)

    def files_of(part: int) -> list[tuple[str, pa.Table]]:
        split, table = rows[part]
        return [(f"{split}/{name}".rstrip("/"), piece) for name, piece in by_folder(table, partition_by)]

    write_task(folder, plan, range(plan.parts), files_of)
    commit(folder, plan)
    run.point("mixed", folder)
    return run.url
