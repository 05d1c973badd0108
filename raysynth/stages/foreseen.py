"""A recipe's first rows → what its generator and its ops would say to servers: of some rows, and of how many. No server is asked."""

from collections.abc import Iterator
from typing import cast

import pyarrow as pa

from raysynth.costs import Calls
from raysynth.draws import Draws
from raysynth.generators.base import Remote
from raysynth.models import codec_of, generator_of
from raysynth.ops.base import Asking
from raysynth.parts import find
from raysynth.recipe import Recipe
from raysynth.stages.augment import ops_of
from raysynth.stages.first_rows import FirstRows
from raysynth.stages.known import knowledge_of
from raysynth.stages.model_parts import parts_of
from raysynth.where import Shares, parse_where

SAID_ROWS = 200
"""So many rows say how long prompts and answers are."""


def foreseen_calls(recipe: Recipe, first: FirstRows) -> Iterator[Calls]:
    """What each op that asks a server would say, and the generator, if it does."""
    train = first.splits["train"]
    if not train.num_rows:
        return
    for number, op in enumerate(ops_of(recipe, first.schema)):
        if isinstance(op, Asking):
            rows = first.total("train") * recipe.augment[number].copies
            said = op.foreseen(train.slice(0, SAID_ROWS))
            yield Calls(f"augment.{number}", rows, 1.0, said, _from(said.rows))
    if issubclass(find("generators", parts_of(recipe)["generator"]["use"]), Remote):
        yield from _generator(recipe, first, train)


def _generator(recipe: Recipe, first: FirstRows, train: pa.Table) -> Iterator[Calls]:
    parts = parts_of(recipe)
    codec = codec_of(parts["codec"], first.schema, recipe.seed)
    codec.settle(codec.observe(train))
    generator = cast("Remote", generator_of(parts["generator"], codec))
    if (known := knowledge_of(recipe)) is not None:
        generator.know(known)
    generator.remember(codec.encode(train.slice(0, generator.pool_rows)))
    asked = parse_where(recipe.generate.where, first.schema)
    where = {name: condition for name, condition in asked.items() if not (isinstance(condition, Shares) and condition.named)}
    some = train.slice(0, min(SAID_ROWS, recipe.generate.rows))
    draws = Draws.range(recipe.seed, "generate", 0, some.num_rows)
    said = generator.foreseen(draws, codec.condition(where) if where else None, codec.encode(some))
    if said is not None:
        yield Calls("generate", recipe.generate.rows, 1 / first.held_by(recipe.expressions), said, _from(said.rows))


def _from(rows: int) -> str:
    return f"the prompts and the texts of the first {rows:,} train rows"
