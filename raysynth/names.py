"""A list of names → where they stand in a text."""

import re
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator
from unicodedata import normalize

from raysynth.personal import UNSPACED, Found

_unspaced = re.compile(f"[{UNSPACED}]")
_spaced = re.compile(rf"[^\W_{UNSPACED}]")  # `_John Smith_` is emphasis
_word = re.compile(r"\S+")


class Names:
    """The names of a list, wherever they stand in a text: as whole words in scripts with spaces, in any place of a text without. A name
    that the list writes with capitals is not taken where it has none: `Rose` is not `rose`. Kinds of apostrophes and of blanks are one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._known: dict[str, str] = {}
        lengths: dict[str, set[int]] = {}
        for name in map(plain, names):
            self._known[name.casefold()] = name
            lengths.setdefault(name[0].casefold(), set()).add(len(name))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        unspaced = "".join(re.escape(first) for first in self._lengths if _unspaced.match(first))
        self._starts = re.compile(rf"(?<![^\W_{UNSPACED}])[^\W_{UNSPACED}]" + (f"|[{unspaced}]" if unspaced else ""))

    def __call__(self, text: str) -> Iterator[Found]:
        line = plain(text)
        place = _places(text) if len(line) != len(text) else int
        stop = 0
        for match in self._starts.finditer(line):
            start = match.start()
            for length in self._lengths.get(match[0].casefold(), ()) if start >= stop else ():
                found = line[start : start + length]
                if self._is_name(found, line[start + length : start + length + 1]):
                    stop = start + length
                    yield Found(place(start), place(stop - 1) + 1, "name", found.casefold())
                    break

    def _is_name(self, found: str, following: str) -> bool:
        listed = self._known.get(found.casefold())
        if listed is None or (found.islower() and not listed.islower()):
            return False
        return bool(_unspaced.match(found[-1])) or not _spaced.match(following)


def plain(text: str) -> str:
    """With one kind of apostrophes, and one blank for each run of blanks and line ends."""
    return " ".join(text.replace("’", "'").replace("ʼ", "'").split())


def _places(text: str) -> Callable[[int], int]:
    """Place of a character in the plain text, no blank → its place in the text."""
    starts = [word.start() for word in _word.finditer(text)]
    plain_starts: list[int] = []
    length = 0
    for word in _word.findall(text):
        plain_starts.append(length)
        length += len(word) + 1

    def place(at: int) -> int:
        word = bisect(plain_starts, at) - 1
        return starts[word] + at - plain_starts[word]

    return place


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
