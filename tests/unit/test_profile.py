"""Profile: the same whatever the order of merging, types settled as a person would, and an audit that says what matters."""

import json
from datetime import date
from decimal import Decimal
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysynth.cleaning import clean
from raysynth.column_profile import BOUND
from raysynth.errors import DataError, RecipeError
from raysynth.profile import Profile, audit, date_formats, infer_schema
from raysynth.schema import Kind


def raw(columns: dict[str, Any], file: str = "a.csv") -> pa.Table:
    table = pa.table(columns)
    files = pa.DictionaryArray.from_arrays(np.zeros(table.num_rows, dtype=np.int32), pa.array([file]))
    return table.add_column(0, "_file", files).add_column(1, "_row", pa.array(range(table.num_rows), pa.int64()))


def observe(columns: dict[str, Any], file: str = "a.csv") -> Profile:
    return Profile.observe(raw(columns, file))


def settled(values: Any, name: str = "x", **overrides: Kind) -> tuple[Kind, str]:
    column = infer_schema(observe({name: values}), overrides)[name]
    return column.kind, str(column.type)


def test_merging_knows_no_order_and_no_cuts() -> None:
    draw = np.random.default_rng(3)
    table = raw(
        {
            "many": [f"v{draw.integers(20_000)}" for _ in range(30_000)],
            "few": [["1", "2.50", "NA", "x", " x"][k] for k in draw.integers(5, size=30_000)],
            "when": [f"2020-01-{draw.integers(1, 32):02d}T00:00:00+0{draw.integers(3)}:00" for _ in range(30_000)],
            "typed": pa.array([[None, 1.5, 2.0][k] for k in draw.integers(3, size=30_000)], pa.float64()),
        }
    )
    whole = Profile.observe(table)
    parts = [Profile.observe(table.slice(start, 1_000)) for start in range(0, 30_000, 1_000)]
    shuffled = [parts[k] for k in draw.permutation(len(parts))]
    assert reduce(Profile.merge, shuffled, Profile()).to_json() == whole.to_json()
    assert Profile.from_json(json.loads(json.dumps(whole.to_json()))).to_json() == whole.to_json()


def test_counts_are_exact_below_the_bound_and_estimated_above() -> None:
    few = observe({"x": [str(n % 100) for n in range(1_000)]}).columns["x"].values
    assert few.exact and few.distinct == 100 and few.common(1) == [("0", 10)]
    many = observe({"x": [str(n % 20_000) for n in range(40_000)]}).columns["x"].values
    assert not many.exact and len(many.texts) == BOUND and set(many.counts.tolist()) == {2}
    assert abs(many.distinct / 20_000 - 1) < 0.06  # k minimum values: a standard deviation of 1 / sqrt(4096) = 1.6 %


@pytest.mark.parametrize(
    ("values", "kind", "type"),
    [
        (["1", "-2", "NA"], "integer", "int64"),
        (["1", "2.50", "1e3"], "number", "double"),
        (["1.", "-.5", ".5e3"], "number", "double"),
        (["1", "2,5"], "category", "string"),
        (["1", "E3", ".E3", "-e10", "."], "category", "string"),
        (["02139", "10001"], "category", "string"),
        (["12345678901234567890", "2"], "category", "string"),
        (["true", "False"], "boolean", "bool"),
        (["yes", "no"], "category", "string"),
        (["2020-02-29", "?"], "date", "date32[day]"),
        (["2021-02-29", "2020-01-01"], "category", "string"),
        (["31/12/1999", "01/02/2000"], "date", "date32[day]"),
        (["12/31/1999", "01/02/2000"], "date", "date32[day]"),
        (["07:30", "23:59:59.5"], "time", "time64[us]"),
        (["2020-01-01 07:30", "2020-01-01T07:30:01.25"], "datetime", "timestamp[us]"),
        (["2020-01-01T07:30Z", "2020-01-01T07:30:00+00:00"], "datetime", "timestamp[us, tz=UTC]"),
        (["2020-01-01T07:30+02:00", "2020-07-01T07:30+02:00"], "datetime", "timestamp[us, tz=+02:00]"),
        (["2020-01-01T07:30+02:00", "2020-07-01T07:30+01:00"], "datetime", "timestamp[us, tz=UTC]"),
        (["2020-01-01T07:30+02:00", "2020-07-01T07:30"], "category", "string"),
        (['{"a": 1}', "[1]"], "json", "string"),
        (["NA", "", None], "category", "string"),
        ([f"a sentence of some length, which is number {n}" for n in range(30)], "text", "string"),
        ([[1, 2], [3]], "json", "string"),
        (pa.array([1, 2], pa.uint8()), "integer", "uint8"),
        (pa.array([1.5, None], pa.float32()), "number", "float"),
        (pa.array([Decimal("1.25")], pa.decimal128(6, 2)), "number", "decimal128(6, 2)"),
        (pa.array([date(2020, 1, 1)]), "date", "date32[day]"),
        (pa.array(["a", "b"]).dictionary_encode(), "category", "string"),
        (pa.array([0], pa.timestamp("ms", tz="Europe/Paris")), "datetime", "timestamp[ms, tz=Europe/Paris]"),
        (pa.array([5], pa.duration("s")), "duration", "duration[s]"),
        (pa.array([None, None], pa.int32()), "integer", "int32"),
    ],
)
def test_a_column_gets_the_kind_and_type_that_all_its_values_have(values: Any, kind: str, type: str) -> None:
    assert settled(values) == (kind, type)


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("order_id", [str(n) for n in range(100)], "id"),
        ("customerID", [f"c {n}" for n in range(100)], "id"),
        ("x", [f"{n:08x}-0000-4000-8000-000000000000" for n in range(100)], "id"),
        ("x", [str(n) for n in range(100)], "integer"),
        ("order_id", [str(n % 50) for n in range(100)], "integer"),
        ("humid", [str(n) for n in range(100)], "integer"),
        ("id", [str(n + 0.5) for n in range(100)], "number"),
    ],
)
def test_only_unique_columns_that_look_it_are_ids(name: str, values: list[str], kind: str) -> None:
    assert settled(values, name)[0] == kind


