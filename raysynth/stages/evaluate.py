"""Committed real, synthetic and mixed rows → RUN/evaluation/<id>/{scores.json, histograms.json, report.html}: every score beside its
ceiling, and the distributions of the real columns.

Two passes over the parts on Ray. The first keeps of each side the rows of lowest hashed id, and the hashes of the real rows; the second
shows every row to the metrics that must see them all. Memory is that of the samples and of 8 bytes for each real row, whatever the
synthetic rows are.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cleaning import row_hash
from raysynth.cluster.rows import map_items, map_ordered
from raysynth.commits import commit_files
from raysynth.committed_rows import with_folders
from raysynth.draws import Draws
from raysynth.expressions import Expression
from raysynth.extractor import Extractor, extractor_of
from raysynth.gates import judge
from raysynth.histograms import histograms
from raysynth.image_frames import image_columns, thumbnails
from raysynth.markers import canonical
from raysynth.metrics.base import ORIGIN, PICTURE_ROWS, WORD, Metric, Score, Seen, Side
from raysynth.parts import available, find
from raysynth.progress import Progress, say
from raysynth.recipe import Evaluate, Recipe
from raysynth.report import Report, page
from raysynth.row_ids import id_words
from raysynth.runs import Folder, Run, folder_id, read_rows
from raysynth.schema import Schema
from raysynth.stores.base import join
from raysynth.turns import rows_as_texts, told_as_texts

ROWS_VERSION = 5
REAL: tuple[Side, ...] = ("train", "validation", "holdout")
_HASHED: tuple[Side, ...] = ("train", "holdout")
_AUGMENTED_PARTS, _AUGMENTED_ROWS = 4, 1000  # that the report shows some of
_SLACK = 6.0  # standard deviations: how far above its expectation the threshold of a sample lies


@dataclass(frozen=True)
class Piece:
    """One part of a side: where it lies, how many rows of the side come before it, and how many it has."""

    side: Side
    url: str
    first: int
    rows: int


@dataclass(frozen=True)
class _Glimpse:
    """What the first pass keeps of one part."""

    sample: pa.Table
    contents: NDArray[np.uint64]


def run(
    recipe: Recipe,
    run: Run,
    prepared: Folder,
    synthetic: Folder,
    mixed: Folder | None,
    stages: list[dict[str, Any]],
    augmented: Folder | None = None,
) -> Folder:
    """`stages`: what the report says of the stages before this one; `augmented`: what it may show. The recipe's `evaluate` must not be
    null."""
    asked = cast("Evaluate", recipe.evaluate)
    schema = told_as_texts(Schema.from_json(prepared.plan().facts["schema"]))
    shown = augmented if asked.real_pictures and image_columns(schema) else None
    folder = run.folder("evaluation", folder_id(evaluate_facts(recipe, prepared, synthetic, mixed, shown)))
    if not folder.committed:
        sides = _sides(prepared, synthetic, mixed)
        seen = _first_pass(sides, schema, asked.sample_rows, seed=recipe.seed, workers=recipe.generate.workers)
        options = metric_options(recipe, asked)
        metrics = [find("metrics", name)(schema, **options) for name in applying(schema, asked.target)]
        scores = _scores(metrics, seen, sides, recipe)
        rows = _some_augmented(shown, schema) if shown is not None else None
        _write(folder, recipe, schema, seen, scores, stages, rows)
    run.point("evaluation", folder)
    return folder


def evaluate_facts(
    recipe: Recipe, prepared: Folder, synthetic: Folder, mixed: Folder | None, shown: Folder | None = None
) -> dict[str, Any]:
    """What decides the scores and the report's contents, the time that stages took aside. `shown`: other rows that the report shows."""
    import sklearn

    asked = cast("Evaluate", recipe.evaluate)
    schema = told_as_texts(Schema.from_json(prepared.plan().facts["schema"]))
    metrics = applying(schema, asked.target)
    packages = {name for metric in metrics for name in find("metrics", metric).packages}
    libraries = {"scikit-learn": sklearn.__version__, "numpy": np.__version__, "pyarrow": pa.__version__}
    return {
        "stage": "evaluate",
        "rows_version": ROWS_VERSION,
        "read": [folder.id.split(".")[0] for folder in (prepared, synthetic, mixed, shown) if folder is not None],
        "seed": recipe.seed,
        "evaluate": asked.model_dump(mode="json", exclude=_silent(asked, schema)),
        **_seen_by(asked),
        "derive": recipe.derive,
        "metrics": metrics,
        "versions": libraries | {name: _installed(name) for name in sorted(packages)},
    }


