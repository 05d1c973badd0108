"""What a worker asks of the cluster, beside what is there and may still come: refuses what never can, and names what is waited for."""

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raysynth.cluster.limits import limits
from raysynth.cluster.session import ANSWER_SECONDS, within
from raysynth.errors import RaysynthError, RecipeError, StoppedError

GRACE_SECONDS = 45.0
"""Nodes that are started together join one after the other; and an autoscaler looks only every few seconds."""
LOOK_SECONDS = 1.0

Amounts = Mapping[str, float]
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """What one worker needs: `bundle`, such as {"CPU": 1}, on a node with `labels` (the recipe's `key`), or with `fallback` on any.
    `together`: so many workers begin together or not at all."""

    bundle: Amounts
    labels: Labels
    key: str
    fallback: bool
    together: int = 1

    def options(self) -> dict[str, Any]:
        """For ray.remote and for Ray Data."""
        options: dict[str, Any] = {"num_cpus": self.bundle.get("CPU", 0)}
        if self.bundle.get("GPU"):
            options["num_gpus"] = self.bundle["GPU"]
        if self.labels:
            options["label_selector"] = dict(self.labels)
        if self.labels and self.fallback:
            options["fallback_strategy"] = [{"label_selector": {}}]
        return options

    def __str__(self) -> str:
        amounts = (f"{self.together} × " if self.together > 1 else "") + _amounts(self.bundle)
        return f"{amounts} with {self.key} {_told(self.labels)}" if self.labels and not self.fallback else amounts


@dataclass(frozen=True)
class Node:
    total: Amounts
    free: Amounts
    labels: Labels


@dataclass(frozen=True)
class Seen:
    """One look at the cluster. `grows`: an autoscaler is there; `refused`: what it says that none of its node types can give, as
    (bundle, keys of the labels, how many together); `pending`: what waits for a node, as (bundle, how many)."""

    nodes: tuple[Node, ...]
    dead: int = 0
    grows: bool = False
    coming: int = 0
    refused: tuple[tuple[Amounts, frozenset[str], int], ...] = ()
    pending: tuple[tuple[Amounts, int], ...] = ()

    def holds(self, asked: Asked) -> bool:
        """Whether nodes are there that could take such workers, once they are free."""
        able = [node for node in self.nodes if asked.fallback or _has(node.labels, asked.labels)]
        return sum(_room(asked, node.total) for node in able) >= asked.together

    def never(self, asked: Asked) -> bool:
        """Whether waiting is in vain, as far as anybody can know now."""
        if self.holds(asked) or self.coming:
            return False
        mine, keys = dict(asked.bundle), frozenset(asked.labels)
        return not self.grows or any(
            dict(bundle) == mine and of == keys and together <= asked.together for bundle, of, together in self.refused
        )

    def __str__(self) -> str:
        total, free = ({name: sum(of.get(name, 0) for of in side) for name in ("CPU", "GPU")} for side in self._sides())
        gpus = f", {free['GPU']:g} of {total['GPU']:g} GPUs free" if total["GPU"] else ""
        waiting = "; waiting: " + ", ".join(f"{count} × {_told(bundle)}" for bundle, count in self.pending) if self.pending else ""
        coming = f", {self.coming} on their way" if self.coming else ""
        alive = f"nodes: {len(self.nodes)} alive{coming}, {self.dead} dead"
        return f"{alive}; {free['CPU']:g} of {total['CPU']:g} CPUs free{gpus}{waiting}"

    def _sides(self) -> tuple[list[Amounts], list[Amounts]]:
        return [node.total for node in self.nodes], [node.free for node in self.nodes]


def rows_asked(num_cpus: float = 1, num_gpus: float = 0) -> Asked:
    """By a worker of any stage that makes rows."""
    cluster = limits().cluster
    bundle = {"CPU": float(num_cpus), **({"GPU": float(num_gpus)} if num_gpus else {})}
    return Asked(bundle, cluster.row_labels, "cluster.row_labels", cluster.fallback)


def check(asked: Asked) -> Seen | None:
    """On a connected Ray, before work is handed out: what is there, at once, where a node can take it or may come; within a minute
    RecipeError or StoppedError where none ever can."""
    _check_labels(asked)
    deadline = time.monotonic() + grace_seconds()
    while (seen := look()) is not None and seen.never(asked):
        if time.monotonic() >= deadline:
            raise refusal(asked, seen)
        limits().check_time()
        time.sleep(LOOK_SECONDS)
    return seen


def grace_seconds() -> float:
    """No node ever joins an embedded Ray."""
    return GRACE_SECONDS if "RAY_ADDRESS" in os.environ else 0.0


