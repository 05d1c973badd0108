"""Real SIGKILLs of workers and drivers at work: the run ends, and its model and parts are those of an undisturbed one."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from raysynth.runs import Run

RECIPE = """
name: cancer
source: examples://breast-cancer
train: {max_epochs: 12}
generate: {rows: 40000, rows_per_part: 200, workers: 2}
"""
DEADLINE_SECONDS = 240


class Driver:
    """`raysynth run` in a process group of its own; its workers are known by a word in their environment."""

    def __init__(self, recipe: Path, url: Path) -> None:
        self.word, self.url = f"RAYSYNTH_TEST={uuid.uuid4().hex}", url
        name, value = self.word.split("=")
        environment = {key: text for key, text in os.environ.items() if key != "RAY_ADDRESS"} | {name: value}
        command = [sys.executable, "-m", "raysynth", "run", str(recipe), "--set", f"run={url}"]
        with url.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=log, stderr=log)

    def wait_for(self, pattern: str) -> None:
        self._until(lambda: bool(list(self.url.glob(pattern))), pattern)

    def kill_worker(self, title: str) -> None:
        self._until(lambda: bool(self._pids(title)), title)
        os.kill(self._pids(title)[0], signal.SIGKILL)

    def kill(self) -> None:
        """The driver and all that it started."""
        os.kill(self.process.pid, signal.SIGKILL)
        for pid in self._pids(""):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        assert self.process.wait(timeout=DEADLINE_SECONDS) == 0, self.url.with_suffix(".log").read_text()[-3000:]

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not holds():
            assert self.process.poll() is None, f"it ended before {what}: {self.url.with_suffix('.log').read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"no {what} in {DEADLINE_SECONDS} s"
            time.sleep(0.01)

    def _pids(self, title: str) -> list[int]:
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            try:
                if self.word.encode() in (entry / "environ").read_bytes() and title.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (OSError, ValueError):
                continue
        return found


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kills") / "cancer.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def golden(recipe: Path) -> list[str]:
    Driver(recipe, recipe.parent / "golden").end()
    return names(recipe.parent / "golden")


def names(url: Path) -> list[str]:
    run = Run(str(url))
    model, synthetic = run.current("model"), run.current("synthetic")
    assert model is not None and synthetic is not None
    return [*model.manifest()["sha256"].to_pylist(), *synthetic.manifest()["name"].to_pylist()]


def test_killed_workers_of_train_and_of_generate_are_replaced(recipe: Path, golden: list[str]) -> None:
    url = recipe.parent / "workers"
    driver = Driver(recipe, url)
    driver.wait_for("model/*/_raysynth/tmp/checkpoints/epoch-*")
    driver.kill_worker("ray::RayTrainWorker")
    driver.wait_for("synthetic/*/_raysynth/markers/*")
    driver.kill_worker("ray::MapWorker")
    driver.end()
    assert names(url) == golden


def test_a_driver_killed_in_training_goes_on_from_its_checkpoint(recipe: Path, golden: list[str]) -> None:
    url = recipe.parent / "driver"
    first = Driver(recipe, url)
    first.wait_for("model/*/_raysynth/tmp/checkpoints/epoch-*")
    first.kill()
    assert Run(str(url)).current("model") is None, "it was killed too late to prove anything"
    Driver(recipe, url).end()
    assert names(url) == golden


def test_two_drivers_on_one_run_end_well_with_one_outcome(recipe: Path, golden: list[str]) -> None:
    url = recipe.parent / "two"
    both = [Driver(recipe, url), Driver(recipe, url)]
    for driver in both:
        driver.end()
    assert names(url) == golden
    assert len(list(url.glob("synthetic/*/_raysynth/outcome.json"))) == 1
