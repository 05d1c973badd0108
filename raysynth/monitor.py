"""A dated stream of texts → by window the share of each label, as a linear classifier tells it, and an alarm where one label's jumps.

The alarm is a control chart for a share (Shewhart's p chart), each window held against the `reference` windows before it that raised none.
Its limit follows from two one-sided tests that must agree: Fisher's exact one, which knows chance alone and is right for a handful of rows,
and one that knows how much more than by chance the windows of this stream differ (`excess`).
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cells import ORDERS, flat, is_text, moments, nulls, parse, pc, tidy
from raysynth.errors import DataError
from raysynth.parts import nearest
from raysynth.text_vectors import Weights

Unit = Literal["hour", "day", "week", "month"]
Verdict = Literal["reference", "steady", "alarm"]

LEAST_ROWS = 30  # to learn from
MOST_LABELS = 100
_SHOWN_CHARACTERS = 40
_DAYS = (-719_161, 2_932_895)  # from 1970: the second day of year 1 to the last but one of 9999, so that no zone leads out


class Classifier:
    """TF-IDF and logistic regression of each label against the rest: `weights` (labels, places), `intercepts` (labels,)."""

    def __init__(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        """DataError on too few rows, one label or too many."""
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        self.labels = sorted(set(labels))
        if len(texts) < LEAST_ROWS or not 2 <= len(self.labels) <= MOST_LABELS:
            raise DataError(
                f"label: a classifier takes {LEAST_ROWS} rows with a text, and 2 to {MOST_LABELS} labels (got {len(texts)} rows and "
                f"{len(self.labels)} labels). Name another label, or make more rows"
            )
        self.rarity = Weights(texts)
        points, own = self.rarity.of(texts), np.array(labels)
        with threadpool_limits(1):  # sums of several threads differ in the last bits
            models: list[Any] = [LogisticRegression(C=10.0, solver="liblinear").fit(points, own == label) for label in self.labels]
        self.weights: NDArray[np.float64] = np.concatenate([model.coef_ for model in models])
        self.intercepts: NDArray[np.float64] = np.concatenate([model.intercept_ for model in models])

    def codes(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """(texts,) positions in `labels`; -1 of a text without a word."""
        points = self.rarity.of(texts)
        found = np.argmax(points @ self.weights.T + self.intercepts, axis=1)
        return np.where(np.diff(points.indptr) > 0, found, -1).astype(np.int64)


@dataclass
class Counts:
    """What was seen of a stream: by window (microseconds since 1970 of its beginning) the rows of each label, and the rows left out."""

    labels: int
    windows: dict[int, NDArray[np.int64]] = field(default_factory=dict[int, NDArray[np.int64]])
    left_out: Counter[str] = field(default_factory=Counter[str])

    def add(self, begins: pa.Array, codes: NDArray[np.int64]) -> None:
        """`begins`: (rows,) timestamps, null where a row's date is not known; `codes`: (rows,) -1 where it has no text."""
        dated = np.asarray(pc.is_valid(begins).to_numpy(zero_copy_only=False), np.bool_)
        kept = dated & (codes >= 0)
        self.left_out["no_date"] += int((~dated).sum())
        self.left_out["no_text"] += int((dated & (codes < 0)).sum())
        starts, which = np.unique(np.asarray(begins.filter(pa.array(kept)).cast(pa.int64())), return_inverse=True)
        added = np.zeros((len(starts), self.labels), np.int64)
        np.add.at(added, (which, codes[kept]), 1)
        for start, row in zip(starts.tolist(), added, strict=True):
            self.windows[start] = self.windows[start] + row if start in self.windows else row


def texts_of(rows: pa.Table, columns: Sequence[str]) -> list[str]:
    """(rows,) the texts of some columns, one behind the other; '' where there is none. DataError on a column that is not there, or that
    holds no texts."""
    found: list[list[str | None]] = []
    for name in columns:
        column = flat(_column(rows, name, "text"))
        if not (is_text(column.type) or pa.types.is_null(column.type)):
            raise DataError(f"text: column '{name}' is of the type {column.type}, and texts are asked for. Name another")
        found.append(tidy(column.cast(pa.string())).to_pylist())
    return ["\n".join(filter(None, row)) for row in zip(*found, strict=True)]


@dataclass(frozen=True)
class Dates:
    """How the dates of a stream are read: `column`, the length of a window, and for dates in texts their order (`D/M/Y`)."""

    column: str
    unit: Unit
    order: str | None

    def begins(self, rows: pa.Table) -> pa.Array:
        """(rows,) the beginning of each row's window, by its own clock where it tells a zone's; null where there is no date."""
        column = flat(_column(rows, self.column, "date"))
        if is_text(column.type):
            text, order = tidy(column), self.order or "Y-M-D"
            local = pc.coalesce(parse(text, pa.timestamp("us"), order), _zoned(text, order))
        elif pa.types.is_timestamp(column.type):
            column = _of_calendar(column)
            local = (pc.local_timestamp(column) if column.type.tz else column).cast(pa.timestamp("us"), safe=False)
        elif pa.types.is_date(column.type):
            local = _of_calendar(column).cast(pa.timestamp("us"))
        elif pa.types.is_null(column.type):
            local = nulls(rows.num_rows, pa.timestamp("us"))
        else:
            raise DataError(
                f"date: column '{self.column}' is of the type {column.type}, and dates, timestamps or their texts are asked for. "
                "Name another"
            )
        return pc.floor_temporal(local, unit=self.unit)


