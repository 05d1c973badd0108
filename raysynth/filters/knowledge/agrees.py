"""Every column of facts says of its row's head what the triples say of it, so that the texts that are written from them do not contradict
them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.errors import RecipeError
from raysynth.filters._knowing import Knowing, with_triples
from raysynth.knowledge import Knowledge
from raysynth.schema import Schema


class Agrees(Knowing):
    """Null where the head is unknown, as prepare has it."""

    def __init__(self, schema: Schema, *, seed: int = 0) -> None:
        super().__init__(schema, seed=seed)

    def know(self, knowledge: Knowledge | None) -> None:
        known = with_triples(knowledge)
        if not known.columns:
            raise RecipeError("it compares columns of facts, and there are none. Name the columns of heads as knowledge.of")
        if absent := [column.name for column in known.columns if column.name not in self.schema]:
            raise RecipeError(
                f"it compares '{absent[0]}', and the rows have no such column. Prepare and train anew with knowledge.of"
            )
        relations = {column.relation for column in known.columns}
        triples = tuple(triple for triple in known.triples if triple.relation in relations or triple.is_alias)
        self.keep(Knowledge(triples, {}, known.of))

    def holds(self, rows: pa.Table) -> NDArray[np.bool_]:
        agrees = np.ones(rows.num_rows, np.bool_)
        for column in self.kept.columns:
            known = self.kept.facts_of(rows.column(column.column), column.relation)
            agrees &= _equal(rows.column(column.name).combine_chunks(), known)
        return agrees


def _equal(left: pa.Array, right: pa.Array) -> NDArray[np.bool_]:
    """Null is equal to null alone."""
    same = pc.fill_null(pc.equal(left, right), False)  # pyright: ignore[reportArgumentType] (the stub forgets plain values)
    neither = pc.and_(pc.is_null(left), pc.is_null(right))
    return np.asarray(pc.or_(same, neither).to_numpy(zero_copy_only=False), np.bool_)
