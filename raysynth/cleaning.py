"""Raw tables → clean ones of the schema's types, rows that do not parse set apart; the split and the content hash of each row."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cells import ISO, NULL_TOKENS, convert, flat, hash_texts, is_text, nulls, parse, pc, tidy, truths
from raysynth.column_profile import as_images, image_digests, is_images
from raysynth.draws import Words, mix, row_words, word
from raysynth.errors import MissingExtraError
from raysynth.schema import FILE, IMAGE, ROW, Column, Schema
from raysynth.sources.base import BadRow
from raysynth.turns import turns_of

DEFAULT = NULL_TOKENS
TRAIN, VALIDATION, HOLDOUT = 0, 1, 2

MAX_PIXELS = 36_000_000
"""Of a picture, where the recipe says nothing: 108 MB once it is decoded."""

_TEXT_CHARACTERS = 10_000


def clean(
    table: pa.Table,
    schema: Schema,
    *,
    null_tokens: Sequence[str] = DEFAULT,
    formats: Mapping[str, str] | None = None,
    told: Callable[[str], str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> tuple[pa.Table, list[BadRow]]:
    """A table as read → `_file`, `_row` and the schema's columns (derived ones left out); bad rows say column, value and reason.

    A column that the table lacks is null. `formats`: the date order of columns that are not ISO (`profile.date_formats`). `told`: what
    the bad rows show in place of a value, where that may be personal.
    """
    columns: list[pa.Array] = []
    reasons: dict[int, list[str]] = {}
    found = set(table.column_names)  # the table makes its list anew each time it is asked
    for column in schema.learnt:
        if column.name not in found:
            columns.append(nulls(table.num_rows, column.type))
            continue
        if column.kind == "image":
            values, wrong = checked_images(table.column(column.name), max_pixels)
            columns.append(values)
            for at, reason in wrong.items():
                reasons.setdefault(at, []).append(f"column '{column.name}': {reason}")
            continue
        raw = flat(table.column(column.name))
        if column.kind == "turns":
            values, wrong = turns_of(tidy(raw.cast(pa.string()), null_tokens))
            columns.append(values)
            for at, reason in wrong.items():
                reasons.setdefault(at, []).append(f"column '{column.name}': {reason}")
            continue
        values, failed = _cast(raw, column, null_tokens, (formats or {}).get(column.name, ISO))
        columns.append(values)
        for at in np.flatnonzero(failed).tolist():
            reasons.setdefault(at, []).append(
                f"column '{column.name}': {_shown(raw[at], told)} is no {column.kind} ({column.type})"
            )
    ids = [flat_ids(table.column(FILE)), table.column(ROW)]
    cleaned = pa.table([*ids, *columns], names=[FILE, ROW, *(column.name for column in schema.learnt)])
    if not reasons:
        return cleaned, []
    keep = np.ones(table.num_rows, dtype=np.bool_)
    keep[list(reasons)] = False
    return cleaned.filter(pa.array(keep)), _bad_rows(table, reasons, told)


def split_of(table: pa.Table, *, seed: int, validation: float, holdout: float, group_by: str | None = None) -> NDArray[np.int8]:
    """Clean rows → 0 train, 1 validation, 2 holdout, shape (rows,): by row id, or by the `group_by` value where it is not null."""
    file = flat_ids(table.column(FILE))
    rows = np.asarray(table.column(ROW), dtype=np.int64)
    index = np.asarray(file.indices, dtype=np.int64)
    words = row_words([str(name) for name in file.dictionary.to_pylist()], index, rows, seed)
    if group_by is not None:
        group = flat(table.column(group_by))
        words = np.where(truths(pc.is_valid(group)), _value_words(group), words)
    uniform = (mix(words ^ word(seed, "split", group_by or "")) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    split = np.where(uniform < validation, VALIDATION, np.where(uniform < validation + holdout, HOLDOUT, TRAIN))
    return split.astype(np.int8)


def row_hash(table: pa.Table, schema: Schema) -> Words:
    """Clean rows → a 64-bit hash of their contents, shape (rows,): the same wherever they lie. Derived columns do not count."""
    total = np.zeros(table.num_rows, dtype=np.uint64)
    for column in schema.learnt:
        found = table.column(column.name)
        values = image_digests(as_images(found)) if column.kind == "image" else flat(found)
        words = np.where(truths(pc.is_valid(values)), _value_words(values), word("null"))
        total += mix(words ^ word("row", column.name))
    return mix(total)


def checked_images(column: pa.ChunkedArray, max_pixels: int) -> tuple[pa.Array, dict[int, str]]:
    """(rows,) pictures that can be decoded, upright and of 8 bits; and row → why it holds none. Such rows are null."""
    try:
        from raysynth.pictures import NoPictureError, checked, data_of, image_array, paths_of  # a table needs none of it
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"column of images: needs the package '{error.name}'. Install it: pip install 'raysynth[image]'"
        ) from None
    if not is_images(column):
        if column.null_count < len(column):
            return nulls(len(column), IMAGE), dict.fromkeys(range(len(column)), f"it is {column.type}, and no image")
        return nulls(len(column), IMAGE), {}
    images = as_images(column)
    kept: list[bytes | None] = []
    wrong: dict[int, str] = {}
    for row, data in enumerate(data_of(images)):
        try:
            kept.append(None if data is None else checked(data, max_pixels=max_pixels))
        except NoPictureError as error:
            kept.append(None)
            wrong[row] = str(error)
    return image_array(kept, paths_of(images)), wrong


def flat_ids(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """The `_file` column as one array with one dictionary, whatever chunks or type it came in."""
    array = column.unify_dictionaries().combine_chunks() if pa.types.is_dictionary(column.type) else column.combine_chunks()
    if isinstance(array, pa.DictionaryArray):
        return array
    return array.cast(pa.string()).dictionary_encode()


def _cast(raw: pa.Array, column: Column, null_tokens: Sequence[str], order: str) -> tuple[pa.Array, NDArray[np.bool_]]:
    """One column → values of its type, and (rows,) True where there was something that is no such value."""
    if is_text(raw.type):
        coded = raw.dictionary_encode()  # each distinct text is tidied and parsed once
        text = tidy(coded.dictionary, null_tokens)
        values = parse(text, column.type, order)
        failed = truths(pc.and_(pc.is_valid(text), pc.is_null(values)).take(coded.indices))
        return values.take(coded.indices), failed
    if pa.types.is_floating(raw.type):
        raw = pc.if_else(pc.is_nan(raw), pa.scalar(None, raw.type), raw)
        finite = pc.if_else(pc.is_finite(raw), raw, pa.scalar(None, raw.type))
    else:
        finite = raw
    values = convert(finite, column.type)
    return values, truths(pc.and_(pc.is_valid(raw), pc.is_null(values)))


def _value_words(values: pa.Array) -> Words:
    """Values → a hash of each, the same in every table; nulls hash as anything."""
    type = values.type
    if pa.types.is_floating(type):
        numbers = np.asarray(pc.fill_null(values.cast(pa.float64()), 0.0)) + 0.0  # -0.0 is 0.0
        return mix(numbers.view(np.uint64))
    if pa.types.is_boolean(type) or pa.types.is_integer(type):
        return mix(np.asarray(pc.fill_null(values.cast(pa.int64(), safe=False), 0)).view(np.uint64))
    if pa.types.is_temporal(type) and not pa.types.is_interval(type):
        width = pa.int32() if type.bit_width == 32 else pa.int64()
        return mix(np.asarray(pc.fill_null(values.cast(width).cast(pa.int64()), 0)).view(np.uint64))
    coded = values.dictionary_encode()
    if not len(coded.dictionary):
        return np.zeros(len(values), dtype=np.uint64)
    return hash_texts(coded.dictionary.cast(pa.string()))[np.asarray(pc.fill_null(coded.indices, 0))]


def _bad_rows(table: pa.Table, reasons: Mapping[int, list[str]], told: Callable[[str], str] | None) -> list[BadRow]:
    places = sorted(reasons)
    rows = _without_bytes(table.take(pa.array(places, pa.int64()))).to_pylist()
    return [
        BadRow(
            path=str(row.pop(FILE)),
            row=int(row.pop(ROW)),
            reason="; ".join(reasons[at]),
            text=json.dumps(row if told is None else _told(row, told), ensure_ascii=False, default=str)[:_TEXT_CHARACTERS],
        )
        for at, row in zip(places, rows, strict=True)
    ]


def _without_bytes(rows: pa.Table) -> pa.Table:
    """Of images where they came from: nobody reads their bytes."""
    for place, name in enumerate(rows.column_names):
        if is_images(rows.column(name)):
            rows = rows.set_column(place, name, cast("Any", as_images(rows.column(name))).field("path"))
    return rows


def _shown(value: pa.Scalar, told: Callable[[str], str] | None) -> str:
    plain = value.as_py()
    text = repr(plain if told is None else _told(plain, told))
    return text if len(text) <= 80 else text[:77] + "…"


def _told(value: Any, told: Callable[[str], str]) -> Any:
    """The value, or of lists and mappings each one in them, as it may be told; a number too may be somebody's."""
    if isinstance(value, Mapping):
        return {name: _told(item, told) for name, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [_told(item, told) for item in cast("list[Any]", value)]
    if isinstance(value, str):
        return told(value)
    text = str(value)
    return value if (shown := told(text)) == text else shown
