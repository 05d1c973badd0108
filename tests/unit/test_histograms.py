"""Histograms tell how real columns are distributed, and nothing of the rarest rows."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from raysynth.histograms import BINS, LEAST_ROWS, histograms
from raysynth.schema import Column, Schema


def told(values: list[object], column: Column) -> dict[str, object]:
    return histograms(pa.table({"x": pa.array(values, column.type)}), Schema((column,)))["x"]


def test_values_of_fewer_rows_than_the_least_are_not_named() -> None:
    values = ["a"] * 80 + ["b"] * LEAST_ROWS + ["the only one"] * (LEAST_ROWS - 1) + [None] * 11
    found = told([*values], Column("x", "category", pa.string()))
    assert found == {"missing": 0.11, "values": [["a", 0.8], ["b", 0.05]]}


def test_bins_hold_all_rows_and_end_before_the_extremes() -> None:
    numbers = [*np.random.default_rng(0).normal(size=5000).tolist(), 1e9, None]
    found = told(numbers, Column("x", "number", pa.float64()))
    assert isinstance(found["edges"], list) and isinstance(found["shares"], list)
    assert len(found["edges"]) == BINS + 1 and max(found["edges"]) < 5
    assert sum(found["shares"]) + float(str(found["missing"])) == pytest.approx(1, abs=1e-4)


def test_whole_numbers_get_whole_edges_and_dates_get_iso_text() -> None:
    found = told([1, 2, 3] * 10, Column("x", "integer", pa.int64()))
    assert found["edges"] == [1, 2, 3]
    days: list[object] = [dt.date(2024, 1, day) for day in range(1, 31)] * 2
    edges = told(days, Column("x", "date", pa.date32()))["edges"]
    assert isinstance(edges, list) and (edges[0], edges[-1]) == ("2024-01-01", "2024-01-30")


@pytest.mark.parametrize(
    "values", [[None] * 20, [2.5] * 20, [float("nan")] * 9, [1.7e308, -1.7e308] * 5], ids=["null", "one", "nan", "huge"]
)
def test_odd_columns_have_histograms_of_their_own(values: list[object]) -> None:
    found = told(values, Column("x", "number", pa.float64()))
    assert found["missing"] == (1.0 if values[0] is None else 0.0)
    assert all(np.isfinite(edge) for edge in found.get("edges", []))  # type: ignore[attr-defined]
