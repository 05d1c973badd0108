"""A classifier that learnt from a mix watches a dated stream: alarms where a share jumps, hardly any where nothing changes."""

import csv
import gzip
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed import mixed
from typer.testing import CliRunner

from raysynth.cli import app
from raysynth.errors import DataError, GateError, RaysynthError
from raysynth.monitor import Classifier, Counts, Dates, Unit, alarms, excess, judged, order_of, texts_of

FIRST = date(2024, 1, 30)
DAY = 86_400_000_000
WORDS = {
    "negative": ["loss widens", "shares plunge", "lawsuit filed", "亏损扩大", "股价暴跌", "遭到起诉"],
    "neutral": ["annual meeting held", "new office opened", "召开年会", "新址启用"],
    "positive": ["profit soars", "record sales", "dividend raised", "利润大增", "销量创新高", "提高分红"],
}
FIRMS = ["Acme", "Globex", "长城公司", "Initech"]
COLUMNS = {"sentiment": "category", "title": "text", "price": "number"}


def headlines(rows: int, negative: float, seed: int) -> tuple[list[str], list[str]]:
    noise = np.random.default_rng(seed)
    labels = noise.choice(list(WORDS), rows, p=[negative, 0.3, 0.7 - negative]).tolist()
    return labels, [f"{noise.choice(FIRMS)}: {noise.choice(WORDS[label])}, {noise.choice(WORDS[label])}" for label in labels]


def labelled(rows: int, seed: int) -> pa.Table:
    labels, titles = headlines(rows, 0.35, seed)
    labels_, titles_ = [None, *labels[1:]], [titles[0], None, *titles[2:]]
    origins = ["real" if row % 2 else "synthetic" for row in range(rows)]
    return pa.table({"sentiment": labels_, "title": titles_, "price": [1.0] * rows, "_origin": origins})


