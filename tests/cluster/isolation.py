"""A script in namespaces of its own: processes, network, mounts, host name, shared memory and home. Nothing of it reaches, or is reached by,
anybody else, so that fixed ports and Ray's own places are safe; all its processes end with it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNSHARE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--mount", "--ipc", "--uts")
# The shell stays, as the first process: it takes in the children of whoever was killed.
BEGIN = 'ip link set lo up && mount -t tmpfs tmpfs /dev/shm && export HOME="$1" && mkdir -p "$HOME" && shift && "$@"; exit $?'


def require_namespaces() -> None:
    """A named skip where this user may make none; with REQUIRE_CLUSTER=1 a failure."""
    tools = all(shutil.which(tool) for tool in ("unshare", "ip", "mount"))
    command = [*UNSHARE, "sh", "-c", "ip link set lo up && mount -t tmpfs tmpfs /dev/shm"]
    if tools and subprocess.run(command, capture_output=True, timeout=30).returncode == 0:
        return
    missing = "namespaces cannot be made here (it takes root, and the tools unshare, ip and mount)"
    if os.environ.get("REQUIRE_CLUSTER") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


def isolated(
    script: Path, *arguments: str, home: Path, short: Path, timeout_seconds: float | None = None, shown: bool = False
) -> str:
    """What the Python script prints; `shown`: it is printed here too, at once. `short`: a folder whose path has no space: through a link in
    it this environment is named, since Ray hands a worker's interpreter to a shell as it is (ray 2.60), and a cluster whose own path has a
    space never starts a job."""
    link = short / "environment"
    link.symlink_to(Path(sys.executable).parent.parent)
    environment = {key: text for key, text in os.environ.items() if not key.startswith("RAY_")}
    environment["PATH"] = f"{link}/bin:{os.environ['PATH']}"
    command = [*UNSHARE, "sh", "-c", BEGIN, "sh", str(home), f"{link}/bin/python", str(script), *arguments]
    if shown:
        subprocess.run(command, env=environment, check=True, timeout=timeout_seconds)
        return ""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_seconds)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout
