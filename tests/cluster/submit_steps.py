"""Inside namespaces: a head with a token, and jobs sent to it in every way: by `raysynth submit`, and from a copy of the checkout by
`ray job submit` and by Ray's client. FOLDER RAY_TEMP CHECKOUT → a JSON line for each step."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from raysynth.cluster.session import ALIVE, UNASKED

RAY = [
    sys.executable,
    "-c",
    "from ray.scripts.scripts import main; main()",
]  # the command's own first line may name a path with a space
ADDRESS = "http://127.0.0.1:8265"
GATED = "http://127.0.0.1:9265"
RECIPE = """
name: wine
source: examples://wine
run: {folder}/run
generator: {{use: trees}}
generate: {{rows: 500, rows_per_part: 100}}
evaluate: null
"""
NO_SUCH_WINE = 'rules=["alcohol < 0"]'
NO_SUCH_SCORE = 'evaluate={gates: ["c2st_auc <= 0.01"]}'


def say(step: str, **facts: Any) -> None:
    print(json.dumps({"step": step, **facts}), flush=True)


def as_a_user_has_it() -> dict[str, str]:
    """No word of a token but the file itself, and the address of some other cluster."""
    return {name: text for name, text in os.environ.items() if name != "RAY_AUTH_MODE"} | {"RAY_ADDRESS": "http://127.0.0.1:9"}


def submit(name: str, folder: Path, *options: str, address: str = ADDRESS, **variables: str) -> None:
    command = [sys.executable, "-m", "raysynth", "submit", str(folder / "wine.yaml"), "--address", address, *options]
    done = subprocess.run(command, env=as_a_user_has_it() | variables, capture_output=True, text=True, timeout=300)
    told = [line for line in (done.stdout + done.stderr).splitlines() if "Error: " in line]
    say(name, code=done.returncode, told=told, log=done.stdout)


def interrupt_once_trained(folder: Path, process: "subprocess.Popen[str]") -> None:
    """As soon as the model is committed: where the machine is busy, the log comes late."""
    while process.poll() is None and not any(folder.glob("run/model/*/_raysynth/outcome.json")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)


def submit_and_interrupt(folder: Path) -> None:
    command = [sys.executable, "-m", "raysynth", "submit", str(folder / "wine.yaml"), "--address", ADDRESS]
    process = subprocess.Popen(command, env=as_a_user_has_it(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    log = ""
    for line in process.stdout:  # the job before this one may have trained the model: there must be a job to interrupt
        log += line
        if '"job"' in line:
            break
    Thread(target=interrupt_once_trained, args=(folder, process), daemon=True).start()
    log += process.communicate()[0]
    say("interrupted", code=process.wait(120), log=log)


def ray_job_submit(checkout: Path, folder: Path) -> None:
    """Word for word what the documentation says."""
    command = [*RAY, "job", "submit", "--address", ADDRESS, "--working-dir", ".", "--", "python", "jobs/pipeline.py", "wine.yaml"]
    done = subprocess.run([*command, "--set", f"run={folder}/run"], cwd=checkout, capture_output=True, text=True, timeout=300)
    say("ray job submit", code=done.returncode, log=done.stdout + done.stderr)


def by_client(name: str, client: Any, checkout: Path, *options: str, until: str | None = None) -> None:
    """A door as a job of Ray's own client; stopped as soon as its log holds `until`."""
    from raysynth.cluster.submit import GOING_ON

    entrypoint = " ".join(["python jobs/pipeline.py wine.yaml", *(f"--set '{option}'" for option in options)])
    job = client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": str(checkout)})
    while str(client.get_job_status(job)) in GOING_ON:
        if until is not None and until in client.get_job_logs(job):
            client.stop_job(job)
            until = None
        time.sleep(0.3)
    info = client.get_job_info(job)
    say(name, status=str(info.status), code=info.driver_exit_code, log=client.get_job_logs(job))


