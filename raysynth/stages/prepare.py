"""Real shards → RUN/prepared/<id>/{train,validation,holdout,quarantine}/: typed, cleaned rows with stable ids, in two passes.

Pass one profiles every shard and settles the schema from the merged profiles; pass two cleans, derives, splits and writes. With
prepare.text, texts are made anew and filtered right after the cleaning, and whatever tells of the input tells of those.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import pyarrow as pa

from raysynth.cleaning import clean, row_hash, split_of
from raysynth.cluster.map_reduce import map_reduce
from raysynth.cluster.parts import FilesOf, write_parts
from raysynth.commits import Table
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
    near_duplicates,
    text_columns,
    texts_of,
    warn_of_others,
)
from raysynth.stores.base import store_for

ROWS_VERSION = 2
HASHES = "hashes.json"
SPLITS = ("train", "validation", "holdout")
QUARANTINE = pa.schema([(FILE, pa.string()), (ROW, pa.int64()), ("reason", pa.string()), ("text", pa.string())])
UNREADABLE = -1  # the `_row` of a file that is in quarantine as a whole
_DUPLICATE_BUCKETS = 16


@dataclass(frozen=True)
class Reader:
    """All that a worker needs to read a part: the part's number is the shard's. `texts`: what prepare.text asks for; `known`: whose facts
    become columns."""

    source: Source
    shards: tuple[Shard, ...]
    schema: Schema
    formats: dict[str, str]
    texts: Texts | None = None
    known: Knowledge | None = None

    def kept(self, part: int) -> tuple[pa.Table | None, list[BadRow], Counter[str]]:
        """A shard's rows that pass the filters of texts, the bad ones, and how many the filters took, by reason."""
        pieces, bad = self.cleaned(part)
        if not pieces:
            return None, bad, Counter()
        rows = pa.concat_tables(pieces)
        if self.texts is None:
            return rows, bad, Counter()
        rows, filtered = self.texts.kept(rows, self.schema)
        return rows, bad, filtered

    @property
    def read_schema(self) -> Schema:
        """Without the columns of facts, which are joined to what is read."""
        joined = {column.name for column in self.known.columns} if self.known is not None else set()
        return Schema(tuple(column for column in self.schema if column.name not in joined))

    def cleaned(self, part: int) -> tuple[list[pa.Table], list[BadRow]]:
        """A shard's rows in the schema's types, and the rows that are not fit for it: a broken file counts as one."""
        shard, texts = self.shards[part], self.texts
        told = texts.told if texts is not None and texts.replaces else None
        pieces: list[pa.Table] = []
        bad: list[BadRow] = []
        try:
            for table, unreadable in self.source.read(shard):
                rows, unfit = clean(table, self.read_schema, formats=self.formats, told=told)
                made = rows if texts is None else texts.rows(rows, self.schema)
                pieces.append(made if self.known is None else self.known.joined(made))
                bad += [*(unreadable if texts is None else map(texts.bad, unreadable)), *unfit]
        except UnreadableError as error:  # whatever could be read of it is left out too
            pieces, bad = [], [BadRow(shard.file.path, UNREADABLE, str(error), "")]
        check_unchanged(shard.file)
        return pieces, bad


def run(recipe: Recipe, run: Run) -> Folder:
    """DataError if the input is empty, has changed meanwhile, or has more bad rows than prepare.max_bad_rows allows."""
    source, texts, known = source_of(recipe), texts_of(recipe), joined_by(recipe)
    files = check_source(recipe)
    snapshot = _snapshot(files, _known_hashes(run))
    folder = run.folder("prepared", folder_id({**_facts(recipe, texts), **joined_facts(known), "snapshot": snapshot}))
    if not folder.committed:
        shards = source.shards(files)
        _check_columns(recipe, first_rows(recipe, source, shards)[1])
        seen = profile_of(source, shards, texts, _kinds(recipe), workers=recipe.generate.workers)
        profile = seen.raw
        schema = schema_of(recipe, profile, known)
        warn_of_others(schema, seen.personal)
        facts = {"schema": schema.to_json(), "snapshot": snapshot, "columns_found": len(profile.to_json()["columns"])}
        reader = Reader(source, tuple(shards), schema, date_formats(profile, schema), texts, known)
        drop = _duplicates(reader) if recipe.prepare.drop_duplicates else {}
        make = partial(make_files, recipe, reader, drop, _near_duplicates(reader, profile.rows))
        folder.write_json("_raysynth/profile.json", seen.to_json(schema))
        folder.store.put(folder.system_url(HASHES), canonical(_hashes(files, snapshot)))
        write_parts(folder, Plan(len(shards), facts), make, stage="prepare", workers=recipe.generate.workers, keep=False)
    _check_rows(recipe, folder)
    run.point("prepared", folder)
    return folder