def stream(days: int, jump_at: int, rows_a_day: int = 40) -> pa.Table:
    """A third day without a row, a row without a date, one without a text; from `jump_at` on six in ten are negative, before two."""
    found: list[dict[str, Any]] = []
    for day in range(days):
        _, titles = headlines(0 if day == 2 else rows_a_day, 0.6 if day >= jump_at else 0.2, 100 + day)
        found += [{"date": FIRST + timedelta(day), "title": title} for title in titles]
    found += [{"date": None, "title": "shares plunge"}, {"date": FIRST, "title": None}, {"date": FIRST, "title": "  "}]
    order = np.random.default_rng(5).permutation(len(found))
    return pa.Table.from_pylist([found[at] for at in order], schema=pa.schema([("date", pa.date32()), ("title", pa.string())]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    splits = {"train": labelled(300, 1), "test": labelled(80, 2)}
    return mixed(str(tmp_path_factory.mktemp("run")), splits, COLUMNS, ["sentiment"])


def monitored(run: str, stream: object, *options: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, ["--json", "monitor", run, str(stream), "--label", "sentiment", *options])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_jump_of_the_negative_share_raises_an_alarm_on_its_day_and_none_before(run: str, tmp_path: Path) -> None:
    pq.write_table(stream(42, jump_at=36), tmp_path / "s.parquet")
    *windows, total = monitored(run, tmp_path / "s.parquet")
    jump = str(FIRST + timedelta(36))
    assert total["alarms"][0] == jump and len(total["alarms"]) >= 5
    assert [window["begins"] for window in windows] == [str(FIRST + timedelta(day)) for day in range(42) if day != 2]
    assert [window["verdict"] for window in windows[:28]] == ["reference"] * 28
    assert all(window["expected"] is None for window in windows[:28]) and windows[28]["expected"] == pytest.approx(0.2, abs=0.05)
    assert total["left_out"] == {"bad": 0, "no_date": 1, "no_text": 2} and total["rows"] == 41 * 40
    assert total["classifier"]["right"] >= 0.95, "words tell these labels; what is right is told of rows that were not learnt"
    assert total["classifier"]["test_rows"] == 78, "rows without a label or a text are not judged"
    with pytest.raises(GateError, match=f"share of 'negative' jumped.*{jump}"):
        monitored(run, tmp_path / "s.parquet", "--fail")


def test_every_format_gives_the_same_windows(run: str, tmp_path: Path) -> None:
    rows = stream(12, jump_at=10)
    pq.write_table(rows, tmp_path / "s.parquet")
    with gzip.open(tmp_path / "s.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in rows.to_pylist())
    with (tmp_path / "s.csv").open("w", encoding="utf-8", newline="") as file:
        written = csv.writer(file)
        written.writerow(["title", "date"])
        for row in rows.to_pylist():
            written.writerow([row["title"], row["date"] and f"{row['date']:%d/%m/%Y}"])
    first = monitored(run, tmp_path / "s.parquet", "--reference", "5")
    assert monitored(run, tmp_path / "s.jsonl.gz", "--reference", "5") == first
    assert monitored(run, tmp_path / "s.csv", "--text", "title", "--reference", "5") == first


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--watch", "bad"], "--watch bad: 'sentiment' has no such value in the mixed rows. It has: negative, neutral, positive"),
        (["--label", "mood"], "column 'mood': no such column"),
        (["--label", "price"], "--label price: its kind is number"),
        (["--text", "price"], "--text price: its kind is number"),
        (["--date", "day"], "date: the stream has no column 'day'. Columns: date, title, wrong"),
        (["--date", "wrong"], "date: column 'wrong' is of the type int64"),
        (["--date", "title"], "date: no value of column 'title' is a date, such as"),
        (["--rows", "real"], "it has no real rows. Run: raysynth prepare RECIPE"),
        (["--date-order", "Q"], "--date-order Q: must be one of Y-M-D"),
        (["--use", "jsonl"], "no row has both a date in 'date' and a text in title"),
    ],
)
def test_what_cannot_be_is_refused_by_name(run: str, tmp_path: Path, options: list[str], told: str) -> None:
    rows = stream(3, jump_at=2)
    pq.write_table(rows.append_column("wrong", pa.array(range(rows.num_rows))), tmp_path / "s.parquet")
    with pytest.raises(RaysynthError) as error:
        monitored(run, tmp_path / "s.parquet", *options)
    assert told in str(error.value) and error.value.exit_code == 2


def test_without_a_label_it_takes_the_runs_target_or_asks(run: str, tmp_path: Path) -> None:
    pq.write_table(stream(3, jump_at=2), tmp_path / "s.parquet")
    done = CliRunner().invoke(app, ["monitor", run, str(tmp_path / "s.parquet")])
    assert "--label: must be given" in str(done.exception)


def test_a_run_without_a_mix_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no run"):
        monitored(str(tmp_path), tmp_path)


# The chart


def shares(counts: list[tuple[int, int]], **options: Any) -> list[str]:
    seen = Counts(2, {day * DAY: np.array([hits, rows - hits]) for day, (hits, rows) in enumerate(counts)})
    asked: dict[str, Any] = {"unit": "day", "reference": 14, "false_alarms": 0.01, **options}
    return [window.verdict for window in judged(seen, ["bad", "good"], "bad", **asked)]


@pytest.mark.parametrize("scatter", [None, 40.0])
def test_where_nothing_changes_alarms_are_as_rare_as_asked(scatter: float | None) -> None:
    """`scatter`: days differ by more than chance, by a beta law around 0.2. Of 1,720 windows 17 may raise one; 32 would be 3.6 standard
    deviations above."""
    noise = np.random.default_rng(3)
    raised = 0
    for _ in range(20):
        rows = noise.integers(5, 200, 100)
        chances = np.full(100, 0.2) if scatter is None else noise.beta(0.2 * scatter, 0.8 * scatter, 100)
        raised += shares(list(zip(noise.binomial(rows, chances).tolist(), rows.tolist(), strict=True))).count("alarm")
    assert raised <= 32


def test_a_window_that_raised_an_alarm_is_no_reference_for_the_next() -> None:
    assert shares([(8, 40)] * 14 + [(26, 40)] * 20) == ["reference"] * 14 + ["alarm"] * 20
    assert shares([(8, 40)] * 14 + [(26, 40), (8, 40)]) == ["reference"] * 14 + ["alarm", "steady"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50)), min_size=2, max_size=9), st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_more_hits_are_never_less_odd(extra: list[tuple[int, int]], rows: int, data: st.DataObject) -> None:
    before = [(hits, hits + misses + 1) for hits, misses in extra]
    hits = data.draw(st.integers(0, rows - 1))
    low, high = excess(hits, rows, before), excess(hits + 1, rows, before)
    assert 0 <= high <= low + 1e-12 and low <= 1 + 1e-12
    assert excess(0, rows, before) == pytest.approx(1.0, abs=1e-9) or excess(0, rows, before) >= 0.5


def test_a_fall_raises_no_alarm() -> None:
    assert "alarm" not in shares([(20, 40)] * 14 + [(0, 40)] * 5)


# Dates and texts


