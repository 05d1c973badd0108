"""The commit: tables → Parquet parts named by their hash, markers, a manifest, one outcome. Any step may die or run twice."""

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysynth.errors import CorruptRunError, NondeterminismError, StoppedError
from raysynth.markers import HASH_CHARACTERS, Marker, Part, PartFile, canonical, digest, put_content
from raysynth.runs import Folder, Plan
from raysynth.schema import IMAGE
from raysynth.stores.base import join

log = logging.getLogger("raysynth.runs")

TASK_PARTS = 64
ROW_GROUP_ROWS = 131_072
IMAGE_GROUP_ROWS = 1024  # of rows with pictures: whoever reads one holds them all
MANIFEST_ROWS = 16_384  # are Python objects at once; the others of a row group lie in Arrow, at a tenth of the memory
BOUND_CHARACTERS = 64  # a longer min or max is left out: a cut one would be no bound

Table = tuple[str, pa.Table] | tuple[str, pa.Table | None, Mapping[str, Any]]  # sub folder, rows, what to note of the part
Entry = tuple[int | None, PartFile, Mapping[str, Any]]  # the part's number, one of its files, what was noted of the part
MANIFEST = pa.schema(
    [
        ("part", pa.int64()),
        ("sub", pa.string()),
        ("name", pa.string()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("extra", pa.string()),
    ]
)


def parquet_bytes(rows: pa.Table | Iterable[pa.Table]) -> bytes:
    """One whole Parquet file; its bytes depend on the rows and the pyarrow version, never on how the rows were chunked. Of several tables
    all but the last have ROW_GROUP_ROWS rows."""
    tables = iter([rows] if isinstance(rows, pa.Table) else rows)
    first, sink = next(tables), pa.BufferOutputStream()
    images = [field.name for field in first.schema if field.type == IMAGE]
    writer = pq.ParquetWriter(
        sink, _told_to_datasets(first.schema, images), version="2.6", data_page_version="1.0", **_packing(first.schema, images)
    )
    with writer:
        for table in chain([first], tables):
            if table.num_rows or table is first:
                writer.write_table(table.combine_chunks(), row_group_size=IMAGE_GROUP_ROWS if images else ROW_GROUP_ROWS)
    return sink.getvalue().to_pybytes()


def _told_to_datasets(schema: pa.Schema, images: list[str]) -> pa.Schema:
    """With the note by which Hugging Face's `datasets` takes the columns for images."""
    if not images:
        return schema
    told = {"info": {"features": {name: {"_type": "Image"} for name in images}}}
    return schema.with_metadata({"huggingface": json.dumps(told)})


def _packing(schema: pa.Schema, images: list[str]) -> dict[str, Any]:
    """Pictures are packed already, and no two of them are alike."""
    if not images:
        return {"use_dictionary": True, "compression": "zstd", "compression_level": 3, "write_statistics": True}
    leaves = [
        leaf
        for field in schema
        for leaf in ([f"{field.name}.bytes", f"{field.name}.path"] if field.name in images else [field.name])
    ]
    packed = {f"{name}.bytes" for name in images}
    others = [leaf for leaf in leaves if leaf not in packed]
    return {
        "use_dictionary": others,
        "compression": {leaf: "NONE" if leaf in packed else "zstd" for leaf in leaves},
        "write_statistics": others,
    }


def write_task(folder: Folder, plan: Plan, parts: range, files_of: Callable[[int], Iterable[Table]]) -> Marker:
    """Make and put a range of parts, then the one marker that proves them. `files_of(part)` yields (sub folder, rows) or
    (sub folder, rows or None, what to note in the marker, such as rejects)."""
    if not 0 <= parts.start < parts.stop <= plan.parts or parts.step != 1:
        raise ValueError(f"parts {parts}: the plan has the parts 0 to {plan.parts - 1}")
    started_seconds = time.monotonic()
    marker = Marker(parts.start, parts.stop, tuple(_write_part(folder, part, files_of(part)) for part in parts))
    name, data = marker.named()
    put_content(folder.store, folder.system_url("markers", name), data)
    rows = sum(file.rows for part in marker.parts for file in part.files)
    seconds = time.monotonic() - started_seconds
    log.info("%s: parts %d to %d, %d rows, %.1f s", folder.path, parts.start, parts.stop - 1, rows, seconds)
    return marker


def _write_part(folder: Folder, part: int, tables: Iterable[Table]) -> Part:
    files: list[PartFile] = []
    extra: dict[str, Any] = {}
    count: Counter[str] = Counter()
    for entry in tables:
        sub, table = entry[0].strip("/"), entry[1]
        extra.update(entry[2] if len(entry) == 3 else {})
        if table is None:
            continue
        data = parquet_bytes(table)
        sha256 = digest(data)
        nth = f"-{count[sub]}" if count[sub] else ""
        count[sub] += 1
        name = f"part-{part:09d}{nth}-{sha256[:HASH_CHARACTERS]}.parquet"
        put_content(folder.store, join(folder.url, *filter(None, (sub, name))), data)
        files.append(PartFile(sub, name, table.num_rows, len(data), sha256, _bounds(table)))
    return Part(part, tuple(files), extra)


def _bounds(table: pa.Table) -> dict[str, list[Any]]:
    bounds: dict[str, list[Any]] = {}
    for name in table.column_names:
        try:
            ends: Any = pc.min_max(table[name]).as_py()
        except (pa.ArrowNotImplementedError, ValueError, OverflowError):  # nested types; times that Python cannot hold
            continue
        low, high = _plain(ends["min"]), _plain(ends["max"])
        if low is not None and high is not None:
            bounds[name] = [low, high]
    return bounds


def _plain(value: Any) -> Any:
    """A value as JSON can say it; None where it cannot, or not briefly."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= BOUND_CHARACTERS and not isinstance(value, bytes) else None


def missing(folder: Folder, plan: Plan) -> list[range]:
    """The parts that no marker proves, as ranges of at most 64: the tasks of a resume."""
    ranges: list[range] = []
    first = 0
    for marked in (*sorted(folder.marked(), key=lambda marked: marked.start), range(plan.parts, plan.parts)):
        stop = min(marked.start, plan.parts)
        ranges += [range(start, min(start + TASK_PARTS, stop)) for start in range(first, stop, TASK_PARTS)]
        first = max(first, marked.stop)
    return ranges


def commit(folder: Folder, plan: Plan) -> dict[str, Any]:
    """Markers → manifest → outcome, which is returned. StoppedError names missing parts. Any number of drivers may do it."""
    outcome = _finished(folder)
    if outcome is not None:
        return outcome
    absent = [part for parts in missing(folder, plan) for part in parts]
    if absent:
        shown = ", ".join(map(str, absent[:10])) + (" …" if len(absent) > 10 else "")
        raise StoppedError(
            f"{folder.path}: {len(absent)} of {plan.parts} parts are not made: {shown}. Run the same command again to make them"
        )
    files = ((part.part, file, part.extra) for part in _chosen(folder) for file in part.files)
    return _settle(folder, files, {"parts": plan.parts})


def commit_files(folder: Folder, names: Iterable[str]) -> dict[str, Any]:
    """The commit of a folder of a few named files, such as a model: each is read back, so what is listed is what lies there."""
    outcome = _finished(folder)
    if outcome is not None:
        return outcome
    files: list[Entry] = []
    for path in sorted(set(names)):
        try:
            data = folder.store.read(join(folder.url, path))
        except FileNotFoundError:
            raise StoppedError(f"{folder.path}: {path} is not written. Run the same command again") from None
        sub, _, name = path.rpartition("/")
        files.append((None, PartFile(sub, name, 0, len(data), digest(data), {}), {}))
    return _settle(folder, files, {"parts": 0})


def _chosen(folder: Folder) -> Iterator[Part]:
    """In their order, per part the making of the lowest hash; two hashes are logged, since they mean that the maker is not
    deterministic. Markers come by their first part, so what lies before it is decided and need not be kept."""
    chosen: dict[int, Part] = {}
    for marker in folder.markers():
        yield from (chosen.pop(part) for part in sorted(chosen) if part < marker.first)
        for part in marker.parts:
            _choose(folder, chosen, part)
    yield from (chosen[part] for part in sorted(chosen))


def _choose(folder: Folder, chosen: dict[int, Part], part: Part) -> None:
    other = chosen.setdefault(part.part, part)
    if other == part:
        return
    if other.hash != part.hash:
        message = f"{folder.path}: part {part.part} was made twice with different bytes; the lower hash is kept"
        log.warning("%s", NondeterminismError(message))
    chosen[part.part] = min(other, part, key=lambda made: (made.hash, canonical(made.extra)))


def _finished(folder: Folder) -> dict[str, Any] | None:
    """The outcome if there is one. StoppedError if the folder was abandoned."""
    outcome = folder.outcome()
    if outcome is None:
        return None
    if "committed" not in outcome:
        raise StoppedError(f"{folder.path}: was abandoned by raysynth gc. Run the same command again to make it anew")
    folder.store.put(join(folder.url, "_SUCCESS"), b"")
    return outcome


def _manifest(files: Iterable[Entry]) -> Iterator[pa.Table]:
    """The lines of the manifest, a row group at a time: a plan may have a million of them, and the driver holds few."""
    rows = (
        (part, file.sub, file.name, file.rows, file.bytes, file.sha256, canonical(extra).decode()) for part, file, extra in files
    )
    pieces: list[pa.Table] = []
    while some := list(islice(rows, MANIFEST_ROWS)):
        columns = zip(zip(*some, strict=True), MANIFEST, strict=True)
        pieces.append(pa.table([pa.array(column, field.type) for column, field in columns], schema=MANIFEST))
        if len(pieces) * MANIFEST_ROWS == ROW_GROUP_ROWS:
            yield pa.concat_tables(pieces)
            pieces.clear()
    yield pa.concat_tables([MANIFEST.empty_table(), *pieces])


def _settle(folder: Folder, files: Iterable[Entry], facts: Mapping[str, Any]) -> dict[str, Any]:
    counts: Counter[str] = Counter(rows=0, bytes=0, files=0)

    def counted() -> Iterator[pa.Table]:
        for table in _manifest(files):
            counts.update(rows=pc.sum(table["rows"]).as_py() or 0, bytes=pc.sum(table["bytes"]).as_py() or 0, files=table.num_rows)
            yield table

    data = parquet_bytes(counted())
    name = f"manifest-{digest(data)[:HASH_CHARACTERS]}.parquet"
    put_content(folder.store, folder.system_url(name), data)
    made = {
        "committed": {"manifest": name, "sha256": digest(data)},
        **counts,
        **facts,
    }
    folder.store.put(folder.system_url("outcome.json"), canonical(made))
    outcome = _finished(folder)  # read back: another driver's may have come first, and then it counts
    if outcome is None:
        raise CorruptRunError(f"{folder.path}: outcome.json vanished while the folder was committed")
    if outcome != json.loads(canonical(made)):
        log.warning("%s", NondeterminismError(f"{folder.path}: another driver committed other bytes; those count"))
    log.info("%s: committed, %d files, %d rows", folder.path, outcome["files"], outcome["rows"])
    return outcome
