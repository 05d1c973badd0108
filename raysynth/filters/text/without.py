"""A text has none of some terms: those of a lexicon of the recipe's knowledge, or those that are listed."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.errors import RecipeError
from raysynth.filters._knowing import Knowing
from raysynth.filters._texts import check_text, each
from raysynth.knowledge import Knowledge
from raysynth.parts import nearest
from raysynth.schema import Schema
from raysynth.terms import Terms, key_of
from raysynth.words import words


class Without(Knowing):
    """Whole words for whole words, whatever their case: `ass` is not in `class`. Chinese terms are found anywhere. `lexicon`: its name in
    knowledge.lexicons."""

    def __init__(
        self, schema: Schema, *, column: str, lexicon: str | None = None, terms: tuple[str, ...] = (), seed: int = 0
    ) -> None:
        self.column, self.lexicon, self.terms = check_text(schema, column), lexicon, terms
        super().__init__(schema, seed=seed)
        if (lexicon is None) == (not terms):
            raise RecipeError("lexicon: give either the name of a lexicon or terms")
        if empty := [term for term in terms if not key_of(term)]:
            raise RecipeError(f"terms: each must have a word (got {empty[0]!r})")

    def know(self, knowledge: Knowledge | None) -> None:
        if self.lexicon is None:
            return
        lexicons = {} if knowledge is None else knowledge.lexicons
        if self.lexicon not in lexicons:
            hint = nearest(self.lexicon, list(lexicons))
            raise RecipeError(
                f"lexicon: there is no '{self.lexicon}' in knowledge.lexicons.{hint} Those are: {', '.join(lexicons) or 'none'}"
            )
        self.keep(Knowledge(lexicons={self.lexicon: lexicons[self.lexicon]}))

    def keep(self, knowledge: Knowledge) -> None:
        super().keep(knowledge)
        self._listed = Terms(map(key_of, knowledge.lexicons.get(self.lexicon or "", self.terms)))

    def holds(self, rows: pa.Table) -> NDArray[np.bool_]:
        return each(rows, self.column, lambda text: not self._listed.any(words(text)))
