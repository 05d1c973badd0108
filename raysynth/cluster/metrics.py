"""What the stages do → Prometheus metrics of Ray's agent port (ray_raysynth_…), counted in the process that does it.

Without a connected Ray they go nowhere, and whatever goes wrong with them is no fault of the work. A part that was made twice counts
twice: the store, not a counter, says what is committed.
"""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from raysynth.cluster.session import is_initialised
from raysynth.markers import Marker
from raysynth.runs import Folder

log = logging.getLogger("raysynth.metrics")

COUNTERS = {
    "raysynth_rows": "Rows written, those in quarantine too",
    "raysynth_parts": "Parts written",
    "raysynth_bytes": "Bytes of Parquet written",
    "raysynth_rejects": "Rows turned down: by prepare as bad, by generate for a rule or a condition (each attempt counts)",
    "raysynth_epochs": "Epochs trained",
    "raysynth_train_rows": "Rows shown to the generator, each epoch anew",
    "raysynth_stage_seconds": "Seconds that ended stages took",
    "raysynth_stage_cpu_seconds": "CPU-seconds that ended stages took, as their tasks told",
}
GAUGES = {
    "raysynth_epoch": "The latest epoch, counted from 1",
    "raysynth_train_loss": "Mean loss of the latest epoch's rows",
    "raysynth_validation_loss": "Mean loss of the validation rows after the latest epoch",
}
STAGES = {"prepared": "prepare", "augmented": "augment", "synthetic": "generate", "mixed": "mix"}
"""The folder that is written → the label `stage`."""


def wrote(folder: Folder, marker: Marker) -> None:
    """A task's parts are on the store."""
    labels = {"stage": STAGES.get(folder.name, folder.name), "run": run_of(folder)}
    files = [file for part in marker.parts for file in part.files]
    _count("raysynth_parts", len(marker.parts), labels)
    _count("raysynth_rows", sum(file.rows for file in files), labels)
    _count("raysynth_bytes", sum(file.bytes for file in files), labels)
    _count("raysynth_rejects", sum(_rejects(part.extra) for part in marker.parts), labels)


def epoch(model: Folder, report: Mapping[str, Any], *, rows: int) -> None:
    """One rank tells of an epoch: `report` is an EpochReport's fields, `rows` those of all ranks."""
    labels = {"run": run_of(model)}
    _count("raysynth_epochs", 1, labels)
    _count("raysynth_train_rows", rows, labels)
    _tell("raysynth_epoch", report["epoch"] + 1, labels)
    _tell("raysynth_train_loss", report["train_loss"], labels)
    _tell("raysynth_validation_loss", report["validation_loss"], labels)


def stage_ended(stage: str, folder: Folder, *, seconds: float, cpu_seconds: float) -> None:
    labels = {"stage": stage, "run": run_of(folder)}
    _count("raysynth_stage_seconds", seconds, labels)
    _count("raysynth_stage_cpu_seconds", cpu_seconds, labels)


def run_of(folder: Folder) -> str:
    """The last word of the run's URL: what a dashboard can show."""
    return folder.url.rsplit("/", 3)[-3]


def _rejects(extra: Mapping[str, Any]) -> int:
    return int(extra.get("bad", 0)) + sum(extra.get("rejects", {}).values())


def _count(name: str, value: float, labels: dict[str, str]) -> None:
    if value > 0:
        _tell(name, value, labels)


def _tell(name: str, value: float, labels: dict[str, str]) -> None:
    if not is_initialised():
        return
    try:
        metric = _metric(name, tuple(labels))
        (metric.inc if name in COUNTERS else metric.set)(float(value), labels)
    except Exception as error:  # whatever Ray makes of a metric
        log.warning("%s was not counted: %s", name, error)


@cache
def _metric(name: str, labels: tuple[str, ...]) -> Any:
    """One of each for every process."""
    from ray.util.metrics import Counter, Gauge

    return Counter(name, COUNTERS[name], labels) if name in COUNTERS else Gauge(name, GAUGES[name], labels)
