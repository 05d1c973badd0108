"""Columns of real and of synthetic rows → SVG that stands in a page: histograms and heat maps, their colours left to the page's style.

No text of the data gets into a drawing: names stand beside it, where the page escapes them.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from numpy.typing import NDArray

from raysynth.features import codes, is_class, levels, numbers
from raysynth.schema import Column

BINS = 30
MOST_STEPS = 40  # integers of so few values get a bar each
MOST_LEVELS = 20
_DAY, _HOUR = 86_400.0, 3600.0
_ENDS = (0.005, 0.995)  # the shares of the values between which the axis runs: one outlier would make a needle of the rest
_FAR = 1e150
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_REAL, _SYNTHETIC, _INK, _LINE = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
_STYLED = {_REAL: "var(--real)", _SYNTHETIC: "var(--synthetic)", _INK: "var(--muted)", _LINE: "var(--line)"}
_COLOURS = "RdBu_r"


def plotted(column: pa.ChunkedArray, kind: str) -> NDArray[np.float64]:
    """(rows,) what a histogram shows: numbers as they are, times in seconds (dates since 1970); NaN where null or not finite."""
    found = numbers(column)
    type_: Any = column.type
    if not pa.types.is_temporal(type_):
        return found
    if pa.types.is_date(type_):
        return found * _DAY if pa.types.is_date32(type_) else found / 1e3
    return found / _PER_SECOND[_unit(type_)]


def _unit(type_: Any) -> str:
    return type_.unit


def histogram(real: NDArray[np.float64], synthetic: NDArray[np.float64], kind: str, alt: str, salt: str) -> Markup:
    """`real`, `synthetic`: as `plotted` gives them. Heights are shares of each side's own values."""
    real, synthetic = real[np.isfinite(real)], synthetic[np.isfinite(synthetic)]
    low, high = span(real, synthetic)
    edges = _edges(real, synthetic, kind, low, high)
    places = (edges - edges[0]) / (edges[-1] - edges[0])

    def draw(axes: Any) -> None:
        shares = [np.histogram(side, edges)[0] / max(1, len(side)) for side in (real, synthetic)]
        axes.stairs(shares[0], places, fill=True, color=_REAL, alpha=0.45, linewidth=0)
        axes.stairs(shares[1], places, color=_SYNTHETIC, linewidth=1.6, baseline=None)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.05 * max(1e-9, *(float(share.max()) for share in shares)))
        ticks = [(at, text) for at, text in ticks_of(float(edges[0]), float(edges[-1]), kind) if edges[0] <= at <= edges[-1]]
        axes.set_xticks([(at - edges[0]) / (edges[-1] - edges[0]) for at, _ in ticks], [text for _, text in ticks])
        axes.set_yticks([])

    return _svg(draw, (300, 112), (0.03, 0.19, 0.94, 0.79), alt, salt)


def span(real: NDArray[np.float64], synthetic: NDArray[np.float64]) -> tuple[float, float]:
    """Where nearly all values of both sides lie; (0, 1) without any."""
    sides = [side for side in (real, synthetic) if len(side)]
    if not sides:
        return 0.0, 1.0
    ends = np.array([np.quantile(np.clip(side, -_FAR, _FAR), _ENDS) for side in sides])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if high - low <= 1e-12 * max(abs(low), abs(high)):  # a constant
        room = max(0.5, abs(low) * 0.01)
        return low - room, high + room
    return low, high


def _edges(real: NDArray[np.float64], synthetic: NDArray[np.float64], kind: str, low: float, high: float) -> NDArray[np.float64]:
    if kind == "integer":
        first, last = np.floor(low + 0.5), np.floor(high + 0.5)
        if last - first < MOST_STEPS and abs(last) < 2**50:
            return np.arange(first, last + 2) - 0.5
    return np.linspace(low, high, BINS + 1)


def ticks_of(low: float, high: float, kind: str) -> list[tuple[float, str]]:
    """A few places on an axis, and what stands there."""
    from matplotlib.ticker import MaxNLocator

    if kind in ("date", "datetime"):
        unit = "D" if kind == "date" or high - low > 3 * _DAY else "m"
        at = [low + (high - low) * share for share in (1 / 6, 1 / 2, 5 / 6)]
        moments = [np.datetime64(int(seconds), "s").astype(f"datetime64[{unit}]") for seconds in at]
        texts = [str(moment).replace("T", " ") for moment in moments]
        return [(seconds, text) for seconds, text in dict(zip(at, texts, strict=True)).items()]
    if kind in ("time", "duration"):
        size, name = next((step for step in _STEPS if high - low >= 2 * step[0]), _STEPS[-1])
        found = MaxNLocator(5, steps=[1, 2, 3, 4, 6, 10]).tick_values(low / size, high / size)
        return [(float(value) * size, f"{value:g} {name}") for value in found]
    return [(float(value), short(float(value))) for value in MaxNLocator(5).tick_values(low, high)]


_STEPS = ((_DAY, "d"), (_HOUR, "h"), (60.0, "min"), (1.0, "s"))


