"""Scores, gates and samples of an evaluation → one page of HTML that opens offline, runs no script and, unless asked to, shows no real row.

Of real rows it shows distributions: histograms, medians, and of classes the names of the most frequent ones. A class that no sampled
synthetic row has, and fewer than `LEAST_REAL` real ones, stays unnamed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from raysynth.card import recipe_text, shown
from raysynth.features import NO_VALUES, is_class, judged, levels, texts
from raysynth.gates import Gate
from raysynth.metrics.base import WORD, Side
from raysynth.report_pictures import cell_pictures, contact_sheets
from raysynth.report_plots import associations, colour_key, heat_map, histogram, plotted, short
from raysynth.report_texts import side_by_side
from raysynth.schema import Column, Schema

MOST_PLOTS = 60
MOST_CLASSES = 20
MOST_ASSOCIATED = 40
LEAST_REAL = 5
_ASSOCIATED_ROWS = 20_000
_SAMPLE_ROWS = 20
_SAMPLE_COLUMNS = 100
_CELL = 80  # letters
_WORST = 5

EXPLAINED: Mapping[str, str] = {
    "c2st_auc": "How well a detector tells synthetic rows from real ones: 0.5 is a coin toss, 1 is every time.",
    "column_shapes": "How alike the distribution of each column is, on average: 1 is the same.",
    "pair_trends": "How alike the columns move together, pair by pair: 1 is the same.",
    "precision": "The share of synthetic rows that lie where real rows lie: are they plausible?",
    "recall": "The share of real rows that lie where synthetic rows lie: is every kind of row there?",
    "density": "How closely real rows surround the synthetic ones; near 1 is as closely as each other, and more is possible.",
    "coverage": "The share of real rows that have a synthetic row close by.",
    "utility_synthetic": "How good a model is on held-out real rows if it learnt from synthetic rows alone.",
    "utility_real": "How good it is if it learnt from real rows: what the other two are measured by.",
    "utility_mix": "How good it is if it learnt from the mix of real and synthetic rows.",
    "exact_copies": "The share of synthetic rows that repeat a real train row cell by cell. Where few rows are possible, some must.",
    "nearer_to_train": "The share of synthetic rows nearer to a train row than to a held-out one: 0.5 if none was learnt by heart.",
    "distinct_1": "How varied the words are: different ones per word.",
    "distinct_2": "How varied pairs of words are: different ones per pair. Below the ceiling the texts repeat themselves.",
    "distinct_3": "How varied runs of three words are: different ones per run.",
    "self_overlap": "The share of runs of four words that stand in another synthetic text too; the ceiling is the habit of real texts.",
    "perplexity_of_synthetic": "How hard the texts are to foresee for a model of real ones, as a choice among so many words. Above the "
    "ceiling they are less fluent than real texts; far below it plainer, or copies.",
    "perplexity_by_synthetic": "How hard held-out real texts are to foresee for a model that learnt from synthetic ones.",
    "text_lengths": "How alike the lengths are, in words: 1 is the same.",
    "vocabulary": "The share of the words that real texts have too; the rest is invented or misspelt.",
    "text_frechet": "How far the meanings are from those of real texts, by a sentence encoder: 0 is the same, 2 has nothing in common.",
    "text_precision": "The share of synthetic texts that mean something that real ones mean.",
    "text_recall": "The share of real texts whose meaning synthetic ones reach.",
    "text_density": "How closely real texts surround the synthetic ones in meaning; more than 1 is possible.",
    "text_coverage": "The share of real texts that have a synthetic text of nearly the same meaning.",
    "text_mauve": "How much the laws of the meanings overlap (MAUVE): 1 is the same, 0 has nothing in common. Few texts keep the ceiling "
    "below 1.",
    "text_copies": "The share of synthetic texts that are a real train text, but for case and spacing. Short ones often must be.",
    "copied_8grams": "The share of synthetic texts that have eight words in a row from a real train text.",
    "longest_copy": "How many words in a row a synthetic text has, on average, from some real train text; 32 and more count as 32.",
    "text_utility_synthetic": "How well a judge of labels does on held-out real texts if it learnt from synthetic texts alone.",
    "text_utility_real": "How well it does if it learnt from as many real texts: what the other two are measured by.",
    "text_utility_mix": "How well it does if it learnt from the mix of real and synthetic texts.",
    "image_frechet": "How far the pictures are from real ones, by features that a small network learnt from real train pictures: 0 is "
    "the same, 2 has nothing in common. Comparable within one data set only.",
    "image_kid": "The same by another measure, which few pictures do not bend: 0 is the same, 14 has nothing in common.",
    "image_precision": "The share of synthetic pictures that lie where real ones lie: do they look plausible?",
    "image_recall": "The share of real pictures that lie where synthetic ones lie: is every kind there?",
    "image_density": "How closely real pictures surround the synthetic ones; more than 1 is possible.",
    "image_coverage": "The share of real pictures that have a synthetic one close by.",
    "image_diversity": "How much the pictures of one label differ, over how much real ones do: 0 is one picture always, 1 is as real ones.",
    "image_memorised": "The share of synthetic pictures as near to a real train picture as the nearest hundredth of held-out ones are, in "
    "pixels.",
    "image_copies": "The share of synthetic pictures that equal a real train picture in every pixel, at a small size.",
    "image_utility_synthetic": "How well a small network labels held-out real pictures if it learnt from synthetic ones alone.",
    "image_utility_real": "How well it does if it learnt from as many real pictures: what the other two are measured by.",
    "image_utility_mix": "How well it does if it learnt from the mix of real and synthetic pictures.",
    "image_label_fidelity": "The share of synthetic pictures whose label is what a network of real pictures says of them.",
    "label_fidelity": "The share of synthetic texts whose label is what a judge of real texts says of them.",
}


@dataclass(frozen=True)
class Report:
    """`scores`: as in scores.json. `samples`: of each side a sample of its rows, of train, holdout and synthetic at least; `rows`: how many
    there are in all. `stages`: {stage, id, rows, bytes, seconds, cpu_seconds} each, None where it is not known. `real_texts`: real texts
    may be shown beside the synthetic ones, whole; `real_pictures`: real pictures, and `augmented` ones; the page is then as private as they
    are. `target`: the column by whose values pictures are shown."""

    name: str
    scores: Sequence[Mapping[str, Any]]
    gates: Sequence[Gate]
    schema: Schema
    samples: Mapping[Side, pa.Table]
    rows: Mapping[Side, int]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    stages: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()
    real_texts: bool = False
    real_pictures: bool = False
    augmented: pa.Table | None = None
    target: str | None = None


def page(facts: Report) -> str:
    """The same facts give the same bytes, with one version of matplotlib."""
    train, synthetic = (_sample(facts, side) for side in ("train", "synthetic"))
    order = worst_first(facts.schema, facts.scores)
    shown_columns, plain = order[:MOST_PLOTS], [column for column in facts.schema if column.kind in NO_VALUES]
    return _template().render(
        name=facts.name,
        verdict=verdict(facts.gates),
        closeness=closeness(facts.scores),
        rows=facts.rows,
        warnings=facts.warnings,
        scores=[_score(score) for score in facts.scores],
        gates=facts.gates,
        worst=[entry for score in facts.scores if (entry := _worst(score))],
        plots=[_plot(column, train, synthetic, facts.scores, number) for number, column in enumerate(shown_columns)],
        left_out=len(order) - len(shown_columns),
        not_plotted=[column.name for column in plain],
        maps=_maps(facts.schema, order, train, synthetic),
        texts=side_by_side(facts.schema, train, synthetic, whole=facts.real_texts),
        pictures=contact_sheets(
            facts.schema,
            {"real": train, "augmented": facts.augmented, "synthetic": synthetic},
            facts.target,
            shows_real=facts.real_pictures,
        ),
        sample=_cells(facts.schema, synthetic),
        sampled={side: table.num_rows for side, table in facts.samples.items()},
        recipe=recipe_text(facts.recipe) if facts.recipe else "",
        stages=facts.stages,
        least_real=LEAST_REAL,
        real_texts=facts.real_texts,
        real_pictures=facts.real_pictures,
    )


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=here, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters: Any = environment.filters
    filters.update(clean=clean, shown=shown, byte_size=byte_size, seconds=duration)
    return environment.get_template("report.html.j2")


# Words


def verdict(gates: Sequence[Gate]) -> tuple[str, str]:
    """(good, bad or none; one sentence)."""
    failed = [gate.text for gate in gates if not gate.holds]
    if not gates:
        return "none", "The recipe sets no gates, so nothing was asked of these rows."
    if not failed:
        return "good", f"All {len(gates)} gates hold." if len(gates) > 1 else "The one gate holds."
    told = "; ".join(failed)
    return "bad", f"{len(failed)} of {len(gates)} gates {'fails' if len(failed) == 1 else 'fail'}: {told}"


def closeness(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """How near the rows are to real ones, in plain words: a few sentences, of the scores that there are."""
    by_name = {score["name"]: score for score in scores}
    told = [word(by_name[name]) for name, word in _TOLD.items() if name in by_name and by_name[name]["value"] is not None]
    return told or ["How near they are to real rows was not measured."]


def _detected(score: Mapping[str, Any]) -> str:
    value = float(score["value"])
    levels_ = ((0.55, "can hardly tell"), (0.7, "can sometimes tell"), (0.85, "can often tell"), (0.95, "can mostly tell"))
    how = next((words for bound, words in levels_ if value < bound), "can nearly always tell")
    beside = "" if score["ceiling"] is None else f"; between two sets of real rows it reaches {shown(score['ceiling'])}"
    unseen = (score.get("facts") or {}).get("not_looked_at")
    by = f" by all but {unseen}" if unseen else ""
    return f"A detector {how} synthetic rows from real ones{by} (AUC {shown(value)}, where 0.5 is a coin toss{beside})."


def _useful(score: Mapping[str, Any]) -> str:
    measure = (score.get("facts") or {}).get("measure", "a score of")
    beside = "" if score["ceiling"] is None else f", and {shown(score['ceiling'])} if it learns from real rows"
    return f"A model that learns from synthetic rows alone reaches {measure} {shown(score['value'])} on held-out real rows{beside}."


def _copied(score: Mapping[str, Any]) -> str:
    value = float(score["value"])
    if value == 0:
        return "No synthetic row repeats a real train row cell by cell."
    beside = "" if score["ceiling"] is None else f"; of real held-out rows {score['ceiling']:.3%} do"
    return f"{value:.3%} of the synthetic rows repeat a real train row cell by cell{beside}."


def _copied_pictures(score: Mapping[str, Any]) -> str:
    value = float(score["value"])
    beside = "" if score["ceiling"] is None else f"; of real held-out ones {score['ceiling']:.3%} are"
    return f"{value:.3%} of the synthetic pictures are as near to a real train picture as only few real ones are{beside}."


def _copied_texts(score: Mapping[str, Any]) -> str:
    value = float(score["value"])
    if value == 0:
        return "No synthetic text is a real train text."
    beside = "" if score["ceiling"] is None else f"; of real held-out texts {score['ceiling']:.3%} are"
    return f"{value:.3%} of the synthetic texts are a real train text{beside}."


_TOLD = {
    "c2st_auc": _detected,
    "utility_synthetic": _useful,
    "text_utility_synthetic": _useful,
    "exact_copies": _copied,
    "text_copies": _copied_texts,
    "image_utility_synthetic": _useful,
    "image_memorised": _copied_pictures,
}


def clean(value: object, most: int = 200) -> str:
    """A text as a page may hold it: no control characters, not endless."""
    text = "".join(letter if letter.isprintable() or letter in "\u200d\ufe0f" else "\ufffd" for letter in str(value)[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"


def byte_size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


# Scores


def _place(value: float | None, score: Mapping[str, Any]) -> float | None:
    """0 at the worst, 100 at the best; None where there is no number."""
    worst, best = float(score["worst"]), float(score["best"])
    if value is None or not np.isfinite(value) or worst == best:
        return None
    return round(100 * min(1.0, max(0.0, (value - worst) / (best - worst))), 2)


def _score(score: Mapping[str, Any]) -> dict[str, Any]:
    ceiling = score.get("ceiling")
    facts = {name: fact for name, fact in (score.get("facts") or {}).items() if isinstance(fact, (int, float, str))}
    return {
        **{key: score[key] for key in ("name", "value", "worst", "best")},
        "ceiling": ceiling,
        "why": score.get("why") or "",
        "facts": facts,
        "place": _place(score["value"], score),
        "ceiling_place": _place(ceiling, score),
        "explained": EXPLAINED.get(score["name"], ""),
    }


def _worst(score: Mapping[str, Any]) -> dict[str, Any] | None:
    columns: Mapping[str, float] = score.get("columns") or {}
    found = [(100 - place, name, value) for name, value in columns.items() if (place := _place(value, score)) is not None]
    found = sorted(found, key=lambda entry: (-entry[0], entry[1]))[:_WORST]
    return {"score": score["name"], "columns": [(name, value, 100 - bad) for bad, name, value in found]} if found else None


def worst_first(schema: Schema, scores: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The columns that can be plotted, those first that any score finds furthest from its best."""

    def badness(column: Column) -> float:
        places = [_place((score.get("columns") or {}).get(column.name), score) for score in scores]
        return max((100 - place for place in places if place is not None), default=0.0)

    return sorted(judged(schema), key=lambda column: -badness(column))


