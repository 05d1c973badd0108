"""A recipe's first rows through its own parts, in this process and without Ray → what each stage of the whole run would cost.

Where the run has made a stage already, what that cost (its timing.json) is scaled instead. Nothing is written.
"""

from dataclasses import dataclass, replace
from functools import partial
from math import log2
from statistics import median
from typing import Any, cast

import numpy as np
import pyarrow as pa

from raysynth.cleaning import row_hash
from raysynth.codecs.base import Codec
from raysynth.commits import parquet_bytes
from raysynth.costs import NOTHING, Estimate, Interval
from raysynth.derived import expressions_of
from raysynth.draws import Draws
from raysynth.generators.base import Fitted, Generator, Remote, Trained
from raysynth.layout import Batch, Tokens
from raysynth.metrics.base import WORD, Metric, Seen, Side
from raysynth.models import Model, codec_of, generator_of
from raysynth.ops.base import Asking
from raysynth.orders import rows_per_part
from raysynth.parts import find
from raysynth.recipe import Evaluate, Recipe
from raysynth.row_ids import id_words
from raysynth.runs import Run, parquet_rows
from raysynth.sampler import Sampler
from raysynth.stages.augment import augmented_rows, lent, made_schema, ops_of
from raysynth.stages.evaluate import applying, metric_options
from raysynth.stages.first_rows import WARM_ROWS, FirstRows, measured, slowness
from raysynth.stages.model_parts import parts_of
from raysynth.stages.past_costs import past_costs
from raysynth.training import Trainer, batch_rows_of, initialise
from raysynth.turns import rows_as_texts, told_as_texts

START = Interval(1.5, 4.0, 12.0)
"""CPU-seconds of the driver until Ray and the first tasks run: the first stage bears them. Measured on two cores where `slowness` is 1."""
STAGE = Interval(0.2, 0.8, 4.0)
"""… until a later stage's first task runs."""
TRAINER = Interval(3.0, 8.0, 30.0)
"""… of one training worker until its first step: it imports torch and joins the others."""
SCORERS = Interval(2.0, 8.0, 30.0)
"""… of the tasks of evaluate, which import scikit-learn, and of the report's plots."""
WAITS = {"prepare": Interval(5.0, 12.0, 40.0), "train": Interval(5.0, 15.0, 60.0)}
"""Seconds by the clock until a stage's first task runs, on nodes that are there: Ray starts; training workers join."""
WAIT = Interval(1.0, 3.0, 15.0)
"""… of the other stages."""
SPREAD = (0.4, 2.5)
"""Factors around what a probe measures: first rows stand for all, and a CPU that others use too is slower."""
STEPS, STEP_SECONDS, LEAST_EPOCHS = 24, 3.0, 7
SAMPLED_ROWS, SCORED_ROWS = 4096, 600


def estimates(recipe: Recipe, first: FirstRows) -> list[Estimate]:
    """One for each stage that the recipe asks for, in their order."""
    if not first.splits["train"].num_rows:
        return []
    learnt = _learnt(recipe, first)
    found = [_prepare(recipe, first), *([_augment(recipe, first)] if recipe.augment else [])]
    found.append(_train(recipe, first, learnt))
    synthetic = first.splits["train"].select(first.schema.names)
    if isinstance(learnt.generator, Remote):
        found.append(Estimate("generate", STAGE, NOTHING, recipe.generate.workers, "nothing: its server's time is not known here"))
    else:
        synthetic, seconds = measured(lambda: _drawn(recipe, first, learnt))
        found.append(_generate(recipe, first, seconds * _shorter(learnt) / synthetic.num_rows))
    if recipe.mix is not None:
        found.append(_mix(recipe, first))
    if recipe.evaluate is not None:
        found.append(_evaluate(recipe, recipe.evaluate, first, synthetic))
    past = past_costs(recipe, Run(recipe.run), first)
    return [replace(past[item.stage], waits=item.waits, width=item.width) if item.stage in past else item for item in found]


@dataclass(frozen=True)
class _Learnt:
    codec: Codec
    generator: Generator
    encoded: Batch
    encode_seconds: float


def _probed(stage: str, first: FirstRows, alone: Interval, shared: Interval, width: int, how: str = "") -> Estimate:
    return Estimate(
        stage, alone.times(slowness()), shared, width, f"a probe of the first {first.rows:,} rows{how}", WAITS.get(stage, WAIT)
    )


def _prepare(recipe: Recipe, first: FirstRows) -> Estimate:
    """Two passes read; removing duplicates reads and cleans once more, near-duplicates twice."""
    text = recipe.prepare.text
    passes = 2 + recipe.prepare.drop_duplicates + 2 * (text is not None and text.near_duplicates is not None)
    row = passes * first.read_seconds + first.profile_seconds + (passes - 1) * first.prepare_seconds
    return _probed("prepare", first, START, Interval.around(row * first.total_rows, *SPREAD), recipe.generate.workers)