def _silent(asked: Evaluate, schema: Schema) -> set[str]:
    """The keys that decide nothing here."""
    pictures = set[str]() if image_columns(schema) else {"real_pictures"}
    return pictures | ({"extractor"} if asked.extractor is None else set())


def _seen_by(asked: Evaluate) -> dict[str, Any]:
    extractor = extractor_in(asked)
    return {} if extractor is None else {"extractor": {"sha256": extractor.sha256, "onnxruntime": _installed("onnxruntime")}}


def extractor_in(asked: Evaluate | None) -> Extractor | None:
    """Asked for by `evaluate.extractor`, and tried; its errors are extractor_of's."""
    file = asked.extractor if asked is not None else None
    return extractor_of(file.url, file.mean, file.spread) if file is not None else None


def metric_options(recipe: Recipe, asked: Evaluate) -> dict[str, Any]:
    """What every metric is made with, beside the schema."""
    target = asked.target
    return {
        "seed": recipe.seed,
        "target": target,
        "told_by": told_by(recipe.derive, target),
        "extractor": extractor_in(asked),
    }


def applying(schema: Schema, target: str | None) -> list[str]:
    """The metrics, by name, that have something to score in these columns."""
    return [name for name in available("metrics") if find("metrics", name).applies(schema, target)]


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def told_by(derive: Mapping[str, str], target: str | None) -> frozenset[str]:
    """The columns that give a target away: those that it is computed from, and what is derived from it or from any of them."""
    if target is None:
        return frozenset()
    read = {name: Expression.parse(text, f"derive.{name}").columns for name, text in derive.items()}
    found = {target, *read.get(target, ())}
    for _ in read:  # derived columns may read derived ones
        found |= {column for name in found & set(read) for column in read[name]}
        found |= {name for name, columns in read.items() if columns & found}
    return frozenset(found - {target})


def read_scores(folder: Folder) -> list[dict[str, Any]]:
    """The scores of a committed evaluation, as scores.json has them."""
    return cast("list[dict[str, Any]]", folder.read_json("scores.json")["scores"])


def _sides(prepared: Folder, synthetic: Folder, mixed: Folder | None) -> dict[Side, list[Piece]]:
    sides: dict[Side, list[Piece]] = {side: _pieces(side, prepared, side) for side in REAL}
    sides["synthetic"] = _pieces("synthetic", synthetic, "")
    if mixed is not None:
        sides["mix"] = _pieces("mix", mixed, "train")
    return sides


def _pieces(side: Side, folder: Folder, sub: str) -> list[Piece]:
    manifest = folder.manifest()
    rows = {join(folder.url, *filter(None, (entry["sub"], entry["name"]))): entry["rows"] for entry in manifest.to_pylist()}
    urls = folder.part_urls(sub)
    firsts = np.cumsum([0, *(rows[url] for url in urls)])
    return [Piece(side, url, int(first), rows[url]) for url, first in zip(urls, firsts[:-1], strict=True)]


def _rows_of(piece: Piece, schema: Schema, seed: int) -> pa.Table:
    """The schema's columns (and `_origin` of the mix), with WORD."""
    rows = rows_as_texts(read_rows(piece.url))
    if piece.side in REAL:
        words = id_words(rows, seed)
    else:
        words = Draws.range(seed, f"evaluate-{piece.side}", piece.first, piece.first + rows.num_rows).words("sample")
    if piece.side == "mix":
        rows = with_folders(rows, piece.url, schema)
    names = [*schema.names, *([ORIGIN] if piece.side == "mix" else [])]
    return rows.select(names).append_column(WORD, pa.array(words))


# The first pass


