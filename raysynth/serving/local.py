"""`raysynth serve`: settings → a server on this machine (or on the cluster that RAY_ADDRESS names), until it is interrupted."""

import atexit
import ipaddress
import os
import shutil
import signal
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from raysynth.cluster.session import one_session, session
from raysynth.errors import RaysynthError, RecipeError
from raysynth.keys import Keyring
from raysynth.progress import say
from raysynth.serving.registry import check_runs
from raysynth.serving.settings import Settings
from raysynth.stores.base import absolute, store_for

APPLICATION = "raysynth"
READY_SECONDS = 300.0


def serve(settings: Settings, *, host: str, port: int, haproxy: bool) -> None:
    """Blocks until SIGINT or SIGTERM, then drains. DataError if a run is not published, RecipeError where nobody could be let in or
    everybody would be."""
    settings = _placed(settings)
    models = check_runs(settings.runs)
    if settings.jobs is not None:
        for warning in store_for(settings.jobs).check(settings.jobs, write=True):
            say(stage="serve", warning=warning)
    _check_keys(settings, host)
    _check_free(host, port)
    if haproxy:
        _use_haproxy()
    with one_session(), session():
        _run(settings, host, port)
        key = _first_key(settings)
        told = {"url": f"http://{host}:{port}", "models": sorted(models), **({"key": key} if key else {})}
        say(stage="serve", **told)
        _wait()
        say(stage="serve", draining=True)
        _stop()


def _placed(settings: Settings) -> Settings:
    """With URLs that mean the same in a replica, which has another working directory and environment."""
    jobs = absolute(settings.jobs) if settings.jobs is not None else None
    told = {"runs": tuple(map(absolute, settings.runs)), "keys": Keyring(settings.keys).url, "jobs": jobs}
    return settings.model_copy(update=told)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_keys(settings: Settings, host: str) -> None:
    if not is_loopback(host) and not _has_keys(settings):
        raise RecipeError(f"--host {host}: it is open to others, and there is no key yet. Make one: raysynth keys new --name NAME")


def _check_free(host: str, port: int) -> None:
    """Ray's proxy shares a port that another of its kind listens on, and clients would reach now the one, now the other."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what only waits to be forgotten is free
            probe.bind((host, port))
    except OSError as error:
        raise RecipeError(f"--host {host}, --port {port}: nobody can listen there ({error}). Choose others") from None


def _first_key(settings: Settings) -> str | None:
    """On loopback, where there is no key yet, one is made and shown once: when the server answers, or a failed start would lose it."""
    return None if _has_keys(settings) else Keyring(settings.keys).new("first")[1]


def _has_keys(settings: Settings) -> bool:
    return any(key.revoked is None for key in Keyring(settings.keys).list())


def _use_haproxy() -> None:
    """Serve's HAProxy instead of its Python proxy: a tenth of the CPU time. Its files and ports go apart, or two clusters of a host share
    them. The folder's name is short, wherever TMPDIR is: Ray adds a node's id, and the path of a socket has 97 bytes at most."""
    folder = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    files = {"CONFIG_FILE_LOC": "haproxy.cfg", "SOCKET_PATH": "admin.sock", "METRICS_SOCKET_PATH": "metrics.sock"}
    files |= {"SERVER_STATE_FILE": "server-state", "SERVER_STATE_BASE": ""}
    os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
    for name, file in files.items():
        os.environ.setdefault(f"RAY_SERVE_HAPROXY_{name}", str(folder / file))
    for name in ("STATS_PORT", "METRICS_PORT"):
        os.environ.setdefault(f"RAY_SERVE_HAPROXY_{name}", str(_free_port()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run(settings: Settings, host: str, port: int) -> None:
    from ray import serve

    from raysynth.serving.app import build

    options: dict[str, Any] = {"host": host, "port": port, "request_timeout_s": settings.timeout_seconds + 30}
    try:
        serve.start(http_options=options)
        serve.run(build(settings), name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        raise RaysynthError(f"the server did not start: {error}. Ray's logs say why: /tmp/ray/session_latest/logs/serve") from error


def _stop() -> None:
    from ray import serve

    serve.shutdown()


def _wait() -> None:
    ended = threading.Event()

    def end(number: int, frame: object) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    while not ended.wait(1.0):
        pass
