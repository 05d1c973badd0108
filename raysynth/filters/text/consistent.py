"""A text contradicts none of the facts that are known: where it names a head and speaks of a relation, it does not give it another tail."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.filters._knowing import Knowing, with_triples
from raysynth.filters._texts import check_text, each
from raysynth.knowledge import Knowledge
from raysynth.schema import Schema
from raysynth.terms import Key
from raysynth.words import words


class Consistent(Knowing):
    """A contradiction is: the text names a head (by any of its names), has a relation's words, names something that another head has as
    its tail of this relation, and none of the head's own tails. What is a tail of another head that the text names counts as said of that
    one. Only facts that are told in the words of the triples are seen."""

    def __init__(self, schema: Schema, *, column: str, seed: int = 0) -> None:
        super().__init__(schema, seed=seed)
        self.column = check_text(schema, column)

    def know(self, knowledge: Knowledge | None) -> None:
        self.keep(Knowledge(with_triples(knowledge).triples))

    def holds(self, rows: pa.Table) -> NDArray[np.bool_]:
        return each(rows, self.column, self._consistent)

    def _consistent(self, text: str) -> bool:
        spoken = words(text)
        heads = set(self.kept.heads_in(spoken))
        relations = {relation for head in heads for relation in self.kept.relations_of(head)}
        return not any(self._contradicts(spoken, heads, relation) for relation in relations)

    def _contradicts(self, spoken: list[str], heads: set[Key], relation: str) -> bool:
        said, tails = self.kept.relations[relation]
        if not said.any(spoken):
            return False
        named = set(tails.found(spoken))
        own = [self.kept.tails_of(head, relation) for head in heads]
        foreign = named.difference(*own)
        return bool(foreign) and any(listed and not listed & named for listed in own)
