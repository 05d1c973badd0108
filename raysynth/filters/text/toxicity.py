"""A text has none of the words that are listed as profane, in English and Chinese, by the package glin-profanity."""

import json
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.errors import MissingExtraError
from raysynth.filters._texts import check_text, each
from raysynth.filters.base import Filter
from raysynth.knowledge import Knowledge
from raysynth.layout import Arrays, Facts
from raysynth.schema import Schema
from raysynth.terms import Terms, key_of
from raysynth.words import language, words

LISTS = {"en": "english", "zh": "chinese"}


class Toxicity(Filter):
    """Whole words for whole words, in lists that are under the MIT licence; `allow`: those that are not meant. Of the Chinese list the terms
    of one character, which are parts of plain words (豆乳), are left out. A list of words sees no insult that is made of plain ones, and
    turns down plain talk of the body: look at what real rows it turns down, which is told."""

    def __init__(
        self,
        schema: Schema,
        *,
        column: str,
        languages: tuple[Literal["en", "zh"], ...] = ("en", "zh"),
        allow: tuple[str, ...] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(schema, seed=seed)
        self.column, self.languages, self.allow = check_text(schema, column), languages, allow
        self._keep([])

    def facts(self) -> dict[str, Any]:
        return {"glin-profanity": version("glin-profanity")}

    def know(self, knowledge: Knowledge | None) -> None:
        if find_spec("glin_profanity") is None:
            raise MissingExtraError("text.toxicity: needs the package 'glin-profanity'. Install it: pip install 'raysynth[text]'")
        allowed = set(map(key_of, self.allow))
        listed = {term for name in self.languages for term in _listed(name)}
        self._keep(sorted(term for term in listed if key_of(term) not in allowed))

    def holds(self, rows: pa.Table) -> NDArray[np.bool_]:
        return each(rows, self.column, lambda text: not self._terms.any(words(text)))

    def state(self) -> tuple[Arrays, Facts]:
        return {}, {"terms": self._listed}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        self._keep(facts["terms"])

    def _keep(self, terms: list[str]) -> None:
        self._listed, self._terms = terms, Terms(map(key_of, terms))


def _listed(name: str) -> list[str]:
    data = files("glin_profanity").joinpath("data", "dictionaries", f"{LISTS[name]}.json").read_text(encoding="utf-8")
    terms: list[str] = json.loads(data)["words"]
    return terms if name != "zh" else [term for term in terms if language(term) == "zh" and len(key_of(term)) > 1]