def _augment(recipe: Recipe, first: FirstRows) -> Estimate:
    train = first.splits["train"]
    ops = lent(ops_of(recipe, first.schema))
    derive = expressions_of(first.schema, recipe.derive)

    def augmented(rows: pa.Table) -> float:
        """Copies cost alike: one of each op is made."""
        seconds = 0.0
        for number, op in enumerate(ops):
            if isinstance(op, Asking):  # each row would be paid for; its server's time is not known here
                continue
            op.settle(op.observe(rows))
            draws = Draws.of(recipe.seed, f"augment-{number}-0", id_words(rows, recipe.seed))
            made = made_schema([op], first.schema)
            work = partial(augmented_rows, op, rows, draws, first.schema, made, derive, mark="#")
            seconds += recipe.augment[number].copies * measured(lambda work=work: parquet_bytes(work()))[1]
        return seconds

    augmented(train.slice(0, WARM_ROWS))
    seconds = augmented(train) / train.num_rows + _read_seconds(train)
    return _probed("augment", first, STAGE, Interval.around(seconds * first.total("train"), *SPREAD), recipe.generate.workers)


def _learnt(recipe: Recipe, first: FirstRows) -> _Learnt:
    codec = codec_of(parts_of(recipe)["codec"], first.schema, recipe.seed)
    train = first.splits["train"]

    def encoded(codec: Codec, rows: pa.Table) -> Batch:
        codec.settle(codec.observe(rows))
        batch = codec.encode(rows)
        parquet_bytes(rows)  # for the feed's own parts
        return batch

    encoded(codec_of(parts_of(recipe)["codec"], first.schema, recipe.seed), train.slice(0, WARM_ROWS))
    batch, seconds = measured(lambda: encoded(codec, train))
    part = parts_of(recipe)["generator"]
    trained = issubclass(find("generators", part["use"]), Trained)
    generator = (
        initialise(lambda: cast("Trained", generator_of(part, codec)), recipe.seed) if trained else generator_of(part, codec)
    )
    return _Learnt(codec, generator, batch, seconds / max(1, train.num_rows))


def _train(recipe: Recipe, first: FirstRows, learnt: _Learnt) -> Estimate:
    more = _copies(recipe) if recipe.train.augmented else 0.0
    rows, checked = first.total("train") * (1 + more), first.total("validation")
    feed = Interval.around(learnt.encode_seconds * (rows + checked), *SPREAD)
    shared, width, how = _learning(recipe, learnt, rows, checked)
    return replace(_probed("train", first, STAGE, shared, width, how), feed=feed, feed_width=recipe.generate.workers)


def _learning(recipe: Recipe, learnt: _Learnt, rows: float, checked: float) -> tuple[Interval, int, str]:
    """What the workers share, how many they are, and what that supposes."""
    workers, asked = recipe.train.workers, recipe.train.max_epochs
    if isinstance(learnt.generator, Fitted):
        seconds = _fitted(learnt.generator, learnt.encoded) / max(1, learnt.encoded.rows) * rows
        return Interval.around(seconds, *SPREAD), recipe.generate.workers, ""
    if isinstance(learnt.generator, Remote):
        return NOTHING, workers, ""
    batch_rows = batch_rows_of(int(rows), workers, cast("Trained", learnt.generator).most_batch_rows)
    step, check = _steps(recipe, learnt, batch_rows)
    epoch = step * max(1.0, rows / batch_rows) + check * checked * workers
    least, (low, high) = min(asked, LEAST_EPOCHS), SPREAD
    epochs = Interval(epoch * low * least, epoch * max(least, asked / 2), epoch * high * asked)
    return TRAINER.times(workers * slowness()) + epochs, workers, f", {least} to {asked} epochs, as early stopping has it"


def _fitted(generator: Fitted, rows: Batch) -> float:
    return measured(lambda: generator.merge([generator.fit(task, [rows]) for task in generator.tasks()]))[1]


def _steps(recipe: Recipe, learnt: _Learnt, batch_rows: int) -> tuple[float, float]:
    """CPU-seconds of a training step, and of the validation of a row."""
    rows = learnt.encoded.rows
    trainer = Trainer(cast("Trained", learnt.generator), seed=recipe.seed, max_epochs=1, steps_per_epoch=STEPS)
    batches = [
        learnt.encoded.take(np.arange(start, start + batch_rows) % rows) for start in range(0, STEPS * batch_rows, batch_rows)
    ]
    trainer.step(batches[0], 0, 0)  # the first one warms up
    spent: list[float] = []
    for number, batch in enumerate(batches[1:], 1):
        spent.append(measured(lambda number=number, batch=batch: trainer.step(batch, 0, number))[1])
        if sum(spent) > STEP_SECONDS:
            break
    checked = learnt.encoded.take(slice(0, min(rows, 2048)))
    _, check = measured(lambda: trainer.end_epoch([checked]))
    return median(spent), check / checked.rows


def _drawn(recipe: Recipe, first: FirstRows, learnt: _Learnt) -> pa.Table:
    """Of a generator that has learnt nothing, so that no rule is asked, nor whether its texts end: how often rules hold is taken from the
    real rows."""
    if isinstance(learnt.generator, Trained):
        learnt.generator.eval()
    model = Model(first.schema, recipe.derive, learnt.codec, learnt.generator, "", {})
    most = learnt.generator.step_rows if isinstance(learnt.codec.layout, Tokens) else SAMPLED_ROWS
    rows = Sampler(model, seed=recipe.seed).first_attempts(min(recipe.generate.rows, most, learnt.generator.kernel_rows))
    parquet_bytes(rows)
    return rows


