"""Real, augmented and synthetic rows on a running Ray → one mixed folder: its counts, its splits, and the same bytes by any workers."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from raysynth.audit import verify
from raysynth.commits import Table, commit, write_task
from raysynth.errors import DataError
from raysynth.recipe import Recipe
from raysynth.runs import Folder, Plan, Run
from raysynth.schema import ROW_ID
from raysynth.stages import mix, prepare

SYNTHETIC_ROWS = 400
ESCAPES = ["../../x", "a/b", "", None]


def asked(run: str, workers: int = 2, **keys: Any) -> Recipe:
    """The model alone: a whole recipe would have to name the op that the augmented rows are said to come from."""
    return Recipe.model_validate({"source": "examples://wine", "run": run, "generate": {"workers": workers}, "mix": keys})


def put(run: Run, name: str, id: str, tables: list[pa.Table]) -> Folder:
    """A committed folder of these parts, as a stage would have made it."""
    folder, plan = run.folder(name, id), Plan(len(tables), {})
    folder.write_plan(plan)

    def files_of(part: int) -> list[Table]:
        return [("0000", tables[part])]

    write_task(folder, plan, range(len(tables)), files_of)
    commit(folder, plan)
    return folder


@pytest.fixture(scope="module")
def made(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Folder, Folder, Folder]:
    """Wine, prepared; 2 augmented rows of each real one, with a column more; synthetic rows with paths for classes."""
    url = str(tmp_path_factory.mktemp("mix") / "run")
    run = Run(url)
    prepared = prepare.run(asked(url), run)
    train = pa.concat_tables(read(part) for part in prepared.part_urls("train"))
    jittered = train.set_column(train.column_names.index("alcohol"), "alcohol", pc.add(train["alcohol"], 1.0))
    lam = pa.array([0.5] * train.num_rows)
    augmented = put(run, "augmented", "a" * 12, [train, jittered.append_column("lam", lam)])
    rows = train.drop_columns(list(ROW_ID)).take([number % train.num_rows for number in range(SYNTHETIC_ROWS)])
    classes = pa.array([ESCAPES[number % len(ESCAPES)] for number in range(SYNTHETIC_ROWS)], pa.string())
    rows = rows.set_column(rows.column_names.index("target"), "target", classes)
    synthetic = put(run, "synthetic", "b" * 12, [rows.slice(start, 150) for start in range(0, SYNTHETIC_ROWS, 150)])
    return url, prepared, augmented, synthetic


def read(url: str) -> pa.Table:
    return pq.ParquetFile(url.removeprefix("file://")).read()


def read_split(folder: Folder, split: str) -> pa.Table:
    return ds.dataset(f"{folder.url.removeprefix('file://')}/{split}", partitioning="hive").to_table()


def contents(rows: pa.Table) -> Counter[str]:
    names = sorted(name for name in rows.column_names if name not in (*ROW_ID, "_origin", "lam"))
    return Counter(map(repr, rows.select(names).to_pylist()))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_mix_of_some_of_each_has_exactly_its_rows_and_the_same_bytes_by_any_workers(
    made: tuple[str, Folder, Folder, Folder], tmp_path: Path, workers: int
) -> None:
    url, prepared, augmented, synthetic = made
    keys = {"real": 2, "augmented": 1, "synthetic": 2, "rows": 203, "stratify_by": "target", "partition_by": ["_origin", "target"]}
    folder = mix.run(asked(url, workers, **keys), Run(str(tmp_path / "run")), prepared, augmented, synthetic)
    hashes = folder.manifest()["sha256"].to_pylist()
    assert EARLIER.setdefault("hashes", hashes) == hashes

    train = read_split(folder, "train")
    assert Counter(train["_origin"].to_pylist()) == {"real": 81, "augmented": 41, "synthetic": 81}
    real = train.filter(pc.equal(train["_origin"], "real"))
    known = pa.concat_tables(read(part) for part in prepared.part_urls("train"))
    assert not contents(real) - contents(known)
    held, kept = Counter(known["target"].to_pylist()), Counter(real["target"].to_pylist())
    assert all(abs(kept[label] - 81 * held[label] / known.num_rows) < 1 for label in held)
    made_up = train.filter(pc.equal(train["_origin"], "synthetic"))
    assert set(made_up["target"].to_pylist()) == set(ESCAPES)
    root = Path(folder.url.removeprefix("file://")).parent.parent
    assert {path.name for path in root.iterdir()} == {"mixed", "run.json"}
    assert verify(folder).whole and not verify(folder).foreign


EARLIER: dict[str, list[str]] = {}


def test_shares_take_all_or_half_and_the_holdout_lies_in_test_alone(
    made: tuple[str, Folder, Folder, Folder], tmp_path: Path
) -> None:
    url, prepared, _, synthetic = made
    run = Run(str(tmp_path / "run"))
    folder = mix.run(asked(url, synthetic=0.5), run, prepared, None, synthetic)
    train = read_split(folder, "train")
    known = pa.concat_tables(read(part) for part in prepared.part_urls("train"))
    assert Counter(train["_origin"].to_pylist()) == {"real": known.num_rows, "synthetic": SYNTHETIC_ROWS // 2}
    assert contents(train.filter(pc.equal(train["_origin"], "real"))) == contents(known)
    for split, sub in (("validation", "validation"), ("test", "holdout")):
        whole = read_split(folder, split)
        source = pa.concat_tables(read(part) for part in prepared.part_urls(sub))
        assert contents(whole) == contents(source)
        assert set(whole["_origin"].to_pylist()) == {"real"}
        assert not contents(train) & contents(source)
        assert not set(whole.column_names) & set(ROW_ID)
    schemas = {str(read(part).schema) for part in folder.part_urls()}
    assert len(schemas) == 1
    assert run.current("mixed") == folder


def test_columns_of_augmented_rows_alone_are_null_elsewhere(made: tuple[str, Folder, Folder, Folder], tmp_path: Path) -> None:
    url, prepared, augmented, synthetic = made
    folder = mix.run(asked(url, augmented=1.0, synthetic=0.0), Run(str(tmp_path / "run")), prepared, augmented, synthetic)
    train = read_split(folder, "train")
    of_each = Counter(zip(train["_origin"].to_pylist(), train["lam"].to_pylist(), strict=True))
    rows = sum(1 for origin in train["_origin"].to_pylist() if origin == "real")
    assert of_each == {("real", None): rows, ("augmented", None): rows, ("augmented", 0.5): rows}
    with pytest.raises(DataError, match="asks for 900 synthetic rows"):
        mix.run(asked(url, real=0.0, synthetic=1.0, rows=900), Run(str(tmp_path / "run")), prepared, augmented, synthetic)
