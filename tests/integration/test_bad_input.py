"""The command line on wrong or odd input: one clear line, the right exit code, and nothing left behind that was not asked for."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from raysynth import cli
from raysynth.cluster.session import session
from raysynth.errors import DataError, RaysynthError, RecipeError
from raysynth.pipeline import check_asked
from raysynth.profile import Profile, infer_schema
from raysynth.recipe import parse_recipe
from raysynth.runs import Plan, Run
from raysynth.schema import Column, Schema
from raysynth.sources.csv import Csv

ROWS = "n,cat,val\n" + "".join(f"{n},{'ab'[n % 2]},{n * 0.5}\n" for n in range(60))


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "recipe.yaml").write_text("source: rows.csv\nrun: run\ngenerate: {rows: 50, rows_per_part: 20}\n")


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["raysynth", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("source=gone.csv", "no input files"),
        ("source=empty.csv", "every file is empty"),
        ("source=foo://a.csv", "no store for the scheme 'foo'"),
        ("source.delimiter=ab", "source.delimiter: must be one ASCII character"),
        ("source.encoding=nope", "source.encoding: must be an encoding that Python knows"),
        ("train.workers=1000", "train.workers: 1000, and this machine has"),
        ("run=rows.csv/run", "cannot write it"),
    ],
)
def test_what_cannot_end_well_is_refused_before_ray_starts(
    override: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.csv").touch()
    monkeypatch.setattr("raysynth.pipeline.is_embedded", lambda: True)
    monkeypatch.setattr("raysynth.pipeline.one_session", lambda: pytest.fail("Ray was started"))
    assert call(monkeypatch, "run", "recipe.yaml", "--set", override) == 2
    errors = capsys.readouterr().err
    assert told in errors
    assert "Traceback" not in errors
    assert not Path("run").exists()


def test_plan_tells_parts_and_rows_and_every_default_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "plan", "recipe.yaml") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["plan"]["prepare"] == {"files": 1, "bytes": len(ROWS)}
    generate = told["plan"]["generate"]
    assert (generate["rows"], generate["parts"], generate["columns"]) == (50, 3, 3)
    assert generate["bytes_estimated"] > 0
    assert told["recipe"]["prepare"]["max_bad_rows"] == 0.01
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["recipe.yaml", "rows.csv"]


@pytest.mark.parametrize("command", ["status", "verify", "gc", "path", "preview"])
def test_a_run_that_is_not_there_is_no_whole_run(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, command, "nowhere") == 2
    assert "DataError: run 'nowhere': there is no run" in capsys.readouterr().err


@pytest.mark.parametrize(("rules", "where"), [(["nope > 1"], {}), (["cat > 1"], {}), ([], {"nope": 1}), ([], {"n": 2.5})])
def test_a_rule_or_where_that_does_not_fit_is_refused_before_training(
    rules: list[str], where: dict[str, object], tmp_path: Path
) -> None:
    source = Csv(str(tmp_path / "rows.csv"))
    table, _ = next(source.read(source.shards(source.files())[0]))
    schema = infer_schema(Profile.observe(table))
    folder = Run(str(tmp_path / "run")).folder("prepared", "0123456789ab")
    folder.write_plan(Plan(1, {"schema": schema.to_json()}))
    with pytest.raises(RecipeError, match=r"rules\.0|where\."):
        check_asked(parse_recipe({"source": "rows.csv", "rules": rules, "generate": {"where": where}}), folder)


def test_a_table_of_ids_alone_has_nothing_to_learn(tmp_path: Path) -> None:
    schema = Schema((Column("id", "id", pa.int64()),))
    folder = Run(str(tmp_path / "run")).folder("prepared", "0123456789ab")
    folder.write_plan(Plan(1, {"schema": schema.to_json()}))
    with pytest.raises(DataError, match=r"every column is taken for an id \(id\)"):
        check_asked(parse_recipe({"source": "rows.csv"}), folder)


def test_a_folder_is_profiled_by_what_lies_in_it_or_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cluster: None
) -> None:
    assert call(monkeypatch, "profile", ".") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 60
    Path("none").mkdir()
    assert call(monkeypatch, "profile", "none") == 2
    assert "no folder with Parquet, CSV or JSON Lines files" in capsys.readouterr().err


def test_watching_ends_well_and_a_stopped_stage_says_that_it_goes_on(tmp_path: Path) -> None:
    Run(str(tmp_path / "run")).folder("prepared", "0123456789ab").write_plan(Plan(3, {}))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and its children would too
    watch = subprocess.Popen(
        [sys.executable, "-m", "raysynth", "status", "run", "--watch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watch.stdout is not None
    first = "".join(iter(watch.stdout.readline, "}\n"))
    assert '"prepared/0123456789ab"' in first and '"of": 3' in first
    time.sleep(0.2)
    os.kill(watch.pid, signal.SIGINT)
    assert watch.wait(20) == 0
    watch.communicate()


def test_a_dead_cluster_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    began = time.monotonic()
    with pytest.raises(RaysynthError, match=r"RAY_ADDRESS '127\.0\.0\.1:1': nobody answers"), session():
        pass
    assert time.monotonic() - began < 10


def test_an_interrupt_exits_with_4_and_an_error_of_the_machine_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, code, told in (
        (KeyboardInterrupt(), 4, "goes on from here"),
        (OSError(28, "No space left on device"), 1, "No space left"),
    ):

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("raysynth.pipeline.check", fail)
        assert call(monkeypatch, "run", "recipe.yaml") == code
        errors = capsys.readouterr().err
        assert told in errors
        assert "Traceback" not in errors
