"""cluster.yaml is what Ray's own launcher takes, and says what must not be forgotten."""

import copy
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysynth.errors import MissingExtraError
from raysynth.sources.examples import Examples

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster.yaml"
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
ALIVE = ("RAY_health_check_period_ms", "RAY_health_check_timeout_ms", "RAY_grpc_client_keepalive_time_ms", "RAY_AUTH_MODE=token")


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text())


def test_rays_own_schema_takes_it(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_a_misspelt_key_would_be_found(cluster: dict[str, Any]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    wrong = copy.deepcopy(cluster)
    wrong["available_node_types"]["cpu-spot"]["max_worker"] = 3
    with pytest.raises(ValidationError, match="max_worker"):
        validate_config(prepare_config(wrong))


def test_the_head_computes_nothing_and_pools_begin_at_nothing(cluster: dict[str, Any]) -> None:
    nodes = cluster["available_node_types"]
    assert nodes[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    assert {nodes[name]["min_workers"] for name in nodes if name != cluster["head_node_type"]} == {0}


@pytest.mark.parametrize("name", ["head", "cpu-spot", "gpu-train", "gpu-spot"])
def test_every_node_asks_for_imdsv2_an_encrypted_disk_and_the_profile(cluster: dict[str, Any], name: str) -> None:
    node = cluster["available_node_types"][name]
    assert node["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
    assert node["node_config"]["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    assert node["node_config"]["IamInstanceProfile"] == {
        "Name": "raysynth-head" if name == "head" else "raysynth"
    }  # it alone starts nodes
    assert ("nvidia" in node["node_config"]["ImageId"]) == ("GPU" in node["resources"])
    is_spot = node["node_config"].get("InstanceMarketOptions") == {"MarketType": "spot"}
    assert node["labels"]["ray.io/market-type"] == ("spot" if is_spot else "on-demand")


def test_what_the_autoscaler_needs_keeps_to_the_versions_that_were_tested(cluster: dict[str, Any]) -> None:
    for command in (*cluster["setup_commands"], *cluster["head_setup_commands"]):
        assert "pip install" not in command or "-c ~/constraints.txt" in command


def test_every_node_is_seen_dead_within_seconds_and_lets_nobody_in_without_the_token(cluster: dict[str, Any]) -> None:
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        assert all(word in " ".join(commands) for word in ALIVE)
    assert "--dashboard-host=127.0.0.1" in " ".join(cluster["head_start_ray_commands"])
    assert "auth_token" in " ".join(cluster["file_mounts"])


def needed_on_a_node(cluster: dict[str, Any], home: Path, extras: str) -> list[str]:
    """What set-up writes into requirements.txt in the home of a node, with these extras."""
    [command] = [text for text in cluster["setup_commands"] if "> ~/requirements.txt" in text]
    (home / "ray/bin").mkdir(parents=True, exist_ok=True)
    (home / "ray/bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (home / "ray/bin/python").chmod(0o755)
    shutil.copy(ROOT / "pyproject.toml", home)
    said = re.sub(r"EXTRAS=[\w,]+;", f"EXTRAS={extras};", command)
    subprocess.run(["/bin/bash", "-c", said], cwd=home, env={"HOME": str(home)}, check=True)
    return (home / "requirements.txt").read_text().splitlines()


@pytest.mark.parametrize("extras", ["", "examples", "examples,text,image,llm"])
def test_nodes_get_the_extras_that_set_up_names(cluster: dict[str, Any], tmp_path: Path, extras: str) -> None:
    needed = needed_on_a_node(cluster, tmp_path, extras)
    assert "torch>=2.6" in needed
    for extra, names in EXTRAS.items():
        assert (set(names) <= set(needed)) == (extra in extras.split(","))


@pytest.fixture
def shipped_extra(monkeypatch: pytest.MonkeyPatch) -> str:
    """What the source of the recipe in docs/clusters.md and deploy/kuberay/rayjob.yaml asks for where no package is installed."""
    recipe = yaml.safe_load((ROOT / "jobs/recipes/flights.yaml").read_text())
    with monkeypatch.context() as bare, pytest.raises(MissingExtraError) as missing:
        bare.setattr(sys, "path", [])
        Examples(recipe["source"]).files()
    return re.findall(r"raysynth\[(\w+)\]", str(missing.value))[0]


def test_cluster_yaml_and_the_image_have_what_the_shipped_recipe_needs(cluster: dict[str, Any], shipped_extra: str) -> None:
    [of_nodes] = re.findall(r"\bEXTRAS=([\w,]+);", " ".join(cluster["setup_commands"]))
    image = (ROOT / "deploy/Dockerfile").read_text()
    [of_the_image] = re.findall(r"^ARG EXTRAS=([\w,]+)$", image, re.MULTILINE)
    assert shipped_extra in of_nodes.split(",") and shipped_extra in of_the_image.split(",")
    assert '".${EXTRAS:+[$EXTRAS]}"' in image
