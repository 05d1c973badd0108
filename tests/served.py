"""`raysynth serve` as a process with a Ray of its own, which tests watch and whose replicas they kill."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blots import FAKES

from raysynth.client import Client

READY_SECONDS = 180
END_SECONDS = 60


class Server:
    """`url` and `key` open it; its processes are known by a word in their environment."""

    def __init__(self, run: str, folder: Path, *options: str, settings: Mapping[str, Any] | None = None) -> None:
        self.word = f"RAYSYNTH_TEST={uuid.uuid4().hex}"
        self.log, self.jobs = folder / "serve.log", folder / "jobs"
        told = folder / "settings.json"  # JSON is YAML
        told.write_text(json.dumps({"refresh_seconds": 1, **(settings or {})}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "raysynth", "serve", run, "--port", str(port), "--jobs", str(self.jobs)]
        command += ["--keys", str(folder / "keys.json"), "--settings", str(told), *options]
        name, word = self.word.split("=")
        shelf = os.pathsep.join(filter(None, [str(FAKES), os.environ.get("PYTHONPATH")]))  # a fake generator may have made a run
        environment = {key: text for key, text in os.environ.items() if key != "RAY_ADDRESS"} | {name: word, "PYTHONPATH": shelf}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=log, stderr=log)
        try:
            self.told = self._wait()
        except BaseException:
            self.end()
            raise
        self.url, self.key = str(self.told["url"]), str(self.told["key"])

    def client(self, **options: Any) -> Client:
        return Client(self.url, self.key, **options)

    def pids(self, title: str) -> list[int]:
        """The server's processes whose command line begins so: `ray::ServeReplica:raysynth:Api`, `ray::ProxyActor`."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if command.startswith(title) and self.word.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def kill(self, title: str) -> int:
        """SIGKILL to one such process, once there is one; its pid."""
        deadline = time.monotonic() + END_SECONDS
        while not (pids := self.pids(title)):
            assert time.monotonic() < deadline, f"no process is called {title}"
            time.sleep(0.1)
        os.kill(pids[0], signal.SIGKILL)
        return pids[0]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def _wait(self) -> dict[str, Any]:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            for line in self.log.read_text().splitlines():
                if line.startswith("{") and '"url"' in line:
                    return json.loads(line)
            assert self.process.poll() is None, f"the server ended: {self.log.read_text()[-3000:]}"
            time.sleep(0.2)
        raise AssertionError(f"the server is not ready: {self.log.read_text()[-3000:]}")