def _shorter(learnt: _Learnt) -> float:
    """Texts of a network that has learnt nothing end nowhere, real ones on average here: the share of the room that they take."""
    if not isinstance(learnt.codec.layout, Tokens) or not learnt.encoded.rows:
        return 1.0
    return max(0.01, float((learnt.encoded["tokens"] != Tokens.PAD).mean()))


def _generate(recipe: Recipe, first: FirstRows, row_seconds: float) -> Estimate:
    low, high = SPREAD
    high *= 4 if recipe.generate.where else 2 if recipe.rules else 1
    high *= 2 if recipe.generate.unique else 1  # how many rows repeat others is not known before
    seconds = row_seconds * recipe.generate.rows / first.held_by(recipe.expressions)
    parts = -(-recipe.generate.rows // (recipe.generate.rows_per_part or rows_per_part(len(first.schema))))
    width = min(recipe.generate.workers, parts)
    how = ", drawn from an untrained generator"
    return _probed("generate", first, STAGE, Interval.around(seconds, low, high), width, how)


def _mix(recipe: Recipe, first: FirstRows) -> Estimate:
    """Every input is read twice, what is taken of it is written."""
    asked = cast("Any", recipe.mix)
    augmented = _copies(recipe) * first.total("train") if asked.augmented else 0.0
    rows = first.total_rows + augmented + recipe.generate.rows
    train = first.splits["train"]
    _, seconds = measured(lambda: parquet_bytes(train))
    row = 2 * _read_seconds(train) + seconds / max(1, train.num_rows)
    low, high = SPREAD
    return _probed("mix", first, STAGE, Interval.around(row * rows, low, 4 * high), recipe.generate.workers)


def _evaluate(recipe: Recipe, asked: Evaluate, first: FirstRows, synthetic: pa.Table) -> Estimate:
    """Each metric on two small samples, which tell how it grows; and two passes over all rows."""
    schema = told_as_texts(first.schema)
    tables: dict[Side, pa.Table] = {"train": first.splits["train"], "holdout": first.splits["holdout"], "synthetic": synthetic}
    sides: dict[Side, pa.Table] = {side: rows_as_texts(table) for side, table in tables.items()}
    options = metric_options(recipe, asked)
    totals = [first.total("train"), first.total("holdout"), recipe.generate.rows]
    taken = sum(min(SCORED_ROWS, table.num_rows) for table in sides.values())
    times = max(1.0, sum(min(asked.sample_rows, total) for total in totals) / max(1, taken))
    scores = NOTHING
    for name in applying(schema, asked.target):
        metric: Metric = find("metrics", name)(schema, **options)
        half, whole = (_score_seconds(metric, sides, rows) for rows in (SCORED_ROWS // 2, SCORED_ROWS))
        scores = scores + _grown(half, whole, times)
    row = 2 * _read_seconds(first.splits["train"]) + 5e-6  # both passes, and hashing
    passes = Interval.around(row * (first.total_rows + recipe.generate.rows), 0.5, 5.0)
    how = f", and scores of {SCORED_ROWS // 2} and {SCORED_ROWS} rows"
    return _probed("evaluate", first, STAGE + SCORERS, scores + passes, recipe.generate.workers, how)


def _score_seconds(metric: Metric, sides: dict[Side, pa.Table], rows: int) -> float:
    names = metric.schema.names
    samples: dict[Side, pa.Table] = {}
    for side, table in sides.items():
        words = Draws.range(metric.seed, f"probe-{side}", 0, min(rows, table.num_rows)).words("sample")
        order = np.argsort(words, kind="stable")
        head = table.select(names).slice(0, rows)
        samples[side] = head.append_column(WORD, pa.array(words)).take(order)
    contents: dict[Side, Any] = {side: np.unique(row_hash(samples[side], metric.schema)) for side in ("train", "holdout")}
    seen = Seen(samples, {side: table.num_rows for side, table in samples.items()}, contents)
    metric.settle(seen)
    _, seconds = measured(
        lambda: metric.score(seen, {side: metric.observe(samples[side], side) for side in metric.sides if side in samples})
    )
    return seconds


def _grown(half: float, whole: float, times: float) -> Interval:
    """Seconds of a sample `times` as large, by how much doubling it cost."""
    power = min(2.0, max(1.0, log2(max(whole, 1e-4) / max(half, 1e-4))))
    low, high = SPREAD
    return Interval(low * whole * times ** (power - 0.3), whole * times**power, high * whole * times ** (power + 0.3))


def _copies(recipe: Recipe) -> float:
    return float(sum(op.copies for op in recipe.augment))


def _read_seconds(rows: pa.Table) -> float:
    data = parquet_bytes(rows)
    return measured(lambda: parquet_rows(data))[1] / max(1, rows.num_rows)
