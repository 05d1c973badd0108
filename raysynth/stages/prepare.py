"""Real shards → RUN/prepared/<id>/{train,validation,holdout,quarantine}/: typed, cleaned rows with stable ids, in two passes.

Pass one profiles every shard and settles the schema from the merged profiles; pass two cleans, derives, splits and writes. With
prepare.text, texts are made anew and filtered right after the cleaning, and whatever tells of the input tells of those.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.cleaning import MAX_PIXELS, split_of
from raysynth.cluster.parts import FilesOf, write_parts
from raysynth.cluster.stalled import beats
from raysynth.commits import Table
from raysynth.derived import expressions_of, with_sizes
from raysynth.errors import DataError, RecipeError, UnreadableError
from raysynth.expressions import Expression
from raysynth.knowledge import Knowledge
from raysynth.markers import canonical
from raysynth.parts import find
from raysynth.profile import Profile, date_formats, infer_schema
from raysynth.progress import say
from raysynth.recipe import Recipe
from raysynth.runs import SYSTEM, Folder, Plan, Run, folder_id
from raysynth.schema import FILE, ROW, ROW_ID, Column, Kind, Schema
from raysynth.sources.base import BadRow, InputFile, Shard, Source
from raysynth.stages.input_profile import profile_of
from raysynth.stages.known import joined_by, joined_facts, with_facts
from raysynth.stages.model_parts import check_codec
from raysynth.stages.prepare_text import (
    NEAR_DUPLICATE,
    Texts,
    check_text_columns,
    texts_of,
    warn_of_others,
)
from raysynth.stages.reader import UNREADABLE, PackedShards, Reader
from raysynth.stages.repeated_rows import duplicates, near_duplicates_of
from raysynth.stages.snapshot import HASHES, check_unchanged, hashes_of, is_packaged, known_hashes, of_each, snapshot_of

ROWS_VERSION = 2
SPLITS = ("train", "validation", "holdout")
QUARANTINE = pa.schema([(FILE, pa.string()), (ROW, pa.int64()), ("reason", pa.string()), ("text", pa.string())])


def run(recipe: Recipe, run: Run, *, learns: bool = True) -> Folder:
    """`learns`: a model is to be learnt from the rows, so columns that its codec does not take are refused before all are read.
    DataError if the input is empty, has changed meanwhile, or has more bad rows than prepare.max_bad_rows allows."""
    source, texts, known = source_of(recipe), texts_of(recipe), joined_by(recipe)
    files = check_source(recipe)
    snapshot = snapshot_of(files, known_hashes(run))
    folder = run.folder("prepared", folder_id({**_facts(recipe, texts), **joined_facts(known), "snapshot": snapshot}))
    if not folder.committed:
        for note in source.notes(files):
            say(stage="prepare", warning=note)
        shards = source.shards(files)
        _check_columns(recipe, first_rows(recipe, source, shards)[1], learns)
        seen = profile_of(source, shards, texts, _kinds(recipe), workers=recipe.generate.workers)
        profile = seen.raw
        schema = schema_of(recipe, profile, known)
        warn_of_others(schema, seen.personal)
        facts = {"schema": schema.to_json(), "snapshot": snapshot, "columns_found": len(profile.to_json()["columns"])}
        reader = Reader(source, PackedShards(shards), schema, date_formats(profile, schema), texts, known, max_pixels_of(recipe))
        drop = duplicates(reader) if recipe.prepare.drop_duplicates else {}
        make = partial(make_files, recipe, reader, drop, near_duplicates_of(reader, profile.rows))
        folder.write_json("_raysynth/profile.json", seen.to_json(schema))
        folder.store.put(folder.system_url(HASHES), canonical(hashes_of(files, snapshot)))
        write_parts(folder, Plan(len(shards), facts), make, stage="prepare", workers=recipe.generate.workers, keep=False)
    _check_rows(recipe, folder)
    run.point("prepared", folder)
    return folder


def check_source(recipe: Recipe) -> list[InputFile]:
    """The input files, from a listing alone. DataError or StoreError if there is none, or nothing in them, or nobody answers."""
    files = source_of(recipe).files()
    if not files:
        raise DataError(f"source.url: '{recipe.source.url}' has no files. Give a file, a folder or a glob that matches some")
    if not any(file.size_bytes or is_packaged(file) for file in files):
        raise DataError(f"source.url: '{recipe.source.url}': every file is empty. Give at least one row")
    return files


def first_rows(recipe: Recipe, source: Source, shards: list[Shard]) -> tuple[Shard, pa.Table]:
    """The first table with a row in it, and whence; read before Ray starts. DataError names what is wrong where there is none."""
    wrong: list[str] = []
    for shard in shards:
        try:
            for table, bad in source.read(shard):
                if table.num_rows:
                    return shard, table
                wrong += [f"file '{row.path}', row {row.row}: {row.reason}" for row in bad[:1]]
        except UnreadableError as error:
            of_each(shard.all_files, check_unchanged)
            wrong.append(str(error))
    if wrong:
        raise DataError(f"source.url: '{recipe.source.url}' has no row that can be read. {wrong[0]}")
    raise DataError(f"source.url: '{recipe.source.url}' has no rows. Give at least one")


def _check_columns(recipe: Recipe, table: pa.Table, learns: bool) -> None:
    """DataError on a column of a type that no table keeps, RecipeError on conversations or pictures where the codec writes none, as far as
    the first rows show: before all are read."""
    profile = Profile.observe(table.slice(0, 1000))
    schema = infer_schema(profile, {name: kind for name, kind in _kinds(recipe).items() if name in profile.columns})
    if learns and any(column.kind in ("turns", "image") for column in schema):
        check_codec(recipe, schema)


def source_of(recipe: Recipe) -> Source:
    made: Source = find("sources", recipe.source.use)(recipe.source.url, **recipe.source.options)
    return made


def _kinds(recipe: Recipe) -> dict[str, Kind]:
    """What the source says of its columns, and before it what the recipe says."""
    return {**source_of(recipe).kinds(), **{name: column.kind for name, column in recipe.schema_.columns.items()}}


def _options_of_rows(recipe: Recipe) -> dict[str, Any]:
    """The source's options that decide what its rows are, not how they are cut into tasks."""
    cuts = find("sources", recipe.source.use).cuts
    return {name: value for name, value in recipe.source.options.items() if name not in cuts}