def refusal(asked: Asked, seen: Seen) -> RaysynthError:
    """What to raise once a cluster has long been `never`."""
    brings = "and none of the autoscaler's node types has" if seen.grows else "and there is no autoscaler that could bring one"
    short = "no node has" if asked.together == 1 else "the nodes do not have"
    fitting = [node for node in seen.nodes if _fits(asked.bundle, node.total)]
    if asked.labels and not asked.fallback and (fitting or seen.grows):
        there = "; ".join(sorted({_told(_own(node.labels)) for node in seen.nodes})) or "none"
        return RecipeError(
            f"{asked.key}: {_told(asked.labels)}: {short} these labels and room for {replace(asked, labels={})}, {brings}. "
            f"Labels that are there: {there}. Correct them, start such a node, or say cluster.fallback: true"
        )
    return StoppedError(
        f"RAY_ADDRESS {os.environ.get('RAY_ADDRESS', 'local')}: {short} {asked}, {brings} ({seen}). "
        "Start nodes that have it, and run the same command again to go on"
    )


def look() -> Seen | None:
    """None where the cluster's head does not answer."""
    return within(ANSWER_SECONDS, _ask)


def _ask() -> Seen:
    import ray
    from ray._private import worker
    from ray.core.generated import autoscaler_pb2

    gcs: Any = getattr(worker.global_worker, "gcs_client", None)
    if gcs is None:  # a ray:// address, which tells of nodes alone
        nodes = [node for node in ray.nodes() if node["Alive"]]
        return Seen(tuple(Node(node["Resources"], {}, node["Labels"]) for node in nodes), grows=True)
    messages: Any = autoscaler_pb2  # its names are made when it is imported
    reply = messages.GetClusterStatusReply()
    reply.ParseFromString(gcs.get_cluster_status(timeout_s=ANSWER_SECONDS))
    older = gcs.internal_kv_get(b"__autoscaling_status", None, timeout=ANSWER_SECONDS)
    return _seen(reply, json.loads(older) if older else {})


def _seen(reply: Any, older: Mapping[str, Any]) -> Seen:
    """`older`: what an autoscaler of version 1 says of itself."""
    state, scaling = reply.cluster_resource_state, reply.autoscaling_state
    alive = [node for node in state.node_states if node.status != _DEAD]
    report = older.get("autoscaler_report") or {}
    types = {node.ray_node_type_name for node in alive}
    types |= {name for kind in ("active_nodes", "idle_nodes") for name in report.get(kind) or {}}
    return Seen(
        nodes=tuple(Node(dict(node.total_resources), dict(node.available_resources), dict(node.labels)) for node in alive),
        dead=len(state.node_states) - len(alive),
        grows=any(name and not name.startswith("node_") for name in types),  # Ray's name for a node that no autoscaler started
        coming=len(scaling.pending_instances) + sum(request.count for request in scaling.pending_instance_requests),
        refused=(
            *((dict(request.resources_bundle), _keys(request), 1) for request in scaling.infeasible_resource_requests),
            *(entry for gang in scaling.infeasible_gang_resource_requests for entry in _together(gang)),
        ),
        pending=tuple((dict(entry.request.resources_bundle), int(entry.count)) for entry in state.pending_resource_requests),
    )


def _together(gang: Any) -> list[tuple[Amounts, frozenset[str], int]]:
    """Each kind of bundle of a placement group: how workers that begin together ask."""
    requests = list(gang.bundle_selectors[0].resource_requests if gang.bundle_selectors else gang.requests)
    kinds = {(frozenset(request.resources_bundle.items()), _keys(request)) for request in requests}
    return [(dict(bundle), keys, len(requests)) for bundle, keys in kinds]


_DEAD = 2  # autoscaler_pb2.NodeStatus


def _keys(request: Any) -> frozenset[str]:
    return frozenset(constraint.label_key for selector in request.label_selectors for constraint in selector.label_constraints)


def _check_labels(asked: Asked) -> None:
    from ray._private.label_utils import validate_label_selector

    if wrong := validate_label_selector(dict(asked.labels)):
        raise RecipeError(f"{asked.key}: {_told(asked.labels)}: {wrong}")


def _room(asked: Asked, room: Amounts) -> int:
    """How many of the workers that begin together a node has room for."""
    return next(
        (count for count in range(asked.together, 0, -1) if _fits({n: count * a for n, a in asked.bundle.items()}, room)), 0
    )


def _fits(bundle: Amounts, room: Amounts) -> bool:
    return all(room.get(name, 0.0) >= amount for name, amount in bundle.items())


def _has(labels: Labels, wanted: Labels) -> bool:
    """By Ray's words: `spot`, `!spot`, `in(a,b)`, `!in(a,b)`."""
    for key, text in wanted.items():
        listed = re.fullmatch(r"(!?)(?:in\((.*)\)|(.*))", text)
        values = {value.strip() for value in (listed[2] or listed[3] or "").split(",")} if listed else {text}
        if (labels.get(key) in values) == bool(listed and listed[1]):
            return False
    return True


def _own(labels: Labels) -> Labels:
    """Without the id that Ray gives each node."""
    return {key: text for key, text in labels.items() if key != "ray.io/node-id"}


def _amounts(bundle: Amounts) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in bundle.items())


def _told(mapping: Mapping[str, Any]) -> str:
    return (
        "{"
        + ", ".join(f"{key}: {value:g}" if isinstance(value, float) else f"{key}: {value}" for key, value in mapping.items())
        + "}"
    )
