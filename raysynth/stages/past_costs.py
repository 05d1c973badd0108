"""What a run's stages have cost before (timing.json), and of how many rows → what they would cost the recipe now."""

from collections.abc import Callable
from typing import Any

from raysynth.costs import Estimate, Interval
from raysynth.markers import canonical
from raysynth.recipe import Recipe
from raysynth.runs import SYSTEM, Folder, Run
from raysynth.schema import Schema
from raysynth.stages.filters import asked_filters
from raysynth.stages.first_rows import FirstRows
from raysynth.stages.model_parts import parts_of
from raysynth.stages.train import rows_by_split
from raysynth.uniqueness import columns_of

SPREAD = (0.6, 1.7)
"""Factors around what the same work cost before: another machine, other neighbours."""
STARTED = 1.0
"""CPU-seconds of a stage that no number of rows changes, at least."""


def past_costs(recipe: Recipe, run: Run, first: FirstRows) -> dict[str, Estimate]:
    """Stage → its cost, of those whose current folder was made by the same parts, rules and conditions."""
    scales: dict[str, tuple[str, Callable[[Folder], Interval | None]]] = {
        "prepare": ("prepared", lambda folder: _times(first.total_rows / _rows(folder))),
        "train": ("model", lambda folder: _epochs(recipe, run, folder, first)),
        "generate": ("synthetic", lambda folder: _same_rules(recipe, folder, first.schema)),
        "evaluate": ("evaluation", lambda folder: _same_scores(recipe, folder)),
    }
    found: dict[str, Estimate] = {}
    for stage, (name, scale) in scales.items():
        folder = run.current(name)
        spent = cpu_seconds(folder) if folder is not None else None
        if folder is None or spent is None or (times := scale(folder)) is None:
            continue
        fixed = min(spent, STARTED)
        low, high = SPREAD
        rest = spent - fixed
        shared = Interval(rest * times.low * low, rest * times.expected, rest * times.high * high)
        width = recipe.train.workers if stage == "train" else recipe.generate.workers
        found[stage] = Estimate(stage, Interval.around(fixed, 0.5, 4.0), shared, width, f"what {folder.path} cost")
    return found


def cpu_seconds(folder: Folder) -> float | None:
    """None where it is not known: of a folder that several commands made, the last one alone has told."""
    try:
        told = folder.read_json(f"{SYSTEM}/timing.json")
        return None if told.get("went_on") else float(told["cpu_seconds"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _rows(folder: Folder) -> int:
    return max(1, (folder.outcome() or {}).get("rows", 0))


def _times(factor: float) -> Interval:
    return Interval(factor, factor, factor)


def _epochs(recipe: Recipe, run: Run, folder: Folder, first: FirstRows) -> Interval | None:
    """As many epochs as then, and at most the recipe's; the same if the recipe says what was said then."""
    model: dict[str, Any] = folder.read_json("model.json")
    prepared = run.current("prepared")
    epochs, then = model["report"].get("epochs"), model["facts"]
    if prepared is None or not epochs or model["parts"] != parts_of(recipe) or then["workers"] != recipe.train.workers:
        return None
    rows = first.total("train") / max(1, rows_by_split(prepared)["train"])
    asked = recipe.train.max_epochs
    most = epochs if asked == then["max_epochs"] and abs(rows - 1) < 0.2 else asked
    expected = min(epochs, asked)
    return Interval(rows * min(expected, most), rows * expected, rows * max(expected, most)).times(1 / epochs)


def _same_rules(recipe: Recipe, folder: Folder, schema: Schema) -> Interval | None:
    facts = folder.plan().facts
    if list(facts.get("rules", ())) != list(recipe.expressions.values()) or facts.get("where") != recipe.generate.where:
        return None
    if canonical(facts.get("filters", {}).get("asked", [])) != canonical(asked_filters(recipe)):
        return None
    if facts.get("unique", {}).get("columns", []) != list(columns_of(recipe.generate.unique, schema)):
        return None
    return _times(recipe.generate.rows / max(1, facts["rows"]))


def _same_scores(recipe: Recipe, folder: Folder) -> Interval | None:
    asked, told = recipe.evaluate, folder.read_json("scores.json")
    if asked is None or told["sample_rows"] != asked.sample_rows or told["target"] != asked.target:
        return None
    return _times(1.0)
