"""A recipe that leaves the generator open → RUN/chosen/<id>/choice.json: what was tried, what was taken, and why; and the recipe with it."""

import json
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.cluster.rows import map_items, map_ordered
from raysynth.commits import commit_files
from raysynth.errors import DataError
from raysynth.generators.base import Choice
from raysynth.markers import canonical
from raysynth.metrics.base import WORD
from raysynth.parts import find, options_of, whole_options
from raysynth.progress import Progress, say
from raysynth.recipe import Part, Recipe
from raysynth.runs import Folder, Run, folder_id
from raysynth.schema import Schema
from raysynth.stages.encoding import lowest_of
from raysynth.stages.evaluate import told_by
from raysynth.stages.model_parts import parts_of
from raysynth.stages.trial import Sample, trial
from raysynth.stores.base import join

ROWS_VERSION = 1
CHOICE = "choice.json"
HELD = 4  # one row in so many is held to judge by
LEAST_ROWS = 200
MOST_CELLS = 400_000  # of the last trials: wide tables are tried on fewer rows
FEWER = 4  # times, in the first round
NOISE = {"fidelity": 0.01, "utility": 0.01, "privacy": 0.005}
"""Differences that another seed may turn round: those who are so near to the best are judged by what is wanted next; at last the first
candidate is taken, the most careful one."""
SCORE = {"fidelity": ("c2st_auc", 0.5), "utility": ("utility", 1.0), "privacy": ("nearer_to_train", 0.5)}
NEARER, COPIES = 0.52, 0.001
"""Where privacy is wanted: how near to train rows, and how many more copies than held rows, is too many."""

Found = Mapping[str, Any]


def is_open(recipe: Recipe) -> bool:
    """Whether the generator is still to be chosen."""
    return issubclass(find("generators", recipe.generator.use), Choice)


def run(recipe: Recipe, run: Run, prepared: Folder) -> Recipe:
    """The recipe with the generator that was chosen; itself where it names one. The same rows and options make the same choice.
    DataError where there are no rows to try it on."""
    if not is_open(recipe):
        return recipe
    facts = _facts(recipe, prepared)
    folder = run.folder("chosen", folder_id(facts))
    if not folder.committed:
        data = canonical({"facts": facts, **_chosen(recipe, prepared)})
        folder.store.put(join(folder.url, CHOICE), data)
        commit_files(folder, [CHOICE])
    run.point("chosen", folder)
    choice = json.loads(folder.read(CHOICE))
    say(stage="choose", generator=choice["generator"], why=choice["why"])
    return _with(recipe, choice["generator"])


def assumed(recipe: Recipe) -> Recipe:
    """What `plan` reckons with, before any row is tried: the first candidate."""
    return _with(recipe, _choice(recipe).candidates()[0]) if is_open(recipe) else recipe


def _with(recipe: Recipe, generator: Mapping[str, Any]) -> Recipe:
    return recipe.model_copy(update={"generator": Part.model_validate(generator)})


def _choice(recipe: Recipe) -> Choice:
    cls: Any = find("generators", recipe.generator.use)
    taken = {name: value for name, value in recipe.generator.options.items() if name in options_of(cls)}
    return cls(**taken)


def _facts(recipe: Recipe, prepared: Folder) -> dict[str, Any]:
    choice = _choice(recipe)
    return {
        "stage": "choose",
        "rows_version": ROWS_VERSION,
        "version": choice.version,
        "prepared": prepared.id.split(".")[0],
        "seed": recipe.seed,
        "codec": parts_of(recipe)["codec"],
        "asked": whole_options("generators", recipe.generator.use, recipe.generator.options),
        "target": _target(recipe),
        "libraries": {name: version(name).split("+")[0] for name in ("numpy", "scipy", "scikit-learn", "torch")},
    }


def _target(recipe: Recipe) -> str | None:
    return recipe.evaluate.target if recipe.evaluate is not None else None


# --- trying --------------------------------------------------------------------------------------------------------------------


