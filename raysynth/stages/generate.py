"""A committed model → RUN/synthetic/<id>/: exactly the rows asked for, each valid, in parts whose bytes depend on the id alone."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from raysynth.cluster.devices import has_gpu
from raysynth.cluster.endpoint import StoredReplies, spent
from raysynth.cluster.parts import FilesOf, write_parts
from raysynth.cluster.rows import map_ordered
from raysynth.cluster.stalled import beats
from raysynth.errors import RecipeError
from raysynth.expressions import Expression
from raysynth.filter_files import load_filters
from raysynth.filters.base import Filter
from raysynth.generators.base import Remote, Trained
from raysynth.models import Model, load_model
from raysynth.orders import Order, check_fingerprint, files_of
from raysynth.parts import deciding
from raysynth.progress import say
from raysynth.recipe import Recipe
from raysynth.runs import Folder, Plan, Run, folder_id, read_rows
from raysynth.sampler import Sampler
from raysynth.schema import Schema
from raysynth.stages import filters as settled
from raysynth.stages import unique
from raysynth.stages.model_parts import parts_of
from raysynth.turns import rows_as_texts
from raysynth.uniqueness import columns_of


def run(recipe: Recipe, run: Run, prepared: Folder, model: Folder) -> Folder:
    """Before anything is planned: RecipeError if the real rows break a rule too often (then it says something else than its author
    meant), RuleError if the rules and `where` turn down nearly all of a probe's rows, or if hardly any of them differ that must."""
    filters = settled.run(recipe, run, prepared)
    order = order_of(recipe, model, filters)
    facts = order.facts()
    folder = run.folder("synthetic", folder_id(facts))
    if not folder.committed:
        kept = unique.drafts_of(run, order) if order.unique else folder
        sampler = sampler_of(recipe, kept, model, filters)
        _check_violations(recipe, prepared, filters)
        sampler.check_acceptance(order.rows)
        plan = order.plan(len(sampler.model.schema))
        make = partial(make_sampler, recipe, kept, model, facts["fingerprint"], filters)
        size = {"workers": recipe.generate.workers, "num_gpus": 1 if order.device == "cuda" else 0}
        if order.unique:
            unique.check_distinct(sampler, order)
            unique.write(run, folder, order, plan, sampler.model.generator, make, size)
        else:
            files = partial(make_files, recipe, folder, model, plan, facts["fingerprint"], filters)
            write_parts(folder, plan, files, stage="generate", keep=True, **size)
        if isinstance(sampler.model.generator, Remote):
            read, written = spent(kept)
            say(stage="generate", tokens_read=read, tokens_written=written)
    run.point("synthetic", folder)
    return folder


def order_of(recipe: Recipe, model: Folder, filters: Folder | None = None) -> Order:
    asked = recipe.generate
    loaded = load_model(model)
    return Order(
        digest=loaded.digest,
        seed=recipe.seed,
        rules=tuple(recipe.expressions.values()),
        rows=asked.rows,
        rows_per_part=asked.rows_per_part,
        where=asked.where,
        max_attempts=asked.max_attempts,
        cpu=asked.cpu,
        device=_device(recipe, loaded),
        filters=settled.order_facts(recipe, filters),
        unique=columns_of(asked.unique, loaded.schema),
    )


def _device(recipe: Recipe, model: Model) -> str:
    """A GPU is only held where there is a network to run on it."""
    asked = recipe.generate.use_gpu
    return "cuda" if isinstance(model.generator, Trained) and (has_gpu() if asked == "auto" else asked) else "cpu"


def sampler_of(recipe: Recipe, folder: Folder, model: Folder, filters: Folder | None) -> Sampler:
    loaded = load_model(model, _aside(recipe))
    if isinstance(loaded.generator, Remote):
        loaded.generator.replies = StoredReplies(folder, loaded.generator, workers=recipe.generate.workers)
    asked, rules = recipe.generate, tuple(recipe.expressions.values())
    found = load_filters(filters, loaded.schema).filters if filters is not None else ()
    return Sampler(loaded, seed=recipe.seed, rules=rules, filters=found, where=asked.where, max_attempts=asked.max_attempts)


def _aside(recipe: Recipe) -> dict[str, Any]:
    """The generator's options that decide no row, as this recipe has them."""
    part = parts_of(recipe)["generator"]
    kept = deciding("generators", part)
    return {name: value for name, value in part.items() if name not in kept}


def make_files(
    recipe: Recipe, folder: Folder, model: Folder, plan: Plan, planned: dict[str, str], filters: Folder | None = None
) -> FilesOf:
    """On a worker: load the model once, then make part after part."""
    sampler = make_sampler(recipe, folder, model, planned, filters)
    return lambda part: files_of(sampler, plan, between=beats(part))(part)


def make_sampler(recipe: Recipe, folder: Folder, model: Folder, planned: dict[str, str], filters: Folder | None) -> Sampler:
    """On a worker. `folder`: where a server's replies lie."""
    import torch

    torch.set_num_threads(1)
    check_fingerprint(planned)
    sampler = sampler_of(recipe, folder, model, filters)
    if planned["device"] == "cuda":
        sampler.to_gpu()
    return sampler


def _check_violations(recipe: Recipe, prepared: Folder, filters: Folder | None) -> None:
    """How many real train rows break each rule: known to the user whatever it is. Of filters that learn from them validation rows are
    asked, and they may break it: how often is told."""
    schema = Schema.from_json(prepared.plan().facts["schema"])
    for split, learns in (("train", False), ("validation", True)):
        names = list(_checks(recipe, schema, filters, learns))
        if not names:
            continue
        counter = partial(_counter, recipe, schema, filters, learns)
        counts: list[dict[str, int]] = map_ordered(prepared.part_urls(split), counter, workers=recipe.generate.workers)
        broken = sum(map(Counter, counts), Counter[str]())
        for name in names:
            say(stage="generate", rule=name, split=split, real_rows_that_break_it=broken[name], of=broken[""])
            if not learns and broken[name] > recipe.generate.max_rule_violations * broken[""]:
                raise RecipeError(_refusal(name, broken[name], broken[""], recipe.generate.max_rule_violations))


def _refusal(name: str, broken: int, rows: int, most: float) -> str:
    return (
        f"rules: {name} is broken by {broken} of {rows} real train rows ({broken / rows:.1%}), and {most:.1%} may break it. "
        "Mend the rule or the rows, or raise generate.max_rule_violations"
    )


def _checks(recipe: Recipe, schema: Schema, filters: Folder | None, learns: bool) -> dict[str, Expression | Filter]:
    """The filters that learn from the train rows, or all other rules, as errors name them."""
    found = load_filters(filters, schema).filters if filters is not None else ()
    known = {f"filter {one.name}": one for one in found if one.learns == learns}
    rules = {} if learns else {f"'{text}'": Expression.parse(text, key) for key, text in recipe.expressions.items()}
    return rules | known


def _counter(recipe: Recipe, schema: Schema, filters: Folder | None, learns: bool) -> Callable[[str], dict[str, int]]:
    """On a worker: a part → how many of its rows break each, and under the empty name how many it has."""
    checks = _checks(recipe, schema, filters, learns)

    def count(url: str) -> dict[str, int]:
        rows = read_rows(url)
        texts = rows_as_texts(rows)
        shown = {name: texts if isinstance(check, Filter) else rows for name, check in checks.items()}
        return {"": rows.num_rows, **{name: int((~check.holds(shown[name])).sum()) for name, check in checks.items()}}

    return count
