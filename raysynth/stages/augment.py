"""Committed real train rows → RUN/augmented/<id>/: each op's rows, `copies` times, every part a function of its train part alone."""

from collections.abc import Iterable, Iterator
from functools import partial, reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cluster.endpoint import StoredReplies
from raysynth.cluster.parts import FilesOf, write_parts
from raysynth.cluster.rows import map_items
from raysynth.commits import Table
from raysynth.derived import expressions_of
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.expressions import Expression
from raysynth.image_headers import size_of
from raysynth.models import load_model
from raysynth.ops._then import Then, numbered
from raysynth.ops.base import Asking, Lent, Op, Stats
from raysynth.parts import deciding, find, whole_options
from raysynth.recipe import Op as AskedOp
from raysynth.recipe import Part, Recipe
from raysynth.row_ids import id_words
from raysynth.runs import Folder, Plan, Run, folder_id, read_rows
from raysynth.schema import FILE, IMAGE, ROW, Schema

ROWS_VERSION = 2
PIECE_BYTES = 4 << 20  # of pixels at a time: more leaves the caches of a CPU, and takes a sixth longer


def run(recipe: Recipe, run: Run, prepared: Folder) -> Folder:
    """RecipeError if an op does not fit the columns, DataError if it does not fit what they hold. The recipe must name an op."""
    facts = augment_facts(recipe, prepared)
    folder = run.folder("augmented", folder_id(facts))
    if not folder.committed:
        schema = Schema.from_json(prepared.plan().facts["schema"])
        urls = prepared.part_urls("train")
        ops = ops_of(recipe, schema)
        _settle(ops, urls, workers=recipe.generate.workers)
        rounds = [(number, copy) for number, op in enumerate(recipe.augment) for copy in range(op.copies)]
        made = made_schema(ops, schema)
        plan = Plan(len(rounds) * len(urls), {"schema": made.to_json(), "ops": facts["ops"], "train_parts": len(urls)})
        make = partial(_make, recipe, folder, ops, rounds, urls, schema, made)
        write_parts(folder, plan, make, stage="augment", workers=recipe.generate.workers, keep=False)
    run.point("augmented", folder)
    return folder


def augment_facts(recipe: Recipe, prepared: Folder) -> dict[str, Any]:
    """What decides the augmented rows, defaults of the ops too."""
    import scipy

    made = lent(ops_of(recipe, Schema.from_json(prepared.plan().facts["schema"])))
    asked = [
        {"copies": op.copies, **_decides(op), **({"then": [_decides(one) for one in op.then]} if op.then else {})}
        for op in recipe.augment
    ]
    return {
        "stage": "augment",
        "rows_version": ROWS_VERSION,
        "prepared": prepared.id.split(".")[0],
        "seed": recipe.seed,
        "ops": [options | ({"facts": facts} if (facts := op.facts()) else {}) for options, op in zip(asked, made, strict=True)],
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__, "pyarrow": pa.__version__},
    }


def _decides(op: Part) -> dict[str, Any]:
    return deciding("ops", whole_options("ops", op.use, op.options))


def ops_of(recipe: Recipe, schema: Schema) -> list[Op]:
    """One for each entry. RecipeError names the entry that does not fit."""
    return [_op_of(f"augment.{number}", asked, schema) for number, asked in enumerate(recipe.augment)]


def _op_of(key: str, asked: AskedOp, schema: Schema) -> Op:
    try:
        found: list[Op] = [find("ops", op.use)(schema, **_typed(op.options)) for op in (asked, *asked.then)]
        return Then(found) if asked.then else found[0]
    except RecipeError as error:
        raise RecipeError(f"{key}: {error}") from None


def lent(ops: list[Op]) -> list[Op]:
    """Those that draw from a model with it. RecipeError where the run that they name has none."""
    for op in (one for entry in ops for one in (entry.ops if isinstance(entry, Then) else (entry,))):
        if isinstance(op, Lent):
            folder = Run(op.run).current("model")
            if folder is None:
                raise RecipeError(f"augment: model: the run '{op.run}' has no trained model. Train it first, or name another run")
            op.lend(load_model(folder))
    return ops


