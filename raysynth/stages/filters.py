"""The recipe's filters → RUN/filters/<id>/: whatever they go by, learnt from the train rows and fixed before a row is made."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unicodedata import unidata_version

from raysynth.cluster.rows import map_items
from raysynth.commits import commit_files
from raysynth.errors import RecipeError
from raysynth.filter_files import FILTERS, filter_files, made_filter, named_apart
from raysynth.filters.base import Filter
from raysynth.knowledge import Knowledge
from raysynth.parts import whole_options
from raysynth.progress import say
from raysynth.recipe import Recipe
from raysynth.runs import Folder, Run, folder_id, read_rows
from raysynth.schema import Schema
from raysynth.stages.known import knowledge_of
from raysynth.stores.base import join
from raysynth.turns import rows_as_texts

ROWS_VERSION = 1


def run(recipe: Recipe, run: Run, prepared: Folder) -> Folder | None:
    """None where the rules name no filter. RecipeError where one cannot learn enough."""
    if not recipe.filters:
        return None
    schema = Schema.from_json(prepared.plan().facts["schema"])
    knowledge = knowledge_of(recipe)
    filters = filters_of(recipe, schema, knowledge)
    facts = _facts(recipe, prepared, filters, knowledge)
    folder = run.folder("filters", folder_id(facts))
    if not folder.committed:
        _settle(recipe, filters, prepared.part_urls("train"))
        files = filter_files(filters, {"seed": recipe.seed}, facts["asked"])
        for name, data in files.items():
            folder.store.put(join(folder.url, name), data)
        commit_files(folder, files)
        say(stage="generate", filters=len(filters), bytes=sum(map(len, files.values())))
    run.point("filters", folder)
    return folder


def filters_of(recipe: Recipe, schema: Schema, knowledge: Knowledge | None) -> tuple[Filter, ...]:
    """Not yet settled. RecipeError where an option does not fit the columns, or the knowledge that one needs is not there."""
    made: list[Filter] = []
    for key, rule in recipe.filters.items():
        made.append(made_filter(key, rule.use, rule.options, schema, recipe.seed))
        _know(made[-1], knowledge, key)
    return named_apart(made)


def asked_filters(recipe: Recipe) -> list[dict[str, Any]]:
    """{use, **options} of each, with defaults."""
    return [whole_options("filters", rule.use, rule.options) for rule in recipe.filters.values()]


def order_facts(recipe: Recipe, folder: Folder | None) -> dict[str, Any] | None:
    """What an order says of its filters: what was asked, the digest of what they go by, and where in the run that lies."""
    if folder is None:
        return None
    manifest = folder.manifest()
    hashes = dict(zip(manifest["name"].to_pylist(), manifest["sha256"].to_pylist(), strict=True))
    return {"asked": asked_filters(recipe), "digest": hashes[FILTERS], "path": folder.path}


def _facts(recipe: Recipe, prepared: Folder, filters: Sequence[Filter], knowledge: Knowledge | None) -> dict[str, Any]:
    """What decides what the filters say."""
    known = {"knowledge": dict(knowledge.sha256)} if knowledge is not None and any(one.knows for one in filters) else {}
    return {
        "stage": "filters",
        "rows_version": ROWS_VERSION,
        "prepared": prepared.id.split(".")[0],
        "seed": recipe.seed,
        "asked": asked_filters(recipe),
        "facts": [one.facts() for one in filters],
        "unicode": unidata_version,
        **known,
    }


def _know(one: Filter, knowledge: Knowledge | None, key: str) -> None:
    try:
        one.know(knowledge)
    except RecipeError as error:
        raise RecipeError(f"{key}: {error}") from None


def _settle(recipe: Recipe, filters: Sequence[Filter], urls: list[str]) -> None:
    """One pass over the train rows for all that learn; statistics merge in the order of the parts, as soon as may be."""
    learning = {key: one for key, one in zip(recipe.filters, filters, strict=True) if one.learns}
    merged: list[Any] = [None] * len(learning)
    waiting: dict[int, list[Any]] = {}
    following = 0
    observer = partial(_observer, list(learning.values()))
    for position, found in map_items(urls if learning else [], observer, workers=recipe.generate.workers, keep=False):
        waiting[position] = found
        while following in waiting:
            pairs = zip(merged, waiting.pop(following), strict=True)
            merged = [seen if before is None else before.merge(seen) for before, seen in pairs]
            following += 1
    for (key, one), stats in zip(learning.items(), merged, strict=True):
        try:
            one.settle(stats)
        except RecipeError as error:
            raise RecipeError(f"{key}: {error}") from None


def _observer(filters: Sequence[Filter]) -> Callable[[str], list[Any]]:
    def observe(url: str) -> list[Any]:
        rows = rows_as_texts(read_rows(url))
        return [one.observe(rows) for one in filters]

    return observe