def _first_pass(sides: Mapping[Side, list[Piece]], schema: Schema, sample_rows: int, *, seed: int, workers: int) -> Seen:
    rows: dict[Side, int] = {side: sum(piece.rows for piece in pieces) for side, pieces in sides.items()}
    below: dict[Side, int] = {side: _threshold(sample_rows, count) for side, count in rows.items()}
    pieces = [piece for pieces in sides.values() for piece in pieces]
    pictured: dict[Side, int] = {side: _threshold(PICTURE_ROWS, count) for side, count in rows.items()}
    glimpses: list[_Glimpse] = map_ordered(pieces, partial(_glimpser, schema, below, pictured, seed), workers=workers)
    found: dict[Side, list[_Glimpse]] = {
        side: [seen for piece, seen in zip(pieces, glimpses, strict=True) if piece.side == side] for side in sides
    }
    empty = schema.arrow.append(pa.field(WORD, pa.uint64())).empty_table()
    samples: dict[Side, pa.Table] = {
        side: _lowest([seen.sample for seen in parts] or [empty], sample_rows) for side, parts in found.items()
    }
    contents: dict[Side, Any] = {side: np.unique(_joined([seen.contents for seen in found[side]])) for side in _HASHED}
    return Seen(samples, rows, contents)


def _threshold(sample_rows: int, rows: int) -> int:
    """A hash below which there are, but for odds of one in a billion, `sample_rows` of `rows` rows or all of them."""
    wanted = sample_rows + _SLACK * sample_rows**0.5
    return 2**64 - 1 if wanted >= rows else int(wanted / rows * 2**64)


def _glimpser(schema: Schema, below: Mapping[Side, int], pictured: Mapping[Side, int], seed: int) -> Callable[[Piece], _Glimpse]:
    """`below`, `pictured`: the hashes up to which rows are sampled, and keep their pictures."""

    def look(piece: Piece) -> _Glimpse:
        rows = _rows_of(piece, schema, seed)
        words = rows[WORD].to_numpy()
        contents = row_hash(rows, schema) if piece.side in _HASHED else np.empty(0, np.uint64)
        for column in image_columns(schema):
            kept = words <= np.uint64(pictured[piece.side])
            rows = rows.set_column(rows.column_names.index(column), column, thumbnails(rows.column(column), kept))
        return _Glimpse(rows.take(np.flatnonzero(words <= np.uint64(below[piece.side]))), contents)

    return look


def _lowest(samples: list[pa.Table], wanted: int) -> pa.Table:
    rows = pa.concat_tables(samples).combine_chunks()
    order = np.argsort(rows[WORD].to_numpy(), kind="stable")[:wanted]
    return rows.take(order)


