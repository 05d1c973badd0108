"""Terms → which of them a text has: whole words for whole words, in one pass, whatever their case and form.

A Chinese character is a word (see `words`), so that terms of any script are looked for alike.
"""

from collections.abc import Iterable, Iterator, Sequence

from raysynth.words import words

Key = tuple[str, ...]
"""A term's words: what is the same for all ways of writing it."""


def key_of(term: str) -> Key:
    return tuple(words(term))


class Terms:
    """Looked for together; those without a word are none."""

    def __init__(self, terms: Iterable[Key]) -> None:
        self._keys = frozenset(term for term in terms if term)
        by_first: dict[str, set[int]] = {}
        for term in self._keys:
            by_first.setdefault(term[0], set()).add(len(term))
        self._lengths = {first: sorted(lengths, reverse=True) for first, lengths in by_first.items()}

    def found(self, spoken: Sequence[str]) -> Iterator[Key]:
        """Those that stand in these words, from left to right: at each place the longest, and none within another."""
        at = 0
        while at < len(spoken):
            term = self._at(spoken, at)
            at += 1 if term is None else len(term)
            if term is not None:
                yield term

    def any(self, spoken: Sequence[str]) -> bool:
        return next(self.found(spoken), None) is not None

    def _at(self, spoken: Sequence[str], at: int) -> Key | None:
        """`acme's` has acme too, where no term is written so."""
        for length in self._lengths.get(spoken[at], ()):
            term = tuple(spoken[at : at + length])
            for known in (term, (*term[:-1], term[-1].removesuffix("'s"))):
                if known in self._keys:
                    return known
        alone = (spoken[at].removesuffix("'s"),)
        return alone if alone in self._keys else None
