"""A recipe and a cluster's address → a Ray job that runs it there, followed to its end; the answer is the stage's own exit code.

The package goes along as a module, never as a wheel (Ray would install its dependencies on every node), and beside it the recipe alone:
nothing else of the folder that it lies in, so that no `.env` leaves the machine. Credentials are the cluster's own.
"""

import asyncio
import importlib.util
import json
import os
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raysynth.errors import RaysynthError, RecipeError, StoppedError, StoreError
from raysynth.recipe import Recipe

SUBMITTED = "RAYSYNTH_SUBMITTED"
"""In the job's environment: what versions the one who submitted it has, JSON."""
COMPARED = ("ray", "torch", "pyarrow", "numpy")  # what rows, or the wire between driver and workers, depend on
STOP_SECONDS = 60.0
LOOK_SECONDS = 1.0
ANSWER_SECONDS = 30.0  # for one reply of the cluster; Ray's client would wait for ever
QUIET_SECONDS = 10.0  # without a line of the log, the cluster is asked whether it is still there
LOST_SECONDS = 60.0  # without an answer, until it counts as lost
ELSEWHERE_ASKED = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
GOING_ON = ("PENDING", "RUNNING")


def submit(recipe: Path, asked: Recipe, *, address: str, command: Sequence[str], detach: bool) -> int:
    """`asked`: what `recipe` says with `command`, which is what follows `raysynth` and the recipe's place, such as `--set train.workers=4`.
    The exit code of the job; 0 at once with `detach`. StoreError if nobody answers there or the token is refused, StoppedError after
    Ctrl-C, which stops the job, and where the cluster no longer answers."""
    check_places(asked)
    client = connect(address)
    job = f"{asked.name}-{secrets.token_hex(4)}"
    try:
        with tempfile.TemporaryDirectory(prefix="raysynth-submit-") as folder:
            (Path(folder) / _file_name(asked)).write_bytes(recipe.read_bytes())
            _ask(client, job, folder, asked, command)
        _say(job=job, address=address)
        return 0 if detach else follow(client, job)
    except KeyboardInterrupt:
        _stop(client, job)
        raise StoppedError(f"job {job} was stopped; submit the same recipe again, and it goes on from there") from None


def check_places(recipe: Recipe) -> None:
    """RecipeError where the cluster cannot see what the recipe names; a warning where that depends on its disks."""
    check_run(recipe)
    for key, url in _places(recipe):
        path = url.removeprefix("file://")
        if "://" in path:
            continue
        if not path.startswith("/"):
            raise RecipeError(f"{key}: '{url}' is a place of this machine, which the cluster does not see. {_ELSEWHERE}")
        _say(warning=f"{key}: '{url}' must lie on a disk that all nodes of the cluster share")


def _places(recipe: Recipe) -> Iterator[tuple[str, str]]:
    yield "source.url", recipe.source.url
    yield "run", recipe.run
    if (known := recipe.knowledge) is not None:
        yield from [] if known.triples is None else [("knowledge.triples", known.triples)]
        yield from ((f"knowledge.lexicons.{name}", url) for name, url in known.lexicons.items())
    if recipe.evaluate is not None and recipe.evaluate.extractor is not None:
        yield "evaluate.extractor.url", recipe.evaluate.extractor.url
    if (base := recipe.generator.options.get("base")) is not None:
        yield "generator.base", str(base)


def check_run(recipe: Recipe) -> None:
    """RecipeError where the run would lie in the memory of one process, or, of a Ray job, in its own folder, which goes with the job."""
    if recipe.run.startswith("memory://"):
        raise RecipeError(f"run: '{recipe.run}' lies in the memory of one process, and workers are others. {_ELSEWHERE}")
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and "://" not in recipe.run and not recipe.run.startswith("/"):
        raise RecipeError(f"run: '{recipe.run}' would lie in the folder of this job, which no other node sees. {_ELSEWHERE}")


_ELSEWHERE = "Give a URL such as s3://bucket/…, or the absolute path of a disk that all its nodes share"


def check_versions(told: str) -> None:
    """On the cluster. RecipeError where its libraries are others than those of whoever submitted the job."""
    wanted: dict[str, str | None] = json.loads(told)
    here = _versions()
    if other := {name: (wanted.get(name), here[name]) for name in COMPARED if wanted.get(name) != here[name]}:
        lines = ", ".join(f"{name} {mine} there, {theirs} on the cluster" for name, (mine, theirs) in other.items())
        raise RecipeError(f"versions: {lines}. Rows depend on them: install the same ones, or submit from the cluster's image")


def connect(address: str) -> Any:
    import logging

    from ray.job_submission import JobSubmissionClient

    class Patient(JobSubmissionClient):
        def _do_request(self, *arguments: Any, **options: Any) -> Any:
            return super()._do_request(*arguments, **{"timeout": ANSWER_SECONDS, **options})

    logging.getLogger("ray").setLevel(logging.ERROR)
    if not address.startswith(("http://", "https://")):
        raise RecipeError(f"--address {address}: must be the URL of the cluster's dashboard, such as http://head:8265")
    _show_token()
    try:
        with _without(*ELSEWHERE_ASKED):
            return Patient(address)
    except Exception as error:
        raise _refused(address, error) from None