def check_source(recipe: Recipe) -> list[InputFile]:
    """The input files, from a listing alone. DataError or StoreError if there is none, or nothing in them, or nobody answers."""
    files = source_of(recipe).files()
    if not files:
        raise DataError(f"source.url: '{recipe.source.url}' has no files. Give a file, a folder or a glob that matches some")
    if not any(file.size_bytes or _packaged(file) for file in files):
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
            check_unchanged(shard.file)
            wrong.append(str(error))
    if wrong:
        raise DataError(f"source.url: '{recipe.source.url}' has no row that can be read. {wrong[0]}")
    raise DataError(f"source.url: '{recipe.source.url}' has no rows. Give at least one")


def _check_columns(recipe: Recipe, table: pa.Table) -> None:
    """DataError on a column of a type that no table keeps, RecipeError on conversations where the codec writes none, as far as the first
    rows show: before all are read."""
    profile = Profile.observe(table.slice(0, 1000))
    schema = infer_schema(profile, {name: kind for name, kind in _kinds(recipe).items() if name in profile.columns})
    if any(column.kind == "turns" for column in schema):
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
        "prepare": recipe.prepare.model_dump(exclude={"text"}),
        **({} if texts is None else {"texts": texts.facts()}),
        "derive": recipe.derive,
        "schema": kinds,
        "pyarrow": pa.__version__,
    }


def _snapshot(files: list[InputFile], known: dict[str, str]) -> list[dict[str, Any]]:
    return [{"path": file.path, "bytes": file.size_bytes, "sha256": known.get(_tag(file)) or _sha256(file)} for file in files]


def _known_hashes(run: Run) -> dict[str, str]:
    """What the run's current rows were made of, so that a run with nothing to do rereads nothing. Only a hint: a file whose tag is
    another is read."""
    current = run.current("prepared")
    try:
        return {} if current is None else cast("dict[str, str]", current.read_json(f"{SYSTEM}/{HASHES}"))
    except (FileNotFoundError, ValueError):
        return {}


def _hashes(files: list[InputFile], snapshot: list[dict[str, Any]]) -> dict[str, str]:
    return {_tag(file): entry["sha256"] for file, entry in zip(files, snapshot, strict=True)}


def _tag(file: InputFile) -> str:
    """A file as its store tells it apart from what it was before: URL, size and ETag."""
    return f"{file.url} {file.size_bytes} {file.etag}"


def _sha256(file: InputFile) -> str:
    """The content's hash, read in pieces; a packaged example is known by the version of its package."""
    if _packaged(file):
        return file.etag
    hashed, start, store = hashlib.sha256(), 0, store_for(file.url)
    while data := store.read_range(file.url, start, 32 << 20):
        hashed.update(data)
        start += len(data)
    check_unchanged(file)
    return hashed.hexdigest()


def _packaged(file: InputFile) -> bool:
    return file.url.startswith("examples://")


def check_unchanged(file: InputFile) -> None:
    """DataError if the file is not what was listed: its size and its tag are compared, so nothing is read again."""
    if _packaged(file):
        return
    now = store_for(file.url).stat(file.url)
    if now is None or (now.size_bytes, now.etag) != (file.size_bytes, file.etag):
        raise DataError(
            f"{file.url}: {'is gone' if now is None else 'changed'} since it was listed. Run again when nobody writes to it"
        )


def schema_of(recipe: Recipe, profile: Profile, known: Knowledge | None = None) -> Schema:
    given = {name: column.kind for name, column in recipe.schema_.columns.items()}
    overrides: dict[str, Kind] = {name: kind for name, kind in _kinds(recipe).items() if name in profile.columns or name in given}
    if profile.rows and not profile.columns:
        raise DataError(f"source.url: '{recipe.source.url}' has no columns. Give rows with at least one")
    schema = with_facts(infer_schema(profile, overrides), known)
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


def _kind(type: pa.DataType) -> Any:
    if pa.types.is_boolean(type):
        return "boolean"
    if pa.types.is_integer(type):
        return "integer"
    return "number" if pa.types.is_floating(type) or pa.types.is_decimal(type) else "category"


