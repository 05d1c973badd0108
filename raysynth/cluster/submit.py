"""A recipe and a cluster's address → a Ray job that runs it there, followed to its end; the answer is the stage's own exit code.

The package goes along as a module, never as a wheel (Ray would install its dependencies on every node), and beside it the recipe alone:
nothing else of the folder that it lies in, so that no `.env` leaves the machine. Credentials are the cluster's own.
"""

import asyncio
import importlib.util
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raysynth.errors import RaysynthError, RecipeError, StoppedError, StoreError

SUBMITTED = "RAYSYNTH_SUBMITTED"
"""In the job's environment: what versions the one who submitted it has, JSON."""
COMPARED = ("ray", "torch", "pyarrow", "numpy")  # what rows, or the wire between driver and workers, depend on
STOP_SECONDS = 60.0
LOOK_SECONDS = 1.0


def submit(recipe: Path, *, name: str, address: str, command: Sequence[str], detach: bool) -> int:
    """`command`: what follows `raysynth` and the recipe's place, such as `--set train.workers=4`. The exit code of the job; 0 at once
    with `detach`. StoreError if nobody answers there or the token is refused, StoppedError after Ctrl-C, which stops the job."""
    client = _connected(address)
    with tempfile.TemporaryDirectory(prefix="raysynth-submit-") as folder:
        (Path(folder) / "recipe.yaml").write_bytes(recipe.read_bytes())
        job = _asked(client, folder, name, command)
    _say(job=job, address=address)
    if detach:
        return 0
    try:
        return _followed(client, job)
    except KeyboardInterrupt:
        _stop(client, job)
        raise StoppedError(f"job {job} was stopped; submit the same recipe again, and it goes on from there") from None


def check_versions(told: str) -> None:
    """On the cluster. RecipeError where its libraries are others than those of whoever submitted the job."""
    wanted: dict[str, str] = json.loads(told)
    here = _versions()
    if other := {name: (wanted[name], here[name]) for name in COMPARED if wanted.get(name) != here[name]}:
        lines = ", ".join(f"{name} {mine} there, {theirs} on the cluster" for name, (mine, theirs) in other.items())
        raise RecipeError(f"versions: {lines}. Rows depend on them: install the same ones, or submit from the cluster's image")


def _connected(address: str) -> Any:
    import logging

    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.ERROR)
    if not address.startswith(("http://", "https://")):
        raise RecipeError(f"--address {address}: must be the URL of the cluster's dashboard, such as http://head:8265")
    try:
        return JobSubmissionClient(address)
    except Exception as error:
        raise _refused(address, error) from None


def _asked(client: Any, folder: str, name: str, command: Sequence[str]) -> str:
    package = importlib.util.find_spec("raysynth")
    modules = list(package.submodule_search_locations or ()) if package is not None else []
    entrypoint = shlex.join(["python", "-m", "raysynth", "--json", "run", "recipe.yaml", *command])
    runtime = {"working_dir": folder, "py_modules": modules, "env_vars": {SUBMITTED: json.dumps(_versions())}}
    try:
        return str(client.submit_job(entrypoint=entrypoint, runtime_env=runtime, metadata={"recipe": name, "by": "raysynth"}))
    except Exception as error:
        raise _refused(client.get_address(), error) from None


def _followed(client: Any, job: str) -> int:
    """The log as it comes, then the driver's exit code."""
    asyncio.run(_tailed(client, job))
    while str(client.get_job_status(job)) in ("PENDING", "RUNNING"):
        time.sleep(LOOK_SECONDS)
    info = client.get_job_info(job)
    if str(info.status) == "STOPPED":
        raise StoppedError(f"job {job} was stopped; submit the same recipe again, and it goes on from there")
    if info.driver_exit_code is None and str(info.status) != "SUCCEEDED":
        raise RaysynthError(f"job {job} failed before it began: {info.message}")
    return int(info.driver_exit_code or 0)


async def _tailed(client: Any, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        sys.stdout.write(lines)
        sys.stdout.flush()


def _stop(client: Any, job: str) -> None:
    client.stop_job(job)
    deadline = time.monotonic() + STOP_SECONDS
    while str(client.get_job_status(job)) in ("PENDING", "RUNNING") and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def _refused(address: str, error: Exception) -> RaysynthError:
    """Ray's errors of this client are many, and some hold the whole answer: the first line says it."""
    text = str(error).strip().split("\n")[0][:300]
    if any(word in str(error) for word in ("401", "403", "Unauthorized", "authentication", "InvalidAuthToken")):
        return StoreError(
            f"--address {address}: the token is refused. Set RAY_AUTH_TOKEN or ~/.ray/auth_token to the cluster's own"
        )
    return StoreError(f"--address {address}: {text or type(error).__name__}. Check the address, and that the cluster runs")


def _versions() -> dict[str, str]:
    return {name: version(name).split("+")[0] for name in COMPARED}


def _say(**facts: Any) -> None:
    sys.stdout.write(json.dumps({"stage": "submit", **facts}) + "\n")
    sys.stdout.flush()
