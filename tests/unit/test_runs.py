"""The commit: whatever dies and whoever else is at work, one manifest; and verify and gc see all that is not as committed."""

import builtins
import cProfile
import logging
import pickle
import pstats
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth import commits, runs
from raysynth.audit import gc, verify
from raysynth.commits import Table, commit, commit_files, missing, parquet_bytes, write_task
from raysynth.errors import CorruptRunError, NondeterminismError, RecipeError, StoppedError
from raysynth.markers import Marker, Part, PartFile
from raysynth.runs import Folder, Plan, Run, folder_id, part_rows, rows_plan
from raysynth.stores.base import Stat, Store, store_for

PLAN = rows_plan(rows=103, rows_per_part=10)
ID = folder_id({"seed": 7})
GOLDEN_ID = "beced1fe6963"  # printf '{"seed":7}' | sha256sum


def tables(part: int) -> Iterator[Table]:
    rows = list(part_rows(PLAN, part))
    yield f"{part // 4:04d}", pa.table({"row": rows, "name": [f"n{row % 3}" for row in rows]})
    yield "", None, {"rejects": {"row > 0": part}}


def new_run() -> Run:
    return Run(f"memory://{uuid4().hex}/run")


def make(folder: Folder, plan: Plan = PLAN) -> dict[str, Any]:
    folder.write_plan(plan)
    for parts in missing(folder, plan):
        write_task(folder, plan, parts, tables)
    return commit(folder, plan)


def made(run: Run | None = None) -> Folder:
    folder = (run or new_run()).folder("synthetic", ID)
    make(folder)
    return folder


EXPECTED: dict[str, Any] = make(new_run().folder("synthetic", ID))


class Dying(Store):
    """A store whose process dies before its n-th write."""

    def __init__(self, store: Store, writes: int) -> None:
        self.store, self.left = store, writes

    def spend(self) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1

    def put(self, url: str, data: bytes) -> bool:
        self.spend()
        return self.store.put(url, data)

    def replace(self, url: str, data: bytes) -> None:
        self.spend()
        self.store.replace(url, data)

    def read(self, url: str) -> bytes:
        return self.store.read(url)

    def read_range(self, url: str, start: int, length: int) -> bytes:
        return self.store.read_range(url, start, length)

    def list(self, url: str) -> Iterator[Stat]:
        return self.store.list(url)

    def stat(self, url: str) -> Stat | None:
        return self.store.stat(url)

    def delete(self, url: str) -> None:
        self.store.delete(url)

    def check(self, url: str, *, write: bool) -> builtins.list[str]:
        return self.store.check(url, write=write)


