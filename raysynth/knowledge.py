"""Triples (head, relation, tail) and lists of terms → the facts that a text speaks of, the tails of a head, and the columns of facts that
belong to a column of heads.

Names are the same where their words are (`words.words`): Acme, ACME and Ａｃｍｅ. A tail of the relation `alias` is another name of its
head, unless two heads have it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, cast

import pyarrow as pa

from raysynth.errors import RecipeError
from raysynth.terms import Key, Terms, key_of
from raysynth.words import language, words

MOST_FACTS = 50  # told of one text
MOST_COLUMNS = 64
ALIASES = ("alias", "别名")
_VERB_FIRST = {"is", "are", "was", "were", "has", "had", "have"}
_VERB_LAST = {"in", "at", "by", "on", "to", "from", "with", "for", "of"}
_ZH_VERB = re.compile("^(是|在|位于|属于|成立于|来自|拥有|生产)")


class Triple(NamedTuple):
    head: str
    relation: str
    tail: str

    @property
    def is_alias(self) -> bool:
        return self.relation in ALIASES


class FactColumn(NamedTuple):
    """A column `name` that holds, for the heads in `column`, the tail of `relation`."""

    name: str
    column: str
    relation: str


@dataclass(frozen=True)
class Knowledge:
    """`lexicons`: name → terms. `of`: the columns whose values are heads. `sha256`: of all the files, by what they are."""

    triples: tuple[Triple, ...] = ()
    lexicons: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    of: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict[str, str])

    # What is known

    def about(self, text: str, most: int = MOST_FACTS) -> list[str]:
        """The facts whose head the text names, in the order in which it names them, each as a short sentence in the triple's language."""
        heads = dict.fromkeys(self.heads_in(words(text)))
        told = (_sentence(Triple(self._written[head], *fact)) for head in heads for fact in self._facts_of(head))
        return [sentence for sentence, _ in zip(told, range(most), strict=False)]

    def tail(self, head: str, relation: str) -> str | None:
        """The one tail; None where there is none, or several."""
        found = self.tails(head, relation)
        return found[0] if len(found) == 1 else None

    def tails(self, head: str, relation: str) -> tuple[str, ...]:
        known = self.head_of(key_of(head))
        return () if known is None else self._facts[known].get(relation, ())

    def names(self, head: str) -> list[str]:
        """All names of a head; of what is none, the name itself."""
        known = self.head_of(key_of(head))
        return [head] if known is None else [self._written[known], *self._aliases[known]]

    def head_of(self, name: Key) -> Key | None:
        return self._names.get(name)

    def heads_in(self, spoken: Sequence[str]) -> Iterator[Key]:
        """The heads that some words name, from left to right, by any of their names: the longest at each place."""
        return (self._names[name] for name in self._terms.found(spoken))

    def relations_of(self, head: Key) -> Mapping[str, tuple[str, ...]]:
        """Relation → tails, aliases left out."""
        return self._facts[head]

    def tails_of(self, head: Key, relation: str) -> frozenset[Key]:
        return frozenset(map(key_of, self._facts[head].get(relation, ())))

    @cached_property
    def relations(self) -> Mapping[str, tuple[Terms, Terms]]:
        """Relation, in the order of the file → its own words, and all that any head has as its tail."""
        found: dict[str, set[Key]] = {}
        for head, facts in self._facts.items():
            for relation in facts:
                found.setdefault(relation, set()).update(self.tails_of(head, relation))
        return {relation: (Terms([key_of(relation.replace("_", " "))]), Terms(tails)) for relation, tails in found.items()}

    # Facts as columns

    @cached_property
    def columns(self) -> tuple[FactColumn, ...]:
        """One for each of `of` and each relation that has one tail a head, in the order of the file. RecipeError on a relation that gives
        no name of a column, on two of one name, and where there is none."""
        several = {relation for facts in self._facts.values() for relation, tails in facts.items() if len(tails) > 1}
        single = [relation for relation in self.relations if relation not in several]
        found = [FactColumn(_column_name(column, relation), column, relation) for column in self.of for relation in single]
        if self.of and not found:
            raise RecipeError("knowledge.of: no relation of knowledge.triples has one tail for each head. Leave `of` out")
        if len(found) > MOST_COLUMNS:
            raise RecipeError(f"knowledge.of: it would add {len(found)} columns, and at most {MOST_COLUMNS} may be. Name fewer")
        names = [column.name for column in found]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise RecipeError(f"knowledge.of: two relations give a column '{twice[0]}'. Rename one of them in knowledge.triples")
        return tuple(found)

    def joined(self, rows: pa.Table) -> pa.Table:
        """The rows with the columns of facts behind; null where the head is unknown or has no such fact."""
        for column in self.columns:
            rows = rows.append_column(column.name, self.facts_of(rows.column(column.column), column.relation))
        return rows

    def facts_of(self, heads: pa.ChunkedArray, relation: str) -> pa.Array:
        """(rows,) strings: the one tail of each."""
        coded = cast("Any", heads.cast(pa.string()).combine_chunks()).dictionary_encode()
        tails = [None if head is None else self.tail(head, relation) for head in coded.dictionary.to_pylist()]
        return pa.array(tails, pa.string()).take(coded.indices)

    # As JSON, without what is not needed

    def to_json(self) -> dict[str, Any]:
        return {"triples": self.triples, "lexicons": {name: list(terms) for name, terms in self.lexicons.items()}, "of": self.of}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> "Knowledge":
        lexicons = {name: tuple(terms) for name, terms in stored["lexicons"].items()}
        return Knowledge(tuple(Triple(*triple) for triple in stored["triples"]), lexicons, tuple(stored["of"]))

    # How it is looked up

    @cached_property
    def _written(self) -> dict[Key, str]:
        """Head → as it is first written."""
        found: dict[Key, str] = {}
        for triple in self.triples:
            found.setdefault(key_of(triple.head), triple.head)
        return found

    @cached_property
    def _facts(self) -> dict[Key, dict[str, tuple[str, ...]]]:
        found: dict[Key, dict[str, dict[Key, str]]] = {head: {} for head in self._written}
        for head, relation, tail in self.triples:
            if relation not in ALIASES:
                found[key_of(head)].setdefault(relation, {}).setdefault(key_of(tail), tail)
        return {head: {name: tuple(tails.values()) for name, tails in facts.items()} for head, facts in found.items()}

    @cached_property
    def _aliases(self) -> dict[Key, list[str]]:
        found: dict[Key, dict[str, None]] = {head: {} for head in self._written}
        for head, relation, tail in self.triples:
            if relation in ALIASES:
                found[key_of(head)][tail] = None
        return {head: list(names) for head, names in found.items()}

    @cached_property
    def _names(self) -> dict[Key, Key]:
        """Name → the head that it names."""
        owners: dict[Key, set[Key]] = {}
        for head, aliases in self._aliases.items():
            for alias in aliases:
                owners.setdefault(key_of(alias), set()).add(head)
        clear = {name: next(iter(heads)) for name, heads in owners.items() if len(heads) == 1}
        return clear | {head: head for head in self._written}

    @cached_property
    def _terms(self) -> Terms:
        return Terms(self._names)

    def _facts_of(self, head: Key) -> Iterator[tuple[str, str]]:
        return ((relation, tail) for relation, tails in self._facts[head].items() for tail in tails)


def _sentence(triple: Triple) -> str:
    head, relation, tail = triple.head, triple.relation.replace("_", " "), triple.tail
    if "zh" in (language(relation), language(head + tail)):
        return f"{head}{relation}{tail}。" if _ZH_VERB.match(relation) else f"{head}的{relation}是{tail}。"
    spoken = relation.lower().split()
    if spoken[0] in _VERB_FIRST or spoken[-1] in _VERB_LAST:
        return f"{head} {relation} {tail}."
    return f"The {relation} of {head} is {tail}."


def _column_name(column: str, relation: str) -> str:
    name = "_".join([column, *relation.split()])
    if not re.fullmatch(r"\w+", "_".join(relation.split())):
        raise RecipeError(
            f"knowledge.of: the relation '{relation}' gives no name of a column ('{name}'). Use letters, digits and _ in knowledge.triples"
        )
    return name
