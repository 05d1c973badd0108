"""Texts → the same texts with noise in case and punctuation: lower, upper or title case, the last punctuation dropped or doubled,
full-width for half-width."""

import re
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.base import Op
from raysynth.ops.text._codes import HIDDEN, Texts
from raysynth.ops.text._sentences import Sentences
from raysynth.ops.text._texts import changed, edits, text_columns
from raysynth.schema import Schema

Act = Literal["lower", "upper", "title", "final", "width"]

_FULL, _HALF = "，！？：；（）", ",!?:;()"
_TO_HALF, _TO_FULL = str.maketrans(_FULL + "。", _HALF + "."), str.maketrans(_HALF, _FULL)
_CHINESE = re.compile("[\u3400-\u9fff]")


class Case(Op):
    """`share` of the sentences, at least one of each text, are changed by one of the `acts`:

    lower, upper, title (The First Letter Of Each Word), final (the punctuation that ends the sentence is dropped or doubled, or set
    where there is none) and, in Chinese, width (，。！？ for ,.!? and back). A sentence that an act leaves as it was goes to the next
    one. Addresses, numbers, placeholders and tags stay. `most`: at most so many sentences of one text."""

    def __init__(
        self,
        schema: Schema,
        *,
        columns: tuple[str, ...] | None = None,
        share: Annotated[float, Field(gt=0, le=1)] = 0.5,
        most: Annotated[int, Field(ge=1)] = 100,
        acts: Annotated[tuple[Act, ...], Field(min_length=1)] = ("lower", "upper", "title", "final", "width"),
    ) -> None:
        super().__init__(schema)
        self.columns = text_columns(schema, columns)
        self.share, self.most, self.acts = share, most, acts

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        return changed(rows, self.columns, draws, self._change)

    def _change(self, texts: Texts, draws: Draws, name: str) -> pa.Array:
        found = Sentences.of(texts)
        edited = edits(draws, name, found.counts, share=self.share, most=self.most)
        at = (np.cumsum(found.counts) - found.counts)[edited.rows] + edited.places
        starts, gaps = found.starts[at], found.gaps[at]
        begins = texts.starts[edited.rows]
        places = zip(*((part - begins).tolist() for part in (starts, found.ends[at], gaps)), strict=True)
        seen = texts.seen()
        new: list[str] = []
        for row, (start, end, gap), choice in zip(edited.rows.tolist(), places, edited.choices.tolist(), strict=True):
            text = texts.texts[row]
            new.append(self._edited(text[start:end], seen[row][start:end], text[end:gap], choice))
        lengths = np.array([len(text) for text in new], np.int64)
        pieces = len(texts.codes) + np.cumsum(lengths) - lengths
        return texts.spliced(edited.rows, starts, gaps, pieces[:, None], lengths[:, None], "".join(new))

    def _edited(self, body: str, seen: str, end: str, choice: int) -> str:
        """A sentence, what of it may change, its last punctuation → it after the first act from the one chosen on that changes it."""
        for turn in range(len(self.acts)):
            act = self.acts[(choice + turn) % len(self.acts)]
            if act == "final":
                made = body if end and choice >> 8 & 1 else body + end + (end or _stop(body))[-1:]
            elif act != "width":
                made = _outside(body, seen, _CASES[act]) + end
            elif _CHINESE.search(body):
                made = _outside(body, seen, _other_width) + _other_width(end)
            else:
                continue
            if made != body + end:
                return made
        return body + end


def _stop(body: str) -> str:
    """The full stop that a sentence lacks; none where it has no word."""
    return "。" if _CHINESE.search(body) else "." if body[-1:].isalnum() else ""


def _title(text: str) -> str:
    """Each word behind a blank; what stands in the words stays."""
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


def _other_width(text: str) -> str:
    """Chinese punctuation as ASCII if it has some, else the other way round."""
    half = text.translate(_TO_HALF)
    return half if half != text else text.translate(_TO_FULL)


_CASES: dict[str, Callable[[str], str]] = {"lower": str.lower, "upper": str.upper, "title": _title}


def _outside(text: str, seen: str, change: Callable[[str], str]) -> str:
    """`change` of the pieces of the text that are not hidden in `seen`."""
    if seen == text:
        return change(text)
    pieces = ((match[0], text[match.start() : match.end()]) for match in _RUNS.finditer(seen))
    return "".join(piece if shown[0] == HIDDEN else change(piece) for shown, piece in pieces)


_RUNS = re.compile(f"{HIDDEN}+|[^{HIDDEN}]+")
