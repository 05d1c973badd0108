"""`raysynth submit` to a head with token authentication: exit codes come through, Ctrl+C stops the job, the next one goes on."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from isolation import isolated, require_namespaces

from raysynth.runs import Run


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    require_namespaces()
    folder = tmp_path_factory.mktemp("submit")
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp") as short:  # Ray's sockets need a short path
        script = Path(__file__).parent / "submit_steps.py"
        printed = isolated(script, str(folder), f"{short}/ray", home=folder / "home", short=Path(short), timeout_seconds=600)
    found = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return {step["step"]: step for step in found} | {"folder": {"path": str(folder)}}


def test_a_job_that_is_interrupted_is_stopped_and_the_next_one_ends_what_it_began(steps: dict[str, dict[str, Any]]) -> None:
    assert steps["interrupted"]["code"] == 4
    assert steps["again"]["code"] == 0, steps["again"]["log"]
    run = Run(f"{steps['folder']['path']}/run")
    synthetic = run.current("synthetic")
    assert synthetic is not None and sum(entry["rows"] for entry in synthetic.manifest().to_pylist()) == 500


def test_the_jobs_exit_code_and_message_are_the_commands(steps: dict[str, dict[str, Any]]) -> None:
    assert steps["a bad rule"]["code"] == 2
    assert any("alcohol < 0" in line for line in steps["a bad rule"]["told"])
    assert steps["a gate fails"]["code"] == 3
    assert any("c2st_auc" in line for line in steps["a gate fails"]["told"])


def test_who_is_not_let_in_and_who_finds_nobody_is_told_in_one_line(steps: dict[str, dict[str, Any]]) -> None:
    for name, told in (("a wrong token", "token is refused"), ("nobody there", "that the cluster runs")):
        assert steps[name]["code"] == 2
        [line] = steps[name]["told"]
        assert told in line


def test_a_detached_job_is_not_waited_for(steps: dict[str, dict[str, Any]]) -> None:
    assert steps["detached"]["code"] == 0
    assert '"stage": "prepare"' not in steps["detached"]["log"]


def test_no_secret_file_leaves_the_folder_of_the_recipe(steps: dict[str, dict[str, Any]]) -> None:
    assert all("hush" not in json.dumps(step) for step in steps.values())
