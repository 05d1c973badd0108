"""A text → its language and its words, by the same rules for Chinese and English, without a dictionary.

Words are compared in Unicode's NFKC form, case folded (UAX 15 and 31), so that `Ｇｏｏｄ` and `good` are one word.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal
from unicodedata import normalize

Language = Literal["zh", "en", ""]

LEAST_CJK = 0.3  # of the letters: Chinese is full of Latin names and numbers, English hardly ever quotes Chinese
_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_KANA = "\u3040-\u30ff\u31f0-\u31ff"
_CJK = _HAN + _KANA + "\u3105-\u312f\u31a0-\u31bf"
_LATIN = "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a"
_MARKS = "\u0300-\u036f\u064b-\u065f"  # those that NFKC leaves apart
_PICTURE = "[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"  # what may follow a symbol and belongs to it

_letters = re.compile(r"[^\W\d_]+")
_latin = re.compile(f"[{_LATIN}]+")
_han = re.compile(f"[{_HAN}]+")
_kana = re.compile(f"[{_KANA}]+")
_plain_words = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*|[^a-z0-9\s]")
_words = re.compile(
    f"[{_CJK}]"
    rf"|(?:(?![{_CJK}])[^\W_])(?:(?![{_CJK}])[^\W_]|[{_MARKS}])*(?:['-](?:(?![{_CJK}])[^\W_])(?:(?![{_CJK}])[^\W_]|[{_MARKS}])*)*"
    r"|[\U0001f1e6-\U0001f1ff]{2}"
    rf"|\S{_PICTURE}(?:\u200d\S{_PICTURE})*"
)


def language(text: str) -> Language:
    """`zh` where at least 30 % of the letters are Chinese (and kana, which make it Japanese, are fewer), `en` where most are Latin,
    else ``: other scripts, and texts without letters."""
    letters = _length(_letters, text)
    if not letters:
        return ""
    han = _length(_han, text)
    if han >= LEAST_CJK * letters and han > _length(_kana, text):
        return "zh"
    return "en" if 2 * _length(_latin, text) > letters else ""


def words(text: str) -> list[str]:
    """The words in their order: a run of letters and digits, with ' or - inside, is a word; so are each Chinese or Japanese character, each
    emoji, and every other symbol that is no space."""
    text = _folded(text)
    return (_plain_words if text.isascii() else _words).findall(text)


def folded(text: str) -> str:
    """The text without differences of form, case and spacing: texts that fold alike are copies of each other."""
    return " ".join(_folded(text).split())


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Each run of `n` words, from left to right; none where there are fewer."""
    return zip(*(islice(words, start, None) for start in range(n)), strict=False)


def joined(words: Sequence[str]) -> str:
    """Words as a line to read: a space between them, none between Chinese characters."""
    pairs = zip(words, ["", *words], strict=False)
    return "".join(f"{'' if not left or (_is_cjk(left) and _is_cjk(word)) else ' '}{word}" for word, left in pairs)


def _folded(text: str) -> str:
    return text.lower() if text.isascii() else normalize("NFKC", normalize("NFKC", text).casefold()).replace("’", "'")


def _length(pattern: re.Pattern[str], text: str) -> int:
    return sum(len(run) for run in pattern.findall(text))


def _is_cjk(word: str) -> bool:
    return _han.match(word) is not None or _kana.match(word) is not None
