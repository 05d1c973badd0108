"""Laws that every op on the shelf keeps: what it makes of a row is a function of that row's id, whatever batch it comes in."""

import json
from functools import cache, reduce
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch

from raysynth.codecs.tabular import Tabular
from raysynth.codecs.text import Text
from raysynth.draws import Draws, row_words
from raysynth.generators.autoregressive import Autoregressive
from raysynth.generators.language_model import LanguageModel
from raysynth.layout import Facts, Tokens
from raysynth.models import Model
from raysynth.ops.base import Asking, Lent, Op
from raysynth.parts import available, find
from raysynth.pictures import encoded, image_array
from raysynth.schema import FILE, ROW, Column, Kind, Schema
from raysynth.stores.base import store_for
from raysynth.training import initialise

SYNONYMS = "memory://test-ops/synonyms.csv"
store_for(SYNONYMS).put(SYNONYMS, "word,synonyms\nlate,tardy|belated|overdue\ngood,fine|great\n味道,口味|滋味|气味\n".encode())

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "image.affine": [{"column": "photo", "probability": 0.5}, {"boxes": "boxes", "masks": ("mask",), "fill": "black"}],
    "image.blur": [{"column": "photo"}],
    "image.colour": [{"column": "photo"}, {"column": "mask", "probability": 0.5}],
    "image.crop": [{"boxes": "boxes", "masks": ("mask",)}, {"column": "photo", "resize": False, "place": "centre"}],
    "image.cutmix": [{"column": "photo", "target": "town"}],
    "image.erase": [{"column": "photo"}, {"column": "photo", "fill": "mean", "probability": 1.0}],
    "image.flip": [{"boxes": "boxes", "masks": ("mask",), "vertical": 0.5}],
    "image.greyscale": [{"column": "photo", "probability": 0.5}],
    "image.jpeg": [{"column": "photo"}],
    "image.mixup": [{"column": "photo", "target": "bought", "pool_rows": 20}],
    "image.noise": [{"column": "photo"}],
    "image.perspective": [{"boxes": "boxes", "masks": ("mask",)}],
    "image.resize": [{"boxes": "boxes", "masks": ("mask",), "size": (9, 20), "fit": "crop"}],
    "image.rotate": [{"boxes": "boxes", "masks": ("mask",)}, {"column": "photo", "degrees": 90.0, "fill": "white"}],
    "tabular.impute": [{"model": "memory://test-ops/run"}, {"model": "memory://test-ops/run", "columns": ("pay",)}],
    "tabular.jitter": [{}, {"scale": 0.5, "columns": ("age",)}],
    "tabular.balance": [{"column": "town"}, {"column": "bought", "to": {"true": 3, "false": 1}}],
    "tabular.mixup": [{"target": "bought"}, {"target": "town", "alpha": 1.0, "pool_rows": 5}],
    "text.back_translation": [{"url": "http://nobody:1/v1", "model": "m"}],
    "text.case": [{}, {"acts": ("upper", "final"), "share": 1.0}],
    "text.infill": [{"model": "memory://test-ops/run", "column": "said"}],
    "text.ocr": [{}, {"share": 0.2, "most": 3, "columns": ("said",)}],
    "text.paraphrase": [{"url": "http://nobody:1/v1", "model": "m", "columns": ("said",)}],
    "text.sentences": [{}],
    "text.synonyms": [{"table": SYNONYMS}, {"table": SYNONYMS, "share": 1.0, "columns": ("said",)}],
    "text.typos": [{}, {"acts": ("swap", "lookalike"), "share": 0.1}],
    "text.words": [{}, {"acts": ("delete",), "share": 0.5, "columns": ("said",)}],
}
"""Op → the options to try it with. A new op adds its row."""

