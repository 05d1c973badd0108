"""Texts → the same texts with words replaced by synonyms from a table (Zhang et al., "Character-level Convolutional Networks for Text
Classification", NIPS 2015; Wei & Zou, EDA, arXiv:1901.11196)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.ops.base import Op, Stats
from raysynth.ops.text._codes import EDGES, NUMERALS, Texts
from raysynth.ops.text._texts import changed, edits, pieces_of, text_columns
from raysynth.ops.text._thesaurus import Thesaurus, read_thesaurus
from raysynth.schema import Schema

_RUNS = re.compile("[\u4e00-\u9fff]{2,}|[^\\W\\d_\u4e00-\u9fff]+(?:['’-][^\\W\\d_\u4e00-\u9fff]+)*")
_IDEOGRAPHS = frozenset(map(chr, range(0x4E00, 0xA000)))
_REMEMBERED = 200_000
_NONE: tuple[str, tuple[str, ...], bool] = ("", (), False)
_QUOTES, _ENDS = " \"'“”‘’()", ".!?:。！？"
_LEAST_LETTERS = 3  # of an English word: shorter ones are rarely what WordNet lists (as, in: elements)
_LISTED_STOP_WORDS = """
the and for are was were been being has have had having does did doing done not nor but yet who whom whose which what when where
why how this that these those there here then than thus its his her hers him she they them their theirs our ours your yours you
mine myself yourself himself herself itself ourselves themselves with without from into onto upon about above below under over
between among through during before after until since while because although though unless whether can could will would shall
should may might must ought let get got gets all any both each either neither few many much more most other another some such
only own same too very just also again once ever never always still even now out off down per via one two three four five six
seven eight nine ten hundred thousand million billion first second third yes 没有 不是 不要 不能 不会 并非 是否 我们 你们 他们
她们 它们 自己 这个 那个 这些 那些 这样 那样 什么 怎么 为什么 哪里 多少 因为 所以 但是 可是 如果 虽然 而且 或者 就是 还是 已经
一个 可以
"""
_STOP_WORDS = frozenset(_LISTED_STOP_WORDS.split())


@dataclass(frozen=True)
class _Seen:
    """How many texts were not empty, and the words of the table that were met in them."""

    texts: int
    words: frozenset[str]

    def merge(self, other: "_Seen") -> "_Seen":
        return _Seen(self.texts + other.texts, self.words | other.words)


class Synonyms(Op):
    """`share` of the words that have a synonym, at least one of each text that has such a word, are replaced. Where the table has none
    of a text's words, as of another language, the text stays as it is.

    `table`: the URL of a Parquet, CSV, TSV or JSONL file (.gz as well) with the columns `word, synonyms`, or with groups, `words` (or
    `lemmas`; with a column `relation`, those of = alone), or with `synset, value`; that of a folder with WordNet's dictionary files;
    or `wordnet`: those of Debian's package wordnet-base, or in the folder that WNSEARCHDIR names.
    English words are found as they stand in the table (no inflection: `movies` is not `movie`), Chinese ones of two characters or
    more by longest match with the table's own words. Case is kept: Good → Great.

    Licences: WordNet and the Chinese Open Wordnet are free to use under their notice (wordnet.princeton.edu/license-and-commercial-use);
    HIT's Cilin, 同义词词林, is for research. raysynth ships none of them."""

    def __init__(
        self,
        schema: Schema,
        *,
        table: str,
        columns: tuple[str, ...] | None = None,
        share: Annotated[float, Field(gt=0, le=1)] = 0.2,
        most: Annotated[int, Field(ge=1)] = 100,
    ) -> None:
        super().__init__(schema)
        self.columns = text_columns(schema, columns)
        self.table, self.share, self.most = table, share, most
        self._synonyms, self.digest = read_thesaurus(table)
        self._lengths = _lengths(self._synonyms)

    def facts(self) -> dict[str, Any]:
        """What else than its options decides its rows: what the table holds."""
        return {"table_sha256": self.digest}

    def observe(self, rows: pa.Table) -> _Seen:
        count, pieces = 0, set[str]()
        for name in self.columns:
            for _, piece in pieces_of(rows.column(name)):
                texts = Texts(piece.drop_null())
                count += sum(map(bool, texts.texts))
                pieces.update(*(found[step - 1 :: step] for found, step in self._cut(texts)))
        words = {_word(piece).lower() for piece in pieces}
        return _Seen(count, frozenset(word for word in words if word in self._synonyms))

    def settle(self, stats: Stats | None) -> None:
        """The op goes to every worker: it keeps the part of the table that it needs."""
        if not isinstance(stats, _Seen):
            return
        self._synonyms = {word: others for word, others in self._synonyms.items() if word in stats.words}
        self._lengths = _lengths(self._synonyms)
        if stats.texts and not any(_Known(self._synonyms)[word] for word in self._synonyms):
            columns = ", ".join(self.columns)
            raise RecipeError(
                f"table: '{self.table}' has a synonym of no word in the train rows ({columns}). Name a table in their language"
            )

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        return changed(rows, self.columns, draws, partial(self._change, _Known(self._synonyms)))

    def _change(self, known: "_Known", texts: Texts, draws: Draws, name: str) -> list[str]:
        cut = list(self._cut(texts))
        able = [_able(pieces, step, known) for pieces, step in cut]
        found = edits(draws, name, np.fromiter(map(len, able), np.int64, len(able)), share=self.share, most=self.most)
        made: list[str] = []
        for (pieces, step), places, pairs in zip(cut, able, found.by_row(len(cut)), strict=True):
            for place, choice in pairs:
                at = places[place]
                word, others, _ = known[pieces[at]] or _NONE
                pieces[at] = pieces[at].replace(word, _cased(others[choice % len(others)], word), 1)
            made.append(" ".join(pieces) if step == 1 else "".join(pieces))
        return made

    def _cut(self, texts: Texts) -> Iterator[tuple[list[str], int]]:
        """Each text as words, with what punctuation is about them, that blanks join, and 1; or as what stands between words and words
        in turn, and 2."""
        for text, plain, seen in zip(texts.texts, texts.plain(), texts.seen(), strict=True):
            yield (text.split(" "), 1) if plain else (self._pieces(text, seen), 2)

    def _pieces(self, text: str, seen: str) -> list[str]:
        pieces: list[str] = []
        last = 0
        for match in _RUNS.finditer(seen):
            start, end = match.span()
            spans = self._longest(text, start, end) if text[start] in _IDEOGRAPHS else ((start, end),)
            for begin, stop in spans:
                pieces += (text[last:begin], text[begin:stop])
                last = stop
        return [*pieces, text[last:]]

    def _longest(self, text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """From left to right the longest words of the table in a run of Chinese characters."""
        while start < end - 1:
            for length in self._lengths.get(text[start : start + 2], ()):
                if start + length <= end and text[start : start + length] in self._synonyms:
                    yield start, start + length
                    start += length
                    break
            else:
                start += 1


class _Known(dict[str, "tuple[str, tuple[str, ...], bool] | None"]):
    """Piece → its word, the synonyms of it and whether it is Written So; None where it has none or is not to be replaced. It remembers
    what it was asked."""

    def __init__(self, synonyms: Thesaurus) -> None:
        super().__init__()
        self._synonyms = synonyms

    def __missing__(self, piece: str) -> tuple[str, tuple[str, ...], bool] | None:
        word = _word(piece)
        others = self._synonyms.get(word.lower(), ())
        stays = word.lower() in _STOP_WORDS or (len(word) < _LEAST_LETTERS and word.isascii()) or NUMERALS.issuperset(word)
        found = (word, others, word[:1].isupper() and not word.isupper()) if others and not stays else None
        if len(self) < _REMEMBERED:
            self[piece] = found
        return found


def _able(pieces: list[str], step: int, known: _Known) -> list[int]:
    """Which pieces may be replaced: of words Written So only the first of a sentence, the others being names; all in a Title Such As
    This One."""
    found = [at for at in range(step - 1, len(pieces), step) if known[pieces[at]]]
    titled = [
        at for at in found if (known[pieces[at]] or _NONE)[2] and at >= step and pieces[at - 1].rstrip(_QUOTES)[-1:] not in _ENDS
    ]
    if titled and 3 * sum(piece[:1].isupper() for piece in pieces) <= 2 * (len(pieces) // step):
        return [at for at in found if at not in titled]
    return found


def _lengths(synonyms: Thesaurus) -> dict[str, tuple[int, ...]]:
    """The first two characters of Chinese words → the lengths of these words, longest first."""
    found: dict[str, set[int]] = {}
    for word in synonyms:
        if len(word) > 1 and word[0] in _IDEOGRAPHS and _IDEOGRAPHS.issuperset(word):
            found.setdefault(word[:2], set()).add(len(word))
    return {head: tuple(sorted(lengths, reverse=True)) for head, lengths in found.items()}


def _word(piece: str) -> str:
    return piece if piece.isalpha() else piece.strip(EDGES)


def _cased(word: str, model: str) -> str:
    """`word` in the case of `model`: GOOD → GREAT, Good → Great; else as the table has it."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word
