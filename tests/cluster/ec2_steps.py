"""Inside namespaces: `ray up cluster.yaml` against moto's EC2, then each of its pools asked of the head that it starts. All nodes are this
machine: what Ray does there by ssh is done here, but for sudo, pip and the workers' Ray. CONFIG FOLDER RAY_TEMP PROFILE… → JSON lines."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import yaml

RAY = [
    sys.executable,
    "-c",
    "from ray.scripts.scripts import main; main()",
]  # the command's own first line may name a path with a space
ENDPOINT = "http://127.0.0.1:5000"
ADDRESS = "127.0.0.1:6379"
AMAZON = {
    "AWS_ENDPOINT_URL": ENDPOINT,
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
    "BOTO_CREATE_MAX_RETRIES": "1",
}
TOKEN = "0123456789abcdef" * 4
SSH = """#!/bin/sh
while [ "$1" ]; do case "$1" in ubuntu@*) shift; break;; esac; shift; done
printf '%s\\n' "$*" >> "{log}"
cd "$HOME" && exec sh -c "$*"
"""
RSYNC = """#!/bin/sh
for place; do from=$to; to=$place; done
to=$(printf '%s' "${{to#*:}}" | sed "s#^~#$HOME#")
[ "$from" -ef "$to" ] || cp "$from" "$to"
"""
NOTHING = "#!/bin/sh\n"
START_RAY = """#!/bin/sh
case "$*" in
*--head*) exec "{python}" -c 'from ray.scripts.scripts import main; main()' "$@" --temp-dir="{ray_temp}" --include-dashboard=false ;;
esac
"""
POOLS = [({"CPU": 16}, {"pool": "cpu"}), ({"GPU": 1}, {"pool": "gpu-train"}), ({"GPU": 1}, {"pool": "gpu-sample"})]
PATIENCE_SECONDS = 240.0


def say(**facts: Any) -> None:
    print(json.dumps(facts, default=str), flush=True)


def start_moto(log: Path) -> None:
    server = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", "5000"]
    subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=log.open("w"))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{ENDPOINT}/moto-api/", timeout=30).close()  # noqa: S310 (a constant)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def become_a_node(folder: Path, ray_temp: str) -> Path:
    """This home becomes a node's → the file in which stands what was said to it over ssh."""
    log, programs, home = folder / "ssh.log", folder / "programs", Path.home()
    scripts = {programs / "ssh": SSH.format(log=log), programs / "rsync": RSYNC.format(), programs / "sudo": NOTHING}
    scripts |= {programs / "cloud-init": NOTHING, home / "ray/bin/pip": NOTHING}
    scripts |= {home / "ray/bin/python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'}
    scripts |= {home / "ray/bin/ray": START_RAY.format(python=sys.executable, ray_temp=ray_temp)}
    for path, text in scripts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    (home / ".bashrc").write_text(f'export PATH="{programs}:$PATH"\n')  # a login shell begins with a PATH of its own
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text(TOKEN)
    return log


def instances(region: str) -> list[dict[str, Any]]:
    """What EC2 was asked for, each with its first disk."""
    ec2 = boto3.client("ec2", region_name=region)
    found = [instance for reservation in ec2.describe_instances()["Reservations"] for instance in reservation["Instances"]]
    for instance in found:
        disk = instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        instance["Disk"] = ec2.describe_volumes(VolumeIds=[disk])["Volumes"][0]
    return found


def ask_for_every_pool(region: str, log: Path) -> list[dict[str, Any]]:
    """The instances that there are once each pool has one and Ray has been set up on it."""
    os.environ["RAY_AUTH_MODE"] = "token"  # not before: the head is to have it from the file; Ray reads it as it is imported

    import ray
    from ray.autoscaler.sdk import request_resources

    ray.init(address=ADDRESS, log_to_driver=False, logging_level="ERROR")
    request_resources(bundles=[bundle for bundle, _ in POOLS], bundle_label_selectors=[labels for _, labels in POOLS])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while log.read_text().count("ray start --address=") < len(POOLS) and time.monotonic() < deadline:
        time.sleep(0.5)
    return instances(region)


def main() -> None:
    config, folder, ray_temp, profiles = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
    here = folder / "cluster-here.yaml"  # a node's home is this one
    here.write_text(config.read_text().replace("/home/ubuntu", str(Path.home())))
    region = yaml.safe_load(here.read_text())["provider"]["region"]
    os.environ |= AMAZON
    start_moto(folder / "moto.log")
    for name in profiles:
        boto3.client("iam", region_name=region).create_instance_profile(InstanceProfileName=name)
    log = become_a_node(folder, ray_temp)
    command = [*RAY, "up", "--yes", "--no-config-cache", str(here)]
    up = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=Path(__file__).parents[2], timeout=400
    )
    say(step="up", code=up.returncode, told=up.stdout[-20_000:])  # botocore lists all keys that it knows
    say(step="pools", instances=ask_for_every_pool(region, log) if up.returncode == 0 else instances(region))
    needed = Path.home() / "requirements.txt"
    say(
        step="said",
        lines=log.read_text().splitlines() if log.exists() else [],
        needed=needed.read_text() if needed.exists() else "",
    )


main()
