"""What a run tells of itself on a real Ray: exact counters, a cost inside the plan's interval; and a budget that stops it in between."""

import shutil
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysynth.errors import StoppedError
from raysynth.pipeline import Made, planned, run_to
from raysynth.recipe_files import load_recipe
from raysynth.runs import Folder, Run
from raysynth.status import Watch

RECIPE = """
evaluate: null
name: wine
source: examples://wine
run: {run}
rules: ["alcohol > 11.5"]
train: {{max_epochs: 2}}
generate: {{rows: 40003, rows_per_part: 1000, workers: 2}}
"""
SCRAPE_SECONDS = 300
"""Workers tell the agent every ten seconds."""


def recipe_file(run: Path) -> Path:
    path = run.with_suffix(".yaml")
    path.write_text(RECIPE.format(run=run))
    return path


def made(path: Path, *overrides: str) -> Made:
    return run_to(load_recipe(path, overrides), "generate")


@pytest.fixture(scope="module")
def golden(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    path = recipe_file(tmp_path_factory.mktemp("watched") / f"wine-{time.time_ns()}")  # a name that no other run's counters bear
    return path, made(path)


def scraped(run: str) -> dict[str, float]:
    """The run's counters and gauges on the metrics ports of all nodes: `name stage` → value."""
    import ray

    found: dict[str, float] = {}
    for node in ray.nodes():
        url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
        for line in urllib.request.urlopen(url, timeout=30).read().decode().splitlines():
            if line.startswith("ray_raysynth_") and f'run="{run}"' in line:
                stage = line.partition('stage="')[2].partition('"')[0]
                name = f"{line.partition('{')[0]} {stage}".strip()
                found[name] = found.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
    return found


def until(holds: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + SCRAPE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.5)


def rejects(folder: Folder) -> int:
    return sum(sum(part.extra.get("rejects", {}).values()) for marker in folder.markers() for part in marker.parts)


def test_counters_are_what_was_committed(golden: tuple[Path, Made]) -> None:
    path, run = golden
    assert run.prepared is not None and run.synthetic is not None and run.model is not None
    outcome, prepared = run.synthetic.outcome() or {}, run.prepared.outcome() or {}
    expected = {
        "ray_raysynth_rows_total prepare": prepared["rows"],
        "ray_raysynth_parts_total prepare": prepared["parts"],
        "ray_raysynth_bytes_total prepare": prepared["bytes"],
        "ray_raysynth_rows_total generate": 40003,
        "ray_raysynth_parts_total generate": 41,
        "ray_raysynth_bytes_total generate": outcome["bytes"],
        "ray_raysynth_rejects_total generate": rejects(run.synthetic),
    }
    for stage, folder in (("prepare", run.prepared), ("train", run.model), ("generate", run.synthetic)):
        expected[f"ray_raysynth_stage_seconds_total {stage}"] = folder.read_json("_raysynth/timing.json")["seconds"]
    assert expected["ray_raysynth_rejects_total generate"] > 0, "no row was turned down: nothing would be proved of rejects"
    name = path.stem
    until(lambda: expected.items() <= scraped(name).items(), lambda: (expected, scraped(name)))


def test_what_each_stage_costs_lies_in_the_plan_s_interval(golden: tuple[Path, Made], tmp_path: Path) -> None:
    path, run = golden
    plan = planned(load_recipe(path, [f"run={tmp_path / 'none'}"]))["cost"]["stages"]
    assert not (tmp_path / "none").exists()
    for stage, folder in (("prepare", run.prepared), ("train", run.model), ("generate", run.synthetic)):
        assert folder is not None
        spent = folder.read_json("_raysynth/timing.json")["cpu_seconds"]
        interval = plan[stage]["cpu_seconds"]
        low = 0.0 if stage == "prepare" else interval["low"]  # this Ray runs already
        assert low <= spent <= interval["high"], (stage, spent, interval)
    again = planned(load_recipe(path))["cost"]["stages"]
    assert run.model is not None and again["train"]["estimated_from"] == f"what {run.model.path} cost"


def without_synthetic(golden: tuple[Path, Made], run: Path) -> Path:
    """A copy of the run in which nothing is generated yet."""
    source = Path(load_recipe(golden[0]).run)
    shutil.copytree(
        source, run, ignore=lambda folder, names: {"synthetic", "run.json"} & set(names) if folder == str(source) else set()
    )
    return recipe_file(run)


def test_a_tiny_budget_stops_between_two_tasks_and_a_larger_one_ends_with_the_same_parts(
    golden: tuple[Path, Made], tmp_path: Path
) -> None:
    path = without_synthetic(golden, tmp_path / "capped")
    with pytest.raises(
        StoppedError, match=r"budget\.cpu_hours: 1e-09, and \S+ CPU-hours are spent\. What is made stays"
    ) as stopped:
        made(path, "budget.cpu_hours=1e-9")
    assert stopped.value.exit_code == 4
    (told,) = [
        folder["unfinished"] for folder in Watch(Run(str(tmp_path / "capped"))).look()["folders"].values() if "unfinished" in folder
    ]
    assert 1 <= told["parts"] < 41 and told["of"] == 41
    for file in (tmp_path / "capped" / "synthetic").rglob("*.parquet"):
        assert pq.read_metadata(file).num_rows in (1000, 3)
    ended = made(path, "budget.cpu_hours=100").synthetic
    assert ended is not None and golden[1].synthetic is not None
    assert ended.manifest()["name"].to_pylist() == golden[1].synthetic.manifest()["name"].to_pylist()


@pytest.mark.slow
def test_every_command_with_a_tiny_budget_makes_something_so_that_repeating_it_ends(
    golden: tuple[Path, Made], tmp_path: Path
) -> None:
    path = recipe_file(tmp_path / "poor")
    for _ in range(60):  # 41 parts, 2 epochs, and an edge of each stage
        try:
            ended = made(path, "budget.cpu_hours=1e-9").synthetic
            break
        except StoppedError as stopped:
            assert "budget.cpu_hours" in str(stopped)
    else:
        pytest.fail("it goes on for ever")
    assert ended is not None and golden[1].synthetic is not None
    assert ended.manifest()["name"].to_pylist() == golden[1].synthetic.manifest()["name"].to_pylist()
