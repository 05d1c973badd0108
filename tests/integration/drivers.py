"""`raysynth run` as a process that tests watch and kill."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

DEADLINE_SECONDS = 600  # two tests share two cores, and a busy machine is no failure


class Driver:
    """`raysynth run` in a process group of its own; its workers are known by a word in their environment."""

    def __init__(self, recipe: Path, url: Path, *overrides: str, **variables: str) -> None:
        self.word, self.url = f"RAYSYNTH_TEST={uuid.uuid4().hex}", url
        name, value = self.word.split("=")
        environment = {key: text for key, text in os.environ.items() if key != "RAY_ADDRESS"} | {name: value} | variables
        command = [sys.executable, "-m", "raysynth", "run", str(recipe), "--set", f"run={url}"]
        command += [word for override in overrides for word in ("--set", override)]
        with url.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=log, stderr=log)

    def wait_for(self, pattern: str, count: int = 1) -> None:
        self._until(lambda: len(list(self.url.glob(pattern))) >= count, pattern)

    def wait_for_newer(self, pattern: str) -> None:
        """Until there is a file that was not there now."""
        now = set(self.url.glob(pattern))
        self._until(lambda: bool(set(self.url.glob(pattern)) - now), f"a newer {pattern}")

    def kill_worker(self, title: str) -> None:
        self._until(lambda: bool(self._pids(title)), title)
        os.kill(self._pids(title)[0], signal.SIGKILL)

    def kill(self) -> None:
        """The driver and all that it started."""
        os.kill(self.process.pid, signal.SIGKILL)
        for pid in self._pids(""):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> str:
        """By SIGTERM, as a service or a pod is stopped → what it wrote. It leaves no process behind."""
        os.kill(self.process.pid, signal.SIGTERM)
        written = self.url.with_suffix(".log")
        assert self.process.wait(timeout=60) == 4, written.read_text()[-3000:]
        deadline = time.monotonic() + 30
        while self._pids(""):
            assert time.monotonic() < deadline, f"processes that it left: {self._pids('')}"
            time.sleep(0.1)
        return written.read_text()

    def end(self, code: int = 0) -> None:
        assert self.process.wait(timeout=DEADLINE_SECONDS) == code, self.url.with_suffix(".log").read_text()[-3000:]

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not holds():
            assert self.process.poll() is None, f"it ended before {what}: {self.url.with_suffix('.log').read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"no {what} in {DEADLINE_SECONDS} s"
            time.sleep(0.05)

    def _pids(self, title: str) -> list[int]:
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            try:
                if self.word.encode() in (entry / "environ").read_bytes() and title.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (OSError, ValueError):
                continue
        return found
