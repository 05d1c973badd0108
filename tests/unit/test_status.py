"""How far a run is, from its store alone: parts, rows, epochs, speed, silence, and what a look costs."""

import io
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from raysynth.cluster.checkpoints import CHECKPOINTS, checkpoints, put_epoch, put_final
from raysynth.commands.arguments import show
from raysynth.commands.watching import _table
from raysynth.commits import commit, missing, write_task
from raysynth.markers import canonical
from raysynth.runs import Folder, Plan, Run, rows_plan
from raysynth.status import Watch, unchanging
from raysynth.stores.base import join
from raysynth.stores.file import File

ROWS = pa.table({"a": range(10)})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(str(tmp_path / "run"))


def begun(run: Run, name: str, plan: Plan) -> Folder:
    folder = run.folder(name, "0123456789ab")
    folder.write_plan(plan)
    return folder


def write(folder: Folder, plan: Plan, *parts: int) -> None:
    for part in parts:
        write_task(folder, plan, range(part, part + 1), lambda _: [("", ROWS)])


def aged(folder: Folder, pattern: str, seconds: float) -> None:
    """As if they had been written so long ago, one each ten seconds."""
    files = sorted((Path(folder.url.removeprefix("file://")) / "_raysynth").glob(pattern))
    for number, file in enumerate(files):
        then = time.time() - seconds - 10 * (len(files) - 1 - number)
        os.utime(file, (then, then))


def unfinished(state: dict[str, Any], name: str) -> dict[str, Any]:
    told: dict[str, Any] = state["folders"][f"{name}/0123456789ab"]["unfinished"]
    return told


def test_parts_rows_speed_and_what_is_left_come_from_plan_and_markers(run: Run) -> None:
    plan = Plan(8, {})
    folder = begun(run, "prepared", plan)
    write(folder, plan, 0, 1, 2, 3)
    aged(folder, "markers/*", 120)
    aged(folder, "plan.json", 160)
    told = unfinished(Watch(run).look(), "prepared")
    assert (told["stage"], told["parts"], told["of"], told["rows"], told["rows_estimated"]) == ("prepare", 4, 8, 40, False)
    assert told["parts_per_second"] == pytest.approx(0.1, rel=0.02) and told["rows_per_second"] == pytest.approx(1.0, rel=0.02)
    assert told["eta_seconds"] == pytest.approx(40, rel=0.02)
    assert 119 < told["last_sign_of_life_seconds"] < 180