def _typed(options: dict[str, Any]) -> dict[str, Any]:
    """A YAML list is a tuple to a constructor."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def made_schema(ops: Iterable[Op], schema: Schema) -> Schema:
    """The columns of all augmented rows: the prepared ones, then what the ops add. RecipeError where two add one of unlike types."""
    return reduce(_joined, (op.made for op in ops), schema)


def _joined(schema: Schema, made: Schema) -> Schema:
    for column in made:
        if column.name not in schema:
            schema = schema.with_column(column)
        elif schema[column.name].type != column.type:
            types = f"{schema[column.name].type} and {column.type}"
            raise RecipeError(f"augment: two ops add a column '{column.name}' of unlike types, {types}. Leave one of them out")
    return schema


def _settle(ops: list[Op], urls: list[str], *, workers: int) -> None:
    """One pass over the train rows for all ops, where any has to see them; statistics merge in the order of the parts, each as soon as its
    turn has come."""
    urls = urls if any(op.observes for op in ops) else []
    merged: list[Any] = [None] * len(ops)
    waiting: dict[int, list[Stats | None]] = {}
    turn = 0
    for position, seen in map_items(urls, partial(_observer, ops), workers=workers, keep=False):
        waiting[position] = seen
        while turn in waiting:
            merged = [_merged(left, right) for left, right in zip(merged, waiting.pop(turn), strict=True)]
            turn += 1
    for op, found in zip(ops, merged, strict=True):
        op.settle(found)


def _merged(left: Any, right: Any) -> Any:
    return right if left is None else left if right is None else left.merge(right)


def _observer(ops: list[Op]) -> Any:
    def observe(url: str) -> list[Stats | None]:
        rows = read_rows(url)
        return [op.observe(rows) for op in ops]

    return observe


def _make(
    recipe: Recipe, folder: Folder, ops: list[Op], rounds: list[tuple[int, int]], urls: list[str], schema: Schema, made: Schema
) -> FilesOf:
    """On a worker: part p is round p // parts of train part p % parts."""
    derive = expressions_of(schema, recipe.derive)
    for op in lent(ops):
        if isinstance(op, Asking):
            op.replies = StoredReplies(folder, op, workers=recipe.generate.workers)

    def files_of(part: int) -> Iterable[Table]:
        number, copy = rounds[part // len(urls)]
        rows = read_rows(urls[part % len(urls)])
        draws = Draws.of(recipe.seed, f"augment-{number}-{copy}", id_words(rows, recipe.seed))
        mark = f"#augment-{number}-{copy}"
        pieces = [
            augmented_rows(ops[number], some, drawn, schema, made, derive, mark=mark)
            for some, drawn in _pieces(rows, draws, schema, ops[number].most_pixels)
        ]
        augmented = pa.concat_tables(pieces)
        yield "", augmented if augmented.num_rows else None, {}

    return files_of


def _pieces(rows: pa.Table, draws: Draws, schema: Schema, most_pixels: int) -> Iterator[tuple[pa.Table, Draws]]:
    """All rows at once, but for pictures: of those as many rows as are PIECE_BYTES of pixels, at least one."""
    images = [column.name for column in schema.learnt if column.kind == "image"]
    if not images:
        yield rows, draws
        return
    sizes = np.sum([np.maximum(pixel_bytes(rows.column(name)), 3 * most_pixels) for name in images], axis=0)
    for start, stop in pairwise(cuts(sizes, PIECE_BYTES)):
        yield rows.slice(start, stop - start), draws.take(np.arange(start, stop))


def cuts(sizes: NDArray[np.int64], most: int) -> list[int]:
    """Where to cut a row of things of such sizes: from 0 on, so that none of the pieces but those of one thing is above `most`."""
    ends, total = [0], 0
    for place, size in enumerate(sizes.tolist()):
        if total and total + size > most:
            ends.append(place)
            total = 0
        total += size
    return [*ends, len(sizes)]


def pixel_bytes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """(rows,) what each picture takes once it is decoded, in colours; 0 for a null."""
    from raysynth.pictures import views_of  # tables need none of it

    found = ((0, 0) if data is None else size_of(data) or (0, 0) for data in views_of(column))
    return np.array([3 * height * width for height, width in found], dtype=np.int64)


def augmented_rows(
    op: Op, rows: pa.Table, draws: Draws, schema: Schema, made: Schema, derive: dict[str, Expression], *, mark: str
) -> pa.Table:
    """The op's rows with derived columns computed anew, in the columns of `made` (null where another op adds a column), under row ids
    of their own: the file of the row that each comes from with `mark` behind it (ops/_then.py, numbered)."""
    found = _written(op(rows, draws))
    for name, expression in derive.items():
        position = found.column_names.index(name)
        found = found.set_column(position, found.schema.field(name), expression.evaluate(found).cast(schema[name].type))
    columns = {column.name: _column(found, column.name, column.type) for column in made}
    arrays: dict[str, Any] = {FILE: pa.array(numbered(found, mark), pa.string()), ROW: found.column(ROW), **columns}
    return pa.table(arrays)


def _written(rows: pa.Table) -> pa.Table:
    """Pictures travel from op to op as pixels, and are encoded here, once."""
    for place, field in enumerate(rows.schema):
        if field.type == IMAGE:
            from raysynth.pictures import settled  # tables need none of it

            rows = rows.set_column(place, field.name, settled(rows.column(place)))
    return rows


def _column(rows: pa.Table, name: str, type_: Any) -> Any:
    return rows.column(name) if name in rows.column_names else pa.nulls(rows.num_rows, type_)