def make_files(recipe: Recipe, reader: Reader, drop: dict[int, Any], near: dict[int, Any] | None = None) -> FilesOf:
    """On a worker: a part is one shard, read, cleaned, derived and split. `drop`, `near`: part → the `_row` numbers of duplicates."""
    derive = {name: Expression.parse(text, f"derive.{name}") for name, text in recipe.derive.items()}

    def files_of(part: int) -> Iterable[Table]:
        rows, bad, filtered = reader.kept(part)
        if rows is not None:
            distinct = _without(rows, drop.get(part))
            rows = _without(distinct, (near or {}).get(part))
            if rows.num_rows < distinct.num_rows:
                filtered[NEAR_DUPLICATE] = distinct.num_rows - rows.num_rows
            for name, expression in derive.items():
                rows = rows.append_column(name, expression.evaluate(rows))
            rows = rows.select([*ROW_ID, *reader.schema.names])
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
        yield "quarantine", _quarantine(bad) if bad else None, _counted(rows, bad, filtered)

    return files_of


def _counted(rows: pa.Table | None, bad: list[BadRow], filtered: Counter[str]) -> dict[str, Any]:
    """What a part's marker notes."""
    reasons = Counter(row.reason for row in bad)
    broken = [row.path for row in bad if row.row == UNREADABLE]
    return {
        "rows": (rows.num_rows if rows is not None else 0) + filtered.total() + len(bad),
        "bad": len(bad),
        "reasons": dict(reasons.most_common(20)),
        **({"unreadable": broken} if broken else {}),
        **({"filtered": dict(sorted(filtered.items()))} if filtered else {}),
    }


def _quarantine(bad: list[BadRow]) -> pa.Table:
    ordered = sorted(bad, key=lambda row: (row.path, row.row))
    rows = [{FILE: row.path, ROW: row.row, "reason": row.reason, "text": row.text} for row in ordered]
    return pa.Table.from_pylist(rows, schema=QUARANTINE)


def _without(rows: pa.Table, dropped: Any) -> pa.Table:
    if dropped is None:
        return rows
    return rows.filter(pa.array(~np.isin(rows.column(ROW).to_numpy(), dropped)))


def _duplicates(reader: Reader) -> dict[int, Any]:
    """Part → the `_row` numbers to leave out: of equal rows, the one of the lowest row id stays."""
    parts = list(range(len(reader.shards)))
    found: list[pa.Table] = map_reduce(parts, partial(_cut_hashes, reader), _repeated, buckets=_DUPLICATE_BUCKETS)
    table = pa.concat_tables(found)
    part, row = table["part"].to_numpy(), table["row"].to_numpy()
    return {int(number): np.sort(row[part == number]) for number in np.unique(part)}


def _cut_hashes(reader: Reader, part: int) -> list[pa.Table]:
    rows, _, _ = reader.kept(part)
    if rows is None:
        return [
            pa.table({"hash": pa.array([], pa.uint64()), "part": pa.array([], pa.int64()), "row": pa.array([], pa.int64())})
        ] * _DUPLICATE_BUCKETS
    words = row_hash(rows, reader.schema)
    parts = pa.array(np.full(rows.num_rows, part, np.int64))
    table = pa.table({"hash": pa.array(words), "part": parts, "row": rows.column(ROW).combine_chunks()})
    bucket = words % np.uint64(_DUPLICATE_BUCKETS)
    return [table.filter(pa.array(bucket == number)) for number in range(_DUPLICATE_BUCKETS)]


def _repeated(_bucket: int, tables: list[pa.Table]) -> pa.Table:
    """Shards come in the order of (path, first row), so (part, row) orders as row ids do."""
    ordered = pa.concat_tables(tables).sort_by([("hash", "ascending"), ("part", "ascending"), ("row", "ascending")])
    words = ordered["hash"].to_numpy()
    repeated = np.concatenate([np.zeros(min(1, len(words)), np.bool_), words[1:] == words[:-1]])
    return ordered.filter(pa.array(repeated)).select(["part", "row"])


def _near_duplicates(reader: Reader, rows: int) -> dict[int, Any]:
    """Part → the `_row` numbers to leave out: of rows with nearly the same texts, the one of the lowest row id stays."""
    if reader.texts is None or reader.texts.options.near_duplicates is None:
        return {}
    kept = partial(_kept, reader)
    return near_duplicates(reader.texts.options.near_duplicates, len(reader.shards), rows, kept, reader.schema)


def _kept(reader: Reader, part: int) -> pa.Table:
    rows, _, _ = reader.kept(part)
    empty = pa.table(
        {ROW: pa.array([], pa.int64()), **{name: pa.array([], reader.schema[name].type) for name in text_columns(reader.schema)}}
    )
    return empty if rows is None else rows


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