def _of_calendar(column: pa.Array) -> pa.Array:
    """Dates or timestamps, null outside of the years 1 to 9999: there is no window for them, and microseconds may not reach there."""
    unit = "D" if column.type == pa.date32() else "ms" if column.type == pa.date64() else column.type.unit
    day = {"D": 1, "s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}[unit]
    told = column.cast(pa.int32() if unit == "D" else pa.int64()).cast(pa.int64())
    low, high = (max(-(2**63), min(2**63 - 1, days * day)) for days in _DAYS)
    within = pc.and_(pc.greater_equal(told, pa.scalar(low, pa.int64())), pc.less(told, pa.scalar(high, pa.int64())))
    return pc.if_else(within, column, pa.scalar(None, column.type))


def order_of(rows: pa.Table, column: str) -> str | None:
    """The order in which a column of texts writes its dates, by the most of them; None of other columns. DataError where two read alike."""
    found = flat(_column(rows, column, "date"))
    if not is_text(found.type):
        return None
    text = tidy(found).drop_null().unique()
    parsed = {order: _parsed(text, order) for order in ORDERS}
    best = max(ORDERS, key=lambda order: parsed[order])
    alike = [order for order in ORDERS if parsed[order] == parsed[best]]
    if parsed[best] and len(alike) > 1:
        raise DataError(f"date: column '{column}' reads as {' and as '.join(alike)} alike. Say which: --date-order {alike[0]}")
    if len(text) and not parsed[best]:
        shown = str(text[0].as_py())[:_SHOWN_CHARACTERS]
        raise DataError(
            f"date: no value of column '{column}' is a date, such as '{shown}'. Write them as 2024-01-31, or name another"
        )
    return best


@dataclass(frozen=True)
class Window:
    """`share`: of the label that is watched; `expected`: its share among the reference; `p_value`: of the test; None where there is no
    reference yet."""

    begins: str
    rows: int
    counts: Mapping[str, int]
    share: float
    expected: float | None
    p_value: float | None
    verdict: Verdict


def judged(
    counts: Counts, labels: Sequence[str], watched: str, *, unit: Unit, reference: int, false_alarms: float
) -> Iterator[Window]:
    """The windows that have rows, in order of time. Where nothing changes, about a share of `false_alarms` of them, or fewer, raise one."""
    place = labels.index(watched)
    before: deque[tuple[int, int]] = deque(maxlen=reference)
    for start in sorted(counts.windows):
        by_label = counts.windows[start]
        hits, rows = int(by_label[place]), int(by_label.sum())
        expected = p_value = None
        verdict: Verdict = "reference"
        if len(before) == reference:
            expected = sum(hit for hit, _ in before) / sum(count for _, count in before)
            p_value = excess(hits, rows, list(before))
            verdict = "alarm" if p_value < false_alarms else "steady"
        if verdict != "alarm":
            before.append((hits, rows))
        told = dict(zip(labels, by_label.tolist(), strict=True))
        begins = np.datetime64(start, "us").astype("datetime64[h]" if unit == "hour" else "datetime64[D]")
        yield Window(str(begins), rows, told, hits / rows, expected, p_value, verdict)


def excess(hits: int, rows: int, before: Sequence[tuple[int, int]]) -> float:
    """The odds of so high a share of `hits` among `rows`, given windows (hits, rows) where nothing has changed: the larger of both tests'.

    A window's share is taken to vary by p (1 − p) (1 / n + ρ (1 − 1 / n)), with the moment estimate of ρ ≥ 0 (Kleinman, JASA 68, 1973), and
    asin √share, whose variance hardly depends on p (Anscombe, Biometrika 35, 1948), to be a Student's t of one degree of freedom less than
    there are windows.
    """
    from scipy.stats import hypergeom, t

    known = np.array(before, np.int64)
    n, windows = known[:, 1], len(known)
    all_hits, all_rows = (int(total) for total in known.sum(axis=0))
    share = all_hits / all_rows
    by_chance = float(hypergeom.sf(hits - 1, all_rows + rows, all_hits + hits, rows))
    if not 0 < share < 1 or windows < 2:
        return by_chance
    scatter = float((n * np.square(known[:, 0] / n - share)).sum()) / (share * (1 - share)) - (windows - 1)
    room = all_rows - float(np.square(n).sum()) / all_rows - (windows - 1)
    rho = min(max(0.0, scatter / room), 1.0) if room > 0 else 0.0
    own = 1 / rows + rho * (1 - 1 / rows)
    of_share = float((np.square(n) * (1 / n + rho * (1 - 1 / n))).sum()) / all_rows**2
    apart = np.arcsin(np.sqrt(hits / rows)) - np.arcsin(np.sqrt(share))
    return max(by_chance, float(t.sf(apart / (0.5 * (own + of_share) ** 0.5), windows - 1)))


def _zoned(text: pa.Array, order: str) -> pa.Array:
    """Moments with an offset, by their own clock."""
    found = moments(text, order, clock=True)
    own = found.microseconds + found.offset_minutes * 60_000_000
    return pa.array(own, mask=~(found.parsed & found.zoned)).cast(pa.timestamp("us"))


def _parsed(text: pa.Array, order: str) -> int:
    return int(moments(text, order, clock=False).parsed.sum() + moments(text, order, clock=True).parsed.sum())


def _column(rows: pa.Table, name: str, key: str) -> Any:
    if name not in rows.column_names:
        known = [column for column in rows.column_names if not column.startswith("_")]
        raise DataError(f"{key}: the stream has no column '{name}'.{nearest(name, known)} Columns: {', '.join(known)}")
    return rows.column(name)


def alarms(windows: Iterable[Window]) -> list[str]:
    return [window.begins for window in windows if window.verdict == "alarm"]
