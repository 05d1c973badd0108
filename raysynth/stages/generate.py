"""A committed model → RUN/synthetic/<id>/: exactly the rows asked for, each valid, in parts whose bytes depend on the id alone."""

import platform
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.cluster.endpoint import StoredReplies
from raysynth.cluster.parts import FilesOf, write_parts
from raysynth.cluster.rows import map_ordered
from raysynth.commits import Table
from raysynth.errors import NondeterminismError, RecipeError, RuleError
from raysynth.expressions import Expression
from raysynth.generators.base import Remote
from raysynth.models import load_model
from raysynth.progress import say
from raysynth.recipe import Recipe
from raysynth.runs import Folder, Plan, Run, folder_id, part_rows, read_rows, rows_plan
from raysynth.sampler import Sampler

ROWS_VERSION = 1
LEAST_ACCEPTANCE = 0.005
_PART_BYTES = 128 << 20


def run(recipe: Recipe, run: Run, prepared: Folder, model: Folder) -> Folder:
    """Before anything is planned: RecipeError if the real rows break a rule too often (then it says something else than its author
    meant), RuleError if the rules and `where` turn down nearly all of a probe's rows."""
    facts = generate_facts(recipe, model)
    folder = run.folder("synthetic", folder_id(facts))
    if not folder.committed:
        sampler = sampler_of(recipe, folder, model)
        _check_violations(recipe, sampler, prepared)
        _probe(sampler)
        size = recipe.generate.rows_per_part or rows_per_part(len(sampler.model.schema))
        plan = rows_plan(recipe.generate.rows, size)
        plan = Plan(plan.parts, {**plan.facts, **{key: facts[key] for key in ("seed", "rules", "where", "max_attempts")}})
        make = partial(make_files, recipe, folder, model, plan, facts["fingerprint"])
        write_parts(folder, plan, make, stage="generate", workers=recipe.generate.workers, keep=True)
    run.point("synthetic", folder)
    return folder


def generate_facts(recipe: Recipe, model: Folder) -> dict[str, Any]:
    """What decides the bytes of the synthetic rows, and nothing else."""
    return {
        "stage": "generate",
        "rows_version": ROWS_VERSION,
        "model": load_model(model).digest,
        "seed": recipe.seed,
        "rules": list(recipe.rules),
        "rows": recipe.generate.rows,
        "rows_per_part": recipe.generate.rows_per_part,
        "where": recipe.generate.where,
        "max_attempts": recipe.generate.max_attempts,
        "fingerprint": fingerprint(recipe.generate.cpu),
    }


def sampler_of(recipe: Recipe, folder: Folder, model: Folder) -> Sampler:
    loaded = load_model(model)
    if isinstance(loaded.generator, Remote):
        loaded.generator.replies = StoredReplies(folder, loaded.generator.send)
    where = recipe.generate.where
    return Sampler(loaded, seed=recipe.seed, rules=recipe.rules, where=where, max_attempts=recipe.generate.max_attempts)


def rows_per_part(columns: int) -> int:
    """About 128 MiB of Arrow a part, at eight bytes a cell (a formula of the columns: no measurement enters a plan)."""
    return max(1000, _PART_BYTES // (8 * max(1, columns)) // 1000 * 1000)


def fingerprint(cpu: str) -> dict[str, str]:
    """What the last bits of a row depend on beside the model (design, section 6)."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    versions = {"torch": torch.__version__.split("+")[0], "numpy": np.__version__, "pyarrow": pa.__version__}
    return {"device": f"cpu-{platform.machine()}", "capability": capability, "asked": cpu, **versions}


def make_files(recipe: Recipe, folder: Folder, model: Folder, plan: Plan, planned: dict[str, str]) -> FilesOf:
    """On a worker: load the model once, then make part after part."""
    import torch

    torch.set_num_threads(1)
    sampler = sampler_of(recipe, folder, model)
    if (here := fingerprint(recipe.generate.cpu)) != planned:
        raise NondeterminismError(f"this worker would make other bytes than the plan's: {here} against {planned}")

    def files_of(part: int) -> Iterable[Table]:
        numbers = part_rows(plan, part)
        sampler.rejects.clear()
        yield f"{part // 10_000:04d}", sampler.range(numbers.start, numbers.stop), {"rejects": dict(sampler.rejects)}

    return files_of


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


def _probe(sampler: Sampler) -> None:
    if not sampler.rules and not sampler.where:
        return
    acceptance = sampler.acceptance()
    if acceptance < LEAST_ACCEPTANCE:
        raise RuleError(
            f"rules: of 10,000 probe rows {acceptance:.2%} hold, and at least {LEAST_ACCEPTANCE:.1%} must; most were turned down by "
            f"{sampler.rejects.most_common(1)[0][0]}. Loosen the rules or generate.where"
        )
    sampler.rejects.clear()