# Plots


def _sample(facts: Report, side: Side) -> pa.Table:
    """With every column of the schema, without the hash."""
    table = facts.samples.get(side, facts.schema.arrow.empty_table())
    for column in facts.schema:
        if column.name not in table.column_names:
            table = table.append_column(pa.field(column.name, column.type), pa.nulls(table.num_rows).cast(column.type))
    return table.drop_columns([WORD]) if WORD in table.column_names else table


def _plot(column: Column, train: pa.Table, synthetic: pa.Table, scores: Sequence[Mapping[str, Any]], number: int) -> dict[str, Any]:
    values = [side.column(column.name) for side in (train, synthetic)]
    told = [(score["name"], (score.get("columns") or {}).get(column.name)) for score in scores]
    common = {
        "name": column.name,
        "kind": column.kind,
        "derived": column.derived,
        "scores": [(name, value) for name, value in told if value is not None],
        "nulls": [_share(side.null_count, len(side)) for side in values],
        "bars": None,
        "svg": None,
        "note": "",
    }
    if is_class(column):
        return {**common, **_bars(column, train, synthetic)}
    real, other = (plotted(side, column.kind) for side in values)
    real, other = real[~np.isnan(real)], other[~np.isnan(other)]
    if not len(real) and not len(other):
        return {**common, "note": "No value on either side."}
    alt = f"{clean(column.name)}: histogram of real rows (filled) and synthetic rows (line)"
    note = _medians(real, other) if column.kind in ("integer", "number") else ""
    return {**common, "svg": histogram(real, other, column.kind, alt, f"raysynth-{number}"), "note": note}


