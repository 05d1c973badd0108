"""What filters that go by the recipe's knowledge share: it is copied into their state, so that no file is read when rows are made."""

from typing import ClassVar

from raysynth.errors import RecipeError
from raysynth.filters.base import Filter
from raysynth.knowledge import Knowledge
from raysynth.layout import Arrays, Facts
from raysynth.schema import Schema


class Knowing(Filter):
    """A subclass says in `know` what is kept."""

    knows: ClassVar[bool] = True

    def __init__(self, schema: Schema, *, seed: int = 0) -> None:
        super().__init__(schema, seed=seed)
        self.keep(Knowledge())

    def keep(self, knowledge: Knowledge) -> None:
        self.kept = knowledge

    def state(self) -> tuple[Arrays, Facts]:
        return {}, self.kept.to_json()

    def load(self, arrays: Arrays, facts: Facts) -> None:
        self.keep(Knowledge.from_json(facts))


def with_triples(knowledge: Knowledge | None) -> Knowledge:
    """RecipeError where there are none."""
    if knowledge is None or not knowledge.triples:
        raise RecipeError("it goes by facts, and the recipe has none. Name a file of triples as knowledge.triples")
    return knowledge
