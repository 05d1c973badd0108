"""Rows of a table ↔ Fields: every column becomes one categorical field, or a coarse field and the digit inside it; ids are made anew."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.codecs._coding import Coding
from raysynth.codecs._column_stats import ColumnStats, TableStats, column_of, lowest, observe_column, whole
from raysynth.codecs._identifiers import Identifier, identifier_of
from raysynth.codecs._numbers import Mask, is_number
from raysynth.codecs.base import Codec, Stats
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import Array, Arrays, Batch, Facts, Fields, FieldsGiven
from raysynth.row_ids import id_words
from raysynth.schema import Column, Schema
from raysynth.where import Condition, Range, Values, Where

CONTINUOUS = {"integer", "number", "date", "time", "datetime", "duration"}
MAX_KNOTS = 16_384


class Tabular(Codec):
    """`max_values`: a numeric column with more distinct values is cut into `bins` quantile intervals of `digits` parts each, and into
    fewer where they would hold less than `rows_per_bin` train rows, which would be learnt by heart; `atom_share`: a value this
    frequent keeps a code of its own; `max_codes`: wider categories are written as two fields."""

    def __init__(
        self,
        schema: Schema,
        *,
        seed: int = 0,
        max_values: int = 256,
        bins: int = 64,
        rows_per_bin: int = 400,
        digits: int = 16,
        atom_share: float = 0.003,
        max_codes: int = 512,
    ) -> None:
        super().__init__(schema, seed=seed)
        if turns := [column.name for column in schema if column.kind == "turns"]:
            raise RecipeError(
                f"codec.use: tabular writes no conversations, and column '{turns[0]}' is of kind turns. Say generator: {{use: "
                f"language_model}} or text_vae, or schema: {{columns: {{{turns[0]}: {{kind: json}}}}}}, where whole conversations are values"
            )
        if images := [column.name for column in schema if column.kind == "image"]:
            raise RecipeError(
                f"codec.use: tabular writes no pictures, and column '{images[0]}' is of kind image. Say generator: {{use: diffusion}}, "
                "vae or gan"
            )
        self.max_values, self.bins, self.rows_per_bin, self.digits = max_values, bins, rows_per_bin, digits
        self.atom_share, self.max_codes = atom_share, max_codes
        self.codings: list[Coding | Identifier] = []

    def observe(self, rows: pa.Table) -> TableStats:
        columns = [column_of(rows, column) for column in self.schema]
        sample = pa.table(columns, names=self.schema.names)
        return TableStats(tuple(observe_column(column) for column in columns), *lowest(id_words(rows, self.seed), sample))

    def settle(self, stats: Stats) -> Fields:
        stats = cast(TableStats, stats)
        self.codings = [
            self._settle_column(column, seen, whole(stats.sample.column(column.name)))
            for column, seen in zip(self.schema, stats.columns, strict=True)
        ]
        return self._lay_out()

    def encode(self, rows: pa.Table) -> Batch:
        codes = [code for coding in self._learnt() for code in coding.to_codes(coding.encode(column_of(rows, coding.column)))]
        empty = np.zeros((rows.num_rows, 0), dtype=np.int32)
        return Batch({"codes": np.stack(codes, axis=1).astype(np.int32) if codes else empty})

    def decode(self, batch: Batch, draws: Draws) -> pa.Table:
        learnt = self.decode_learnt(batch, draws)
        columns = [
            coding.decode(draws, self.seed) if isinstance(coding, Identifier) else learnt[coding.column.name]
            for coding in self.codings
        ]
        return pa.table(columns, schema=self.schema.arrow)

    def decode_learnt(self, batch: Batch, draws: Draws) -> dict[str, pa.Array]:
        """All columns but ids, which are made of the numbers of rows: for rows that have none."""
        codes, place = np.ascontiguousarray(batch["codes"].T).astype(np.int64), 0
        columns: dict[str, pa.Array] = {}
        for coding in self._learnt():
            width = 1 if coding.digits == 1 else 2
            columns[coding.column.name] = coding.decode(coding.to_cells(list(codes[place : place + width])), draws)
            place += width
        return columns

    def condition(self, where: Where) -> FieldsGiven | None:
        for coding in self.codings:
            if isinstance(coding, Identifier) and coding.column.name in where:
                name = coding.column.name
                raise RecipeError(f"where.{name}: ids are made anew from the row's number, so none can be asked for. Leave it out")
        masks: dict[int, Mask] = {}
        place = 0
        for coding in self._learnt():
            name = coding.column.name
            if name in where:
                masks.update(_field_masks(coding, _allowed_cells(coding, where[name]), place))
            place += len(coding.fields())
        return FieldsGiven(masks) if masks else None

    def state(self) -> tuple[Arrays, Facts]:
        arrays: Arrays = {}
        facts: list[dict[str, Any]] = []
        for number, coding in enumerate(self.codings):
            if isinstance(coding, Identifier):
                facts.append({"alphabets": coding.alphabets, "capacity": coding.capacity})
                continue
            facts.append({"specials": list(coding.specials), "singles": coding.singles, "digits": coding.digits})
            facts[-1] |= {"cells": coding.cells, "step": coding.step}
            arrays |= {f"{number}.{name}": getattr(coding, name) for name in ("edges", "starts", "knots")}
            if is_number(coding.column.type):
                arrays[f"{number}.atoms"] = coding.atoms
            else:
                arrays[f"{number}.lengths"], arrays[f"{number}.bytes"] = _words_out(coding.atoms)
        return arrays, {"columns": facts}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        self.codings = []
        for number, (column, fact) in enumerate(zip(self.schema, facts["columns"], strict=True)):
            if "capacity" in fact:
                self.codings.append(Identifier(column, tuple(fact["alphabets"]), fact["capacity"]))
                continue
            named: dict[str, Any] = {name: arrays[f"{number}.{name}"] for name in ("edges", "starts", "knots")}
            if is_number(column.type):
                atoms: Any = arrays[f"{number}.atoms"]
            else:
                atoms = _words_in(arrays[f"{number}.lengths"], arrays[f"{number}.bytes"], column.type)
            sizes: dict[str, Any] = {name: fact[name] for name in ("singles", "digits", "cells", "step")}
            self.codings.append(Coding(column, tuple(fact["specials"]), atoms, **sizes, **named))
        self._lay_out()

    def _learnt(self) -> Iterator[Coding]:
        return (coding for coding in self.codings if isinstance(coding, Coding))

    def _lay_out(self) -> Fields:
        self.layout = Fields(tuple(field for coding in self._learnt() for field in coding.fields()))
        return self.layout

    def _settle_column(self, column: Column, seen: ColumnStats, sample: pa.Array) -> Coding | Identifier:
        if column.kind == "id" and (pa.types.is_integer(column.type) or pa.types.is_string(column.type)):
            return identifier_of(column, sample)
        if seen.counts is None:
            seen = replace(observe_column(sample), specials=seen.specials, step=seen.step)
        counts = cast("NDArray[np.int64]", seen.counts)
        specials = tuple(int(code) for code in np.flatnonzero(seen.specials))
        if not is_number(column.type):
            order = np.argsort(-counts, kind="stable")
            return self._settle_atoms(column, specials, seen.values.take(pa.array(order)), min(len(counts), 128))
        if column.kind in CONTINUOUS and len(counts) > self.max_values:
            return self._settle_intervals(column, specials, seen.values, counts, seen.step)
        return self._settle_atoms(column, specials, seen.values, 0)

    def _settle_atoms(self, column: Column, specials: tuple[int, ...], atoms: Any, frequent: int) -> Coding:
        cells = len(specials) + len(atoms)
        if cells == 0:  # no row was seen at all: what is made is null
            specials, cells = (0,), 1
        if cells <= self.max_codes:
            return Coding(column, specials, atoms, cells, 1, cells)
        singles = len(specials) + frequent
        return Coding(column, specials, atoms, singles, math.isqrt(cells - singles) + 1, cells)

    def _settle_intervals(
        self, column: Column, specials: tuple[int, ...], values: Array, counts: NDArray[np.int64], step: int
    ) -> Coding:
        frequent = counts >= max(10, self.atom_share * counts.sum())
        atoms, rest = values[frequent], np.repeat(values[~frequent], counts[~frequent])
        if len(rest) > MAX_KNOTS:
            rest = rest[np.linspace(0, len(rest) - 1, MAX_KNOTS).astype(np.int64)]
        singles = len(specials) + len(atoms)
        if not len(rest):
            return Coding(column, specials, atoms, singles, 1, singles, step)
        bins = max(1, min(self.bins, len(rest) // self.rows_per_bin))
        digits = max(1, min(self.digits, len(rest) // (4 * bins)))
        edges = np.unique(rest[np.arange(bins * digits) * len(rest) // (bins * digits)])
        starts = np.append(np.searchsorted(rest, edges), len(rest)).astype(np.int64)
        return Coding(column, specials, atoms, singles, digits, singles + len(edges), step, edges, starts, rest)


def _allowed_cells(coding: Coding, condition: Condition) -> Mask:
    cells = coding.allowed(condition)
    for said, one in _one_by_one(condition):
        if not coding.allowed(one).any():
            raise RecipeError(f"where.{coding.column.name}: no train row has {said}, so that no row can be made for it")
    if not cells.any():
        raise RecipeError(f"where.{coding.column.name}: no train row is null, so that no row can be made for it")
    return cells


def _one_by_one(condition: Condition) -> list[tuple[str, Condition]]:
    """Each of several values, and how errors name it."""
    if not isinstance(condition, Values):
        return [("this range" if isinstance(condition, Range) else "this beginning", condition)]
    asked = condition.asked or condition.values.to_pylist()
    return [(repr(said), Values(condition.values.slice(place, 1))) for place, said in enumerate(asked)]


def _field_masks(coding: Coding, cells: Mask, place: int) -> Mapping[int, Mask]:
    masks = [np.zeros(field.size, dtype=np.bool_) for field in coding.fields()]
    for mask, codes in zip(masks, coding.to_codes(np.flatnonzero(cells)), strict=True):
        mask[codes] = True
    return {place + number: mask for number, mask in enumerate(masks) if not mask.all()}


def _words_out(words: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    known = [value or b"" for value in words.cast(pa.large_binary()).to_pylist()]
    return np.array([len(value) for value in known], dtype=np.int64), np.frombuffer(b"".join(known), dtype=np.uint8)


def _words_in(lengths: NDArray[np.int64], data: NDArray[np.uint8], type_: pa.DataType) -> pa.Array:
    ends, text = np.cumsum(lengths), data.tobytes()
    words = [text[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]
    if pa.types.is_fixed_size_binary(type_):
        return pa.array(words, type_)
    return pa.array(words, pa.large_binary()).cast(type_)