OPS = [(name, options) for name in available("ops") for options in OPTIONS.get(name, [])]
every_op = pytest.mark.parametrize(("name", "options"), OPS, ids=str)
KINDS: dict[str, Kind] = {
    "age": "integer",
    "pay": "number",
    "born": "date",
    "town": "category",
    "bought": "boolean",
    "note": "text",
    "said": "text",
    "photo": "image",
    "mask": "image",
    "boxes": "json",
}
SEEN = 40  # rows of pictures
DRAWS_NOTHING = ("tabular.balance", "image.resize")
SAID = (
    "The food was good, but it came late.",
    "We waited for 40 minutes!",
    "Was the waiter ill?",
    "味道很好，下次再来。",
    "太慢了！",
)


def rows_of(count: int = 400) -> pa.Table:
    noise = np.random.default_rng(1)
    towns = np.array(["north", "south", None], dtype=object)
    columns: dict[str, Any] = {
        FILE: pa.array(["a.csv" if i % 3 else "b.csv" for i in range(count)]),
        ROW: pa.array(range(count), pa.int64()),
        "age": noise.integers(18, 90, count),
        "pay": pa.array(np.exp(noise.normal(8, 1, count)).round(2), mask=noise.random(count) < 0.1),
        "born": pa.array(noise.integers(-9000, 9000, count).astype("int32"), pa.int32()).cast(pa.date32()),
        "town": pa.array(noise.choice(towns, count, p=[0.7, 0.2, 0.1]).tolist(), pa.string()),
        "bought": noise.random(count) < 0.2,
        "note": pa.array([f"note {i}" for i in range(count)]),
        "said": pa.array([None if i % 9 == 5 else " ".join(SAID[: i % 4 + 2]) for i in range(count)], pa.string()),
    }
    return pa.table(columns)


def pictures_of(count: int = SEEN) -> dict[str, Any]:
    """Coloured and grey ones of two sizes, each with a mask and boxes; now and then one of them is missing."""
    noise = np.random.default_rng(3)
    sizes = [(12, 16) if row % 3 else (15, 10) for row in range(count)]
    photos = [noise.integers(0, 256, (*size, 1 if row % 5 == 1 else 3), dtype=np.uint8) for row, size in enumerate(sizes)]
    masks = [noise.integers(0, 3, (*size, 1), dtype=np.uint8) for size in sizes]
    return {
        "photo": image_array([None if row % 10 == 3 else encoded(one) for row, one in enumerate(photos)], map(str, range(count))),
        "mask": image_array([None if row % 10 == 4 else encoded(one) for row, one in enumerate(masks)]),
        "boxes": pa.array(
            [None if row % 10 == 5 else f'[[1, 2, {row % 4 + 2}, 6.5, "a {row}"], [0, 0, 3, 3]]' for row in range(count)]
        ),
    }


PLAIN = rows_of()
WITH_PICTURES = reduce(lambda rows, one: rows.append_column(*one), pictures_of().items(), PLAIN.slice(0, SEEN))


def rows_for(name: str) -> pa.Table:
    """Those that the op is tried on: pictures cost more than the others."""
    return WITH_PICTURES if name.startswith("image.") else PLAIN


def schema_for(name: str) -> Schema:
    rows = rows_for(name)
    return Schema(tuple(Column(column, KINDS[column], rows.schema.field(column).type) for column in rows.column_names[2:]))


SCHEMA = schema_for("text")


def draws_of(rows: pa.Table) -> Draws:
    files = rows[FILE].combine_chunks().dictionary_encode()
    words = row_words(
        cast("list[str]", files.dictionary.to_pylist()), np.asarray(files.indices).astype(np.int64), rows[ROW].to_numpy()
    )
    return Draws.of(7, "augment-0-0", words)


def replies(requests: list[Facts]) -> list[Facts]:
    """A server's, as they are stored: now and then nothing of use."""
    found: list[Facts] = []
    for request in requests:
        text, call = request["body"]["messages"][0]["content"].split("\n\n", 1)[1], request["call"]
        said = (
            "I am sorry" if call % 7 == 0 else json.dumps({"text": f"{text} 或 {call % 99}" if call % 2 else f"{call % 99} {text}"})
        )
        found.append({"answer": {"choices": [{"message": {"content": said}}]}})
    return found


