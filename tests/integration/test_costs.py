"""Prices and figures → hours and money; what a probe of the first rows says of all rows; a budget that is spent."""

import gzip
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.cluster.limits import limited, limits
from raysynth.cluster.meter import METER
from raysynth.costs import Estimate, Interval, cost
from raysynth.errors import DataError, RecipeError, StoppedError
from raysynth.recipe import Recipe
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Run
from raysynth.stages import first_rows as first
from raysynth.stages import past_costs
from raysynth.stages.prepare import check_source

PRICES = {"rows": {"node_hour": 0.5, "cpus": 4}, "train": {"node_hour": 3.0, "cpus": 1}}
HOUR = Interval(1800.0, 3600.0, 7200.0)


def recipe(**keys: Any) -> Recipe:
    return parse_recipe({"source": "rows.csv", "generate": {"workers": 6}, "train": {"workers": 2}, **keys})


def estimates() -> list[Estimate]:
    none = Interval(0.0, 0.0, 0.0)
    return [
        Estimate("train", none, HOUR.times(2), 2, "a test"),
        Estimate("generate", none, HOUR.times(6), 6, "a test", waits=HOUR),
    ]


def test_hours_are_shared_among_the_workers_and_each_pool_pays_for_its_nodes() -> None:
    told = cost(recipe(prices=PRICES), estimates())
    assert told["stages"]["train"]["cpu_seconds"] == {"low": 3600.0, "expected": 7200.0, "high": 14400.0}
    assert told["pools"]["train"] == {
        "nodes": 2,
        "hours": {"low": 0.5, "expected": 1.0, "high": 2.0},
        "money": {"low": 3.0, "expected": 6.0, "high": 12.0},
    }
    assert told["pools"]["rows"]["nodes"] == 2  # six workers, four CPUs a node
    assert told["pools"]["rows"]["hours"]["expected"] == 2.0 and told["pools"]["rows"]["money"]["expected"] == 2.0
    assert told["total"]["money"] == {"low": 4.0, "expected": 8.0, "high": 16.0}
    assert told["total"]["cpu_hours"]["expected"] == 8.0 and told["total"]["currency"] == "USD"


def test_without_a_price_there_is_no_money() -> None:
    told = cost(recipe(prices={"rows": PRICES["rows"]}), estimates())
    assert told["pools"]["train"]["money"] is None and told["pools"]["train"]["nodes"] is None
    assert told["pools"]["rows"]["money"] is not None and told["total"]["money"] is None


@pytest.mark.parametrize(("cap", "word"), [(17, "yes"), (9, "probably"), (5, "perhaps"), (4, "no")])
def test_whether_a_cap_would_do_is_told_by_the_interval(cap: float, word: str) -> None:
    told = cost(recipe(prices=PRICES, budget={"money": cap}), estimates())
    assert told["budget"] == {"cpu_hours": None, "money": {"cap": cap, "suffices": word}}


def test_money_is_the_hours_of_a_pool_s_stages_times_its_nodes() -> None:
    with limited(recipe(prices={**PRICES, "train": {"node_hour": 3.6e6, "cpus": 1}}, budget={"money": 1e9})):
        spending = limits().spending
        with spending.stage("train"):
            time.sleep(0.05)
            assert spending.money >= 2 * 1000 * 0.05  # while it runs, too
        spent = spending.money
        time.sleep(0.05)
        assert spending.money == spent, "between stages nobody pays"
        with spending.stage("generate"):
            time.sleep(0.01)
        assert spent < spending.money < spent + 1, "the other pool has its own price"


def test_a_spent_budget_names_its_key_the_cap_what_is_spent_and_how_to_go_on() -> None:
    with limited(recipe(budget={"cpu_hours": 2})):
        limits().check()
        METER.add(2 * 3600)
        with pytest.raises(
            StoppedError, match=r"budget\.cpu_hours: 2, and 2(\.\d+)? CPU-hours are spent\. .*run the same command again"
        ):
            limits().check()
    with limited(recipe(budget={"cpu_hours": 2})):
        limits().check()  # the next command begins anew
    with limited(recipe(prices={**PRICES, "currency": "EUR"}, budget={"money": 1e-9})), limits().spending.stage("prepare"):
        time.sleep(0.01)
        with pytest.raises(StoppedError, match=r"budget\.money: 1e-09 EUR, and \S+ EUR are spent"):
            limits().check()


