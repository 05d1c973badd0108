"""The same bytes whatever the workers, the ranges of tasks, their order, and the cut of the input."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_breast_cancer

from raysynth.commits import commit, write_task
from raysynth.pipeline import Made, run_to
from raysynth.recipe_files import load_recipe
from raysynth.runs import Folder, Run, rows_plan
from raysynth.stages import generate

RECIPE = """
evaluate: null
name: cancer
source: {{use: parquet, url: "{source}", shard_bytes: {shard_bytes}}}
run: {run}
generator: {{use: autoregressive, hidden: 32}}
train: {{max_epochs: 2}}
generate: {{rows: 250003, rows_per_part: 10000, workers: {workers}}}
"""


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    frame = load_breast_cancer(as_frame=True).frame
    return pa.table({name.replace(" ", "_"): frame[name].to_numpy() for name in [*list(frame.columns)[:5], "target"]})


def made(folder: Path, rows: pa.Table, *, run: str, workers: int, shard_bytes: int, last: str = "publish") -> Made:
    source = folder / f"source-{run}"
    source.mkdir(exist_ok=True)
    names = ["b.parquet", "a.parquet"] if workers % 2 else ["a.parquet", "b.parquet"]  # written, so listed, in another order
    halves = {"a.parquet": rows.slice(0, 300), "b.parquet": rows.slice(300)}
    for name in names:
        pq.write_table(halves[name], source / name, row_group_size=50)
    path = folder / f"{run}.yaml"
    path.write_text(RECIPE.format(source=source, run=folder / run, workers=workers, shard_bytes=shard_bytes))
    return run_to(load_recipe(path), last)


def hashes(folder: Folder | None, column: str = "sha256") -> list[str]:
    assert folder is not None
    return folder.manifest()[column].to_pylist()


@pytest.fixture(scope="module")
def golden(cluster: None, rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    folder = tmp_path_factory.mktemp("exact")
    return folder, made(folder, rows, run="golden", workers=2, shard_bytes=1 << 20)


def test_250_003_rows_asked_250_003_got(golden: tuple[Path, Made]) -> None:
    folder = golden[1].synthetic
    assert folder is not None
    counts = [pq.ParquetFile(url.removeprefix("file://")).metadata.num_rows for url in folder.part_urls()]
    assert counts == [10_000] * 25 + [3]


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_the_input_cut_anew_and_other_workers_give_the_same_model_and_rows(
    golden: tuple[Path, Made], rows: pa.Table, workers: int
) -> None:
    folder, first = golden
    other = made(folder, rows, run=f"workers-{workers}", workers=workers, shard_bytes=4000)
    assert other.prepared is not None and other.prepared.plan().parts > 2
    assert hashes(other.model) == hashes(first.model)
    assert hashes(other.synthetic) == hashes(first.synthetic)


def test_any_ranges_of_tasks_in_any_order_give_the_same_parts(golden: tuple[Path, Made], tmp_path: Path) -> None:
    folder, first = golden
    assert first.model is not None and first.synthetic is not None
    recipe = load_recipe(folder / "golden.yaml")
    plan = rows_plan(250_003, 10_000)
    facts = generate.order_of(recipe, first.model).facts()
    shuffled = Run(str(tmp_path / "run")).folder("synthetic", first.synthetic.id)
    files_of = generate.make_files(recipe, shuffled, first.model, plan, facts["fingerprint"])
    ranges = [
        range(20, 26),
        range(0, 3),
        range(2, 9),
        range(9, 10),
        range(10, 21),
    ]  # in no order, and overlapping, as after a resume
    for parts in ranges:
        write_task(shuffled, plan, parts, files_of)
    commit(shuffled, plan)
    assert hashes(shuffled) == hashes(first.synthetic)