@cache
def writer() -> Model:
    """A small one that has learnt nothing, and writes as such."""
    codec = Text(SCHEMA, max_tokens=30)
    codec.settle(codec.observe(PLAIN))
    assert isinstance(codec.layout, Tokens)
    layout, options = codec.layout, {"width": 16, "layers": 1, "heads": 2, "temperature": 1.0}
    generator = initialise(lambda: LanguageModel(layout, **options), 7)
    with torch.no_grad():
        generator.embedding *= 0.01  # so that a text comes to its end by chance alone, and soon enough
    return Model(SCHEMA, {}, codec, generator, "digest", {})


@cache
def filler() -> Model:
    """A network of the same columns as a table, that has learnt nothing."""
    codec = Tabular(SCHEMA)
    layout = codec.settle(codec.observe(PLAIN))
    return Model(SCHEMA, {}, codec, initialise(lambda: Autoregressive(layout, hidden=8), 7), "digest", {})


def settled(name: str, options: dict[str, Any], cut: int) -> Op:
    op, rows = find("ops", name)(schema_for(name), **options), rows_for(name)
    if isinstance(op, Asking):
        op.replies = replies
    if isinstance(op, Lent):
        op.lend(writer() if name.startswith("text.") else filler())
    stats = [found for start in range(0, rows.num_rows, cut) if (found := op.observe(rows.slice(start, cut))) is not None]
    op.settle(reduce(lambda one, other: one.merge(other), stats) if stats else None)
    return op


def test_every_op_has_options_to_try() -> None:
    assert set(available("ops")) == set(OPTIONS)


@every_op
def test_it_gives_the_same_rows_in_any_batch_and_order(name: str, options: dict[str, Any]) -> None:
    rows = rows_for(name)
    op = settled(name, options, cut=1000)
    whole = op(rows, draws_of(rows))
    size = 150 if isinstance(op, Lent) else 37  # a network draws few rows no faster than many
    pieces = [op(rows.slice(start, size), draws_of(rows.slice(start, size))) for start in range(0, rows.num_rows, size)]
    assert pa.concat_tables(pieces).equals(whole)
    order = np.random.default_rng(2).permutation(rows.num_rows)
    shuffled = rows.take(order)
    key: Any = [(FILE, "ascending"), (ROW, "ascending")]
    assert op(shuffled, draws_of(shuffled)).sort_by(key).equals(whole.sort_by(key))


@every_op
def test_its_statistics_do_not_depend_on_how_the_rows_were_cut(name: str, options: dict[str, Any]) -> None:
    rows = rows_for(name)
    one, other = settled(name, options, cut=1000), settled(name, options, cut=13)
    assert one(rows, draws_of(rows)).equals(other(rows, draws_of(rows)))


@every_op
def test_it_keeps_columns_types_and_row_ids_and_adds_what_it_says(name: str, options: dict[str, Any]) -> None:
    rows = rows_for(name)
    op = settled(name, options, cut=1000)
    made = op(rows, draws_of(rows))
    assert {column.name: made.schema.field(column.name).type for column in op.made} == {
        column.name: column.type for column in op.made
    }
    assert set(made.column_names) == {FILE, ROW, *op.made.names}
    ids = set(zip(rows[FILE].to_pylist(), rows[ROW].to_pylist(), strict=True))
    assert set(zip(made[FILE].to_pylist(), made[ROW].to_pylist(), strict=True)) <= ids


@every_op
def test_no_rows_and_one_row_are_no_trouble(name: str, options: dict[str, Any]) -> None:
    rows = rows_for(name)
    op = settled(name, options, cut=1000)
    for count in (0, 1):
        few = rows.slice(0, count)
        assert set(op(few, draws_of(few)).column_names) == {FILE, ROW, *op.made.names}


@every_op
def test_another_copy_is_drawn_anew(name: str, options: dict[str, Any]) -> None:
    rows = rows_for(name)
    if name in DRAWS_NOTHING:
        pytest.skip("it draws nothing that one row could show")
    op, draws = settled(name, options, cut=1000), draws_of(rows)
    assert not op(rows, draws).equals(op(rows, Draws(7, "augment-0-1", draws.rows, draws.attempts)))
