"""Real SIGKILLs of workers and drivers at work: the run ends, and its model and parts are those of an undisturbed one."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from drivers import Driver

from raysynth.audit import verify
from raysynth.draws import Draws
from raysynth.pipeline import run_to
from raysynth.recipe_files import load_recipe
from raysynth.runs import Run

RECIPE = """
evaluate: null
name: cancer
source: examples://breast-cancer
train: {max_epochs: 8}
generate: {rows: 40000, rows_per_part: 200, workers: 2}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kills") / "cancer.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def golden(cluster: None, recipe: Path) -> list[str]:
    url = recipe.parent / "golden"
    run_to(load_recipe(recipe, [f"run={url}"]))
    return names(url)


def names(url: Path) -> list[str]:
    run = Run(str(url))
    model, synthetic = run.current("model"), run.current("synthetic")
    assert model is not None and synthetic is not None
    return [*model.manifest()["sha256"].to_pylist(), *synthetic.manifest()["name"].to_pylist()]


def test_a_run_that_is_struck_four_times_makes_what_an_undisturbed_one_makes(recipe: Path, golden: list[str]) -> None:
    """A worker and the driver of train, then a worker and the driver of generate, one after the other in one run."""
    url = recipe.parent / "struck"
    checkpoints, markers = "model/*/_raysynth/tmp/checkpoints/epoch-*", "synthetic/*/_raysynth/markers/*.json"
    first = Driver(recipe, url)
    first.wait_for(checkpoints)
    first.kill_worker("ray::RayTrainWorker")
    first.wait_for_newer(checkpoints)
    first.kill()
    assert Run(str(url)).current("model") is None, "it was killed too late to prove anything"
    second = Driver(recipe, url)
    second.wait_for(markers)
    second.kill_worker("ray::MapWorker")
    second.wait_for_newer(markers)
    second.kill()
    assert Run(str(url)).current("synthetic") is None, "it was killed too late to prove anything"
    before = {path: path.stat().st_mtime_ns for path in url.glob(markers)}
    Driver(recipe, url).end()
    assert names(url) == golden
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (timing,) = url.glob("model/*/*/timing.json")
    assert json.loads(timing.read_text())["went_on"] is True, "what a model cost two commands, the second one alone does not know"


@pytest.mark.slow
def test_killed_workers_of_train_and_of_generate_are_replaced(recipe: Path, golden: list[str]) -> None:
    url = recipe.parent / "workers"
    driver = Driver(recipe, url)
    driver.wait_for("model/*/_raysynth/tmp/checkpoints/epoch-*")
    driver.kill_worker("ray::RayTrainWorker")
    driver.wait_for("synthetic/*/_raysynth/markers/*.json")
    driver.kill_worker("ray::MapWorker")
    driver.end()
    assert names(url) == golden


@pytest.mark.slow
def test_a_driver_killed_in_training_goes_on_from_its_checkpoint(recipe: Path, golden: list[str]) -> None:
    url = recipe.parent / "driver"
    first = Driver(recipe, url)
    first.wait_for("model/*/_raysynth/tmp/checkpoints/epoch-*")
    first.kill()
    assert Run(str(url)).current("model") is None, "it was killed too late to prove anything"
    Driver(recipe, url).end()
    assert names(url) == golden
    costs = [json.loads(path.read_text()) for path in (*url.glob("model/*/*/timing.json"), *url.glob("synthetic/*/*/timing.json"))]
    assert [cost["went_on"] for cost in costs] == [True, False], (
        "what a model cost two commands, the second one alone does not know"
    )


@pytest.mark.slow
def test_sigterm_ends_a_run_as_ctrl_c_does(recipe: Path, golden: list[str]) -> None:
    url = recipe.parent / "stopped"
    for pattern in ("model/*/_raysynth/tmp/checkpoints/epoch-*", "synthetic/*/_raysynth/markers/*.json"):
        driver = Driver(recipe, url)
        driver.wait_for(pattern)
        assert "the same command goes on from here" in driver.terminate()
    Driver(recipe, url).end()
    assert names(url) == golden


@pytest.mark.slow
def test_two_drivers_on_one_run_end_well_with_one_outcome(recipe: Path, golden: list[str]) -> None:
    url = recipe.parent / "two"
    both = [Driver(recipe, url), Driver(recipe, url)]
    for driver in both:
        driver.end()
    assert names(url) == golden
    assert len(list(url.glob("synthetic/*/_raysynth/outcome.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(10))
def test_a_driver_killed_at_any_moment_of_generate_is_resumed_without_making_a_task_again(
    recipe: Path, golden: list[str], moment: int
) -> None:
    url = recipe.parent / f"moment-{moment}"
    pattern = "synthetic/*/_raysynth/markers/*.json"
    first = Driver(recipe, url)
    first.wait_for("synthetic/*/_raysynth/plan.json")
    first.wait_for(pattern, int(Draws.range(moment, "moment", 0, 1).uniform("tasks")[0] * 7))
    first.kill()
    before = {path: path.stat().st_mtime_ns for path in url.glob(pattern)}
    Driver(recipe, url).end()
    assert names(url) == golden
    assert {path: path.stat().st_mtime_ns for path in before} == before
    made = sum(len(json.loads(path.read_text())["parts"]) for path in url.glob(pattern))
    assert made == 200, "every part was made once: what a marker proves is not made again"


@pytest.mark.slow
def test_a_driver_with_a_changed_recipe_meanwhile_gets_a_folder_of_its_own(recipe: Path, golden: list[str]) -> None:
    url = recipe.parent / "changed"
    both = [Driver(recipe, url), Driver(recipe, url, "generate.rows=30000")]
    for driver in both:
        driver.end()
    folders = [folder for folder in Run(str(url)).folders("synthetic") if folder.committed]
    assert sorted(folder.manifest().num_rows for folder in folders) == [150, 200]
    whole = next(folder for folder in folders if folder.manifest().num_rows == 200)
    assert whole.manifest()["name"].to_pylist() == golden[-200:]
    assert verify(Run(str(url))).whole
