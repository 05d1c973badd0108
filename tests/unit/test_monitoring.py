"""The pipeline's dashboard asks for metrics that the code makes or that are documented as Ray's, and Prometheus keeps them."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from raysynth.cluster import metrics
from raysynth.cluster.metrics import COUNTERS, GAUGES
from raysynth.markers import Marker
from raysynth.runs import Run

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RAY = {"ray_node_cpu_utilization", "ray_object_store_memory", "autoscaler_active_nodes", "autoscaler_pending_nodes"}
MADE = {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in GAUGES}


def asked() -> set[str]:
    board = json.loads((MONITORING / "grafana-pipeline.json").read_text(encoding="utf-8"))
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    expressions += [variable["query"] for variable in board["templating"]["list"]]
    return {name for text in expressions for name in re.findall(r"\b(?:ray|autoscaler)_\w+", text)}


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    found = asked()
    assert found - RAY <= MADE
    assert MADE - found == {"ray_raysynth_epochs_total"}, "what nobody looks at"


def test_all_are_documented_and_kept_by_prometheus() -> None:
    told = (MONITORING / "README.md").read_text(encoding="utf-8")
    assert not [name for name in MADE | RAY if f"`{name}`" not in told]
    described = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    (keep,) = described["scrape_configs"][0]["metric_relabel_configs"]
    assert keep["action"] == "keep" and not [name for name in MADE | RAY if not re.fullmatch(keep["regex"], name)]


def test_ray_s_own_metrics_are_called_so_by_the_ray_that_is_installed() -> None:
    spec = find_spec("ray")
    assert spec is not None and spec.origin is not None
    panels = (Path(spec.origin).parent / "dashboard/modules/metrics/dashboards/default_dashboard_panels.py").read_text(
        encoding="utf-8"
    )
    assert not [name for name in RAY if name not in panels]


def test_without_ray_a_metric_is_nothing_and_a_fault_of_it_no_fault_of_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Run(str(tmp_path / "run")).folder("synthetic", "0123456789ab")
    metrics.wrote(folder, Marker(0, 1, ()))
    monkeypatch.setattr(metrics, "is_initialised", lambda: True)
    monkeypatch.setattr(metrics, "_metric", lambda name, labels: exec("raise RuntimeError('no agent')"))  # noqa: S102
    metrics.stage_ended("generate", folder, seconds=1.0, cpu_seconds=1.0)
    assert "raysynth_stage_seconds was not counted: no agent" in caplog.text
    assert metrics.run_of(folder) == "run"


class Recorded:
    """What a counter or a gauge was told."""

    told: ClassVar[dict[str, tuple[float, dict[str, str]]]] = {}

    def __init__(self, name: str, labels: tuple[str, ...]) -> None:
        self.name, self.labels = name, labels

    def inc(self, value: float, labels: dict[str, str]) -> None:
        assert value > 0 and tuple(labels) == self.labels
        self.told[self.name] = (value, labels)

    set = inc


def test_an_epoch_tells_its_number_its_rows_and_its_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "is_initialised", lambda: True)
    monkeypatch.setattr(metrics, "_metric", Recorded)
    model = Run(str(tmp_path / "shop")).folder("model", "0123456789ab")
    metrics.epoch(model, {"epoch": 4, "train_loss": 1.5, "validation_loss": 2.5, "done": False}, rows=1000)
    run = {"run": "shop"}
    assert Recorded.told == {
        "raysynth_epochs": (1, run),
        "raysynth_train_rows": (1000, run),
        "raysynth_epoch": (5, run),
        "raysynth_train_loss": (1.5, run),
        "raysynth_validation_loss": (2.5, run),
    }
