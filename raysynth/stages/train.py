"""Committed prepared rows → RUN/encoded/<id>/ (the shuffled feed) → RUN/model/<id>/: the codec settled, the generator trained."""

import threading
from collections.abc import Generator as Context
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial, reduce
from importlib.metadata import version
from typing import Any, cast

import numpy as np
import pyarrow as pa

from raysynth import base_folder
from raysynth.cluster.checkpoints import checkpoints, unpack_facts
from raysynth.cluster.devices import has_gpu
from raysynth.cluster.feed import batch_of
from raysynth.cluster.fit import fit
from raysynth.cluster.map_reduce import map_reduce
from raysynth.cluster.meter import METER
from raysynth.cluster.rank import Job
from raysynth.cluster.rows import map_ordered
from raysynth.cluster.stalled import beat
from raysynth.codecs.base import Codec, Stats
from raysynth.commits import commit, commit_files, missing
from raysynth.errors import DataError, RecipeError, StoreError
from raysynth.generators.base import Fitted, Generator, Remote, Trained
from raysynth.layout import Batch, Facts
from raysynth.models import codec_of, generator_of, model_files
from raysynth.parts import deciding, find
from raysynth.progress import Progress
from raysynth.recipe import Recipe
from raysynth.runs import Folder, Plan, Run, folder_id, read_rows
from raysynth.schema import Schema
from raysynth.stages.encoding import bring, cut, lowest_of, observer
from raysynth.stages.known import knowledge_of
from raysynth.stages.model_parts import base_of, parts_of
from raysynth.stores.base import join

ROWS_VERSION = 1
FEED_ROWS = 262_144  # of one encoded part: what a training worker holds at a time
SPLITS = ("train", "validation")


def run(recipe: Recipe, run: Run, prepared: Folder, augmented: Folder | None = None) -> Folder:
    """RecipeError if the generator does not fit the codec's layout, DataError if there are no rows to learn from. `augmented` is only
    looked at where the recipe says train.augmented."""
    more = augmented if recipe.train.augmented else None
    facts = train_facts(recipe, prepared, more)
    folder = run.folder("model", folder_id(facts))
    if not folder.committed:
        _make(recipe, run, _Rows(prepared, more), folder, facts)
    run.point("model", folder)
    return folder


@dataclass(frozen=True)
class _Rows:
    """What there is to learn from: prepared rows and, where the recipe says so, augmented ones."""

    prepared: Folder
    augmented: Folder | None

    def urls(self, split: str) -> list[str]:
        more = self.augmented.part_urls() if self.augmented is not None and split == "train" else []
        return [*self.prepared.part_urls(split), *more]

    def counts(self) -> dict[str, int]:
        counts = rows_by_split(self.prepared)
        if self.augmented is not None:
            counts["train"] += cast("int", (self.augmented.outcome() or {})["rows"])
        return counts


def train_facts(recipe: Recipe, prepared: Folder, augmented: Folder | None = None) -> Facts:
    """What decides the model's bytes. Only where they are not the plain ones are the precision, the fewest workers and the generator's
    version named: so that the ids of all other models are what they were. The last bits of numpy's sums differ with the CPU, as torch's."""
    import torch

    generator = find("generators", recipe.generator.use)
    return {
        "stage": "train",
        "rows_version": ROWS_VERSION,
        "prepared": prepared.id.split(".")[0],
        **({"augmented": augmented.id.split(".")[0]} if augmented is not None else {}),
        "seed": recipe.seed,
        **_known(recipe),
        **({"base": base_folder.digest(base)} if (base := base_of(recipe)) is not None else {}),
        "parts": {role: deciding(f"{role}s", part) for role, part in parts_of(recipe).items()},
        **({"generator_version": generator.version} if generator.version != 1 else {}),
        "capability": torch.backends.cpu.get_cpu_capability(),
        **(_fitting(generator) if issubclass(generator, Fitted) else _training(recipe)),
    }


def _fitting(generator: type[Fitted]) -> Facts:
    """Whatever the workers and their devices: tasks merge in their order, on CPUs."""
    return {"libraries": {name: version(name) for name in generator.libraries}}


def _training(recipe: Recipe) -> Facts:
    import torch

    use_gpu = _use_gpu(recipe)
    precision = _precision(recipe, use_gpu)
    return {
        "workers": recipe.train.workers,
        **({"min_workers": recipe.train.min_workers} if recipe.train.min_workers is not None else {}),
        "device": "cuda" if use_gpu else "cpu",
        **({"precision": precision} if precision != "float32" else {}),
        "max_epochs": recipe.train.max_epochs,
        "max_train_seconds": recipe.train.max_train_seconds,
        "torch": torch.__version__.split("+")[0],
    }