class Counting(Dying):
    """A store that counts what is asked of it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, -1)
        self.asked: list[str] = []

    def put(self, url: str, data: bytes) -> bool:
        self.asked.append("put")
        return super().put(url, data)

    def read(self, url: str) -> bytes:
        self.asked.append("read")
        return super().read(url)

    def list(self, url: str) -> Iterator[Stat]:
        self.asked.append("list")
        return super().list(url)


def mark(folder: Folder, parts: int, each: int = 4) -> None:
    """The markers of that many parts of one file, without the files."""
    for first in range(0, parts, each):
        made = (Part(part, (PartFile("", f"part-{part}", 1, 1, f"{part}", {}),), {}) for part in range(first, first + each))
        name, data = Marker(first, first + each, tuple(made)).named()
        folder.store.put(folder.system_url("markers", name), data)


def test_an_id_is_the_same_whatever_the_order_of_its_facts() -> None:
    assert folder_id({"a": 1, "b": [2, {"c": None}]}) == folder_id({"b": [2, {"c": None}], "a": 1})
    assert folder_id({"a": 1}) != folder_id({"a": 2})
    assert len(ID) == 12
    assert ID == GOLDEN_ID


@given(rows=st.integers(0, 5000), rows_per_part=st.integers(1, 700))
def test_the_parts_of_a_rows_plan_hold_each_row_once(rows: int, rows_per_part: int) -> None:
    plan = rows_plan(rows, rows_per_part)
    assert [row for part in range(plan.parts) for row in part_rows(plan, part)] == list(range(rows))
    assert Plan.from_json(plan.to_json()) == plan


def test_the_bytes_of_a_part_do_not_depend_on_how_its_rows_were_chunked() -> None:
    whole = pa.table({"a": list(range(1000)), "b": [str(row % 7) for row in range(1000)]})
    pieces = pa.concat_tables([whole.slice(0, 333), whole.slice(333, 1), whole.slice(334)])
    assert parquet_bytes(whole) == parquet_bytes(pieces)


def test_a_committed_folder_holds_exactly_its_rows() -> None:
    folder = made()
    read = [pq.read_table(pa.BufferReader(folder.store.read(url))) for url in folder.part_urls()]
    assert pa.concat_tables(read)["row"].to_pylist() == list(range(103))
    assert folder.part_urls("0001") == [url for url in folder.part_urls() if "/0001/" in url]
    assert folder.store.exists(f"{folder.url}/_SUCCESS")
    assert folder.plan() == PLAN
    assert folder.committed


def test_the_marker_holds_bounds_and_rejects() -> None:
    folder = new_run().folder("synthetic", ID)
    marker = write_task(folder, PLAN, range(2, 4), tables)
    assert marker.parts[1].files[0].columns == {"row": [30, 39], "name": ["n0", "n2"]}
    assert marker.parts[1].extra == {"rejects": {"row > 0": 3}}
    assert list(folder.markers()) == [marker]


def test_a_part_may_have_several_files_or_none() -> None:
    folder, plan = new_run().folder("prepared", "x"), Plan(2, {})
    table = pa.table({"a": [1.5, float("nan")], "list": [[1], [2]]})

    def files(part: int) -> list[Table]:
        return [] if part else [("train", table), ("train", table.slice(1)), ("holdout", table)]

    write_task(folder, plan, range(0, 2), files)
    assert commit(folder, plan)["rows"] == 5
    names = folder.manifest()["name"].to_pylist()
    assert [name.rsplit("-", 1)[0] for name in names] == ["part-000000000", "part-000000000-1", "part-000000000"]
    assert len(folder.part_urls("train")) == 2


def test_an_empty_plan_commits() -> None:
    folder = new_run().folder("synthetic", "empty")
    assert commit(folder, rows_plan(0, 10))["rows"] == 0
    assert folder.part_urls() == []


def test_missing_parts_come_in_tasks_of_at_most_64_and_are_named() -> None:
    folder, plan = new_run().folder("synthetic", "big"), Plan(200, {})
    write_task(folder, plan, range(70, 75), lambda part: [])
    assert missing(folder, plan) == [range(0, 64), range(64, 70), range(75, 139), range(139, 200)]
    with pytest.raises(StoppedError, match="195 of 200 parts are not made: 0, 1, 2"):
        commit(folder, plan)


class InTurn:
    """In the place of threads: their calls count too, and cProfile of Python 3.11 crashes now and then beside any."""

    def __init__(self, threads: int) -> None:
        self.map = map

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_a_part_costs_a_commit_the_same_in_a_large_plan_as_in_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    asked: list[int] = []
    for parts in (400, 1600):
        folder, plan = new_run().folder("synthetic", f"{parts}"), Plan(parts, {})
        mark(folder, parts)
        with monkeypatch.context() as patch:
            counting = Counting(store_for(folder.url))
            patch.setattr(runs, "store_for", lambda url, store=counting: store)
            patch.setattr(runs, "ThreadPoolExecutor", InTurn)
            with cProfile.Profile() as profile:
                assert missing(folder, plan) == []
                assert commit(folder, plan)["rows"] == parts
        calls.append(pstats.Stats(profile).total_calls)  # pyright: ignore
        asked.append(len(counting.asked))
    assert calls[1] < 4.2 * calls[0]  # four times the parts; a step that looked at all of them for each would make it sixteen
    assert asked[1] - asked[0] == (1600 - 400) // 4  # each marker is read once, whatever else there is


def test_a_commit_does_not_hold_all_markers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = new_run().folder("synthetic", "many")
    mark(folder, 300, each=1)
    counting = Counting(store_for(folder.url))
    monkeypatch.setattr(runs, "store_for", lambda url: counting)  # pyright: ignore
    chosen = commits._chosen(folder)
    assert next(chosen).part == 0
    assert counting.asked.count("read") <= 8 * runs.READERS
    assert [part.part for part in chosen] == list(range(1, 300))


def test_a_marker_that_proves_other_parts_than_its_name_says_is_refused() -> None:
    folder, plan = new_run().folder("synthetic", "named"), Plan(8, {})
    mark(folder, 4)
    (stat,) = folder.store.list(folder.system_url("markers"))
    hash = stat.url.rsplit("-", 1)[1]
    folder.store.put(folder.system_url("markers", f"000000004-000000008-{hash}"), folder.store.read(stat.url))
    with pytest.raises(CorruptRunError, match="000000004-000000008"):
        commit(folder, plan)


@given(cuts=st.lists(st.tuples(st.integers(0, 10), st.integers(1, 11)), max_size=8))
@settings(max_examples=40, deadline=None)
def test_overlapping_ranges_give_the_same_manifest(cuts: list[tuple[int, int]]) -> None:
    folder = new_run().folder("synthetic", ID)
    for first, length in cuts:
        write_task(folder, PLAN, range(first, min(first + length, PLAN.parts)), tables)
    assert make(folder) == EXPECTED


def test_drivers_at_the_same_moment_agree() -> None:
    folder = new_run().folder("synthetic", ID)
    outcomes: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: outcomes.append(make(folder))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [EXPECTED] * 6
    assert verify(folder).whole


@pytest.mark.parametrize("writes", range(0, PLAN.parts + 6))
def test_dying_before_any_write_and_resuming_gives_the_same_manifest(writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run()
    folder = run.folder("synthetic", ID)
    with monkeypatch.context() as patch:
        dying = Dying(store_for(folder.url), writes)
        patch.setattr(runs, "store_for", lambda url: dying)  # pyright: ignore
        try:
            make(folder)
            run.point("synthetic", folder)
        except KeyboardInterrupt:
            assert writes < PLAN.parts + 6
    current = run.current("synthetic")
    assert current is None or current.committed
    assert make(folder) == EXPECTED
    run.point("synthetic", folder)
    assert run.current("synthetic") == folder
    seen = verify(run)
    assert (seen.whole, seen.rows, seen.parts, seen.foreign) == (True, 103, 11, [])


def test_two_makings_of_a_part_are_logged_and_the_lowest_hash_wins(caplog: pytest.LogCaptureFixture) -> None:
    chosen: list[str] = []
    for order in ((0, 1), (1, 0)):
        folder, plan = new_run().folder("synthetic", "twice"), Plan(1, {})
        for value in order:
            write_task(folder, plan, range(0, 1), lambda part, value=value: [("", pa.table({"a": [value]}))])
        with caplog.at_level(logging.WARNING):
            commit(folder, plan)
        assert "part 0 was made twice with different bytes" in caplog.text
        chosen += folder.manifest()["name"].to_pylist()
        assert len(verify(folder).foreign) == 1
    assert chosen[0] == chosen[1]


def test_another_plan_or_value_under_one_id_is_refused() -> None:
    folder = made()
    folder.write_plan(PLAN)
    with pytest.raises(NondeterminismError, match="12 parts"):
        folder.write_plan(Plan(12, {}))
    folder.write_json("scores.json", {"a": 1})
    folder.write_json("scores.json", {"a": 1})
    assert folder.read_json("scores.json") == {"a": 1}
    with pytest.raises(NondeterminismError, match=r"scores\.json"):
        folder.write_json("scores.json", {"a": 2})


def test_a_folder_of_named_files_commits() -> None:
    run = new_run()
    folder = run.folder("model", "m")
    name = folder.put_named("weights", "safetensors", b"numbers")
    assert folder.put_named("weights", ".safetensors", b"numbers") == name
    with pytest.raises(StoppedError, match="absent"):
        commit_files(folder, [name, "absent"])
    commit_files(folder, [name])
    assert folder.part_urls() == [f"{folder.url}/{name}"]
    assert verify(run).whole
    folder.store.replace(f"{folder.url}/{name}", b"nUmbers")
    assert [name in problem for problem in verify(run).problems] == [True]
    with pytest.raises(CorruptRunError, match="bears the hash"):
        folder.put_named("weights", "safetensors", b"numbers")


def test_an_uncommitted_folder_is_never_current_nor_published() -> None:
    run = new_run()
    folder = run.folder("synthetic", ID)
    with pytest.raises(StoppedError):
        run.point("synthetic", folder)
    with pytest.raises(StoppedError):
        run.publish([folder], {})
    with pytest.raises(StoppedError):
        folder.manifest()
    assert (run.current("synthetic"), run.published()) == (None, None)


def test_the_pointer_keeps_its_history_and_is_rebuilt_when_broken() -> None:
    run = new_run()
    first, second = made(run), run.folder("synthetic", "other")
    run.point("synthetic", first)
    make(second)
    run.point("synthetic", second)
    run.point("synthetic", second)
    assert (run.current("synthetic"), run.history("synthetic")) == (second, [first, second])
    run.store.replace(f"{run.url}/run.json", b'{"current": ')
    assert run.current("synthetic") in (first, second)
    run.point("synthetic", first)
    assert run.current("synthetic") == first
    run.store.delete(f"{run.url}/run.json")
    assert run.current("synthetic") is not None


def test_a_broken_pointer_is_told_once_of_each_run_and_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    runs = [new_run(), new_run()]
    for run in runs:
        run.store.replace(f"{run.url}/run.json", b'{"current": ')
        for _ in range(3):
            assert run.current("synthetic") is None and not run.history()
    told = [f"{run.url}: run.json is broken; what is current is told from the outcomes" for run in runs]
    assert [record.getMessage() for record in caplog.records] == told


def test_a_pointer_that_another_driver_overwrote_is_found_again() -> None:
    run = new_run()
    folder = made(run)
    run.point("synthetic", folder)
    run.store.replace(f"{run.url}/run.json", b'{"version":1,"current":{},"history":[]}')
    assert run.current("synthetic") == folder
    assert run.current("model") is None


def test_drivers_that_point_at_the_same_moment_lose_no_stage() -> None:
    run = new_run()
    folders = [run.folder(name, ID) for name in ("prepared", "model", "synthetic", "mixed")]
    for folder in folders:
        make(folder)
    threads = [threading.Thread(target=run.point, args=(folder.name, folder)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.current(folder.name) for folder in folders] == folders


def test_what_is_published_says_whether_it_holds_real_rows() -> None:
    run = new_run()
    synthetic, mixed = made(run), run.folder("mixed", "m")
    make(mixed)
    published = run.publish([synthetic, mixed], {"forced": False})
    assert run.published() == published
    assert [published["folders"][name]["contains_real_rows"] for name in ("synthetic", "mixed")] == [False, True]


def test_a_run_copied_elsewhere_is_whole_and_names_no_url(tmp_path: Path) -> None:
    here, there = tmp_path / "here it is", tmp_path / "there"
    run = Run(str(here))
    run.point("synthetic", made(run))
    run.publish([made(run)], {})
    shutil.move(here, there)
    moved = Run(str(there))
    current = moved.current("synthetic")
    assert current is not None and make(current) == EXPECTED
    assert verify(moved).whole and verify(moved).rows == 103
    assert not [path for path in there.rglob("*") if path.is_file() and b"here it is" in path.read_bytes()]
    assert pickle.loads(pickle.dumps(current)) == current  # noqa: S301


PLANTED = ["lost part", "flipped byte", "cut part", "lost manifest", "changed manifest", "lost outcome", "broken outcome", "marker"]


@pytest.mark.parametrize("fault", PLANTED)
def test_verify_names_each_planted_fault(fault: str) -> None:
    run = new_run()
    folder = made(run)
    run.point("synthetic", folder)
    store, part, name = folder.store, folder.part_urls()[5], EXPECTED["committed"]["manifest"]
    marker = next(iter(store.list(folder.system_url("markers")))).url
    data, manifest = store.read(part), folder.system_url(name)
    match fault:
        case "lost part":
            store.delete(part)
        case "flipped byte":
            store.replace(part, data[:50] + bytes([data[50] ^ 1]) + data[51:])
        case "cut part":
            store.replace(part, data[:-1])
        case "lost manifest":
            store.delete(manifest)
        case "changed manifest":
            store.replace(manifest, store.read(manifest) + b" ")
        case "lost outcome":
            store.delete(folder.system_url("outcome.json"))
        case "broken outcome":
            store.replace(folder.system_url("outcome.json"), b"{")
        case _:
            store.replace(marker, store.read(marker).replace(b'"n2"', b'"n1"'))
    seen = verify(run)
    named = {"lost part": part, "flipped byte": part, "cut part": part, "marker": marker}
    expected = named.get(fault, name if "manifest" in fault else "outcome.json").rsplit("/", 1)[-1]
    assert not seen.whole
    assert expected in seen.problems[0]
    assert verify(run, deep=False).whole == (fault in ("flipped byte", "marker"))


def test_gc_deletes_what_no_manifest_lists_and_nothing_else() -> None:
    run = new_run()
    folder, unfinished = made(run), run.folder("synthetic", "unfinished")
    write_task(unfinished, PLAN, range(0, 3), tables)
    folder.store.put(f"{folder.url}/0000/part-stray.parquet", b"x")
    folder.store.put(f"{folder.tmp_url}/checkpoint", b"x")
    folder.store.put(folder.system_url("spent", "0-1-1.json"), b"{}")  # of drafts, for which rounds may still call
    folder.store.put(f"{run.url}/README.md", b"x")
    assert verify(run).foreign == [f"synthetic/{ID}/0000/part-stray.parquet"]
    before = {stat.url for stat in run.store.list(run.url)}
    assert gc(run, older_than_seconds=3600) == []
    doomed = [f"synthetic/{ID}/0000/part-stray.parquet", f"synthetic/{ID}/_raysynth/tmp/checkpoint"]
    assert gc(run, older_than_seconds=0, dry_run=True) == doomed
    assert gc(run, older_than_seconds=0) == doomed
    assert before - {stat.url for stat in run.store.list(run.url)} == {f"{run.url}/{path}" for path in doomed}
    assert verify(run).whole


def test_an_abandoned_folder_is_emptied_and_a_later_run_uses_the_next_one() -> None:
    run = new_run()
    unfinished = run.folder("synthetic", ID)
    write_task(unfinished, PLAN, range(0, 3), tables)
    listed = gc(run, abandon=f"synthetic/{ID}", dry_run=True)
    assert len(listed) == 4 and run.folder("synthetic", ID) == unfinished
    assert gc(run, abandon=f"synthetic/{ID}") == listed
    with pytest.raises(StoppedError, match="abandoned"):
        make(unfinished)
    later = run.folder("synthetic", ID)
    assert later.id == f"{ID}.2"
    assert make(later) == EXPECTED
    for wrong in (f"synthetic/{ID}.2", "synthetic/none", "synthetic"):
        with pytest.raises(RecipeError, match="--abandon"):
            gc(run, abandon=wrong)
