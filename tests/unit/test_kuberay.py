"""The files for KubeRay, as far as that can be told without its CRDs, which no package ships: their shape, and what must be in them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from raysynth.serving.settings import Settings

FOLDER = Path(__file__).parents[2] / "deploy" / "kuberay"
PLACE = {"RayCluster": (), "RayJob": ("rayClusterSpec",), "RayService": ("rayClusterConfig",)}
FILES = ["raycluster.yaml", "rayjob.yaml", "rayservice.yaml"]


def cluster_of(name: str) -> dict[str, Any]:
    document = yaml.safe_load((FOLDER / name).read_text())
    assert document["apiVersion"] == "ray.io/v1"
    spec = document["spec"]
    for step in PLACE[document["kind"]]:
        spec = spec[step]
    return spec


def pods_of(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"]["containers"][0] for group in groups]


@pytest.mark.parametrize("name", FILES)
def test_the_head_computes_nothing_and_the_token_is_asked_for(name: str) -> None:
    cluster = cluster_of(name)
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True and cluster["autoscalerOptions"]["version"] == "v2"


@pytest.mark.parametrize("name", FILES)
def test_every_pod_is_seen_dead_within_seconds_and_may_do_little(name: str) -> None:
    for pod in pods_of(cluster_of(name)):
        told = {entry["name"] for entry in pod["env"]}
        assert {"RAY_health_check_period_ms", "RAY_health_check_timeout_ms", "RAY_grpc_client_keepalive_time_ms"} <= told
        assert pod["resources"]["requests"] == pod["resources"]["limits"]
        assert pod["securityContext"]["runAsNonRoot"] is True and not pod["securityContext"]["allowPrivilegeEscalation"]


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_pools_begin_at_nothing(name: str) -> None:
    assert {group["minReplicas"] for group in cluster_of(name)["workerGroupSpecs"]} == {0}


def test_the_server_is_set_up_as_the_server_takes_it() -> None:
    document = yaml.safe_load((FOLDER / "rayservice.yaml").read_text())
    [application] = yaml.safe_load(document["spec"]["serveConfigV2"])["applications"]
    assert application["import_path"] == "raysynth.serving.app:build"
    assert Settings.model_validate(application["args"]).jobs == "s3://YOUR-BUCKET/jobs"
