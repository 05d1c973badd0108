"""Training on real Rays of two CPUs and of one: workers that die or hang, a command whose time ends, labels that no node has. One script
(train_steps.py) goes through all of it, since each Ray costs its start."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # minutes; what watches over training is tried without Ray in tests/unit/test_limits.py
Told = dict[str, Any]
HERE = Path(__file__).parent
DEADLINE_SECONDS = 1500  # minutes of starting workers where the machine is busy


def told_of(which: str, folder: Path) -> Told:
    paths = os.pathsep.join([str(HERE / "fakes"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {key: text for key, text in os.environ.items() if key != "RAY_ADDRESS"} | {"PYTHONPATH": paths}
    with tempfile.TemporaryDirectory(prefix="rt", dir="/tmp") as short:
        command = [sys.executable, str(HERE / "train_steps.py"), str(folder), short, which]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads((folder / "told.json").read_text())


@pytest.fixture(scope="module")
def stalls(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return told_of("stalls", tmp_path_factory.mktemp("stalls"))


@pytest.fixture(scope="module")
def shrinks(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return told_of("shrinks", tmp_path_factory.mktemp("shrinks"))


def test_a_killed_worker_is_replaced_and_the_commands_time_ends_at_an_epochs_edge(shrinks: Told) -> None:
    shrunk = shrinks["shrunk"]
    assert shrunk["stopped"].startswith("cluster.max_seconds: "), shrunk
    assert not shrunk["committed"] and shrunk["left"] >= 1, "what was trained stays on the store"
    assert shrunk["workers"][0] == 2 and shrunk["epochs"] >= 4, "it went on after the worker's death"


def test_a_training_of_two_goes_on_alone_where_only_one_has_room(shrinks: Told) -> None:
    resumed = shrinks["resumed"]
    later = {workers for epoch, workers in resumed["workers"].items() if int(epoch) > resumed["before"]}
    assert later == {1}
    assert resumed["report"]["epochs"] > resumed["before"] + 1
    assert resumed["report"]["reproducible"] is False, "how many workers there were is no part of its id"
    assert resumed["rows"] == 100 and resumed["whole"]


def test_a_worker_that_hangs_is_ended_and_training_goes_on(stalls: Told) -> None:
    stalled = stalls["stalled"]
    assert stalled["committed"] and stalled["report"]["reproducible"] is True
    assert not stalled["alive"], "the one that hung is gone, and holds nothing"


def test_labels_that_no_node_has_are_refused(stalls: Told) -> None:
    assert stalls["placed"].startswith("RecipeError: cluster.train_labels: {pool: nowhere}")


def test_labels_that_no_node_has_are_given_up_where_any_node_will_do(shrinks: Told) -> None:
    assert shrinks["placed"] == "a model"
