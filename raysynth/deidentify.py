"""Texts → the same texts with fakes in the places of personal values, and how many of each kind there were."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.cells import matches, pc
from raysynth.fakes import Fakes, Locale, check_faker
from raysynth.names import Names
from raysynth.personal import FINDERS, Found, PersonalKind, find, screen

FAKER_KINDS = ("email", "name")
"""Whose fakes are made of faker's names."""


class Deidentifier:
    """The same values always get the same fakes. `names`: those of the kind name, as normalised texts have them (names.listed_names);
    `people` finds more of them. `locale` None: a fake is of the script of what it replaces."""

    def __init__(
        self,
        seed: int,
        kinds: Sequence[PersonalKind],
        names: Sequence[str] = (),
        locale: Locale | None = None,
        people: Callable[[str], Iterable[Found]] | None = None,
    ) -> None:
        self.kinds, self.names = tuple(sorted(kinds)), tuple(names)
        if any(kind in FAKER_KINDS for kind in kinds):
            check_faker("prepare.text.deidentify")
        self._fakes = Fakes(seed, locale, names)
        self._finders: list[Any] = [FINDERS[kind] for kind in self.kinds if kind in FINDERS]
        named = ([Names(names)] if self.names else []) + ([people] if people is not None else []) if "name" in kinds else []
        self._finders += named
        self._every = bool(named)  # no pattern tells which texts have names
        self._screen = screen(kinds)

    def column(self, texts: pa.Array) -> tuple[pa.Array, Counter[str]]:
        """(rows,) strings, nulls among them, and how many values of each kind were replaced."""
        counts: Counter[str] = Counter()
        places = np.arange(len(texts)) if self._every else np.flatnonzero(matches(texts, self._screen))
        changed: dict[int, str] = {}
        for place, text in zip(places.tolist(), texts.take(places).to_pylist(), strict=True):
            if text and (made := self._replace(text, counts)) is not text:
                changed[place] = made
        if not changed:
            return texts, counts
        mask = np.zeros(len(texts), np.bool_)
        mask[list(changed)] = True
        return pc.replace_with_mask(texts, pa.array(mask), pa.array(list(changed.values()), texts.type)), counts

    def text(self, text: str) -> str:
        """One text."""
        return self._replace(text, Counter())

    def _replace(self, text: str, counts: Counter[str]) -> str:
        pieces: list[str] = []
        end = 0
        for found in find(text, self._finders):
            pieces += [text[end : found.start], self._fakes.fake(found.kind, text[found.start : found.stop], found.value)]
            end = found.stop
            counts[found.kind] += 1
        return "".join([*pieces, text[end:]]) if pieces else text
