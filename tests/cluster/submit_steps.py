"""Inside namespaces: a head with a token, and `raysynth submit` to it in every way; prints a JSON line for each step. FOLDER → lines."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

RAY = [
    sys.executable,
    "-c",
    "from ray.scripts.scripts import main; main()",
]  # the command's own first line may name a path with a space
ADDRESS = "http://127.0.0.1:8265"
RECIPE = """
name: wine
source: examples://wine
run: {folder}/run
train: {{max_epochs: 1}}
generate: {{rows: 500, rows_per_part: 100}}
evaluate: null
"""


def submit(name: str, folder: Path, *options: str, address: str = ADDRESS, **variables: str) -> None:
    command = [sys.executable, "-m", "raysynth", "submit", str(folder / "wine.yaml"), "--address", address, *options]
    began = time.monotonic()
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=300)
    told = [line for line in (done.stdout + done.stderr).splitlines() if "Error: " in line]
    line = {"step": name, "code": done.returncode, "told": told, "seconds": time.monotonic() - began, "log": done.stdout}
    print(json.dumps(line), flush=True)


def submit_and_interrupt(folder: Path, *options: str) -> None:
    command = [sys.executable, "-m", "raysynth", "submit", str(folder / "wine.yaml"), "--address", ADDRESS, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if '"stage": "prepare"' in line:
            process.send_signal(signal.SIGINT)
            break
    log = process.stdout.read()
    print(json.dumps({"step": "interrupted", "code": process.wait(120), "log": log}), flush=True)


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "wine.yaml").write_text(RECIPE.format(folder=folder))
    (folder / ".env").write_text("SECRET=hush")
    os.environ["RAY_AUTH_MODE"] = "token"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*RAY, "get-auth-token", "--generate"], check=True, timeout=60, **quiet)  # type: ignore[call-overload]
    token = Path.home() / ".ray" / "auth_token"
    token.chmod(0o600)
    head = [*RAY, "start", "--head", "--port=6379", "--dashboard-port=8265", "--num-cpus=2", f"--temp-dir={sys.argv[2]}"]
    subprocess.run([*head, "--disable-usage-stats"], check=True, timeout=180, **quiet)  # type: ignore[call-overload]
    submit_and_interrupt(folder)
    submit("again", folder)
    submit("a bad rule", folder, "--set", 'rules=["alcohol < 0"]')
    submit("a gate fails", folder, "--set", 'evaluate={gates: ["c2st_auc <= 0.01"]}')
    submit("a wrong token", folder, RAY_AUTH_TOKEN="wrong")
    submit("nobody there", folder, address="http://127.0.0.1:9999")
    submit("detached", folder, "--detach")


main()