def _show_token() -> None:
    """Ray's client shows the token that is there only in a mode that nobody else asks for."""
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


@contextmanager
def _without(*variables: str) -> Generator[None]:
    """Ray's client prefers these of the environment to the address that it is given."""
    kept = {name: os.environ.pop(name) for name in variables if name in os.environ}
    try:
        yield
    finally:
        os.environ |= kept


def _ask(client: Any, job: str, folder: str, asked: Recipe, command: Sequence[str]) -> None:
    package = importlib.util.find_spec("raysynth")
    modules = list(package.submodule_search_locations or ()) if package is not None else []
    entrypoint = shlex.join(["python", "-m", "raysynth", "--json", "run", _file_name(asked), *command])
    runtime = {"working_dir": folder, "py_modules": modules, "env_vars": {SUBMITTED: json.dumps(_versions())}}
    told = {"recipe": asked.name, "run": asked.run, "by": "raysynth"}
    try:
        client.submit_job(entrypoint=entrypoint, submission_id=job, runtime_env=runtime, metadata=told)
    except Exception as error:
        raise _refused(client.get_address(), error) from None


def _file_name(asked: Recipe) -> str:
    """On the cluster: from it comes the name of a recipe that says none, and with the name the model's bytes."""
    return f"{asked.name}.yaml"


def follow(client: Any, job: str) -> int:
    """The log as it comes, then the driver's exit code."""
    seen = 0
    while True:
        seen = asyncio.run(_tailed(client, job, seen))
        info = _info(client, job)
        if str(info.status) not in GOING_ON:
            break
        time.sleep(LOOK_SECONDS)
    if str(info.status) == "STOPPED":
        raise StoppedError(f"job {job} was stopped; submit the same recipe again, and it goes on from there")
    if info.driver_exit_code is None and str(info.status) != "SUCCEEDED":
        raise RaysynthError(f"job {job} failed before it began: {info.message}")
    return int(info.driver_exit_code or 0)


async def _tailed(client: Any, job: str, seen: int) -> int:
    """Writes the log but for its first `seen` characters, until it ends or its connection breaks → how many have been seen then."""
    import aiohttp

    lines, position, ended = client.tail_job_logs(job), 0, False
    with suppress(StopAsyncIteration, aiohttp.ClientError, OSError, RuntimeError):
        while True:
            coming = asyncio.ensure_future(anext(lines))
            while not (await asyncio.wait({coming}, timeout=QUIET_SECONDS))[0]:
                if ended:
                    coming.cancel()
                    return seen
                ended = str(_info(client, job).status) not in GOING_ON
            text = coming.result()
            sys.stdout.write(text[max(0, seen - position) :])
            sys.stdout.flush()
            position += len(text)
            seen = max(seen, position)
    return seen


def _info(client: Any, job: str) -> Any:
    """What is known of the job. StoppedError where nobody has answered for a minute, or it is not known there any more."""
    deadline = time.monotonic() + LOST_SECONDS
    while True:
        try:
            return client.get_job_info(job)
        except (OSError, RuntimeError) as error:
            if time.monotonic() > deadline or isinstance(error, RuntimeError):
                address = client.get_address()
                raise StoppedError(
                    f"job {job}: {address} does not answer for it any more ({_first_line(error)}), and it may still run. Follow it by "
                    f"`ray job logs --follow --address {address} {job}`, or submit the same recipe again: it goes on from there"
                ) from None
        time.sleep(LOOK_SECONDS)


def _stop(client: Any, job: str) -> None:
    """Returns when the job has ended. StoppedError where it does not, cannot be told to, or nobody waits for it (a second Ctrl+C)."""
    try:
        client.stop_job(job)
        deadline = time.monotonic() + STOP_SECONDS
        while str(_info(client, job).status) in GOING_ON:
            if time.monotonic() > deadline:
                raise StoppedError(f"job {job} was told to stop, and still runs after {STOP_SECONDS:g} s. {_by_hand(client, job)}")
            time.sleep(LOOK_SECONDS)
    except (OSError, RuntimeError) as error:
        raise StoppedError(f"job {job} could not be told to stop ({_first_line(error)}). {_by_hand(client, job)}") from None
    except KeyboardInterrupt:
        raise StoppedError(f"job {job} may still run. {_by_hand(client, job)}") from None


def _by_hand(client: Any, job: str) -> str:
    return f"Try `ray job stop --address {client.get_address()} {job}`"


def _refused(address: str, error: Exception) -> RaysynthError:
    """Ray's errors of this client are many, and some hold the whole answer: the first line says it."""
    if any(word in str(error) for word in ("401", "403", "Unauthorized", "authentication", "InvalidAuthToken")):
        return StoreError(
            f"--address {address}: the token is refused. Set RAY_AUTH_TOKEN or ~/.ray/auth_token to the cluster's own"
        )
    return StoreError(f"--address {address}: {_first_line(error)}. Check the address, and that the cluster runs")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300] or type(error).__name__


def _versions() -> dict[str, str | None]:
    """None: not installed."""
    return {name: version(name).split("+")[0] if importlib.util.find_spec(name) is not None else None for name in COMPARED}


def _say(**facts: Any) -> None:
    sys.stdout.write(json.dumps({"stage": "submit", **facts}) + "\n")
    sys.stdout.flush()