def begins(values: list[Any], type: pa.DataType, unit: Unit = "day", order: str | None = None) -> list[datetime | None]:
    return Dates("d", unit, order).begins(pa.table({"d": pa.array(values, type)})).to_pylist()


def test_dates_of_every_type_fall_into_the_window_of_their_own_clock() -> None:
    day, hour = datetime(2024, 3, 1), datetime(2024, 3, 1, 23)
    assert begins([date(2024, 3, 1), None], pa.date32()) == [day, None]
    assert begins([datetime(2024, 3, 1, 23, 59)], pa.timestamp("ns"), "hour") == [hour]
    shanghai = pa.timestamp("us", "Asia/Shanghai")
    assert begins([datetime(2024, 3, 1, 15, 59, tzinfo=UTC), datetime(2024, 3, 1, 16, 1, tzinfo=UTC)], shanghai) == [
        day,
        datetime(2024, 3, 2),
    ]
    texts = ["2024-03-01", "2024-03-01 23:59", "2024-03-01T23:59:59+08:00", "soon", "2024-02-30", "", None]
    assert begins(texts, pa.string()) == [day, day, day, None, None, None, None]
    assert begins(["01.03.2024 9:00"], pa.large_string(), "month", "D.M.Y") == [day]
    assert begins([date(2024, 3, 3)], pa.date32(), "week") == [datetime(2024, 2, 26)], "weeks begin on Monday"


@pytest.mark.parametrize("unit", ["hour", "day", "week", "month"])
def test_dates_beyond_the_calendar_are_none_and_wrap_into_no_other_year(unit: Unit) -> None:
    beyond = [9_000_000_000_000_000_000, -9_000_000_000_000_000_000, 253_402_300_800 * 1000, -62_135_596_801_000, None]
    for type in (pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("ms", "Asia/Shanghai"), pa.date64()):
        values = pa.array(beyond[:2] if type == pa.timestamp("s") else beyond, pa.int64()).cast(type)
        assert Dates("d", unit, None).begins(pa.table({"d": values})).null_count == len(values)
    days = pa.array([2**31 - 1, -(2**31), 2_932_897, -719_163, 19_783], pa.int32()).cast(pa.date32())
    found = Dates("d", unit, None).begins(pa.table({"d": days})).to_pylist()
    assert found[:4] == [None] * 4 and found[4] in (datetime(2024, 3, 1), datetime(2024, 2, 26))
    assert begins([datetime(1700, 1, 31, 7), datetime(2261, 1, 31, 7)], pa.timestamp("ns"), unit).count(None) == 0


def test_the_order_of_dates_is_told_by_them_or_asked_for() -> None:
    assert order_of(pa.table({"d": ["13/01/2024", "02/03/2024", "soon"]}), "d") == "D/M/Y"
    assert order_of(pa.table({"d": pa.array([None], pa.string())}), "d") == "Y-M-D"
    assert order_of(pa.table({"d": pa.array([date(2024, 1, 1)])}), "d") is None
    with pytest.raises(DataError, match=r"reads as D/M/Y and as M/D/Y alike. Say which: --date-order D/M/Y"):
        order_of(pa.table({"d": ["02/03/2024", "04/05/2024"]}), "d")


def test_texts_of_several_columns_stand_one_behind_the_other() -> None:
    rows = pa.table({"a": ["x", None, " NA "], "b": pa.array(["y", "z", None], pa.string()).dictionary_encode(), "n": [1, 2, 3]})
    assert texts_of(rows, ["a", "b"]) == ["x\ny", "z", ""]
    with pytest.raises(DataError, match=r"text: column 'n' is of the type int64"):
        texts_of(rows, ["n"])
    with pytest.raises(DataError, match=r"text: the stream has no column 'aa'. Did you mean 'a'"):
        texts_of(rows, ["aa"])


def test_a_classifier_takes_two_labels_and_some_rows_and_knows_no_label_of_no_word() -> None:
    labels, titles = headlines(60, 0.3, 3)
    learnt = Classifier(titles, labels)
    assert [learnt.labels[code] for code in learnt.codes(["loss widens", "利润大增"])] == ["negative", "positive"]
    assert learnt.codes(["", "\u200b \n", "shares plunge"]).tolist()[0] == -1
    for said, own in ((titles[:29], labels[:29]), (titles, ["one"] * 60)):
        with pytest.raises(DataError, match="a classifier takes 30 rows"):
            Classifier(said, own)


def test_alarms_name_their_windows() -> None:
    assert alarms([]) == []
