"""A head without worker slots and pools that begin at nothing: a run brings nodes up, is made by them, and they go away."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from isolation import isolated, require_namespaces

from raysynth.audit import verify
from raysynth.runs import Run

ROWS = 1000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    require_namespaces()
    folder = tmp_path_factory.mktemp("autoscaling")
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp") as short:  # Ray's sockets need a short path
        script = Path(__file__).parent / "autoscaling_steps.py"
        printed = isolated(script, str(folder), f"{short}/ray", home=folder / "home", short=Path(short), timeout_seconds=900)
    *line, ended = [json.loads(text) for text in printed.splitlines() if text.startswith("{")]
    return {"line": line, **ended, "run": Run(f"{folder}/run")}


def test_nodes_come_when_they_are_needed_and_go_when_they_are_not(run: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(
            "\nseconds  nodes  stage", *(f"{at['seconds']:7.1f} {at['nodes']:6} {at['stage']:>9}" for at in run["line"]), sep="\n"
        )
    assert run["code"] == 0, run["log"]
    nodes = [at["nodes"] for at in run["line"]]
    assert nodes[0] == 0 and max(nodes) == 2 and nodes[-1] == 0


def test_every_row_is_there_once(run: dict[str, Any]) -> None:
    found = verify(run["run"])
    assert found.whole, found.problems
    synthetic = run["run"].current("synthetic")
    assert synthetic is not None and sum(entry["rows"] for entry in synthetic.manifest().to_pylist()) == ROWS
    assert run["run"].current("mixed") is not None and run["run"].current("evaluation") is not None
