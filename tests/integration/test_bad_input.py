"""The command line on wrong or odd input: one clear line, the right exit code, and nothing left behind that was not asked for."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth import cli
from raysynth.cluster.session import session
from raysynth.draws import Draws
from raysynth.errors import DataError, RaysynthError, RecipeError
from raysynth.pipeline import check_asked, run_to
from raysynth.profile import Profile, infer_schema
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Folder, Plan, Run
from raysynth.schema import Column, Schema
from raysynth.sources.csv import Csv
from raysynth.stages import prepare

sys.path.insert(0, str(Path(__file__).parent))
from s3_servers import SECRET, environment, rclone

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
    assert "the format cannot be told from the URL" in capsys.readouterr().err


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


# What the whole list of bad input meets: one line, exit code 2, and Ray not even imported where nothing has to be read by workers.


def alone(*words: str, **environment: str) -> tuple[int, str, bool]:
    """The command line in a process of its own → exit code, errors, and whether Ray was imported."""
    code = (
        "import sys, atexit; from raysynth import cli; "
        "atexit.register(lambda: sys.stderr.write(f'\\nray: {\"ray\" in sys.modules}')); "
        f"sys.argv = {['raysynth', *words]!r}; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment})
    errors, _, imported = done.stderr.rpartition("\nray: ")
    return done.returncode, errors, imported.strip() == "True"


S3 = {
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def test_a_dead_endpoint_ends_the_run_before_ray_with_one_line() -> None:
    code, errors, ray = alone("run", "recipe.yaml", "--set", "run=s3://bucket/run", AWS_ENDPOINT_URL="http://127.0.0.1:9", **S3)
    assert (code, ray) == (2, False)
    assert "StoreError: url 's3://bucket/run" in errors and "Check AWS_ENDPOINT_URL" in errors
    assert "Traceback" not in errors and "hunter2" not in errors


@pytest.mark.parametrize(
    ("bucket", "secret", "told"),
    [("nobucket", SECRET, "no bucket 'nobucket'"), ("bucket", "hunter2", "AWS_SECRET_ACCESS_KEY")],
)
def test_a_missing_bucket_and_a_wrong_secret_end_the_run_before_ray(bucket: str, secret: str, told: str, tmp_path: Path) -> None:
    with rclone(tmp_path / "s3") as endpoint:
        code, errors, ray = alone("run", "recipe.yaml", "--set", f"source=s3://{bucket}/a.csv", **environment(endpoint, secret))
    assert (code, ray) == (2, False)
    assert told in errors and "Traceback" not in errors and "hunter2" not in errors


BOMB = "x: " + "[" * 40 + "]" * 40
LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("generate: {rows: 0}", "generate.rows: must be greater than or equal to 1 (got 0)"),
        ("generate: {rows: -1}", "generate.rows: must be greater than or equal to 1 (got -1)"),
        ("generate: {rows: many}", "generate.rows: must be an integer (got 'many')"),
        ("generat: {rows: 1}", "generat: unknown key. Did you mean 'generate'?"),
        (LAUGHS, "anchors (&) and aliases (*) are not allowed"),
        ("name: !!python/object/apply:os.system ['touch hacked']", "is not valid YAML"),
        (BOMB, "is nested deeper than 30"),
        ("rules: ['__import__(\"os\")']", "rules[0]:"),
    ],
)
def test_a_bad_recipe_is_one_line_and_runs_nothing(
    more: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.yaml").write_text(f"source: rows.csv\nevaluate: null\n{more}\n")
    assert call(monkeypatch, "run", "bad.yaml") == 2
    errors = capsys.readouterr().err
    assert told in errors and "RecipeError" in errors and "Traceback" not in errors
    assert not Path("hacked").exists() and not Path("runs").exists()


def parquet(name: str, **columns: Any) -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def rows_of(folder: Folder) -> int:
    return sum(cast("list[int]", folder.manifest()["rows"].to_pylist()))


def fail_if_called(*_: object, **__: object) -> None:
    pytest.fail("Ray was started")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("header.csv", "'header.csv' has no rows. Give at least one"),
        ("broken.parquet", "file 'broken.parquet': no whole Parquet file"),
        ("bytes.parquet", "column 'blob' of 'bytes.parquet': it holds bytes"),
        ("ragged.csv", "'ragged.csv' has no row that can be read. file 'ragged.csv', row 0: 3 cells where the header has 2"),
    ],
)
def test_what_the_first_rows_show_is_refused_before_ray_starts(
    source: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("header.csv").write_text("a,b\n")
    Path("ragged.csv").write_text("a,b\n1,2,3\n")
    truncate(parquet("broken.parquet", a=range(1000)))
    parquet("bytes.parquet", blob=[b"\xff"] * 10)
    monkeypatch.setattr("raysynth.stages.input_profile.map_ordered", fail_if_called)
    assert call(monkeypatch, "run", "recipe.yaml", "--set", f"source={source}", "--set", "evaluate=null") == 2
    errors = capsys.readouterr().err
    assert told in errors and "Traceback" not in errors


def test_a_truncated_file_among_good_ones_is_quarantined_by_name_and_the_run_goes_on(
    cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        parquet(f"many/{number}.parquet", a=range(100), b=["x", "y"] * 50)
    truncate(parquet("many/broken.parquet", a=range(100), b=["x", "y"] * 50))
    recipe = parse_recipe({"source": {"use": "parquet", "url": "many"}, "run": "run", "prepare": {"drop_duplicates": True}})
    folder = prepare.run(recipe, Run("run"))
    (quarantined,) = [
        row for url in folder.part_urls("quarantine") for row in pq.read_table(url.removeprefix("file://")).to_pylist()
    ]
    assert (quarantined["_file"], quarantined["_row"]) == ("broken.parquet", -1)
    assert "no whole Parquet file" in quarantined["reason"]
    assert rows_of(folder) == 100 + 1  # three equal files, and the broken one
    assert "1 input files cannot be read and are left out: broken.parquet" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"max_bad_rows: 1 of 301 rows .*file 'broken\.parquet': no whole Parquet file"):
        prepare.run(parse_recipe({**recipe.model_dump(by_alias=True), "prepare": {"max_bad_rows": 0.0}}), Run("run"))


def test_input_that_changed_makes_other_prepared_rows_and_leaves_the_first(cluster: None) -> None:
    recipe, run = parse_recipe({"source": "rows.csv", "run": "run"}), Run("run")
    first = prepare.run(recipe, run)
    rows = first.manifest()
    Path("rows.csv").write_text(ROWS + "60,a,1.0\n")
    second = prepare.run(recipe, run)
    assert first.id != second.id and run.current("prepared") == second
    assert first.manifest().equals(rows)
    assert rows_of(second) == 61


@pytest.mark.parametrize("name", ["odd", pytest.param("one", marks=pytest.mark.slow)])
def test_odd_columns_and_one_row_go_through_the_whole_pipeline(cluster: None, name: str) -> None:
    rows = 80
    parquet(
        "odd.parquet",
        **{
            "with space": range(rows),
            "😀": ["x", None] * (rows // 2),
            "n" * 300: [1.5] * rows,
            "empty": pa.nulls(rows),
            "extremes": pa.array([-(2**63), 2**63 - 1, 0, None] * 20),
            "cents": pa.array([Decimal(n) / 100 for n in range(rows)], pa.decimal128(10, 2)),
            "paris": pa.array([n * 10**13 - 10**15 for n in range(rows)], pa.timestamp("us", tz="Europe/Paris")),
            "nested": [{"a": [1, 2]}, None] * (rows // 2),
        },
    )
    parquet("one.parquet", a=[1], b=["x"])
    quick = {"train": {"max_epochs": 1}, "generate": {"rows": 30}, "evaluate": None, "prepare": {"holdout": 0.0, "validation": 0.0}}
    made = run_to(parse_recipe({"source": f"{name}.parquet", "run": f"run-{name}", **quick}))
    assert made.prepared is not None and made.synthetic is not None
    (url,) = made.synthetic.part_urls()
    drawn, real = pq.read_table(url.removeprefix("file://")), pq.read_table(f"{name}.parquet")
    assert drawn.num_rows == 30 and drawn.column_names == real.column_names
    assert str(drawn.schema.field(real.column_names[-1]).type) == "string"
    with pytest.raises(DataError, match="no row is left in the train split"):
        run_to(
            parse_recipe({"source": "one.parquet", "run": "run-none", **quick, "prepare": {"holdout": 0.999, "validation": 0.0}})
        )


def test_rules_conditions_and_targets_that_cannot_be_met_are_refused_and_a_flipped_bit_is_named(
    cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("recipe.yaml").write_text("source: rows.csv\nrun: run\nevaluate: null\ntrain: {max_epochs: 1}\ngenerate: {rows: 20}\n")
    assert call(monkeypatch, "run", "recipe.yaml") == 0
    for override, told in (
        ("rules=['val > 1000']", "RecipeError: rules: 'val > 1000' is broken by"),
        ("generate.where={cat: z}", "where.cat: no train row has 'z'"),
        ("generate.where={val: {min: 1000}}", "where.val: no train row has this range"),
        ("evaluate={target: catt}", "evaluate.target: no column 'catt'. Did you mean 'cat'? Columns: n, cat, val"),
    ):
        capsys.readouterr()
        assert call(monkeypatch, "run", "recipe.yaml", "--set", override) == 2
        errors = capsys.readouterr().err
        assert told in errors and "Traceback" not in errors
    never = ["--set", "rules=['val > 1000']", "--set", "generate.max_rule_violations=1"]
    assert call(monkeypatch, "run", "recipe.yaml", *never) == 2
    assert "RuleError: rules: of 10,000 probe rows 0.00% hold" in capsys.readouterr().err
    Path("same.csv").write_text("a,b\n" + "".join(f"{n},k\n" for n in range(60)))
    assert call(monkeypatch, "run", "recipe.yaml", "--set", "source=same.csv", "--set", "evaluate={target: b}") == 2
    assert "evaluate.target: column 'b' is 'k' in all 60 rows" in capsys.readouterr().err
    (model,) = Path("run/model").glob("*/model.json")
    model.write_text(model.read_text().replace('"seed": 7', '"seed": 8'))
    for words in (["preview", "run"], ["run", "recipe.yaml", "--set", "generate.rows=21"]):
        assert call(monkeypatch, *words) == 2
        errors = capsys.readouterr().err
        assert "CorruptRunError" in errors and "model.json: its bytes are not those that were committed" in errors


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("a tmpfs cannot be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_and_a_read_only_disk_are_one_line_and_the_run_goes_on_afterwards(
    small_disk: Path, cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "".join(f"{n},{Draws.range(n, 'text', 0, 1).words('a')[0]:016x} {n}\n" for n in range(30_000))
    Path("big.csv").write_text("n,t\n" + text)
    words = ("prepare", "recipe.yaml", "--set", "source=big.csv", "--set", f"run={small_disk}/run", "--set", "evaluate=null")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert call(monkeypatch, *words) == 2
    assert "Read-only file system; name a place that can be written" in capsys.readouterr().err
    subprocess.run(["mount", "-o", "remount,rw,size=300k", small_disk], check=True)
    assert call(monkeypatch, *words) == 2
    errors = capsys.readouterr().err
    assert "StoreError: url" in errors and "No space left on device; free some space" in errors and "Traceback" not in errors
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    assert call(monkeypatch, *words) == 0
    folder = Run(f"{small_disk}/run").current("prepared")
    assert folder is not None and rows_of(folder) == 30_000