def _joined(arrays: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.concatenate([np.empty(0, np.uint64), *arrays])


# The second pass, and the scores


def _scores(metrics: list[Metric], seen: Seen, sides: Mapping[Side, list[Piece]], recipe: Recipe) -> list[Score]:
    for metric in metrics:
        metric.settle(seen)
    stats = _second_pass(metrics, sides, recipe)
    scorer = partial(_scorer, metrics, seen, stats)
    found: list[list[Score]] = []
    with Progress("evaluate", len(metrics), "metrics") as progress:
        results = dict(_advancing(map_items(range(len(metrics)), scorer, workers=recipe.generate.workers, keep=False), progress))
        found = [results[number] for number in range(len(metrics))]
    return [_sayable(score) for scores in found for score in scores]


def _sayable(score: Score) -> Score:
    """Without numbers that JSON has no word for: whatever a metric makes of odd rows, it cannot end a run."""
    if score.value is not None and not math.isfinite(score.value):
        return replace(score, value=None, ceiling=None, columns={}, facts={}, why=f"it came out as {score.value}")
    ceiling = score.ceiling if score.ceiling is not None and math.isfinite(score.ceiling) else None
    columns = {name: value for name, value in score.columns.items() if math.isfinite(value)}
    facts = {name: fact for name, fact in score.facts.items() if not isinstance(fact, float) or math.isfinite(fact)}
    return replace(score, ceiling=ceiling, columns=columns, facts=facts)


def _advancing(items: Iterator[tuple[int, Any]], progress: Progress) -> Iterator[tuple[int, Any]]:
    for item in items:
        progress.advance()
        yield item


def _scorer(metrics: list[Metric], seen: Seen, stats: list[dict[Side, Any]]) -> Callable[[int], list[Score]]:
    def score(number: int) -> list[Score]:
        return metrics[number].score(seen, stats[number])

    return score


def _second_pass(metrics: list[Metric], sides: Mapping[Side, list[Piece]], recipe: Recipe) -> list[dict[Side, Any]]:
    """For each metric: side → the merged statistics of every row."""
    wanted = {side for metric in metrics for side in metric.sides}
    pieces = [piece for side, pieces in sides.items() if side in wanted for piece in pieces]
    observer = partial(_observer, [metric for metric in metrics if metric.sides], recipe.seed)
    merged: list[dict[Side, Any]] = [{} for _ in metrics]
    looking = [number for number, metric in enumerate(metrics) if metric.sides]
    waiting: dict[int, list[Any]] = {}
    following = 0
    for position, stats in map_items(pieces, observer, workers=recipe.generate.workers):
        waiting[position] = stats
        while following in waiting:  # merged in the order of the parts as soon as may be, so that few wait in memory
            for number, seen in zip(looking, waiting.pop(following), strict=True):
                if seen is not None:
                    side = pieces[following].side
                    merged[number][side] = merged[number][side].merge(seen) if side in merged[number] else seen
            following += 1
    return merged


def _observer(metrics: list[Metric], seed: int) -> Callable[[Piece], list[Any]]:
    def observe(piece: Piece) -> list[Any]:
        rows = _rows_of(piece, metrics[0].schema, seed)
        return [metric.observe(rows, piece.side) if piece.side in metric.sides else None for metric in metrics]

    return observe


# What is written


def _some_augmented(augmented: Folder, schema: Schema) -> pa.Table:
    """Some rows of a few parts, each of another op or copy where there are several; their pictures small."""
    urls = augmented.part_urls("")
    found: list[pa.Table] = []
    for url in urls[:: max(1, len(urls) // _AUGMENTED_PARTS)][:_AUGMENTED_PARTS]:
        rows = rows_as_texts(read_rows(url)).select(schema.names).slice(0, _AUGMENTED_ROWS)
        for column in image_columns(schema):
            small = thumbnails(rows.column(column), np.ones(rows.num_rows, np.bool_))
            rows = rows.set_column(rows.column_names.index(column), column, small)
        found.append(rows)
    return pa.concat_tables([schema.arrow.empty_table(), *found])


def _write(
    folder: Folder,
    recipe: Recipe,
    schema: Schema,
    seen: Seen,
    scores: list[Score],
    stages: list[dict[str, Any]],
    augmented: pa.Table | None,
) -> None:
    asked = cast("Evaluate", recipe.evaluate)
    told = [asdict(score) for score in scores]
    facts = {"version": 1, "target": asked.target, "rows": dict(seen.rows), "sample_rows": asked.sample_rows, "scores": told}
    folder.store.put(join(folder.url, "scores.json"), canonical(facts))
    real = canonical(histograms(seen.samples["train"], schema))
    folder.store.put(join(folder.url, "histograms.json"), real)
    gates = judge(asked.gates, told)
    shown: dict[Side, pa.Table] = {side: seen.samples[side] for side in ("train", "holdout", "synthetic")}
    report = Report(
        name=recipe.name,
        scores=told,
        gates=gates,
        schema=schema,
        samples=shown,
        rows=dict(seen.rows),
        recipe=recipe.model_dump(mode="json", by_alias=True, exclude={"run"}),
        stages=stages,
        warnings=[f"{score.name}: {score.why}" for score in scores if score.value is None],
        target=asked.target,
        real_pictures=asked.real_pictures,
        augmented=augmented,
    )
    folder.store.put(join(folder.url, "report.html"), page(report).encode())
    commit_files(folder, ["scores.json", "histograms.json", "report.html"])
    say(stage="evaluate", gates=len(gates), hold=sum(gate.holds for gate in gates))