def test_rows_of_a_plan_by_formula_need_no_marker(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = rows_plan(35, 10)
    folder = begun(run, "synthetic", plan)
    write(folder, plan, 0, 3)
    reads = counted(monkeypatch)
    assert unfinished(Watch(run).look(), "synthetic")["rows"] == 10 + 5
    assert not any("markers" in url for kind, url in reads if kind == "read")


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """What is asked of the file store from now on."""
    asked: Counter[tuple[str, str]] = Counter()
    for kind in ("read", "read_range", "list", "stat"):
        real = getattr(File, kind)

        def wrapped(self: File, url: str, *more: Any, kind: str = kind, real: Any = real) -> Any:
            asked[kind, url] += 1
            return real(self, url, *more)

        monkeypatch.setattr(File, kind, wrapped)
    return asked


def test_no_marker_plan_or_outcome_is_read_twice_and_a_look_lists_little(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, done = Plan(6, {}), Plan(1, {})
    folder, ended = begun(run, "mixed", plan), begun(run, "prepared", done)
    write(folder, plan, 0, 1)
    write(ended, done, 0)
    commit(ended, done)
    asked = counted(monkeypatch)
    monkeypatch.setattr("raysynth.status.LISTING_SHARE", 1e9)  # no second listing of the whole run while this test lasts
    watch = Watch(run)
    for parts in ((), (2,), (), (3, 4)):
        write(folder, plan, *parts)
        asked_before = asked.copy()
        state = watch.look()
        assert sum(count for (kind, _), count in (asked - asked_before).items() if kind == "list") <= 3
    assert unfinished(state, "mixed")["rows"] == 50 and state["folders"]["prepared/0123456789ab"]["rows"] == 10
    read_again = {url for (kind, url), count in asked.items() if kind == "read" and count > 1}
    assert read_again <= {folder.system_url("outcome.json"), join(run.url, "published.json")}  # which tell of an end


def test_of_many_markers_some_are_read_and_the_rows_are_told_as_an_estimate(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysynth.status.MARKERS_READ", 2)
    plan = Plan(6, {})
    folder = begun(run, "mixed", plan)
    write(folder, plan, 0, 1, 2, 3, 4)
    watch = Watch(run)
    looks = [unfinished(watch.look(), "mixed") for _ in range(3)]
    assert [(told["rows"], told["rows_estimated"]) for told in looks] == [(50, True), (50, True), (50, False)]


def trained(folder: Folder, epoch: int, **more: Any) -> None:
    report = {"epoch": epoch, "train_loss": 2.0 - epoch / 10, "validation_loss": 2.5, **more}
    put_epoch(folder, epoch, {"w": np.zeros(3, np.float32)}, {"trainer": {}, "report": report})


def test_training_tells_its_epoch_its_losses_and_at_most_how_long(run: Run) -> None:
    folder = run.folder("model", "0123456789ab")
    for epoch in range(3):
        trained(folder, epoch, max_epochs=10)
    aged(folder, "tmp/checkpoints/epoch-*", 5)
    told = unfinished(Watch(run).look(), "model")
    assert (told["stage"], told["epoch"], told["of"], told["train_loss"], told["validation_loss"]) == ("train", 3, 10, 1.8, 2.5)
    assert told["eta_seconds"] == pytest.approx(70, rel=0.05)


def test_a_checkpoint_is_read_once_and_one_that_goes_meanwhile_is_no_fault(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run.folder("model", "0123456789ab")
    trained(folder, 0)
    asked = counted(monkeypatch)
    watch = Watch(run)
    assert [unfinished(watch.look(), "model")["epoch"] for _ in range(3)] == [1, 1, 1]
    assert sum(count for (kind, _), count in asked.items() if kind == "read_range") == 2  # its length, its head
    broken = join(folder.url, CHECKPOINTS, "epoch-000001-000000000000.safetensors")
    folder.store.put(broken, b"")
    told = unfinished(watch.look(), "model")
    assert (told["epoch"], told["train_loss"], told["of"], told["eta_seconds"]) == (2, 2.0, None, None)


def test_what_is_committed_keeps_its_outcome_and_the_next_stage_is_found(run: Run) -> None:
    plan = Plan(1, {})
    folder = begun(run, "prepared", plan)
    watch = Watch(run)
    assert "unfinished" in watch.look()["folders"][folder.path]
    write(folder, plan, 0)
    outcome = commit(folder, plan)
    assert watch.look()["folders"] == {folder.path: outcome}
    begun(run, "augmented", plan)
    assert set(watch.look()["folders"]) == {folder.path, "augmented/0123456789ab"}


def test_silence_alone_is_no_progress_and_a_table_tells_it(run: Run) -> None:
    plan = Plan(4, {})
    folder = begun(run, "synthetic", plan)
    write(folder, plan, 0)
    aged(folder, "plan.json", 400)
    trained(run.folder("model", "0123456789ab"), 0, max_epochs=5)
    watch = Watch(run)
    first = watch.look()
    aged(folder, "markers/*", 300)
    aged(run.folder("model", "0123456789ab"), "tmp/checkpoints/*", 120)
    second = watch.look()
    assert second["last_sign_of_life_seconds"] > first["last_sign_of_life_seconds"] + 100
    assert unchanging(watch.look()) == unchanging(second)
    console = Console(width=150, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(_table(second))
    text = console.export_text()
    console.file.close()
    assert "1 of 4 parts" in text and "epoch 1 of 5" in text and "train 2.0000 validation 2.5000" in text
    assert "published: nothing yet" in text and "nothing new for 12" in text


def test_a_file_that_is_no_marker_is_no_part_wherever_it_came_from(run: Run) -> None:
    plan = Plan(3, {})
    folder = begun(run, "prepared", plan)
    write(folder, plan, 0)
    for foreign in ("._000000001-000000002-0123456789ab.json", "a-b-c.json", ".DS_Store"):
        folder.store.put(folder.system_url("markers", foreign), b"")
    assert unfinished(Watch(run).look(), "prepared")["parts"] == 1 and missing(folder, plan) == [range(1, 3)]


def test_a_run_may_be_called_as_checkpoints_are(tmp_path: Path) -> None:
    folder = Run(str(tmp_path / "epoch-1" / "run")).folder("model", "0123456789ab")
    trained(folder, 0, max_epochs=2)
    put_final(folder, {"w": np.zeros(3, np.float32)}, {"report": {}})
    assert unfinished(Watch(Run(str(tmp_path / "epoch-1" / "run"))).look(), "model")["epoch"] == 1


def test_what_is_shown_passes_a_pipe_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(pipe)))  # pyright: ignore
    show({"parts": 1})
    assert pipe.getvalue()


def test_what_lies_beside_the_stages_is_no_stage(run: Run) -> None:
    folder = begun(run, "prepared", Plan(1, {}))
    run.store.put(join(run.url, "notes", "2024", "x.txt"), b"")
    assert set(Watch(run).look()["folders"]) == {folder.path}


def test_one_broken_folder_hides_no_other(run: Run) -> None:
    plan = Plan(2, {})
    write(begun(run, "prepared", plan), plan, 0)
    broken = begun(run, "synthetic", plan)
    broken.store.put(broken.system_url("outcome.json"), b'{"commit')
    state = Watch(run).look()
    assert unfinished(state, "prepared")["parts"] == 1
    assert "outcome.json" in unfinished(state, "synthetic")["broken"]
    console = Console(file=io.StringIO(), width=200)
    console.print(_table(state))
    assert "broken" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_file_that_is_no_checkpoint_is_no_epoch(run: Run) -> None:
    model = run.folder("model", "0123456789ab")
    put_epoch(model, 3, {"_": np.zeros(1)}, {"report": {"train_loss": 1.0, "validation_loss": 2.0}})
    model.store.put(join(model.url, CHECKPOINTS, "epoch-old.safetensors"), b"x")
    assert [epoch for epoch, _ in checkpoints(model)] == [3]
    assert unfinished(Watch(run).look(), "model")["epoch"] == 4


def shown(state: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=250)
    console.print(_table(state))
    return console.file.getvalue()  # type: ignore[attr-defined]


def headed(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 8 + b"{}",
        b"\xff" * 7 + b"\x7f{}",
        headed(b"[]"),
        headed(b'{"__metadata__": 1}'),
        headed(b'{"__metadata__": {"facts": "{\\"report\\": 1}"}}'),
        headed(b'{"__metadata__": {"facts": "{\\"report\\": {\\"max_epochs\\": \\"x\\"}}"}}'),
        headed(b'{"__metadata__": {"facts": "{\\"report\\": {\\"train_loss\\": []}}"}}'),
    ],
)
def test_a_broken_checkpoint_is_named_and_the_rest_is_told(run: Run, data: bytes) -> None:
    plan = Plan(2, {})
    write(begun(run, "prepared", plan), plan, 0)
    folder = run.folder("model", "0123456789ab")
    name = "epoch-000001-000000000000.safetensors"
    folder.store.put(join(folder.url, CHECKPOINTS, name), data)
    state = Watch(run).look()
    assert unfinished(state, "model")["epoch"] == 2 and name in unfinished(state, "model")["broken"]
    assert unfinished(state, "prepared")["parts"] == 1
    assert f"checkpoint {name} is broken" in shown(state) and "1 of 2 parts" in shown(state)


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("plan.json", b'{"parts": 3, "facts": {"rows": "x", "rows_per_part": 1}}'),
        ("plan.json", b'{"parts": 3, "facts": {"rows": 3, "rows_per_part": null}}'),
        ("plan.json", b'{"parts": 3, "facts": {"rows": Infinity, "rows_per_part": 1}}'),
        ("plan.json", b'{"parts": Infinity, "facts": {}}'),
        ("outcome.json", b'{"committed": 1}'),
        ("outcome.json", b'{"committed": {}, "rows": "x"}'),
    ],
)
def test_a_broken_plan_or_outcome_is_named_and_the_rest_is_told(run: Run, file: str, data: bytes) -> None:
    plan = Plan(2, {})
    write(begun(run, "prepared", plan), plan, 0)
    broken = run.folder("synthetic", "0123456789ab")
    broken.store.put(broken.system_url(file), data)
    state = Watch(run).look()
    assert file in unfinished(state, "synthetic")["broken"] and unfinished(state, "prepared")["parts"] == 1
    assert file in shown(state) and "1 of 2 parts" in shown(state)