class Gate(Thread):
    """A port that leads to the dashboard, until it is shut; `cut` breaks the connections that there are."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.door = socket.create_server(("127.0.0.1", 9265))
        self.pairs: list[socket.socket] = []

    def run(self) -> None:
        while True:
            try:
                near, _ = self.door.accept()
            except OSError:  # shut
                return
            far = socket.create_connection(("127.0.0.1", 8265))
            self.pairs += [near, far]
            for one, other in ((near, far), (far, near)):
                Thread(target=self.carry, args=(one, other), daemon=True).start()

    @staticmethod
    def carry(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:  # cut
            return

    def cut(self) -> None:
        while self.pairs:
            with suppress(OSError):  # it had ended by itself
                self.pairs.pop().shutdown(socket.SHUT_RDWR)

    def shut(self) -> None:
        self.door.shutdown(socket.SHUT_RDWR)
        self.door.close()
        self.cut()


FOLLOW = """
import sys
from raysynth.cluster import submit
from raysynth.errors import RaysynthError
submit.LOST_SECONDS = 3
try:
    code = submit.follow(submit.connect(sys.argv[1]), sys.argv[2])
except RaysynthError as error:
    print(error)
    code = error.exit_code
sys.exit(code)
"""


def follow_through_a_gate(client: Any) -> None:
    gate = Gate()
    gate.start()
    job = client.submit_job(entrypoint="for n in 1 2 3 4 5 6 7 8 9; do echo line $n; sleep 2; done; echo the last; sleep 600")
    process = subprocess.Popen(
        [sys.executable, "-c", FOLLOW, GATED, job], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    log = ""
    for line in process.stdout:
        log += line
        if line == "line 2\n":
            gate.cut()
        if line == "the last\n":
            gate.shut()
    say("followed", code=process.wait(120), log=log, job=job)
    client.stop_job(job)


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs this behind `&` ignores it, and children would too
    folder, checkout = Path(sys.argv[1]), Path(sys.argv[3])
    (folder / "wine.yaml").write_text(RECIPE.format(folder=folder))
    (checkout / "wine.yaml").write_text(RECIPE.format(folder=folder))
    (folder / ".env").write_text("SECRET=hush")
    (checkout / ".env").write_text("SECRET=hush")
    (checkout / "raysynth" / "__init__.py").write_text("import os\nprint('from the working directory, beside', os.listdir('.'))\n")
    os.environ |= {**ALIVE, **UNASKED, "RAY_AUTH_MODE": "token"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*RAY, "get-auth-token", "--generate"], check=True, timeout=60, **quiet)  # type: ignore[call-overload]
    token = Path.home() / ".ray" / "auth_token"
    token.chmod(0o600)
    head = [*RAY, "start", "--head", "--port=6379", "--dashboard-port=8265", "--num-cpus=2", f"--temp-dir={sys.argv[2]}"]
    subprocess.run([*head, "--disable-usage-stats"], check=True, timeout=180, **quiet)  # type: ignore[call-overload]

    from raysynth.cluster.submit import connect

    client = connect(ADDRESS)
    by_client("stopped by the client", client, checkout, until='"stage": "prepare"')
    submit_and_interrupt(folder)
    ray_job_submit(checkout, folder)
    submit("a bad rule", folder, "--set", NO_SUCH_WINE)
    submit("a gate fails", folder, "--set", NO_SUCH_SCORE)
    submit("a relative run", folder, "--set", "run=runs/wine")
    submit("a wrong token", folder, RAY_AUTH_TOKEN="wrong")
    submit("nobody there", folder, address="http://127.0.0.1:9999")
    if sys.argv[4] == "all":
        submit("detached", folder, "--detach")
        by_client("a bad rule by the client", client, checkout, NO_SUCH_WINE)
        by_client("a relative run by the client", client, checkout, "run=runs/wine")
        follow_through_a_gate(client)
    jobs = [
        {"id": info.submission_id, "status": str(info.status), "code": info.driver_exit_code, **info.metadata}
        for info in client.list_jobs()
    ]
    say("jobs", jobs=jobs)


main()
