"""Real and synthetic rows with columns of texts → some synthetic texts, each beside the real one that is nearest to it by its words.

Unless asked for, no real text leaves here: of the nearest one only those words that the synthetic text has as well, in their places.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from math import fsum, log
from typing import Any

import pyarrow as pa

from raysynth.schema import Schema
from raysynth.words import joined, words

SHOWN = 10
LETTERS = 300
_COMPARED = 20_000  # real texts
_COMPARED_LETTERS = 2000  # of each text
HIDDEN = "…"


def side_by_side(schema: Schema, real: pa.Table, synthetic: pa.Table, *, whole: bool) -> list[dict[str, Any]]:
    """Of each column of texts {name, compared, letters, pairs}; a pair is {synthetic, nearest, shared, words, run}: the texts, how many
    of the synthetic one's words the nearest has, out of how many, and how many in a row. `whole`: real texts too, whole."""
    columns = [column.name for column in schema if column.kind == "text" and not column.derived]
    found = [_column(name, _texts(real, name, _COMPARED), _texts(synthetic, name, SHOWN), whole) for name in columns]
    return [column for column in found if column["pairs"]]


def _texts(rows: pa.Table, name: str, most: int) -> list[str]:
    """On one line each; nulls left out."""
    texts: list[Any] = rows.column(name).drop_null().slice(0, most).to_pylist()
    return [" ".join(text[:_COMPARED_LETTERS].split()) for text in texts]


def _column(name: str, real: Sequence[str], synthetic: Sequence[str], whole: bool) -> dict[str, Any]:
    split = [words(text) for text in real]
    kinds = [frozenset(text) for text in split]
    weights = _weights(kinds)
    totals = [fsum(weights[word] for word in text) for text in kinds]  # exact, in whatever order a set is
    pairs: list[dict[str, Any]] = []
    for number, text in enumerate(synthetic):
        made = words(text)
        at = _nearest(frozenset(made), kinds, totals, weights)
        near = split[at] if at is not None else []
        pairs.append(
            {
                "synthetic": text,
                "nearest": real[at] if whole and at is not None else joined(list(_masked(near, frozenset(made)))),
                "shared": sum(word in near for word in made),
                "words": len(made),
                "run": SequenceMatcher(None, made, near, autojunk=False).find_longest_match().size,
            }
        )
        if whole:
            pairs[-1]["real"] = real[number] if number < len(real) else ""
    return {"name": name, "compared": len(real), "letters": LETTERS, "pairs": pairs}


def _weights(kinds: Sequence[frozenset[str]]) -> dict[str, float]:
    """Word → the logarithm of one in how many texts has it."""
    counts = Counter(word for text in kinds for word in text)
    return {word: log((len(kinds) + 1) / count) for word, count in counts.items()}


def _nearest(
    made: frozenset[str], kinds: Sequence[frozenset[str]], totals: Sequence[float], weights: dict[str, float]
) -> int | None:
    """The first text whose words have most weight in common with these, as a share of the weight of both; None where none has any."""
    rare = log(len(kinds) + 1)
    of_made = fsum(weights.get(word, rare) for word in made)
    best, found = 0.0, None
    for at, (text, total) in enumerate(zip(kinds, totals, strict=True)):
        shared = fsum(weights[word] for word in made & text)
        share = shared / (of_made + total - shared) if shared else 0.0
        if share > best:
            best, found = share, at
    return found


def _masked(text: Sequence[str], known: frozenset[str]) -> Iterator[str]:
    """The words that are known; each run of others as one HIDDEN."""
    for there, run in groupby(text, known.__contains__):
        yield from run if there else [HIDDEN]
