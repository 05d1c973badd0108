"""The URLs of a file of triples and of lexicons → Knowledge, every line checked.

Triples are CSV or TSV with the columns head, relation, tail, or JSON lines with these keys; a lexicon has one term a line.
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any
from unicodedata import normalize

from raysynth.errors import RecipeError
from raysynth.knowledge import Knowledge, Triple
from raysynth.stores.base import absolute, store_for

MOST_BYTES = 128 << 20  # of one file
MOST_TRIPLES = 1_000_000
MOST_TERMS = 1_000_000  # of one lexicon
MOST_CHARACTERS = 500  # of a head, a relation, a tail or a term


def read_knowledge(triples: str | None, lexicons: Mapping[str, str], of: Sequence[str] = ()) -> Knowledge:
    """URLs → what is known. RecipeError names the key, the file and the line that is wrong."""
    hashes: dict[str, str] = {}
    known: tuple[Triple, ...] = ()
    if triples is not None:
        data = _bytes("knowledge.triples", triples)
        known, hashes["triples"] = tuple(_triples(triples, data)), hashlib.sha256(data).hexdigest()
        if not known:
            raise RecipeError(f"knowledge.triples: '{triples}' has no triple. Give one at least")
    listed: dict[str, tuple[str, ...]] = {}
    for name, url in lexicons.items():
        key = f"knowledge.lexicons.{name}"
        data = _bytes(key, url)
        listed[name], hashes[f"lexicons.{name}"] = tuple(_lexicon(key, url, data)), hashlib.sha256(data).hexdigest()
    return Knowledge(known, listed, tuple(of), hashes)


def _bytes(key: str, url: str) -> bytes:
    try:
        data = store_for(absolute(url)).read_range(absolute(url), 0, MOST_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"{key}: '{url}' is not there. Give the URL of a file") from None
    if len(data) > MOST_BYTES:
        raise RecipeError(f"{key}: '{url}' has more than {MOST_BYTES:,} bytes. Give a smaller file")
    return data


def _text(key: str, url: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise RecipeError(f"{key}: '{url}', line {line}: is no UTF-8. Write the file again in this encoding") from None


def _triples(url: str, data: bytes) -> Iterator[Triple]:
    key, text = "knowledge.triples", _text("knowledge.triples", url, data)
    ending = url.lower().rpartition(".")[2]
    if ending not in ("csv", "tsv", "jsonl", "ndjson"):
        raise RecipeError(f"{key}: '{url}' must end in .csv, .tsv or .jsonl")
    lines = _json_lines(key, url, text) if "json" in ending else _cells(key, url, text, "\t" if ending == "tsv" else ",")
    for count, (line, cells) in enumerate(lines, 1):
        if count > MOST_TRIPLES:
            raise RecipeError(f"{key}: '{url}' has more than {MOST_TRIPLES:,} triples. Give fewer")
        where = f"{key}: '{url}', line {line}"
        triple = Triple(*(_name(f"{where}: {name}", cell) for name, cell in zip(Triple._fields, cells, strict=True)))
        if not triple.relation.strip("_"):
            raise RecipeError(f"{where}: relation is '{triple.relation}', which says nothing. Name it")
        yield triple


def _cells(key: str, url: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        if any(header.count(name) != 1 for name in Triple._fields):
            raise RecipeError(f"{key}: '{url}' must begin with a line of the columns head, relation, tail (got {header[:10]})")
        places = [header.index(name) for name in Triple._fields]
        for row in reader:
            if row and len(row) != len(header):
                raise RecipeError(f"{key}: '{url}', line {reader.line_num}: must have {len(header)} cells (got {len(row)})")
            if row:
                yield reader.line_num, [row[place] for place in places]
    except csv.Error as error:
        raise RecipeError(f"{key}: '{url}', line {reader.line_num}: {error}. Mend the line") from None


def _json_lines(key: str, url: str, text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found: Any = json.loads(line)
            cells = [found[name] for name in Triple._fields]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RecipeError(
                f'{key}: \'{url}\', line {number}: must be such as {{"head": "Acme", "relation": "sector", "tail": "bank"}}'
            ) from None
        if wrong := [cell for cell in cells if not isinstance(cell, str | int | float) or isinstance(cell, bool)]:
            raise RecipeError(f"{key}: '{url}', line {number}: head, relation and tail must be texts (got {str(wrong[0])[:80]})")
        yield number, [str(cell) for cell in cells]


def _lexicon(key: str, url: str, data: bytes) -> Iterator[str]:
    count = 0
    for number, line in enumerate(_text(key, url, data).splitlines(), 1):
        if not line.strip():
            continue
        count += 1
        if count > MOST_TERMS:
            raise RecipeError(f"{key}: '{url}' has more than {MOST_TERMS:,} terms. Give fewer")
        yield _name(f"{key}: '{url}', line {number}: the term", line)
    if not count:
        raise RecipeError(f"{key}: '{url}' has no term. Give one a line")


def _name(what: str, text: str) -> str:
    """As normalised texts have it."""
    name = " ".join(normalize("NFKC", text).split())
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise RecipeError(f"{what} has half of a surrogate pair, which is no character. Mend it")
    if not name:
        raise RecipeError(f"{what} is empty. Fill it in, or leave the line out")
    if len(name) > MOST_CHARACTERS:
        raise RecipeError(f"{what} has {len(name)} characters, and at most {MOST_CHARACTERS} may be. Shorten it")
    return name
