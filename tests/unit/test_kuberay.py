"""The files for KubeRay: what must be in them, always; and the schemas of its CRDs, which no package ships, where KUBERAY_CRDS names
the folder that holds them (ray-operator/config/crd/bases of a KubeRay checkout)."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysynth.serving.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kuberay"
PLACE = {"RayCluster": (), "RayJob": ("rayClusterSpec",), "RayService": ("rayClusterConfig",)}
FILES = ["raycluster.yaml", "rayjob.yaml", "rayservice.yaml"]


def document_of(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


def cluster_of(name: str) -> dict[str, Any]:
    document = document_of(name)
    assert document["apiVersion"] == "ray.io/v1"
    spec = document["spec"]
    for step in PLACE[document["kind"]]:
        spec = spec[step]
    return spec


def templates_of(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def strict(schema: Any) -> Any:
    """A CRD's schema, in which a key that it does not name is a mistake (a server only drops it)."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {key: strict(item) for key, item in schema.items()}
    closed = "properties" in made and not {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & set(made)
    return {**made, "additionalProperties": False} if closed and made.get("type") == "object" else made


@pytest.mark.skipif(
    "KUBERAY_CRDS" not in os.environ, reason="no package ships KubeRay's CRDs: KUBERAY_CRDS names no folder with them"
)
@pytest.mark.parametrize("name", FILES)
def test_the_crds_take_them(name: str) -> None:
    from jsonschema import Draft202012Validator

    document = document_of(name)
    crd = yaml.safe_load((Path(os.environ["KUBERAY_CRDS"]) / f"ray.io_{document['kind'].lower()}s.yaml").read_text())
    [schema] = [version["schema"]["openAPIV3Schema"] for version in crd["spec"]["versions"] if version["name"] == "v1"]
    schema = strict(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    validator = Draft202012Validator(schema)
    assert not [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    wrong = {**document, "spec": {**document["spec"], "rayVersio": "2.60.0"}}
    assert any("rayVersio" in error.message for error in validator.iter_errors(wrong))


@pytest.mark.parametrize("name", FILES)
def test_the_head_computes_nothing_and_the_token_is_asked_for(name: str) -> None:
    cluster = cluster_of(name)
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True and cluster["autoscalerOptions"]["version"] == "v2"


@pytest.mark.parametrize("name", FILES)
def test_every_pod_is_seen_dead_within_seconds_and_may_do_little(name: str) -> None:
    start = " ".join(yaml.safe_load((ROOT / "cluster.yaml").read_text())["worker_start_ray_commands"])
    wanted = dict(re.findall(r"(RAY_(?:health|grpc|worker)\w+)=(\d+)", start))
    assert len(wanted) == 7
    for template in templates_of(cluster_of(name)):
        [pod] = template["containers"]
        assert {entry["name"]: entry["value"] for entry in pod["env"]} == wanted
        assert pod["resources"]["requests"] == pod["resources"]["limits"]
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] == 1000  # the image's; a name would not count
        assert not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"]}
        is_gpu = "nvidia.com/gpu" in pod["resources"]["limits"]
        assert [entry["key"] for entry in template.get("tolerations", [])] == (["nvidia.com/gpu"] if is_gpu else [])


def test_a_job_that_failed_is_gone_on_with_by_hand_as_the_file_and_the_docs_say() -> None:
    assert document_of("rayjob.yaml")["spec"]["backoffLimit"] == 0
    texts = [path.read_text() for path in (FOLDER / "rayjob.yaml", ROOT / "docs/clusters.md")]
    assert all("kubectl replace --force -f" in text and "pplied again" not in text for text in texts)


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_pools_are_those_of_cluster_yaml_and_begin_at_nothing(name: str) -> None:
    groups = {group["groupName"]: group for group in cluster_of(name)["workerGroupSpecs"]}
    assert {group["minReplicas"] for group in groups.values()} == {0}
    pools = yaml.safe_load((ROOT / "cluster.yaml").read_text())["available_node_types"]
    assert {key: group["labels"] for key, group in groups.items()} == {
        key: pool["labels"] for key, pool in pools.items() if key != "head"
    }


def test_the_server_is_set_up_as_the_server_takes_it() -> None:
    document = document_of("rayservice.yaml")
    [application] = yaml.safe_load(document["spec"]["serveConfigV2"])["applications"]
    assert application["import_path"] == "raysynth.serving.app:build"
    assert Settings.model_validate(application["args"]).jobs == "s3://YOUR-BUCKET/jobs"