def _chosen(recipe: Recipe, prepared: Folder) -> dict[str, Any]:
    """A first round on a quarter of the rows says which kinds are worth the second; what is near to train rows, only all of them tell."""
    choice, sample = _choice(recipe), _sample(recipe, prepared)
    wants = [want for want in choice.wants if want != "utility" or sample.target is not None]
    left, tried, rows = choice.candidates(), list[dict[str, Any]](), sample.learnt.num_rows
    with Progress("choose", 2 * len(left), "trials") as progress:
        if rows // FEWER >= LEAST_ROWS:
            tried = _tried(sample.of_rows(rows // FEWER), left, recipe.generate.workers, progress)
            left = _finalists(left, ranked([one["found"] for one in tried], [want for want in wants if want != "privacy"]))
        last = _tried(sample, left, recipe.generate.workers, progress)
        best = last[ranked([one["found"] for one in last], wants)[0]]
        progress.at(2 * len(choice.candidates()))
    return {"generator": best["generator"], "why": _why(best["found"], wants), "tried": [*tried, *last]}


def _finalists(candidates: list[dict[str, Any]], order: list[int]) -> list[dict[str, Any]]:
    """All of the best one's kind, and the best of each other kind."""
    best = candidates[order[0]]["use"]
    first = {candidates[at]["use"]: at for at in reversed(order)}
    return [one for at, one in enumerate(candidates) if one["use"] == best or at == first[one["use"]]]


def _tried(sample: Sample, candidates: list[dict[str, Any]], workers: int, progress: Progress) -> list[dict[str, Any]]:
    """Each by a task of its own → {rows, generator, found}."""
    found: dict[int, Found] = {}
    for at, scores in map_items(candidates, lambda: partial(trial, sample), workers=workers, keep=False):
        found[at] = scores
        progress.advance()
    rows = sample.learnt.num_rows
    return [{"rows": rows, "generator": one, "found": found[at]} for at, one in enumerate(candidates)]


def _sample(recipe: Recipe, prepared: Folder) -> Sample:
    """The train rows of lowest hashed id, the same however they lie in parts."""
    schema = Schema.from_json(prepared.plan().facts["schema"])
    most = min(_choice(recipe).rows, max(LEAST_ROWS, MOST_CELLS // max(1, len(schema.learnt))))
    wanted = most * HELD // (HELD - 1)
    found = map_ordered(prepared.part_urls("train"), partial(lowest_of, recipe.seed, wanted), workers=recipe.generate.workers)
    if not found:
        raise DataError(
            "prepare: no row is left in the train split. Give more rows, or smaller prepare.validation and prepare.holdout"
        )
    rows: pa.Table = pa.concat_tables(found).sort_by(WORD).slice(0, wanted)
    held = np.arange(rows.num_rows) % HELD == 0
    target = _target(recipe)
    return Sample(
        schema=schema,
        derive=recipe.derive,
        codec=parts_of(recipe)["codec"],
        seed=recipe.seed,
        learnt=rows.filter(pa.array(~held)),
        held=rows.filter(pa.array(held)),
        target=target,
        told_by=frozenset(told_by(recipe.derive, target)),
    )


# --- choosing ------------------------------------------------------------------------------------------------------------------


def ranked(found: list[Found], wants: list[str]) -> list[int]:
    """The places of the trials, best first."""
    left, order = list(range(len(found))), list[int]()
    while left:
        best = _best([found[at] for at in left], wants)
        order.append(left.pop(best))
    return order


def _best(found: list[Found], wants: list[str]) -> int:
    near = list(range(len(found)))
    if "privacy" in wants:
        near = [at for at in near if _is_safe(found[at])] or near
    for want in wants:
        losses = {at: _loss(found[at], want) for at in near}
        least = min(losses.values())
        near = [at for at in near if losses[at] <= least + NOISE[want]]
    return min(near)


def _is_safe(scores: Found) -> bool:
    nearer, copies, held = scores["nearer_to_train"], scores["exact_copies"], scores["holdout_copies"]
    return (nearer is None or nearer <= NEARER) and (copies is None or copies <= (held or 0.0) + COPIES)


def _loss(scores: Found, want: str) -> float:
    """Less is better; what could not be had is no reason."""
    name, best = SCORE[want]
    value = scores[name]
    if value is None:
        return 0.0
    return best - value if want == "utility" else max(0.0, value - best)


def _why(scores: Found, wants: list[str]) -> str:
    told = {name: scores[name] for name, _ in (SCORE[want] for want in wants) if scores[name] is not None}
    shown = ", ".join(f"{name} {value:.3f}" for name, value in told.items())
    return f"best of its trials by {', then '.join(wants)}: {shown or 'nothing could be judged'}"
