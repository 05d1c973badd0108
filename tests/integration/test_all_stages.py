"""Everything on: prepare, augment, train, generate, mix, evaluate, publish, from one recipe and by the command line's own function."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from raysynth.audit import verify
from raysynth.pipeline import Made, run_to
from raysynth.recipe_files import load_recipe
from raysynth.runs import Run

RECIPE = """
name: cancer
source: examples://breast-cancer
run: {run}
prepare: {{holdout: 0.3}}
augment: [{{use: tabular.jitter, copies: 2}}, {{use: tabular.mixup, target: target}}]
train: {{max_epochs: 2, augmented: true}}
generate: {{rows: 1000, rows_per_part: 300, workers: {workers}}}
mix: {{real: 1.0, augmented: 0.5, synthetic: 0.5, stratify_by: target, partition_by: [target]}}
evaluate: {{target: target, gates: ["exact_copies == 0", "utility_mix > 0.5"]}}
"""


def made(folder: Path, workers: int = 2) -> Made:
    folder.mkdir(exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(run=folder / "run", workers=workers))
    return run_to(load_recipe(path))


@pytest.fixture(scope="module")
def golden(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    folder = tmp_path_factory.mktemp("all") / "golden"
    return folder, made(folder)


def test_every_stage_is_committed_published_and_told(golden: tuple[Path, Made]) -> None:
    folder, first = golden
    assert list(first.folders) == ["prepared", "augmented", "model", "synthetic", "mixed", "evaluation"]
    run = Run(str(folder / "run"))
    found = verify(run)
    assert found.whole and not found.foreign
    published = run.published()
    assert published is not None and published["forced"] is False
    kinds = {name: entry["contains_real_rows"] for name, entry in published["folders"].items()}
    assert kinds == {"synthetic": False, "mixed": True}
    card = (folder / "run" / "README.md").read_text()
    assert "exact_copies" in card and "1,000" in card
    assert first.evaluation is not None
    page = first.evaluation.read("report.html").decode()
    assert page.count("<svg") > 10 and "jitter" in page


def test_the_mix_has_the_counts_that_were_asked_for(golden: tuple[Path, Made]) -> None:
    _, first = golden
    assert first.mixed is not None and first.prepared is not None and first.augmented is not None
    rows = {split: ds.dataset(str(first.mixed.url.removeprefix("file://")) + f"/{split}", partitioning="hive").to_table()
            for split in ("train", "validation", "test")}  # fmt: skip
    real = Counter[str]()
    for entry in first.prepared.manifest().to_pylist():
        real[entry["sub"]] += entry["rows"]
    augmented = sum(first.augmented.manifest()["rows"].to_pylist())
    assert augmented == 3 * real["train"]
    origins = Counter(rows["train"]["_origin"].to_pylist())
    assert origins == {"real": real["train"], "augmented": (augmented + 1) // 2, "synthetic": 500}
    for split, of in (("validation", "validation"), ("test", "holdout")):
        assert Counter(rows[split]["_origin"].to_pylist()) == {"real": real[of]}
    assert "target" in rows["train"].column_names


def test_running_again_makes_nothing(golden: tuple[Path, Made]) -> None:
    folder, first = golden
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file() and file.name != "recipe.yaml"}
    assert made(folder) == first
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file() and file.name != "recipe.yaml"} == before


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_other_workers_give_the_same_parts_and_scores(golden: tuple[Path, Made], workers: int) -> None:
    folder, first = golden
    other = folder.parent / f"workers-{workers}"
    shutil.copytree(folder, other)
    for name in ("augmented", "synthetic", "mixed", "evaluation"):
        shutil.rmtree(other / "run" / name)
    again = made(other, workers)
    for name in ("augmented", "synthetic", "mixed"):
        assert again.folders[name].manifest()["sha256"].to_pylist() == first.folders[name].manifest()["sha256"].to_pylist(), name
    assert again.folders["evaluation"].read("scores.json") == first.folders["evaluation"].read("scores.json")
    assert json.loads(first.folders["evaluation"].read("scores.json"))["rows"]["mix"] > 0
