"""Many texts ↔ one array of code points, so that numpy can look at all of them at once; what in a text is never touched."""

import re
import unicodedata
from functools import cache, cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Codes = NDArray[np.uint8 | np.uint32]
Places = NDArray[np.int64]
Mask = NDArray[np.bool_]

EDGES = " \t\n\r\v\f.,!?;:'\"()…，。！？；：、“”‘’（）《》「」【】—~～-\u3000"  # what stands about a word and stays where it is
HIDDEN = "\0"
NUMERALS = frozenset("〇零一二三四五六七八九十百千万亿两")  # numbers as well, although 一 mostly is none

(LETTER, CHINESE, IDEOGRAPH, EDGE, SPACE, JOINER, ODD, MARK, VISIBLE, DIGIT, SPECIAL, OPENING, ADDRESS, ENDING, FULL, CLOSING) = (
    1 << bit for bit in range(16)
)
"""Of a code: an English letter; a Chinese character that is no numeral; any Chinese character; punctuation or blank about a word;
blank; ' or - in a word; never in a word that may change; mark on a letter; visible ASCII; digit; a character of addresses and
placeholders; that may open one with blanks in it; that stands in an address; ends a sentence, if a blank follows or if it is full;
closes a quotation."""

_MARKS = (
    "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u200d\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef"
)
_OPENED = re.compile(
    r"""(?:https?|ftp)://[^\s，。！？；：、（）】》」』”<>"]*[^\s，。！？；：、（）】》」』”<>".,!?;:')]
    | (?<![A-Za-z0-9À-ɏ._%+-])[A-Za-z0-9À-ɏ._%+-]++@[\w-]+(?:\.[\w-]+)*
    | @[\w-]+(?:\.[\w-]+)*
    | <[^<>\n]{1,200}>
    | (?<!\{)\{++[^{}\n]{1,100}\}+
    | \[[^\[\]\n]{1,100}\]
    """,
    re.VERBOSE,
)
"""What is protected beyond the run of ASCII characters that holds a special one. Nothing is looked for again from within what was
looked through: a text of 1 MB would never end."""


class Texts:
    """Texts without nulls. `codes`: a line feed, then each text and a line feed: what stands beside a place is never another text's."""

    def __init__(self, array: pa.Array) -> None:
        values: Any = array.to_pylist()
        self.texts: list[str] = values

    @cached_property
    def lengths(self) -> Places:
        return np.fromiter(map(len, self.texts), np.int64, len(self.texts))

    @cached_property
    def starts(self) -> Places:
        """The place in `codes` of the first character of each text."""
        return np.cumsum(self.lengths + 1) - self.lengths

    @cached_property
    def codes(self) -> Codes:
        """Bytes where all texts are ASCII, as many are: they take a quarter of the room, and less than that of the time."""
        joined = "\n".join(["", *self.texts, ""])
        return np.frombuffer(joined.encode(), np.uint8) if joined.isascii() else np.frombuffer(joined.encode("utf-32-le"), "<u4")

    @cached_property
    def _ascii(self) -> bytes | None:
        return self.codes.tobytes() if self.codes.dtype == np.uint8 else None

    def having(self, flag: int) -> Mask:
        """(codes,) which have one of the flags."""
        if self._ascii is not None:
            return np.frombuffer(self._ascii.translate(_ascii_having(flag)), np.bool_)
        return (self._flags & flag) != 0

    @cached_property
    def _flags(self) -> NDArray[np.uint16]:
        codes = self.codes.astype(np.uint32)
        if codes.max() > 0xFFFF:
            selects = (codes >= 0xE0100) & (codes <= 0xE01EF)  # the form of the character before it
            codes = np.where(selects, 0xFE00, np.minimum(codes, 0xFFFF))
        return _table()[codes]

    def rows_of(self, places: Places) -> Places:
        return np.searchsorted(self.starts, places, side="right") - 1

    def protected(self, *, numbers: bool = True) -> Mask:
        """(codes,) what is part of an address, a placeholder, a tag, a letter with marks on it or, with `numbers`, of a number."""
        special = self.having(SPECIAL | DIGIT if numbers else SPECIAL).copy()
        dots = np.flatnonzero(self.codes == ord("."))
        if len(dots):
            letters = self.having(LETTER)
            special[dots[letters[dots - 1] & letters[dots + 1]]] = True  # example.com
        found = self._runs_with(special)
        if self._ascii is None:
            marks = np.flatnonzero(self.having(MARK))
            found[marks] = found[marks - 1] = True
            found[self.starts - 1] = False
        return found | self.opened

    @cached_property
    def opened(self) -> Mask:
        """(codes,) what is part of an address, a placeholder or a tag that may hold blanks or other than ASCII."""
        found = np.zeros(len(self.codes), np.bool_)
        for row in np.flatnonzero(self.holding(self.having(OPENING | ADDRESS))).tolist():
            text, start = self.texts[row], self.starts[row]
            if not text.isascii() or any(one in text for one in "<{["):
                for match in _OPENED.finditer(text):
                    found[start + match.start() : start + match.end()] = True
        return found

    def holding(self, mask: Mask) -> Mask:
        """(codes,) → (texts,) whether any of a text's codes is marked."""
        found = np.zeros(len(self.texts), np.bool_)
        found[self.rows_of(np.flatnonzero(mask))] = True
        return found

    def seen(self) -> list[str]:
        """The texts with HIDDEN for what is protected: as long as they were, so that places in the one are places in the other."""
        protected = self.protected()
        codes = np.where(protected, 0, self.codes).astype("<u4")
        seen = self.texts.copy()
        for row in np.flatnonzero(self.holding(protected)).tolist():
            seen[row] = codes[self.starts[row] : self.starts[row] + self.lengths[row]].tobytes().decode("utf-32-le")
        return seen

    def plain(self) -> list[bool]:
        """Whether a text is ASCII in one line in which blanks cut what is protected from the rest, and never in two."""
        opening = self.holding(self.having(OPENING)).tolist()
        return [text.isascii() and text.isprintable() and not opens for text, opens in zip(self.texts, opening, strict=True)]

    def _runs_with(self, special: Mask) -> Mask:
        """The runs of visible ASCII characters that hold a special one."""
        found = np.zeros(len(special), np.bool_)
        places = np.flatnonzero(special)
        if len(places):
            others = np.flatnonzero(~self.having(VISIBLE))
            after = np.unique(np.searchsorted(others, places))
            for start, stop in zip((others[after - 1] + 1).tolist(), others[after].tolist(), strict=True):
                found[start:stop] = True
        return found

    def spliced(self, rows: Places, starts: Places, stops: Places, pieces: Places, lengths: Places, extra: str = "") -> pa.Array:
        """The texts in which, for each edit of a row, `pieces` (edits, n) of `lengths` stand for the codes from `starts` to `stops`;
        edits by place, none over another. A piece is a place in `codes`, or behind them in `extra`, of which texts that are all ASCII
        may take what is ASCII alone."""
        growth = np.bincount(rows, lengths.sum(axis=1) - (stops - starts), minlength=len(self.texts))
        kept = np.concatenate(([0], stops))
        spans = np.zeros((len(starts) + 1, pieces.shape[1] + 1), np.int64)
        sizes = np.zeros_like(spans)
        spans[:, 0], spans[:-1, 1:] = kept, pieces
        sizes[:, 0], sizes[:-1, 1:] = np.concatenate((starts, [len(self.codes)])) - kept, lengths
        used = np.flatnonzero(sizes.ravel())
        first, size = spans.ravel()[used], sizes.ravel()[used]
        ends = np.cumsum(size)
        index = np.ones(ends[-1], np.int64)  # each code is the one behind the code before it, but at the start of a span
        index[0] = first[0]
        index[ends[:-1]] = first[1:] - (first[:-1] + size[:-1] - 1)
        codes = np.concatenate((self.codes, np.frombuffer(extra.encode("utf-32-le"), "<u4").astype(self.codes.dtype)))
        return _array(codes[np.cumsum(index, out=index)], self.lengths + growth.astype(np.int64))