def _known(recipe: Recipe) -> Facts:
    """What is known decides what a server is asked for: of other generators it is in the rows already, if anywhere."""
    if recipe.knowledge is None or not issubclass(find("generators", recipe.generator.use), Remote):
        return {}
    known = knowledge_of(recipe)
    return {} if known is None or not known.triples else {"knowledge": known.sha256["triples"]}


def _make(recipe: Recipe, run: Run, rows: _Rows, folder: Folder, facts: Facts) -> None:
    told = rows.prepared.plan().facts
    schema = Schema.from_json(told["schema"])
    codec = _settled(recipe, schema, rows)
    generator = _generator(recipe, codec)
    if isinstance(generator, Remote):
        if (known := knowledge_of(recipe)) is not None:
            generator.know(known)
        generator.remember(_lowest(recipe, codec, rows, generator.pool_rows))
        report: Facts | None = {"reproducible": False}  # nothing to learn: the server knows, and its replies are stored
    else:
        report = _learn(recipe, run, rows, folder, codec, generator, facts)
    if report is not None:
        _commit_model(folder, codec, generator, model_facts(recipe, told["schema"], report, facts))


def model_facts(recipe: Recipe, schema: Any, report: Facts, facts: Facts) -> Facts:
    """What model.json says of how it was made: never the recipe's name, which decides no row and is in no id."""
    told = {"seed": recipe.seed, "schema": schema, "derive": recipe.derive, "parts": parts_of(recipe)}
    return {**told, "report": report, "facts": facts}


def _lowest(recipe: Recipe, codec: Codec, rows: _Rows, count: int) -> Batch:
    """The encoded train rows whose row ids hash lowest, in that order."""
    urls = rows.urls("train") if count else []
    found: list[pa.Table] = map_ordered(urls, partial(lowest_of, recipe.seed, count), workers=recipe.generate.workers)
    table = pa.concat_tables([codec.schema.arrow.empty_table(), *(part.select(codec.schema.names) for part in found)])
    words = np.concatenate([np.empty(0, np.uint64), *(part["_word"].to_numpy() for part in found)])
    return codec.encode(table.take(np.argsort(words, kind="stable")[:count]))


def _learn(recipe: Recipe, run: Run, rows: _Rows, folder: Folder, codec: Codec, generator: Generator, facts: Facts) -> Facts | None:
    """The generator then has what it learnt → a report; None where another driver was first."""
    feed = _encoded(recipe, run, rows, codec, facts)
    if isinstance(generator, Fitted):
        return _fit(recipe, generator, feed["urls"]["train"])
    return _train(recipe, codec, generator, feed, folder, facts)


def _train(recipe: Recipe, codec: Codec, generator: Generator, feed: Facts, folder: Folder, facts: Facts) -> Facts | None:
    """By gradients, on Ray Train; the generator then has the best weights. None where another driver was first."""
    job = Job(
        model=folder,
        schema=codec.schema.to_json(),
        parts=facts["parts"],
        codec_state=codec.state(),
        train=feed["urls"]["train"],
        validation=feed["urls"]["validation"],
        rows=feed["rows"]["train"],
        seed=recipe.seed,
        max_epochs=recipe.train.max_epochs,
        max_train_seconds=recipe.train.max_train_seconds,
        workers=recipe.train.workers,
        min_workers=recipe.train.min_workers,
        use_gpu=facts["device"] == "cuda",
        precision=facts.get("precision", "float32"),
        capability=facts["capability"],
    )
    METER.went_on |= bool(checkpoints(folder))
    with _live(folder, recipe.train.max_epochs):
        done = fit(job)
    if done is None:
        return None
    generator.load(done[0], {})
    cast("Trained", generator).calibrate(batch_of(read_rows(url)) for url in feed["urls"]["validation"])
    return done[1]


def _fit(recipe: Recipe, generator: Fitted, urls: tuple[str, ...]) -> Facts:
    """By independent tasks over the feed, merged in their order."""
    tasks = generator.tasks()
    generator.merge(map_ordered(tasks, partial(_fitter, generator, urls), workers=recipe.generate.workers))
    return {"tasks": len(tasks), "reproducible": True}


