"""What hangs is really ended and made again, every item once; what never ends, and what no node can take, stops by name."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raysynth.cluster.limits import limited
from raysynth.cluster.map_reduce import map_reduce
from raysynth.cluster.parts import write_parts
from raysynth.cluster.rows import map_items
from raysynth.cluster.stalled import Watch
from raysynth.errors import RecipeError, StoppedError
from raysynth.recipe import Recipe
from raysynth.runs import Plan, Run
from raysynth.stages.first_rows import slowness

FOR_EVER = 10_000.0
SLOW_SECONDS = 20.0 * slowness()  # more than a busy machine takes to start a worker, so that only what hangs is a stall

pytestmark = pytest.mark.usefixtures("cluster")


def recipe(**cluster: Any) -> Recipe:
    return Recipe.model_validate({"source": "examples://wine", "cluster": cluster})


def hanging_once(folder: Path) -> Callable[[int], int]:
    """Item 3 hangs where no file says that it has hung before; each item leaves a file for each time that it was made."""

    def work(item: int) -> int:
        if item == 3 and not (folder / "hung").exists():
            (folder / "hung").touch()
            time.sleep(FOR_EVER)
        (folder / f"{item}-{time.time_ns()}").touch()
        return item * item

    return work


def hanging() -> Callable[[int], None]:
    return lambda item: time.sleep(FOR_EVER)


@pytest.mark.parametrize("keep", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_item_that_hangs_is_made_again_and_no_item_that_ended_is(tmp_path: Path, keep: bool) -> None:
    with limited(recipe(stall_seconds=SLOW_SECONDS)):
        made = list(map_items(range(8), partial(hanging_once, tmp_path), workers=2, keep=keep))
    assert sorted(made) == [(item, item * item) for item in range(8)]
    assert len(list(tmp_path.glob("*-*"))) == 8, "each was made once"


@pytest.mark.parametrize("keep", [True, False])
def test_what_never_ends_stops_by_name_and_holds_no_cpu(keep: bool) -> None:
    import ray

    with (
        limited(recipe(stall_seconds=1)),
        pytest.raises(StoppedError, match=r"made 3 times.* for 1 s \(cluster\.stall_seconds\); 5 items left"),
    ):
        list(map_items(range(5), hanging, workers=2, keep=keep))
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < 4 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == 4


def test_a_command_stops_at_its_time_while_nothing_ends() -> None:
    with limited(recipe(max_seconds=3)), pytest.raises(StoppedError, match=r"cluster\.max_seconds: 3"):
        list(map_items(range(2), hanging, workers=2, keep=False))


def test_a_command_stops_at_its_time_though_something_ends_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(watch: Watch) -> None:
        """Where nothing ends for a second."""

    monkeypatch.setattr(Watch, "look", look)
    with limited(recipe(max_seconds=0.001)), pytest.raises(StoppedError, match=r"cluster\.max_seconds"):
        list(map_items(range(8), lambda: lambda item: item, workers=2, keep=False))

    def cut(item: int) -> list[pa.Table]:
        time.sleep(2)
        return [pa.table({"x": [item]})]

    with limited(recipe(max_seconds=0.001)), pytest.raises(StoppedError, match=r"cluster\.max_seconds"):
        map_reduce(range(12), cut, lambda bucket, tables: len(tables), buckets=1)


def test_a_budget_stops_no_stage_that_has_made_its_last_part(tmp_path: Path) -> None:
    folder, plan = Run(str(tmp_path)).folder("mixed", "0123456789ab"), Plan(1, {})
    asked = Recipe.model_validate({"source": "examples://wine", "budget": {"cpu_hours": 1e-12}})
    with limited(asked):
        made = write_parts(folder, plan, lambda: lambda part: [("", pa.table({"x": [part]}))], stage="mix", workers=1, keep=False)
    assert made["rows"] == 1 and folder.committed


def test_a_shuffle_that_hangs_is_made_again(tmp_path: Path) -> None:
    work = hanging_once(tmp_path)

    def cut(item: int) -> list[pa.Table]:
        return [pa.table({"made": [work(item)]}), pa.table({"made": [-item]})]

    def bring(bucket: int, tables: list[pa.Table]) -> list[int]:
        return pa.concat_tables(tables)["made"].to_pylist()

    with limited(recipe(stall_seconds=SLOW_SECONDS)):
        assert map_reduce(range(5), cut, bring, buckets=2) == [[0, 1, 4, 9, 16], [0, -1, -2, -3, -4]]
    assert len(list(tmp_path.glob("*-*"))) == 5, "each was made once"


def test_a_shuffle_that_never_ends_stops_by_name() -> None:
    def bring(bucket: int, tables: list[pa.Table]) -> None:
        time.sleep(FOR_EVER)

    with limited(recipe(stall_seconds=1)), pytest.raises(StoppedError, match=r"made 3 times.* for 1 s \(cluster\.stall_seconds\)"):
        map_reduce(range(2), lambda item: [pa.table({"x": [item]})], bring, buckets=1)


def test_labels_that_no_node_has_are_refused_unless_any_node_will_do() -> None:
    with (
        limited(recipe(row_labels={"pool": "moon"}, fallback=False)),
        pytest.raises(RecipeError, match=r"cluster\.row_labels: \{pool: moon\}"),
    ):
        list(map_items(range(2), hanging, workers=2))
    with (
        limited(recipe(row_labels={"pool": "not a label"})),
        pytest.raises(RecipeError, match=r"cluster\.row_labels: .*[Ii]nvalid"),
    ):
        list(map_items(range(2), hanging, workers=2))
    with limited(recipe(row_labels={"pool": "moon"})):
        assert dict(map_items(range(2), lambda: lambda item: -item, workers=2)) == {0: 0, 1: -1}
        assert map_reduce(
            [7], lambda item: [pa.table({"x": [item]})], lambda bucket, tables: tables[0]["x"][0].as_py(), buckets=1
        ) == [7]
