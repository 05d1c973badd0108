"""Jobs on a head with token authentication, by `raysynth submit`, `ray job submit` and Ray's client: exit codes come through, and a job
that is stopped is gone on with by the next, whoever sends it."""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from isolation import isolated, require_namespaces

from raysynth.audit import verify
from raysynth.runs import Run

CHECKOUT = Path(__file__).parents[2]
Steps = dict[str, dict[str, Any]]


def copy_of_the_checkout(folder: Path) -> Path:
    """What `git clone` gives, as far as a job needs it, with what else lies in a folder that is worked in."""
    for name in ("raysynth", "jobs"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, folder / name)
    for name in (".venv", ".git", "runs"):
        (folder / name).mkdir()
        (folder / name / "large").write_bytes(b"0" * (1 << 20))
    return folder


def taken(tmp_path_factory: pytest.TempPathFactory, which: str) -> Steps:
    """`which`: some of the steps, or all."""
    require_namespaces()
    folder = tmp_path_factory.mktemp("submit")
    checkout = copy_of_the_checkout(tmp_path_factory.mktemp("checkout"))
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp") as short:  # Ray's sockets need a short path
        script, arguments = Path(__file__).parent / "submit_steps.py", (str(folder), f"{short}/ray", str(checkout), which)
        printed = isolated(script, *arguments, home=folder / "home", short=Path(short), timeout_seconds=1200)
    found = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return {step["step"]: step for step in found} | {"folder": {"path": str(folder)}}


@pytest.fixture(scope="module")
def steps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """All steps where a test is asked that needs them."""
    slow = any(item.get_closest_marker("slow") and item.path == request.path for item in request.session.items)
    return taken(tmp_path_factory, "all" if slow else "some")


def test_a_job_that_is_stopped_is_gone_on_with_by_the_next_whoever_sends_it(steps: Steps) -> None:
    assert steps["stopped by the client"]["status"] == "STOPPED"
    assert steps["interrupted"]["code"] == 4, steps["interrupted"]["log"]
    assert "was stopped" in steps["interrupted"]["log"]
    again = steps["ray job submit"]
    assert again["code"] == 0, again["log"]
    assert '"stage": "generate"' in again["log"] and '"stage": "train", "done"' not in again["log"]
    run = Run(f"{steps['folder']['path']}/run")
    assert verify(run).whole
    synthetic = run.current("synthetic")
    assert synthetic is not None and sum(entry["rows"] for entry in synthetic.manifest().to_pylist()) == 500


def test_a_job_from_a_checkout_runs_its_code_and_takes_no_secret_along(steps: Steps) -> None:
    [listed] = {line for line in steps["ray job submit"]["log"].splitlines() if "from the working directory" in line}
    assert "'jobs'" in listed and "'pyproject.toml'" in listed
    assert not any(f"'{name}'" in listed for name in (".env", ".git", ".venv", "runs"))
    assert all("hush" not in json.dumps(step) for step in steps.values())


def test_the_jobs_exit_code_and_message_come_through(steps: Steps) -> None:
    assert steps["a bad rule"]["code"] == 2
    assert any("alcohol < 0" in line for line in steps["a bad rule"]["told"])
    assert steps["a gate fails"]["code"] == 3
    assert any("c2st_auc" in line for line in steps["a gate fails"]["told"])


def test_a_run_that_only_the_head_would_see_is_refused(steps: Steps) -> None:
    refused = steps["a relative run"]
    assert refused["code"] == 2 and "run: 'runs/wine'" in refused["told"][0] and "s3://" in refused["told"][0]


@pytest.mark.slow
def test_the_clients_jobs_end_by_the_same_codes(steps: Steps) -> None:
    assert steps["a bad rule by the client"]["code"] == 2
    by_the_client = steps["a relative run by the client"]
    assert by_the_client["code"] == 2 and "run: 'runs/wine'" in by_the_client["log"]


def test_who_is_not_let_in_and_who_finds_nobody_is_told_in_one_line(steps: Steps) -> None:
    for name, told in (("a wrong token", "token is refused"), ("nobody there", "that the cluster runs")):
        assert steps[name]["code"] == 2
        [line] = steps[name]["told"]
        assert told in line


@pytest.mark.slow
def test_a_detached_job_is_not_waited_for_and_says_what_it_is(steps: Steps) -> None:
    detached = steps["detached"]
    assert detached["code"] == 0 and '"stage": "prepare"' not in detached["log"]
    name = json.loads(detached["log"].splitlines()[-1])["job"]
    [job] = [job for job in steps["jobs"]["jobs"] if job["id"] == name]
    assert (job["status"], job["code"]) == ("SUCCEEDED", 0)
    assert (job["recipe"], job["run"], job["by"]) == ("wine", f"{steps['folder']['path']}/run", "raysynth")


@pytest.mark.slow
def test_a_log_goes_on_after_its_connection_broke_and_tells_how_to_go_on_where_it_cannot(steps: Steps) -> None:
    followed = steps["followed"]
    assert re.findall(r"^line \d$", followed["log"], re.MULTILINE) == [f"line {n}" for n in range(1, 10)]
    assert followed["code"] == 4
    assert f"ray job logs --follow --address http://127.0.0.1:9265 {followed['job']}" in followed["log"]
