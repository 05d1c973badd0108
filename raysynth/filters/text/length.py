"""A text is neither too short nor too long."""

from typing import Annotated

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from raysynth.errors import RecipeError
from raysynth.filters._texts import check_text, each
from raysynth.filters.base import Filter
from raysynth.schema import Schema
from raysynth.words import words

Count = Annotated[int, Field(ge=0)]


class Length(Filter):
    """In characters, or in words: each Chinese character is one."""

    def __init__(
        self,
        schema: Schema,
        *,
        column: str,
        min_characters: Count | None = None,
        max_characters: Count | None = None,
        min_words: Count | None = None,
        max_words: Count | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(schema, seed=seed)
        self.column = check_text(schema, column)
        self.characters, self.words = (min_characters, max_characters), (min_words, max_words)
        if not any(bound is not None for bound in (*self.characters, *self.words)):
            raise RecipeError("give one of min_characters, max_characters, min_words and max_words at least")
        for unit, (least, most) in (("characters", self.characters), ("words", self.words)):
            if least is not None and most is not None and least > most:
                raise RecipeError(f"min_{unit}: must be at most max_{unit}, {most} (got {least})")

    def holds(self, rows: pa.Table) -> NDArray[np.bool_]:
        return each(rows, self.column, self._within)

    def _within(self, text: str) -> bool:
        if not _between(len(text), *self.characters):
            return False
        return self.words == (None, None) or _between(len(words(text)), *self.words)


def _between(count: int, least: int | None, most: int | None) -> bool:
    return (least is None or least <= count) and (most is None or count <= most)