def _share(count: int, of: int) -> float:
    return count / of if of else 0.0


def _medians(real: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    one, two = (short(float(np.sort(side)[len(side) // 2])) if len(side) else "–" for side in (real, other))
    return f"Median {one} real, {two} synthetic."


def _bars(column: Column, train: pa.Table, synthetic: pa.Table) -> dict[str, Any]:
    """Shares of the values that are not null, the most frequent real ones first."""
    counts = [_counts(side, column.name) for side in (train, synthetic)]
    named = [
        name for name in levels([train, synthetic], column.name) if counts[1].get(name) or counts[0].get(name, 0) >= LEAST_REAL
    ]
    totals = [sum(count.values()) for count in counts]
    shares = {name: [_share(count.get(name, 0), total) for count, total in zip(counts, totals, strict=True)] for name in named}
    named = sorted(named, key=lambda name: (-sum(shares[name]), name))[:MOST_CLASSES]
    bars: list[tuple[str | None, list[float]]] = [(name, shares[name]) for name in named]
    others = len(counts[0].keys() | counts[1].keys()) - len(named)
    if others:
        rest = [max(0.0, float(total > 0) - sum(shares[name][at] for name in named)) for at, total in enumerate(totals)]
        bars.append((None, rest))
    most = max((share for _, both in bars for share in both), default=0.0)
    widths = [(name, both, [round(100 * share / most, 2) if most else 0.0 for share in both]) for name, both in bars]
    return {"bars": widths, "others": others, "note": "" if bars else "No value on either side."}


def _counts(table: pa.Table, name: str) -> dict[str, int]:
    compute: Any = pyarrow.compute
    found = compute.value_counts(texts(table.column(name))).to_pylist()
    return {entry["values"]: entry["counts"] for entry in found if entry["values"] is not None}


def _maps(schema: Schema, order: Sequence[Column], train: pa.Table, synthetic: pa.Table) -> dict[str, Any] | None:
    chosen = {column.name for column in order[:MOST_ASSOCIATED]}
    columns = [column for column in schema if column.name in chosen]
    if len(columns) < 2 or min(train.num_rows, synthetic.num_rows) < 2:
        return None
    real, other = associations([side.slice(0, _ASSOCIATED_ROWS) for side in (train, synthetic)], columns)
    difference = np.clip(other - real, -1, 1)
    told = {"Real": real, "Synthetic": other, "Synthetic − real": difference}
    drawn = [
        (title, heat_map(matrix, f"Heat map of associations, {title.lower()}: {len(columns)} columns", f"raysynth-map-{number}"))
        for number, (title, matrix) in enumerate(told.items())
    ]
    names = [column.name for column in columns]
    return {
        "drawn": drawn,
        "names": names,
        "key": colour_key(),
        "most": _apart(difference, names),
        "all": len(order) == len(columns),
    }


def _apart(difference: NDArray[np.float64], names: Sequence[str]) -> list[tuple[str, str, float]]:
    """The pairs whose association differs most."""
    pairs = [(a, b, float(difference[a, b])) for a in range(len(names)) for b in range(a + 1, len(names))]
    found = sorted((pair for pair in pairs if np.isfinite(pair[2])), key=lambda pair: -abs(pair[2]))
    return [(names[a], names[b], value) for a, b, value in found[:_WORST]]


# Sample rows


def _cells(schema: Schema, synthetic: pa.Table) -> dict[str, Any]:
    columns = list(schema)[:_SAMPLE_COLUMNS]
    cells = [_shown_cells(column, synthetic.column(column.name).slice(0, _SAMPLE_ROWS)) for column in columns]
    return {
        "columns": columns,
        "rows": list(zip(*cells, strict=True)) if cells else [],
        "left_out": len(schema) - len(columns),
    }


def _shown_cells(column: Column, values: pa.ChunkedArray) -> Sequence[Any]:
    """Texts, or of an image {uri, alt}; None for a null."""
    return cell_pictures(values) if column.kind == "image" else _texts(values)


def _texts(values: pa.ChunkedArray) -> list[str | None]:
    type_ = values.type
    if pa.types.is_floating(type_):
        return [None if value is None else f"{value:.6g}" for value in values.to_pylist()]
    try:
        found: list[Any] = values.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        found = values.to_pylist()
    return [None if value is None else clean(value, _CELL) for value in found]