def test_overrides_name_the_kind_and_the_type_follows() -> None:
    assert settled(["1", "2"], x="category") == ("category", "int64")
    assert settled(["1", "2"], x="number") == ("number", "double")
    assert settled(["1", "x"], x="integer") == ("integer", "int64")
    assert settled(["02", "x"], x="id") == ("id", "string")
    assert settled(pa.array([1.5]), x="text") == ("text", "string")
    with pytest.raises(RecipeError, match=r"schema\.columns\.carier: no such column\. Did you mean 'carrier'\?"):
        infer_schema(observe({"carrier": ["a"]}), {"carier": "id"})


def test_files_that_differ_are_united_and_promoted() -> None:
    a = observe({"x": pa.array([1], pa.int32()), "y": ["u"]}, "a.parquet")
    b = observe({"z": ["v"], "x": pa.array([1.5], pa.float64())}, "b.parquet")
    schema = infer_schema(b.merge(a))
    assert schema.names == ["x", "y", "z"]
    assert [str(column.type) for column in schema] == ["double", "string", "string"]
    assert [column.nullable for column in schema] == [False, True, True]


def test_files_that_cannot_be_united_are_refused_by_name() -> None:
    profile = observe({"x": pa.array([1])}, "a.parquet").merge(observe({"x": ["u"]}, "b.parquet"))
    with pytest.raises(
        DataError, match=r"column 'x': files disagree on its type \(int64 in 'a\.parquet', string in 'b\.parquet'\)"
    ):
        infer_schema(profile)
    assert str(infer_schema(profile, {"x": "category"})["x"].type) == "string"
    with pytest.raises(DataError, match="it holds bytes"):
        infer_schema(observe({"x": pa.array([b"u"])}))


def test_what_was_inferred_cleans_every_row() -> None:
    table = raw({"d": ["13/01/2020", "01/02/2020"], "t": ["1/13/2020 5:00 PM", "2/1/2020 5:00 AM"], "n": ["1", " 2.5 "]})
    profile = Profile.observe(table)
    schema = infer_schema(profile)
    formats = date_formats(profile, schema)
    assert formats == {"d": "D/M/Y", "t": "M/D/Y"}
    cleaned, bad = clean(table, schema, formats=formats)
    assert not bad and cleaned.column("d").to_pylist() == [date(2020, 1, 13), date(2020, 2, 1)]


def test_the_audit_warns_of_what_matters() -> None:
    n = 400
    profile = observe(
        {
            "id": [str(k) for k in range(n)],
            "mail": [f"person{k}@example.org" for k in range(n)],
            "first_name": ["Ann" if k % 2 else "Bob" for k in range(n)],
            "card": ["4111 1111 1111 1111" if k % 3 else "5500 0000 0000 0004" for k in range(n)],
            "phone": [f"+49 170 123{k:04d}" for k in range(n)],
            "constant": ["1"] * n,
            "gone": ["NA"] * n,
            "sparse": ["1" if k < 30 else "" for k in range(n)],
            "rare": ["yes" if k < 3 else "no" for k in range(n)],
            "almost": [str(k % 9) if k else "unknown" for k in range(n)],
            "when": [f"0{1 + k % 9}/0{1 + k % 7}/2020" for k in range(n)],
        }
    )
    report = audit(profile, duplicates=4)
    text = "\n".join(report["warnings"])
    assert report["rows"] == n and "id" in report["likely_keys"]
    assert report["likely_personal"] == {"mail": ["e-mail"], "first_name": ["by its name"], "card": ["card"], "phone": ["phone"]}
    for expected in (
        "'constant': it is constant",
        "'gone': every value",
        "'sparse': 92%",
        "'rare': imbalance",
        "'when': its dates",
    ):
        assert expected in text
    assert "'almost': all but 1 of its values are of kind integer" in text
    assert "4 rows (1.0%) equal an earlier one" in text
    assert report["fit"]["verdict"] == "limited"
    assert "person1@" not in json.dumps(report)  # no one's data is repeated


def test_too_little_data_does_not_suit_synthesis() -> None:
    assert audit(observe({"x": ["1", "2"]}))["fit"]["verdict"] == "no"
    assert audit(observe({"x": [str(k % 7) for k in range(5_000)]}))["fit"]["verdict"] == "yes"
    assert audit(Profile())["fit"]["verdict"] == "no"