def short(value: float) -> str:
    """A number in few characters."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return f"{value:,.6g}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:.3g}"


def associations(sides: Sequence[pa.Table], columns: Sequence[Column]) -> list[NDArray[np.float64]]:
    """For each side a (columns, columns) matrix: two numbers, Spearman's rank correlation; a class and anything, Cramér's V without its
    bias (Bergsma 2013), numbers cut at the deciles of the first side. NaN where a column is constant or missing."""
    return [_matrix(sides, side, columns) for side in sides]


def _matrix(sides: Sequence[pa.Table], side: pa.Table, columns: Sequence[Column]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    ranks = [
        None if is_class(column) else np.asarray(rankdata(numbers(side.column(column.name)), nan_policy="omit"))
        for column in columns
    ]
    coded = [_coded(sides, side, column) for column in columns]
    matrix = np.eye(len(columns))
    for a in range(len(columns)):
        for b in range(a):
            one, two = ranks[a], ranks[b]
            found = cramers_v(coded[a], coded[b]) if one is None or two is None else _spearman(one, two)
            matrix[a, b] = matrix[b, a] = found
    return matrix


def _coded(sides: Sequence[pa.Table], side: pa.Table, column: Column) -> NDArray[np.int64]:
    """Small codes; -1 where missing."""
    if is_class(column):
        known = levels(sides[:1], column.name)[:MOST_LEVELS]
        return codes(side.column(column.name), known)
    first, found = numbers(sides[0].column(column.name)), numbers(side.column(column.name))
    first = np.clip(first[~np.isnan(first)], -_FAR, _FAR)
    edges = np.unique(np.quantile(first, np.linspace(0.1, 0.9, 9))) if len(first) else np.empty(0)
    return np.where(np.isnan(found), -1, np.searchsorted(edges, found, "right")).astype(np.int64)


def _spearman(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    there = ~(np.isnan(one) | np.isnan(two))
    one, two = one[there], two[there]
    if len(one) < 2 or one.std() == 0 or two.std() == 0:
        return float("nan")
    return float(np.corrcoef(one, two)[0, 1])


def cramers_v(one: NDArray[np.int64], two: NDArray[np.int64]) -> float:
    """0: independent, 1: each says the other. NaN where either has one value."""
    there = (one >= 0) & (two >= 0)
    rows, one = np.unique(one[there], return_inverse=True)
    columns, two = np.unique(two[there], return_inverse=True)
    r, c, n = len(rows), len(columns), len(one)
    if min(r, c) < 2 or n < 3:
        return float("nan")
    joint = np.bincount(one * c + two, minlength=r * c).reshape(r, c)
    expected = np.outer(joint.sum(axis=1), joint.sum(axis=0)) / n
    phi = max(0.0, float(((joint - expected) ** 2 / expected).sum()) / n - (r - 1) * (c - 1) / (n - 1))
    width = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return min(1.0, (phi / width) ** 0.5) if width > 0 else float("nan")


def heat_map(matrix: NDArray[np.float64], alt: str, salt: str) -> Markup:
    """Values in [-1, 1]; both axes count the columns from 1. NaN stays blank."""
    count = len(matrix)

    def draw(axes: Any) -> None:
        axes.imshow(np.ma.masked_invalid(matrix), cmap=_COLOURS, vmin=-1, vmax=1, interpolation="none", aspect="equal")
        every = 1 if count <= 12 else 5
        marks = [number for number in range(1, count + 1) if every == 1 or number == 1 or number % every == 0]
        axes.set_xticks([number - 1 for number in marks], [str(number) for number in marks])
        axes.set_yticks([number - 1 for number in marks], [str(number) for number in marks])

    return _svg(draw, (240, 240), (0.1, 0.08, 0.88, 0.88), alt, salt)


def colour_key() -> list[str]:
    """The colours of a heat map from -1 to 1."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps[_COLOURS](place)) for place in np.linspace(0, 1, 9)]


def _svg(
    draw: Callable[[Any], None],
    size: tuple[int, int],
    place: tuple[float, float, float, float],
    alt: str,
    salt: str,
) -> Markup:
    """The same bytes for the same drawing. `salt`: another one for every drawing of a page, whose ids must differ."""
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.size": 9,
        "text.color": _INK,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
        "axes.edgecolor": _LINE,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
    }
    file = io.StringIO()
    with style.context(["default", settings]):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        FigureCanvasSVG(figure)
        axes: Any = figure.add_axes(place)
        draw(axes)
        for patch in (figure.patch, axes.patch, *(axes.spines[side] for side in ("top", "left", "right"))):
            patch.set_visible(False)
        nothing: Any = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(file, format="svg", metadata=nothing)
    return _inline(file.getvalue(), size, alt)


def _inline(drawn: str, size: tuple[int, int], alt: str) -> Markup:
    """A file of its own → an element of a page: no prologue, no style that would reach beyond it, no ids that a neighbour has too."""
    body = drawn[drawn.index(">", drawn.index("<svg")) + 1 :].strip().removesuffix("</svg>")
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r' id="[A-Za-z0-9.]+_[0-9]+"', "", body)
    body = re.sub(r"font-family: [^;\"]*; ?", "", body)
    body = re.sub(r"[ \n]*\n[ \n]*", "\n", body)
    for colour, styled in _STYLED.items():
        body = body.replace(colour, styled)
    head = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(*size, alt)
    return head + Markup(body) + Markup("</svg>")  # noqa: S704  (matplotlib's own output; no text of the data is in it)
