"""A list of names → where they stand in a text."""

import re
from collections.abc import Iterable, Iterator
from unicodedata import normalize

from raysynth.personal import UNSPACED, Found

_unspaced = re.compile(f"[{UNSPACED}]")
_spaced = re.compile(rf"[^\W{UNSPACED}]")


class Names:
    """The names of a list, wherever they stand in a text: as whole words in scripts with spaces, in any place of a text without. A name
    that the list writes with capitals is not taken where it has none: `Rose` is not `rose`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._known: dict[str, str] = {}
        lengths: dict[str, set[int]] = {}
        for name in names:
            self._known[name.casefold()] = name
            lengths.setdefault(name[0].casefold(), set()).add(len(name))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        unspaced = "".join(re.escape(first) for first in self._lengths if _unspaced.match(first))
        self._starts = re.compile(rf"(?<![^\W{UNSPACED}])[^\W{UNSPACED}]" + (f"|[{unspaced}]" if unspaced else ""))

    def __call__(self, text: str) -> Iterator[Found]:
        stop = 0
        for match in self._starts.finditer(text):
            start = match.start()
            for length in self._lengths.get(match[0].casefold(), ()) if start >= stop else ():
                found = text[start : start + length]
                if self._is_name(found, text[start + length : start + length + 1]):
                    stop = start + length
                    yield Found(start, stop, "name", found.casefold())
                    break

    def _is_name(self, found: str, following: str) -> bool:
        listed = self._known.get(found.casefold())
        if listed is None or (found.islower() and not listed.islower()):
            return False
        return bool(_unspaced.match(found[-1])) or not _spaced.match(following)


def listed_names(data: bytes) -> list[str]:
    """A file's names, one a line, as normalised text has them. ValueError says which line holds none."""
    names: dict[str, None] = {}
    for number, line in enumerate(data.decode("utf-8-sig").splitlines(), 1):
        name = " ".join(normalize("NFKC", line).split())
        if len(name) == 1:
            raise ValueError(f"line {number} has one character: a name has two at least")
        if name:
            names[name] = None
    return list(names)
