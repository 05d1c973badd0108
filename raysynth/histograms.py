"""Real rows → how each column is distributed, coarsely enough to be shown to whoever may sample: shares of values, shares of bins.

A value of fewer than LEAST_ROWS rows is not named, and the bins end where the last hundredth of the rows begins: the page that shows this
must not give away the rarest person.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.features import BOUND, NO_VALUES, is_class, numbers
from raysynth.schema import Column, Schema

LEAST_ROWS = 5
MOST_VALUES = 50
BINS = 24


def histograms(rows: pa.Table, schema: Schema) -> dict[str, dict[str, Any]]:
    """Column → {missing: share of nulls, values: [[value, share], …] or edges: [BINS + 1], shares: [BINS]}. Edges are numbers, of dates
    and times ISO text; ids, texts, images and JSON have neither."""
    return {column.name: _histogram(rows.column(column.name), column) for column in schema if column.name in rows.column_names}


def _histogram(values: pa.ChunkedArray, column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {"missing": round(values.null_count / max(1, len(values)), 6)}
    if is_class(column):
        found["values"] = _shares_of_values(values)
    elif column.kind not in NO_VALUES:
        found |= _shares_of_bins(values, column)
    return found


def _shares_of_values(values: pa.ChunkedArray) -> list[list[Any]]:
    counted: Any = pc.value_counts(values)
    counts = [(_plain(entry["values"]), entry["counts"]) for entry in counted.to_pylist() if entry["values"] is not None]
    frequent = sorted(counts, key=lambda pair: (-pair[1], str(pair[0])))[:MOST_VALUES]
    return [[value, round(count / len(values), 6)] for value, count in frequent if count >= LEAST_ROWS]


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _shares_of_bins(values: pa.ChunkedArray, column: Column) -> dict[str, Any]:
    found = numbers(values)
    found = np.clip(found[~np.isnan(found)], -BOUND, BOUND)
    if len(found) < LEAST_ROWS:
        return {}
    low, high = np.quantile(found, [0.01, 0.99])
    whole = column.kind != "number"
    if whole:
        low, high = np.floor(low), np.ceil(high)
    high = max(high, low + 1 if whole else np.nextafter(low, np.inf))
    bins = int(min(BINS, high - low)) if whole else BINS
    edges = np.linspace(low, high, bins + 1)
    edges = np.round(edges) if whole else edges
    shares = np.histogram(np.clip(found, low, high), edges)[0] / len(values)
    return {"edges": _texts(edges, column) if _is_temporal(column) else edges.tolist(), "shares": np.round(shares, 6).tolist()}


def _is_temporal(column: Column) -> bool:
    return pa.types.is_temporal(column.type) and not pa.types.is_duration(column.type)


def _texts(edges: Any, column: Column) -> list[str]:
    whole: Any = pa.array(edges.astype(np.int64))
    width = pa.int32() if column.type.bit_width == 32 else pa.int64()
    return [str(text).replace(" ", "T") for text in whole.cast(width).cast(column.type).cast(pa.string()).to_pylist()]
