"""The whole flow on a real local Ray: exact, reproducible, resumable."""

import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysynth.audit import verify
from raysynth.errors import RecipeError
from raysynth.models import load_model
from raysynth.pipeline import Made, run_to
from raysynth.recipe_files import load_recipe
from raysynth.runs import Folder, Run
from raysynth.sampler import Sampler

RECIPE = """
evaluate: null
name: wine
source: examples://wine
run: {run}
derive: {{strong: "alcohol > 13"}}
rules: ["alcohol > 11"]
train: {{max_epochs: 2}}
generate: {{rows: 10003, rows_per_part: 1000, workers: 2}}
"""


def recipe_file(folder: Path, run: str | None = None) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(run=run or folder / "run"))
    return path


def made(path: Path, *overrides: str) -> Made:
    return run_to(load_recipe(path, overrides))


def names(folder: Folder | None) -> list[str]:
    assert folder is not None
    return folder.manifest()["name"].to_pylist()


@pytest.fixture(scope="module")
def golden(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    path = recipe_file(tmp_path_factory.mktemp("golden"))
    return path, made(path)


def test_exactly_the_rows_asked_for_are_committed_and_each_is_valid(golden: tuple[Path, Made]) -> None:
    path, first = golden
    assert first.synthetic is not None
    tables = [pq.read_table(url.removeprefix("file://")) for url in first.synthetic.part_urls()]
    assert [table.num_rows for table in tables] == [1000] * 10 + [3]
    for table in tables:
        assert min(table["alcohol"].to_pylist()) > 11
        assert table["strong"].to_pylist() == [value > 13 for value in table["alcohol"].to_pylist()]
    assert verify(Run(load_recipe(path).run)).whole


def test_running_again_makes_nothing(golden: tuple[Path, Made]) -> None:
    path, first = golden
    before = {file: file.stat().st_mtime_ns for file in path.parent.rglob("*") if file.is_file()}
    assert made(path) == first
    assert {file: file.stat().st_mtime_ns for file in path.parent.rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_another_number_of_workers_gives_the_same_bytes(golden: tuple[Path, Made], tmp_path: Path) -> None:
    assert names(made(recipe_file(tmp_path), "generate.workers=1").synthetic) == names(golden[1].synthetic)


def test_a_row_asked_for_alone_is_the_row_of_the_data_set(golden: tuple[Path, Made]) -> None:
    path, first = golden
    assert first.model is not None and first.synthetic is not None
    sampler = Sampler(load_model(first.model), seed=7, rules=load_recipe(path).rules)
    part = pq.read_table(first.synthetic.part_urls()[3].removeprefix("file://"))
    assert sampler.range(3456, 3457).to_pylist() == part.slice(456, 1).to_pylist()


def test_more_rows_need_no_new_model_and_leave_the_first_data_set(golden: tuple[Path, Made]) -> None:
    path, first = golden
    second = made(path, "generate.rows=12000")
    assert second.model == first.model and second.synthetic != first.synthetic
    assert names(second.synthetic)[:10] == names(first.synthetic)[:10]
    assert verify(Run(load_recipe(path).run)).whole


def test_a_rule_that_the_real_rows_break_is_refused_with_its_count(golden: tuple[Path, Made]) -> None:
    with pytest.raises(RecipeError, match=r"'alcohol > 13' is broken by \d+ of \d+ real train rows"):
        made(golden[0], 'rules=["alcohol > 13"]')


def test_a_run_copied_to_another_url_verifies_and_resumes(golden: tuple[Path, Made], tmp_path: Path) -> None:
    path, first = golden
    copy = tmp_path / "copied"
    subprocess.run(["cp", "-r", str(load_recipe(path).run), str(copy)], check=True)
    assert verify(Run(str(copy))).whole
    again = made(path, f"run={copy}", "generate.rows=11000")
    assert again.model is not None and first.model is not None and again.model.id == first.model.id


@pytest.mark.slow
def test_training_workers_that_hold_every_cpu_end_all_the_same_with_the_same_bits(cluster: None, tmp_path: Path) -> None:
    models = [made_in(tmp_path / name, "train.workers=4", "generate.rows=100") for name in ("one", "two")]
    assert models[0].manifest()["sha256"].to_pylist() == models[1].manifest()["sha256"].to_pylist()


def made_in(folder: Path, *overrides: str) -> Folder:
    folder.mkdir()
    model = run_to(load_recipe(recipe_file(folder), overrides), "train").model
    assert model is not None
    return model