def _facts(recipe: Recipe, texts: Texts | None) -> dict[str, Any]:
    """Without prepare.text there is no word of it: the id is that of the rows as they have always been."""
    kinds = {name: column.kind for name, column in recipe.schema_.columns.items()}
    return {
        "stage": "prepare",
        "rows_version": ROWS_VERSION,
        "seed": recipe.seed,
        "source": {"use": recipe.source.use, "options": _options_of_rows(recipe)},
        "prepare": recipe.prepare.model_dump(exclude={"text", "image"}),
        **({} if recipe.prepare.image is None else {"image": recipe.prepare.image.model_dump()}),
        **({} if texts is None else {"texts": texts.facts()}),
        "derive": recipe.derive,
        "schema": kinds,
        "pyarrow": pa.__version__,
    }


def schema_of(recipe: Recipe, profile: Profile, known: Knowledge | None = None) -> Schema:
    given = {name: column.kind for name, column in recipe.schema_.columns.items()}
    overrides: dict[str, Kind] = {name: kind for name, kind in _kinds(recipe).items() if name in profile.columns or name in given}
    if profile.rows and not profile.columns:
        raise DataError(f"source.url: '{recipe.source.url}' has no columns. Give rows with at least one")
    schema = with_sizes(with_facts(infer_schema(profile, overrides), known), recipe.derive)
    for name, text in recipe.derive.items():
        if name in schema:
            raise RecipeError(f"derive.{name}: the input has a column of this name already. Choose another")
        expression = Expression.parse(text, f"derive.{name}")
        unknown = sorted(expression.columns - set(schema.names))
        if unknown:
            raise RecipeError(f"derive.{name}: no column '{unknown[0]}'. Columns: {', '.join(schema.names)}")
        kind = expression.type(schema)
        schema = schema.with_column(Column(name, _kind(kind), kind, derived=True))
    group = recipe.prepare.group_by
    if group is not None and group not in schema:
        raise RecipeError(f"prepare.group_by: no column '{group}'. Columns: {', '.join(schema.names)}")
    if recipe.prepare.text is not None:
        check_text_columns(schema)
    return schema


def max_pixels_of(recipe: Recipe) -> int:
    """Of a picture."""
    return MAX_PIXELS if recipe.prepare.image is None else recipe.prepare.image.max_pixels


def _kind(type: pa.DataType) -> Any:
    if pa.types.is_boolean(type):
        return "boolean"
    if pa.types.is_integer(type):
        return "integer"
    return "number" if pa.types.is_floating(type) or pa.types.is_decimal(type) else "category"