# What the first rows say

ROWS = 30_000


def csv(path: Path) -> None:
    path.write_text(text())


def packed(path: Path) -> None:
    path.write_bytes(gzip.compress(text().encode()))


def lines(path: Path) -> None:
    path.write_text("".join(json.dumps({"n": n, "word": f"word {n % 97}", "x": n / 7}) + "\n" for n in range(ROWS)))


def parquet(path: Path) -> None:
    pq.write_table(pa.table({"n": range(ROWS), "x": [n / 7 for n in range(ROWS)]}), path, row_group_size=1000)


def text() -> str:
    return "n,word,x\n" + "".join(f"{n},word {n % 97},{n / 7}\n" for n in range(ROWS))


@pytest.mark.parametrize(
    ("name", "write", "tolerance"),
    [("a.csv", csv, 0.1), ("a.csv.gz", packed, 0.1), ("a.jsonl", lines, 0.15), ("a.parquet", parquet, 0.01)],
)
def test_rows_that_are_not_counted_are_reckoned(
    name: str, write: Callable[[Path], None], tolerance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / name)
    options = {"block_bytes": 1 << 16} if "csv" in name else {"rows_per_table": 2000}
    use = "csv" if "csv" in name else name.rsplit(".", 1)[1]
    asked = parse_recipe({"source": {"use": use, "url": str(tmp_path / name), "options": options}})
    assert first.first_rows(asked, check_source(asked)).total_rows == ROWS
    monkeypatch.setattr(first, "COUNT_SECONDS", 0.0)
    monkeypatch.setattr(first, "PROBE_ROWS", 1000)
    found = first.first_rows(asked, check_source(asked))
    assert found.rows == 1000 and found.total_rows == pytest.approx(ROWS, rel=tolerance)


def test_a_plan_of_a_row_is_a_plan(tmp_path: Path) -> None:
    from raysynth.pipeline import planned

    (tmp_path / "a.csv").write_text("n,word\n1,a\n")
    told = planned(parse_recipe({"source": str(tmp_path / "a.csv"), "run": str(tmp_path / "run"), "generate": {"rows": 10}}))
    assert list(told["cost"]["stages"]) == ["prepare", "train", "generate", "evaluate"]


def test_what_is_fitted_by_tasks_is_fitted_and_a_server_is_not_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import raysynth.generators
    from raysynth.pipeline import planned

    fakes = str(Path(__file__).parent / "fakes")
    monkeypatch.setattr(raysynth.generators, "__path__", [*raysynth.generators.__path__, fakes])
    for use, told in (("marginals", "a probe of the first 178 rows"), ("oracle", "nothing: its server's time is not known here")):
        asked = {"source": "examples://wine", "run": str(tmp_path / "run"), "generator": use, "evaluate": None}
        stages = planned(parse_recipe(asked))["cost"]["stages"]
        assert stages["generate"]["estimated_from"].startswith(told)
        sys.modules.pop(f"raysynth.generators.{use}")


SAID = {"use": "endpoint", "url": "http://127.0.0.1:9/v1", "model": "m", "input_price": 1.0, "output_price": 4.0, "shots": 2}


def said(path: Path, **keys: Any) -> dict[str, Any]:
    from raysynth.stages.foreseen import foreseen_calls

    path.mkdir()
    (path / "a.csv").write_text(
        "label,said\n" + "".join(f"{'ab'[n % 2]},this is what was said by number {n}\n" for n in range(400))
    )
    asked = parse_recipe({"source": str(path / "a.csv"), "run": str(path / "run"), **keys})
    return cost(asked, [], foreseen_calls(asked, first.first_rows(asked, check_source(asked))))["servers"]


