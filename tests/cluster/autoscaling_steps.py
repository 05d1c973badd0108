"""Inside namespaces: a head without worker slots, an autoscaler (Ray's fake multi-node provider) that may start two nodes of one CPU, and a
recipe. FOLDER RAY_TEMP → a JSON line for each change of (seconds, worker nodes, stage), and one for how the run ended."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE

from raysynth.cluster.session import ALIVE, UNASKED

RAY = [
    sys.executable,
    "-c",
    "from ray.scripts.scripts import main; main()",
]  # the command's own first line may name a path with a space
ADDRESS = "127.0.0.1:6379"
GONE_SECONDS = 180.0
RECIPE = """
name: wine
source: examples://wine
run: {folder}/run
train: {{max_epochs: 1}}
generate: {{rows: 1000, rows_per_part: 100, workers: 2}}
mix: {{}}
evaluate: {{sample_rows: 500}}
"""
PROVIDER = {
    "type": "external",
    "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
    "use_node_id_as_ip": True,
    "disable_node_updaters": True,
    "disable_launch_config_check": True,
    "gcs_address": ADDRESS,
    "head_node_id": FAKE_HEAD_NODE_ID,
    "launch_multiple": True,
}
NODES = {
    FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    "cpu": {"resources": {"CPU": 1, "object_store_memory": 256 << 20}, "node_config": {}, "min_workers": 0, "max_workers": 2},
}
WANTED = ("setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands", "head_start_ray_commands")
WANTED += (
    "worker_start_ray_commands",
    "cluster_synced_files",
    "rsync_exclude",
    "rsync_filter",
)  # by name: an external provider has no defaults
HEAD = {
    "RAY_FAKE_CLUSTER": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    "RAY_NODE_TYPE_NAME": FAKE_HEAD_NODE_TYPE,
}


def start_head(folder: Path, ray_temp: str) -> None:
    pools = {"cluster_name": "tests", "max_workers": 2, "idle_timeout_minutes": 0.1, "provider": PROVIDER, "auth": {}}
    pools |= {key: [] for key in WANTED}
    (folder / "pools.yaml").write_text(json.dumps(pools | {"head_node_type": FAKE_HEAD_NODE_TYPE, "available_node_types": NODES}))
    head = [*RAY, "start", "--head", "--port=6379", "--num-cpus=0", f"--temp-dir={ray_temp}", "--include-dashboard=false"]
    head += ["--disable-usage-stats", f"--object-store-memory={256 << 20}", f"--autoscaling-config={folder / 'pools.yaml'}"]
    subprocess.run(head, env=os.environ | ALIVE | UNASKED | HEAD, check=True, timeout=180, stdout=subprocess.DEVNULL)


class TimeLine:
    """What is said whenever the number of worker nodes or the stage changes."""

    def __init__(self) -> None:
        self.began, self.stage, self.said = time.monotonic(), "nothing yet", (-1, "")

    def look(self) -> int:
        nodes = sum(node["Alive"] and node["NodeID"] != FAKE_HEAD_NODE_ID for node in ray.nodes())
        if (nodes, self.stage) != self.said:
            self.said = (nodes, self.stage)
            say(seconds=round(time.monotonic() - self.began, 1), nodes=nodes, stage=self.stage)
        return nodes


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def main() -> None:
    folder, ray_temp = Path(sys.argv[1]), sys.argv[2]
    (folder / "wine.yaml").write_text(RECIPE.format(folder=folder))
    start_head(folder, ray_temp)
    ray.init(address=ADDRESS, log_to_driver=False, logging_level="ERROR")
    line = TimeLine()
    line.look()
    command = [sys.executable, "-m", "raysynth", "--json", "run", str(folder / "wine.yaml")]
    environment = os.environ | {"RAY_ADDRESS": ADDRESS}
    run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    log: list[str] = []

    def follow() -> None:
        assert run.stderr is not None
        for text in run.stderr:
            log.append(text)
            if text.startswith("{"):
                line.stage = json.loads(text)["stage"]

    Thread(target=follow, daemon=True).start()
    while run.poll() is None:
        line.look()
        time.sleep(0.3)
    line.stage = "ended"
    deadline = time.monotonic() + GONE_SECONDS
    while line.look() and time.monotonic() < deadline:
        time.sleep(0.3)
    say(code=run.returncode, log="".join(log))


main()