def make_files(recipe: Recipe, reader: Reader, drop: dict[int, Any], near: dict[int, Any] | None = None) -> FilesOf:
    """On a worker: a part is one shard, read, cleaned, derived and split. `drop`, `near`: part → the places of duplicates among its rows."""
    derive = expressions_of(reader.schema, recipe.derive)

    def files_of(part: int) -> Iterable[Table]:
        rows, bad, filtered, tell = 0, list[BadRow](), Counter[str](), beats(part)
        for kept in reader.kept(part):
            tell()
            bad += kept.bad
            filtered += kept.filtered
            if kept.rows is None:
                continue
            places = np.arange(kept.first, kept.first + kept.rows.num_rows)
            distinct = ~np.isin(places, drop.get(part, ()))
            left = distinct & ~np.isin(places, (near or {}).get(part, ()))
            if surplus := int(distinct.sum() - left.sum()):
                filtered[NEAR_DUPLICATE] += surplus
            rows += int(left.sum())
            yield from _split(recipe, reader.schema, derive, kept.rows if left.all() else kept.rows.filter(pa.array(left)))
        yield "quarantine", _quarantine(bad) if bad else None, _counted(rows, bad, filtered)

    return files_of


def _split(recipe: Recipe, schema: Schema, derive: Mapping[str, Expression], rows: pa.Table) -> Iterable[Table]:
    for name, expression in derive.items():
        rows = rows.append_column(name, expression.evaluate(rows))
    rows = rows.select([*ROW_ID, *schema.names])
    splits = split_of(
        rows,
        seed=recipe.seed,
        validation=recipe.prepare.validation,
        holdout=recipe.prepare.holdout,
        group_by=recipe.prepare.group_by,
    )
    for number, split in enumerate(SPLITS):
        taken = rows.filter(pa.array(splits == number))
        yield split, taken if taken.num_rows else None, {}


def _counted(rows: int, bad: list[BadRow], filtered: Counter[str]) -> dict[str, Any]:
    """What a part's marker notes."""
    reasons = Counter(row.reason for row in bad)
    broken = [row.path for row in bad if row.row == UNREADABLE]
    return {
        "rows": rows + filtered.total() + len(bad),
        "bad": len(bad),
        "reasons": dict(reasons.most_common(20)),
        **({"unreadable": broken} if broken else {}),
        **({"filtered": dict(sorted(filtered.items()))} if filtered else {}),
    }


def _quarantine(bad: list[BadRow]) -> pa.Table:
    ordered = sorted(bad, key=lambda row: (row.path, row.row))
    rows = [{FILE: row.path, ROW: row.row, "reason": row.reason, "text": row.text} for row in ordered]
    return pa.Table.from_pylist(rows, schema=QUARANTINE)


def check_varies(prepared: Folder, column: str, key: str) -> None:
    """DataError where a column of the input has one value, so that there is nothing to predict. Derived columns are not known yet."""
    profile = Profile.from_json(prepared.read_json(f"{SYSTEM}/profile.json"))
    seen = profile.columns.get(column)
    if seen is None or seen.values.distinct > 1 or (seen.present and profile.missing(seen)):
        return
    value = repr(seen.values.texts[0]) if seen.present else "null"
    raise DataError(
        f"{key}: column '{column}' is {value} in all {profile.rows} rows, so that nothing can be predicted. Name another"
    )


def _check_rows(recipe: Recipe, folder: Folder) -> None:
    """DataError if nothing is left, or too much is bad; what was left out is told."""
    bad = rows = 0
    reasons: Counter[str] = Counter()
    filtered: Counter[str] = Counter()
    broken: list[str] = []
    for marker in folder.markers():
        for part in marker.parts:
            bad += part.extra.get("bad", 0)
            rows += part.extra.get("rows", 0)
            reasons.update(part.extra.get("reasons", {}))
            filtered.update(part.extra.get("filtered", {}))
            broken += part.extra.get("unreadable", [])
    if rows == 0:
        raise DataError(f"source.url: '{recipe.source.url}' has no rows. Give at least one")
    if bad == rows or bad > recipe.prepare.max_bad_rows * rows:
        raise DataError(
            f"prepare.max_bad_rows: {bad} of {rows} rows ({bad / rows:.2%}) are bad, and {recipe.prepare.max_bad_rows:.2%} may be. Most: "
            f"{reasons.most_common(1)[0][0]}. They lie in {folder.url}/quarantine; mend the input, or allow more"
        )
    if broken:
        left_out = ", ".join(sorted(set(broken))[:5]) + (", …" if len(set(broken)) > 5 else "")
        say(stage="prepare", warning=f"{len(set(broken))} input files cannot be read and are left out: {left_out}")
    if filtered:
        say(stage="prepare", filtered=filtered.total(), of=rows, **dict(sorted(filtered.items())))
    if filtered.total() == rows - bad:
        took = ", ".join(f"{reason} {count}" for reason, count in filtered.most_common())
        raise DataError(f"prepare.text: the filters took all {rows - bad} rows ({took}). Ask for less, or for other languages")
