"""`raysynth preview`: row i is row i of the data set, whatever the run has made since."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from shop import filtered
from typer.testing import CliRunner

from raysynth.cli import app
from raysynth.runs import Folder, Run, read_rows


def previewed(run: Run, *words: str) -> list[dict[str, Any]]:
    told = CliRunner().invoke(app, ["preview", run.url, "-n", "20", *words])
    assert told.exit_code == 0, told.output
    return [json.loads(line) for line in told.output.splitlines()]


def as_told(rows: pa.Table) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(row, default=str)) for row in rows.to_pylist()]


def current(run: Run, name: str) -> Folder:
    folder = run.current(name)
    assert folder is not None
    return folder


def test_a_model_that_was_trained_since_does_not_change_the_rows(publish: Callable[..., str], tmp_path: Path) -> None:
    run = Run(publish(str(tmp_path / "shop"), rows=60))
    synthetic, model = current(run, "synthetic"), current(run, "model")
    rows = read_rows(synthetic.part_urls()[0])
    publish(run.url, epochs=1, rows=60)
    assert current(run, "model").id != model.id
    run.point("synthetic", synthetic)
    assert previewed(run) == as_told(rows.slice(0, 20))
    assert previewed(run, "--offset", "13") == as_told(rows.slice(13, 20))
    assert {row["sold"] for row in previewed(run, "--where", "sold=true")} == {True}


def test_filters_are_met_as_in_the_data_set(publish: Callable[..., str], tmp_path: Path) -> None:
    run = Run(publish(str(tmp_path / "shop"), rows=60))
    free = previewed(run)
    filtered(run.url, rows=60, filters=[{"use": "text.without", "column": "grade", "terms": ["plain"]}])
    rows = as_told(read_rows(current(run, "synthetic").part_urls()[0]).slice(0, 20))
    assert previewed(run) == rows != free