def test_what_a_server_would_be_paid_is_told_beside_its_caps_and_nobody_is_asked(tmp_path: Path) -> None:
    """The server is one that is not there."""
    generate = said(tmp_path / "1", generator={**SAID, "max_tokens": 10_000_000, "max_money": 0.05}, generate={"rows": 2000})[
        "generate"
    ]
    for name in ("calls", "tokens_read", "tokens_written", "money"):
        assert 0 < generate[name]["low"] < generate[name]["expected"] < generate[name]["high"]
    assert generate["calls"] == {"low": 2000.0, "expected": 2200.0, "high": 4000.0}
    assert 2000 * 100 < generate["tokens_read"]["expected"] < 2000 * 400, "the prompt has some 600 bytes"
    assert 2000 * 5 < generate["tokens_written"]["expected"] < 2000 * 30, "one text, and its label is settled"
    paid = (generate["tokens_read"]["low"] * 1.0 + generate["tokens_written"]["low"] * 4.0) / 1e6
    assert generate["money"]["low"] == pytest.approx(paid, rel=0.01)
    assert generate["max_tokens"] == {"cap": 10_000_000, "suffices": "yes"} and generate["max_money"] == {
        "cap": 0.05,
        "suffices": "no",
    }
    more = said(tmp_path / "2", generator={**SAID, "shots": 9}, generate={"rows": 2000}, rules=["label == 'a'"])["generate"]
    assert more["calls"]["expected"] > 1.8 * generate["calls"]["expected"], "half of the real rows break the rule"
    assert more["tokens_read"]["expected"] > 2.2 * generate["tokens_read"]["expected"] and more["max_money"] is None


def test_an_op_that_asks_is_paid_for_by_every_text_and_a_translation_twice(tmp_path: Path) -> None:
    options = {name: SAID[name] for name in ("url", "model", "input_price")}
    ops = [{"use": "text.paraphrase", "copies": 3, **options}, {"use": "text.back_translation", **options, "max_tokens": 1000}]
    told = said(tmp_path / "1", augment=ops)
    assert list(told) == ["augment.0", "augment.1"]
    rows = told["augment.1"]["calls"]["low"] / 2
    assert 200 < rows < 400 and told["augment.0"]["calls"]["low"] == pytest.approx(3 * rows, rel=0.01)
    assert told["augment.0"]["money"] is None, "one price alone says nothing"
    assert told["augment.1"]["max_tokens"] == {"cap": 1000, "suffices": "no"}


@pytest.mark.parametrize(("told", "known"), [({}, 5.0), ({"went_on": False}, 5.0), ({"went_on": True}, None)])
def test_what_the_last_of_several_commands_spent_is_not_what_a_folder_cost(
    told: dict[str, Any], known: float | None, tmp_path: Path
) -> None:
    folder = Run(str(tmp_path / "run")).folder("synthetic", "0123456789ab")
    folder.write_json("_raysynth/timing.json", {"seconds": 9.0, "cpu_seconds": 5.0, **told})
    assert past_costs.cpu_seconds(folder) == known


def test_no_more_workers_share_the_making_of_rows_than_there_are_parts(tmp_path: Path) -> None:
    from raysynth.pipeline import planned

    (tmp_path / "a.csv").write_text("n,word\n" + "".join(f"{n},{n % 3}\n" for n in range(50)))
    asked = {"source": str(tmp_path / "a.csv"), "run": str(tmp_path / "run"), "generate": {"rows": 1000, "workers": 16}}
    assert planned(parse_recipe({**asked, "evaluate": None}))["cost"]["stages"]["generate"]["workers"] == 1


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ({"schema": {"columns": {"n": {"kind": "id"}, "word": {"kind": "id"}}}}, "every column is taken for an id"),
        ({"generate": {"where": {"nope": 1}}}, "nope"),
        ({"mix": {"partition_by": ["nope"]}}, "mix.*nope"),
        ({"evaluate": {"target": "nope"}}, "evaluate.target: no column 'nope'"),
    ],
)
def test_a_plan_refuses_what_a_run_would_refuse_of_these_columns(keys: dict[str, Any], wrong: str, tmp_path: Path) -> None:
    from raysynth.pipeline import planned

    (tmp_path / "a.csv").write_text("n,word\n" + "".join(f"{n},{n % 3}\n" for n in range(50)))
    with pytest.raises((RecipeError, DataError), match=wrong):
        planned(parse_recipe({"source": str(tmp_path / "a.csv"), "run": str(tmp_path / "run"), **keys}))
