"""A text names what its row is about: the value of another column, or by the recipe's knowledge another name of it."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.errors import RecipeError
from raysynth.filters._knowing import Knowing
from raysynth.filters._texts import check_text
from raysynth.knowledge import Knowledge
from raysynth.schema import Schema
from raysynth.terms import Terms, key_of
from raysynth.words import words


class Mentions(Knowing):
    """`of`: the column whose value the text in `column` must name, whatever its case. A null on either side passes."""

    def __init__(self, schema: Schema, *, column: str, of: str, seed: int = 0) -> None:
        super().__init__(schema, seed=seed)
        self.column, self.of = check_text(schema, column), check_text(schema, of, "of")
        if column == of:
            raise RecipeError(f"of: '{of}' is the text itself. Name the column whose value it must name")

    def know(self, knowledge: Knowledge | None) -> None:
        if knowledge is not None:
            self.keep(Knowledge(tuple(triple for triple in knowledge.triples if triple.is_alias)))

    def holds(self, rows: pa.Table) -> NDArray[np.bool_]:
        texts, values = (rows.column(name).to_pylist() for name in (self.column, self.of))
        looked_for = {value: Terms(map(key_of, self.kept.names(value))) for value in set(values) if value and key_of(value)}
        pairs = zip(texts, values, strict=True)
        return np.array(
            [text is None or value not in looked_for or looked_for[value].any(words(text)) for text, value in pairs], np.bool_
        )
