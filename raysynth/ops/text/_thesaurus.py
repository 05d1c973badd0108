"""The URL of a table, or a WordNet folder → words and their synonyms."""

import csv
import gzip
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.errors import MissingExtraError, RecipeError
from raysynth.stores.base import absolute, join, store_for

Thesaurus = dict[str, tuple[str, ...]]
"""Word in lower case → its synonyms, in the order of the table; none for words that the table only knows."""

WORDNET = "wordnet"
_SENSES = 2  # of each part of speech, the most frequent ones: the others are mostly beside the point
_DEBIAN = "/usr/share/wordnet"
_FORMS = (
    "`word, synonyms` (a list, or joined by |), `words` or `lemmas` (a list, with `relation` only where it is =), `synset, value`"
)


def read_thesaurus(table: str) -> tuple[Thesaurus, str]:
    """(words, SHA-256 of the files). RecipeError where there is none at that URL, MissingExtraError without Debian's WordNet."""
    folder = _wordnet_folder() if table == WORDNET else absolute(table)
    if store_for(folder).exists(join(folder, "data.noun")):
        return _from_wordnet(folder)
    try:
        data = store_for(folder).read(folder)
    except FileNotFoundError:
        raise RecipeError(f"table: nothing at '{table}'. Give a Parquet, CSV, TSV or JSONL file, or {WORDNET}") from None
    found: dict[str, dict[str, None]] = {}
    try:
        for words, others in _groups(_records(table, data), table):
            for word in words:
                found.setdefault(word.lower(), {}).update(dict.fromkeys(other for other in others if other.lower() != word.lower()))
    except (pa.ArrowException, ValueError, TypeError, OSError, EOFError, csv.Error) as error:
        raise RecipeError(f"table: '{table}' cannot be read ({error}). Give a Parquet, CSV, TSV or JSONL file") from error
    if not any(found.values()):
        raise RecipeError(f"table: '{table}' has no word with a synonym. Forms: {_FORMS}")
    return {word: tuple(others) for word, others in found.items()}, hashlib.sha256(data).hexdigest()


def _records(url: str, data: bytes) -> Iterator[dict[str, Any]]:
    name = url.lower()
    if name.endswith(".gz"):
        name, data = name[:-3], gzip.decompress(data)
    if name.endswith((".parquet", ".pq")):
        yield from pq.read_table(pa.BufferReader(data)).to_pylist()
    elif name.endswith((".jsonl", ".ndjson")):
        for line in data.decode("utf-8-sig").split("\n"):  # a line of JSON may hold other characters that end lines
            if line.strip():
                record: object = json.loads(line)
                if re.search(r"\\u[dD][89a-fA-F]", line) and re.search("[\ud800-\udfff]", json.dumps(record, ensure_ascii=False)):
                    raise ValueError("a line holds half of a surrogate pair, which is no character")
                if not isinstance(record, dict):
                    raise ValueError(f"a line holds a {type(record).__name__}")
                yield cast("dict[str, Any]", record)
    elif name.endswith((".csv", ".tsv")):
        text = io.StringIO(data.decode("utf-8-sig"), newline="")
        yield from csv.DictReader(text, delimiter="\t" if name.endswith(".tsv") else ",")
    else:
        raise ValueError("the name ends in none of .parquet, .csv, .tsv, .jsonl")


def _groups(records: Iterable[dict[str, Any]], table: str) -> Iterator[tuple[list[str], list[str]]]:
    """Rows of any of the forms → (words, synonyms of each of them)."""
    synsets: dict[str, list[str]] = {}
    for record in records:
        if "word" in record and "synonyms" in record:
            yield _texts(record["word"]), _texts(record["synonyms"])
        elif listed := record.get("words", record.get("lemmas")):
            words = _no_names(_texts(listed))
            yield words, words if record.get("relation", "=") == "=" else []
        elif "synset" in record and "value" in record:
            if str(record.get("type") or "lemma").endswith("lemma"):
                synsets.setdefault(str(record["synset"]), []).extend(_texts(record["value"]))
        elif not {"words", "lemmas"} & set(record):
            raise RecipeError(f"table: '{table}' has the columns {', '.join(map(str, record))}. Forms: {_FORMS}")
    for values in synsets.values():
        words = _no_names(values)
        yield words, words


def _no_names(words: list[str]) -> list[str]:
    """Of a group those in small letters: Sunday is no other word for Billy Sunday."""
    return [word for word in words if not any("A" <= letter <= "Z" for letter in word)]


def _texts(cell: object) -> list[str]:
    """A list, or text joined by | → words; + marks in the Chinese Open Wordnet where a word may be parted, _ a blank."""
    listed = cast("list[object]", cell) if isinstance(cell, list) else str(cell or "").split("|")
    words = (str(word).replace("_", " ").replace("+", "").strip() for word in listed if word is not None)
    return [word for word in words if word]


def _wordnet_folder() -> str:
    for folder in (os.environ.get("WNSEARCHDIR"), _DEBIAN):
        if folder and (Path(folder) / "data.noun").is_file():
            return absolute(folder)
    raise MissingExtraError(
        f"text.synonyms: table: {WORDNET} needs WordNet's files in {_DEBIAN} or in the folder that WNSEARCHDIR names. "
        "Install them: apt-get install wordnet-base"
    )


def _from_wordnet(folder: str) -> tuple[Thesaurus, str]:
    """The files that wndb(5WN) describes: index.POS says the senses of a word, most frequent first, data.POS the words of a sense."""
    digest = hashlib.sha256()
    store = store_for(folder)
    found: dict[str, list[tuple[bool, list[str]]]] = {}
    for part in ("noun", "verb", "adj", "adv"):
        index, data = (store.read(join(folder, f"{kind}.{part}")) for kind in ("index", "data"))
        digest.update(index + data)
        words_at = _words_at(data.decode("utf-8", errors="replace"))
        for line in index.decode("utf-8", errors="replace").splitlines():
            if line[:1] == " ":  # the licence
                continue
            cells = line.split()
            offsets, tagged = cells[6 + int(cells[3]) :][:_SENSES], int(cells[5 + int(cells[3])])
            others = _no_names([word for offset in offsets for word in words_at.get(offset, ())])
            found.setdefault(cells[0].replace("_", " "), []).append((tagged > 0, others))
    return {word: _chosen(word, parts) for word, parts in found.items()}, digest.hexdigest()


def _words_at(data: str) -> dict[str, list[str]]:
    """Offset → the words of the sense there; adjectives lose their mark, as (p)."""
    found: dict[str, list[str]] = {}
    for line in data.splitlines():
        if line[:1] != " ":
            cells = line.split(" | ", 1)[0].split()
            found[cells[0]] = [word.split("(")[0].replace("_", " ") for word in cells[4 : 4 + 2 * int(cells[3], 16) : 2]]
    return found


def _chosen(word: str, parts: list[tuple[bool, list[str]]]) -> tuple[str, ...]:
    """The synonyms of those parts of speech that the word was met as in WordNet's tagged texts, or of all if in none."""
    any_met = any(met for met, _ in parts)
    others = (other for met, synonyms in parts if met or not any_met for other in synonyms)
    return tuple(dict.fromkeys(other for other in others if other.lower() != word))
