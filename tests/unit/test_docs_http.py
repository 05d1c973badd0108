"""The pages on HTTP say what the server is: they are made from it, and compared with it here."""

import importlib
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from raysynth.serving.reference import SETTINGS_BEGIN, SETTINGS_END, http_reference, settings_table
from raysynth.serving.registry import Registry
from raysynth.serving.routes import make_app
from raysynth.serving.service import Service
from raysynth.serving.settings import Settings

ROOT = Path(__file__).parents[2]
ANEW = "python -c 'from test_docs_http import written; written()' in tests/unit writes it anew"


def openapi() -> dict[str, Any]:
    """Of a server without models."""
    nothing = cast("Any", None)
    service = Service(Settings(runs=("none",)), Registry((), 1), nothing, nothing)
    guarded = cast("Any", make_app(service, None, nothing, lambda _: None))
    return guarded.app.openapi()


def with_settings(page: str) -> str:
    before, rest = page.split(SETTINGS_BEGIN)
    return before + settings_table() + rest.split(SETTINGS_END)[1]


def written() -> None:
    """Both pages as they should be."""
    (ROOT / "docs/http.md").write_text(http_reference(openapi()), encoding="utf-8")
    page = ROOT / "docs/production.md"
    page.write_text(with_settings(page.read_text(encoding="utf-8")), encoding="utf-8")


def test_the_http_reference_is_what_openapi_says() -> None:
    assert (ROOT / "docs/http.md").read_text(encoding="utf-8") == http_reference(openapi()), ANEW


def test_the_table_of_settings_is_what_the_model_says() -> None:
    page = (ROOT / "docs/production.md").read_text(encoding="utf-8")
    assert page == with_settings(page), ANEW


def test_every_status_of_openapi_is_explained() -> None:
    described = {status for methods in openapi()["paths"].values() for one in methods.values() for status in one["responses"]}
    page = http_reference(openapi())
    assert not [status for status in described if int(status) >= 400 and f"\n| {status} | " not in page]


def test_a_new_field_of_an_answer_needs_a_meaning() -> None:
    described = openapi()
    described["components"]["schemas"]["Job"]["properties"]["mood"] = {"type": "string"}
    with pytest.raises(KeyError, match="mood"):
        http_reference(described)


def test_the_configuration_of_ray_serve_is_one() -> None:
    described = yaml.safe_load((ROOT / "serve/config.yaml").read_text(encoding="utf-8"))
    (application,) = described["applications"]
    settings = Settings.model_validate(application["args"])
    assert described["http_options"]["request_timeout_s"] > settings.timeout_seconds
    assert described["http_options"]["host"] == "127.0.0.1"


def test_serve_build_finds_an_application(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve import Application

    monkeypatch.syspath_prepend(str(ROOT))
    assert isinstance(importlib.import_module("serve.app").app, Application)


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    source = (ROOT / "raysynth/serving/meters.py").read_text(encoding="utf-8")
    ends = {"Counter": ("_total",), "Gauge": ("",), "Histogram": ("_bucket", "_sum", "_count")}
    made = {f"ray_{name}{end}" for kind, name in re.findall(r'(Counter|Gauge|Histogram)\("(\w+)"', source) for end in ends[kind]}
    board = json.loads((ROOT / "deploy/monitoring/grafana-dashboard.json").read_text(encoding="utf-8"))
    asked = {name for panel in board["panels"] for one in panel["targets"] for name in re.findall(r"ray_raysynth_\w+", one["expr"])}
    assert asked and asked <= made
    told = (ROOT / "deploy/monitoring/README.md").read_text(encoding="utf-8")
    assert not [name for name in made if not re.search(rf"`{re.sub('_(bucket|sum|count)$', '', name)}`", told)]
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))


def test_links_between_the_pages_lead_somewhere() -> None:
    for name in ("README.md", "docs/http.md", "docs/production.md", "deploy/monitoring/README.md"):
        page = ROOT / name
        text = page.read_text(encoding="utf-8")
        heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}
        for link in re.findall(r"\]\(([^)]+)\)", text):
            path, _, anchor = link.partition("#")
            assert link.startswith("https://") or (page.parent / path).exists(), f"{name}: {link}"
            assert path or anchor in anchors, f"{name}: {link}"
