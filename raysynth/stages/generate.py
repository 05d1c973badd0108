"""A committed model → RUN/synthetic/<id>/: exactly the rows asked for, each valid, in parts whose bytes depend on the id alone."""

from collections.abc import Callable
from functools import partial

from raysynth.cluster.devices import has_gpu
from raysynth.cluster.endpoint import StoredReplies
from raysynth.cluster.parts import FilesOf, write_parts
from raysynth.cluster.rows import map_ordered
from raysynth.errors import RecipeError
from raysynth.expressions import Expression
from raysynth.generators.base import Remote, Trained
from raysynth.models import Model, load_model
from raysynth.orders import Order, check_fingerprint, files_of
from raysynth.progress import say
from raysynth.recipe import Recipe
from raysynth.runs import Folder, Plan, Run, folder_id, read_rows
from raysynth.sampler import Sampler


def run(recipe: Recipe, run: Run, prepared: Folder, model: Folder) -> Folder:
    """Before anything is planned: RecipeError if the real rows break a rule too often (then it says something else than its author
    meant), RuleError if the rules and `where` turn down nearly all of a probe's rows."""
    order = order_of(recipe, model)
    facts = order.facts()
    folder = run.folder("synthetic", folder_id(facts))
    if not folder.committed:
        sampler = sampler_of(recipe, folder, model)
        _check_violations(recipe, sampler, prepared)
        sampler.check_acceptance()
        plan = order.plan(len(sampler.model.schema))
        make = partial(make_files, recipe, folder, model, plan, facts["fingerprint"])
        gpus = 1 if order.device == "cuda" else 0
        write_parts(folder, plan, make, stage="generate", workers=recipe.generate.workers, keep=True, num_gpus=gpus)
    run.point("synthetic", folder)
    return folder


def order_of(recipe: Recipe, model: Folder) -> Order:
    asked = recipe.generate
    loaded = load_model(model)
    return Order(
        digest=loaded.digest,
        seed=recipe.seed,
        rules=tuple(recipe.rules),
        rows=asked.rows,
        rows_per_part=asked.rows_per_part,
        where=asked.where,
        max_attempts=asked.max_attempts,
        cpu=asked.cpu,
        device=_device(recipe, loaded),
    )


def _device(recipe: Recipe, model: Model) -> str:
    """A GPU is only held where there is a network to run on it."""
    asked = recipe.generate.use_gpu
    return "cuda" if isinstance(model.generator, Trained) and (has_gpu() if asked == "auto" else asked) else "cpu"


def sampler_of(recipe: Recipe, folder: Folder, model: Folder) -> Sampler:
    loaded = load_model(model)
    if isinstance(loaded.generator, Remote):
        loaded.generator.replies = StoredReplies(folder, loaded.generator.send)
    where = recipe.generate.where
    return Sampler(loaded, seed=recipe.seed, rules=recipe.rules, where=where, max_attempts=recipe.generate.max_attempts)


def make_files(recipe: Recipe, folder: Folder, model: Folder, plan: Plan, planned: dict[str, str]) -> FilesOf:
    """On a worker: load the model once, then make part after part."""
    import torch

    torch.set_num_threads(1)
    check_fingerprint(planned)
    sampler = sampler_of(recipe, folder, model)
    if planned["device"] == "cuda":
        sampler.to_gpu()
    return files_of(sampler, plan)


def _check_violations(recipe: Recipe, sampler: Sampler, prepared: Folder) -> None:
    """How many real train rows break each rule: known to the user whatever it is."""
    if not sampler.rules:
        return
    rules = {rule.text: rule for rule in sampler.rules}
    counts: list[dict[str, int]] = map_ordered(
        prepared.part_urls("train"), partial(_counter, rules), workers=recipe.generate.workers
    )
    rows = sum(count["rows"] for count in counts)
    for text in rules:
        broken = sum(count[text] for count in counts)
        say(stage="generate", rule=text, real_rows_that_break_it=broken, of=rows)
        if broken > recipe.generate.max_rule_violations * rows:
            raise RecipeError(
                f"rules: '{text}' is broken by {broken} of {rows} real train rows ({broken / rows:.1%}), and "
                f"{recipe.generate.max_rule_violations:.1%} may break it. Mend the rule or the rows, or raise generate.max_rule_violations"
            )


def _counter(rules: dict[str, Expression]) -> Callable[[str], dict[str, int]]:
    def count(url: str) -> dict[str, int]:
        rows = read_rows(url)
        return {"rows": rows.num_rows, **{text: int((~rule.holds(rows)).sum()) for text, rule in rules.items()}}

    return count