def _fitter(generator: Fitted, urls: tuple[str, ...]) -> Any:
    def fit_task(task: str) -> Stats:
        def batches() -> Iterator[Batch]:
            for number, url in enumerate(urls):
                beat(f"{task}: {number}")  # a task reads all rows there are, which may take longer than anybody waits for one
                yield batch_of(read_rows(url))

        return generator.fit(task, batches())

    return fit_task


def _commit_model(folder: Folder, codec: Codec, generator: Generator, facts: Facts) -> None:
    files = model_files(codec, generator, facts)
    for name, data in files.items():
        folder.store.put(join(folder.url, name), data)
    commit_files(folder, files)
    folder.clear_tmp()


def _generator(recipe: Recipe, codec: Codec) -> Generator:
    generator = generator_of(parts_of(recipe)["generator"], codec)
    if not isinstance(codec.layout, generator.accepts):
        accepted = ", ".join(layout.__name__ for layout in generator.accepts)
        raise RecipeError(f"generator.use: takes {accepted}, and the codec gives {type(codec.layout).__name__}. Pick another pair")
    if not isinstance(generator, Trained | Fitted | Remote):
        raise RecipeError(f"generator.use: '{recipe.generator.use}' is neither Trained, Fitted nor Remote")
    return generator


def _settled(recipe: Recipe, schema: Schema, rows: _Rows) -> Codec:
    codec = codec_of(parts_of(recipe)["codec"], schema, recipe.seed)
    urls = rows.urls("train")
    if not rows.prepared.part_urls("train"):
        raise DataError(
            "prepare: no row is left in the train split. Give more rows, or smaller prepare.validation and prepare.holdout"
        )
    stats: list[Stats] = map_ordered(urls, partial(observer, codec), workers=recipe.generate.workers)
    codec.settle(reduce(lambda left, right: left.merge(right), stats))
    return codec


def _encoded(recipe: Recipe, run: Run, rows: _Rows, codec: Codec, facts: Facts) -> dict[str, Any]:
    """Encode and shuffle once: each split's rows sorted by the hash of their row id, in parts of about FEED_ROWS rows."""
    keys = [key for key in ("rows_version", "prepared", "augmented", "seed", "base") if key in facts]
    folder = run.folder(
        "encoded", folder_id({"stage": "encode", "codec": facts["parts"]["codec"], **{key: facts[key] for key in keys}})
    )
    urls = {split: rows.urls(split) for split in SPLITS}
    counts = rows.counts()
    buckets = {split: max(1, -(-counts[split] // FEED_ROWS)) for split in SPLITS}
    plan = Plan(sum(buckets.values()), {"buckets": buckets})
    if not folder.committed:
        folder.write_plan(plan)
        if missing(folder, plan):
            for first, split in ((0, "train"), (buckets["train"], "validation")):
                cutter = partial(cut, codec, buckets[split], recipe.seed)
                map_reduce(urls[split] or [None], cutter, partial(bring, folder, plan, split, first), buckets=buckets[split])
        commit(folder, plan)
    return {"rows": counts, "urls": {split: tuple(folder.part_urls(split)) for split in SPLITS}}


def rows_by_split(prepared: Folder) -> dict[str, int]:
    manifest = prepared.manifest()
    pairs = cast("list[tuple[str, int]]", list(zip(manifest["sub"].to_pylist(), manifest["rows"].to_pylist(), strict=True)))
    return {split: sum(rows for sub, rows in pairs if sub == split) for split in SPLITS}


def _use_gpu(recipe: Recipe) -> bool:
    """`auto` is settled here, once, before anything is made: a model's id says on what it was trained."""
    return has_gpu() if recipe.train.use_gpu == "auto" else bool(recipe.train.use_gpu)


def _precision(recipe: Recipe, use_gpu: bool) -> str:
    if recipe.train.precision == "auto":
        return "bfloat16" if use_gpu else "float32"
    return recipe.train.precision


@contextmanager
def _live(folder: Folder, max_epochs: int) -> Context[None]:
    """A line per epoch, read from the checkpoints on the store: the same from any machine."""
    ended = threading.Event()

    def follow() -> None:
        seen = -1
        with Progress("train", max_epochs, "epochs") as progress:
            while not ended.wait(1.0):
                with suppress(FileNotFoundError, StoreError):  # a checkpoint may go while it is looked at
                    found = checkpoints(folder)
                    if found and found[-1][0] > seen:
                        report = unpack_facts(folder, found[-1][1])["report"]
                        seen = found[-1][0]
                        progress.at(seen + 1, loss=round(report["train_loss"], 4), validation=round(report["validation_loss"], 4))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=10)