def test_a_marker_whose_rows_are_no_number_hides_nothing(run: Run) -> None:
    plan = Plan(2, {})
    folder = begun(run, "prepared", plan)
    write(folder, plan, 0)
    file = {"sub": "", "name": "a", "rows": "x", "bytes": 1, "sha256": "", "columns": {}}
    marker = {"first": 1, "stop": 2, "parts": [{"part": 1, "files": [file], "extra": {}}]}
    folder.store.put(folder.system_url("markers", "000000001-000000002-0123456789ab.json"), canonical(marker))
    assert unfinished(Watch(run).look(), "prepared")["parts"] == 2


@pytest.mark.parametrize("data", [b"[1]", b"{", b"3", b"{}", b'{"folders": {"mixed": {}}}', b'{"folders": {"mixed": 1}}'])
def test_a_broken_publication_is_named_and_the_stages_are_told(run: Run, data: bytes) -> None:
    plan = Plan(2, {})
    write(begun(run, "prepared", plan), plan, 0)
    run.store.put(join(run.url, "published.json"), data)
    state = Watch(run).look()
    assert "published.json is broken" in state["published"]["broken"] and unfinished(state, "prepared")["parts"] == 1
    assert "published.json is broken" in shown(state) and "1 of 2 parts" in shown(state)