def _array(codes: Codes, lengths: Places) -> pa.Array:
    """Codes as Texts has them → large strings."""
    separators = np.cumsum(lengths + 1)
    keep = np.ones(len(codes), np.bool_)
    keep[0] = False
    keep[separators] = False
    codes = codes[keep]
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    data = codes.tobytes()
    if codes.dtype != np.uint8:
        data = data.decode("utf-32-le").encode()
        widths = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
        offsets = np.concatenate(([0], np.cumsum(widths)))[offsets]
    buffers: list[Any] = [None, pa.py_buffer(offsets.astype(np.int64).tobytes()), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(lengths), buffers)


@cache
def _ascii_having(flag: int) -> bytes:
    """For bytes.translate: 1 for an ASCII character that has one of the flags."""
    return bytes(bool(flags & flag) for flags in _table()[:0x80].tolist()) + bytes(0x80)


@cache
def _table() -> NDArray[np.uint16]:
    """Code → flags, for the first 65,536; the others (emoji, rare characters) count as the last of these, which is no character."""
    characters = [chr(code) for code in range(0x10000)]
    table = np.zeros(0x10000, np.uint16)
    table[0x3400:0xA000] |= IDEOGRAPH
    table[0x4E00:0xA000] |= CHINESE
    table[ord("!") : ord("~") + 1] |= VISIBLE
    listed = {
        LETTER: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
        EDGE: EDGES,
        JOINER: "'’-",
        DIGIT: "0123456789",
        SPECIAL: "@{}<>[]/\\_#$%&=|+",
        OPENING: "<{[",
        ADDRESS: "@/",
        ENDING: ".!?…。！？",
        FULL: "。！？",
        CLOSING: "\"'”’)]」』）",
    }
    for flag, ones in listed.items():
        table[[ord(one) for one in ones]] |= flag
    table[[one.isspace() for one in characters]] |= EDGE | SPACE
    table[[ord(one) for one in re.findall(f"[{_MARKS}]", "".join(characters))]] |= MARK
    table[[ord(one) for one in NUMERALS]] &= ~CHINESE & 0xFFFF
    in_words = [one.isalpha() or one in "'’-" or unicodedata.category(one)[0] == "M" for one in characters]
    table[~np.array(in_words) | ((table & IDEOGRAPH) != 0) & ((table & CHINESE) == 0)] |= ODD
    return table
