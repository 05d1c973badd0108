"""Laws that every generator on the shelf keeps: it learns, and each row it draws is a function of its own draws alone."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from raysynth.draws import Draws
from raysynth.generators.base import Choice, Fitted, Generator, Remote, Trained
from raysynth.layout import (
    Array,
    Batch,
    Chained,
    Facts,
    Field,
    Fields,
    FieldsGiven,
    Given,
    Grids,
    Layout,
    RecordColumn,
    Records,
    RecordsGiven,
    Tokens,
)
from raysynth.parts import available, find
from raysynth.training import Trainer, initialise

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "autoregressive": [{}, {"hidden": 16, "embedding": 4, "dropout": 0.0, "orders": 1}],
    "chain": [
        {
            "text": {"use": "language_model", "width": 16, "layers": 1, "heads": 2, "guidance": 1.0, "temperature": 1.0},
            "image": {"use": "vae", "width": 8, "latent": 4, "couplings": 1, "warmup_steps": 9},
        }
    ],
    "diffusion": [
        {"width": 8, "steps": 3, "guidance": 2.0},
        {"width": 8, "steps": 2, "guidance": 1.0, "untold": 0.0, "predicts": "noise"},
    ],
    "endpoint": [{"url": "http://nobody:1/v1", "model": "m", "shots": 2}],
    "gan": [{"width": 8, "latent": 4}],
    "language_model": [
        {"width": 16, "layers": 2, "heads": 2, "top_p": 0.9},
        {"width": 16, "layers": 1, "heads": 2, "top_p": 0.9, "guidance": 1.5},
    ],
    "table_diffusion": [{"hidden": 16, "latent": 4, "blocks": 1, "steps": 3}],
    "table_vae": [{"hidden": 128, "latent": 8, "couplings": 2, "weight": 0.2, "warmup_steps": 9}],
    "text_vae": [{"width": 24, "latent": 4, "warmup_steps": 9, "temperature": 0.9}],
    "trees": [{"trees": 4}, {"trees": 1, "leaf": 20, "shrink": 0.0, "read_share": 1.0}],
    "vae": [{"width": 8, "latent": 4, "couplings": 2, "warmup_steps": 9}],
}
"""Generator → the options to try it with. A new generator adds its row, and a new layout adds its sample below."""

GENERATORS = [(name, options) for name in available("generators") for options in OPTIONS.get(name, [])]
every_generator = pytest.mark.parametrize(("name", "options"), GENERATORS, ids=str)

SEED = 4
STEPS = 20
KERNEL_ROWS = 512
FEW_ROWS = 64  # of a kernel whose rows are pictures: they take longer, and are drawn in smaller chunks


def _fields() -> tuple[Layout, Batch, Given]:
    noise = np.random.default_rng(1)
    sizes = [3, 1, 60, 8, 2]
    a = noise.choice(3, 1024, p=[0.7, 0.2, 0.1])
    c = np.where(a == 0, noise.integers(0, 10, 1024), noise.integers(40, 60, 1024))
    codes = np.stack([a, 0 * a, c, c % 8, (a > 0).astype(int)], axis=1).astype(np.int32)
    layout = Fields(tuple(Field(f"f{i}", f"c{min(i, 3)}", size) for i, size in enumerate(sizes)))
    return layout, Batch({"codes": codes}), FieldsGiven({0: np.array([True, True, False]), 2: np.arange(60) < 50})


def _tokens() -> tuple[Layout, Batch, Given]:
    """Two texts of one to five tokens, whose tokens a field tells; some have none, and some are too long."""
    noise = np.random.default_rng(2)
    kind = noise.choice(3, 128, p=[0.5, 0.3, 0.2])
    tokens = np.zeros((128, 12), np.int32)
    for row in range(128):
        texts = [noise.integers(3 + 10 * kind[row], 13 + 10 * kind[row], noise.integers(1, 6)).tolist() for _ in range(2)]
        texts[1] = [Tokens.NULL] if row % 9 == 0 else texts[1] * 3 if row % 50 == 0 else texts[1]
        found = [token for text in texts for token in [*text, Tokens.END]][:12]
        tokens[row, : len(found)] = found
    layout = Tokens((Field("kind", "kind", 3), Field("other", "other", 4)), vocabulary=40, length=12, nullable=(False, True))
    codes = np.stack([kind, noise.integers(0, 4, 128)], axis=1).astype(np.int32)
    return layout, Batch({"codes": codes, "tokens": tokens}), FieldsGiven({0: np.array([False, True, True])})


def _grids() -> tuple[Layout, Batch, Given]:
    """A bright bar on dark ground, across or upright, as a field tells."""
    noise = np.random.default_rng(4)
    codes = np.stack([noise.choice(2, 32, p=[0.7, 0.3]), noise.integers(0, 3, 32)], axis=1).astype(np.int32)
    pixels = noise.integers(0, 40, (32, 8, 8, 1), dtype=np.uint8)
    for row, (kind, place) in enumerate(codes):
        bar = pixels[row] if kind else pixels[row].transpose(1, 0, 2)
        bar[2 * place + 1 : 2 * place + 3] += np.uint8(180)
    layout = Grids((Field("kind", "kind", 2), Field("place", "place", 3)), 8, 8, 1)
    return layout, Batch({"codes": codes, "pixels": pixels.reshape(32, -1)}), FieldsGiven({0: np.array([False, True])})


def _chained() -> tuple[Layout, Batch, Given]:
    """Some of the texts and some of the pictures."""
    texts, written, given = _tokens()
    _, painted, _ = _grids()
    assert isinstance(texts, Tokens)
    pictures = Grids(texts.fields, 8, 8, 1, texts)
    few = written.take(slice(0, painted.rows))
    return Chained(texts, pictures), Batch({**few.arrays, "pixels": painted["pixels"]}), given


def _records() -> tuple[Layout, Batch, Given]:
    noise = np.random.default_rng(3)
    kinds = noise.choice(["a", "b", "c"], 64, p=[0.5, 0.3, 0.2]).tolist()
    rows = [{"kind": kind, "count": int(noise.integers(0, 10)), "said": f"{kind} 说 {row}"} for row, kind in enumerate(kinds)]
    kind = RecordColumn("kind", "category", "string", False, ("a", "b", "c"))
    others = (
        RecordColumn("count", "integer", "int64", False, None, 0, 9),
        RecordColumn("said", "text", "string", False, None, 5, 6),
    )
    batch = Batch({"rows": np.array([json.dumps(row) for row in rows], np.dtypes.StringDType())})
    return Records((kind, *others)), batch, RecordsGiven((replace(kind, values=("b", "c")), *others))


def replies(requests: list[Facts]) -> list[Facts]:
    """A server's, as they are stored: now and then nothing of use."""
    kinds, found = ["a", "b", "c"], list[Facts]()
    for request in requests:
        call, settled = request["call"], request["settled"]
        row = {"kind": kinds[call % 3], "count": call % 10, "said": f"call {call % 999}"} | settled
        said = "I am sorry" if call % 7 == 0 else json.dumps(row)
        found.append({"settled": settled, "answer": {"choices": [{"message": {"content": said}}]}})
    return found


SAMPLES = {Fields: _fields, Tokens: _tokens, Grids: _grids, Chained: _chained, Records: _records}
"""Layout → one of it, rows to learn from, and a condition that some of them meet."""

_learnt: dict[str, Generator] = {}


def sample_of(name: str) -> tuple[Layout, Batch, Given]:
    accepts = find("generators", name).accepts
    return next(make for layout, make in SAMPLES.items() if layout in accepts)()


def make(name: str, options: dict[str, Any]) -> Generator:
    cls, layout = find("generators", name), sample_of(name)[0]
    if issubclass(cls, Trained):
        return initialise(lambda: cls(layout, **options), SEED)
    generator = cls(layout, **options)
    assert isinstance(generator, Generator)
    return generator


def losses_of(generator: Trained, batch: Batch, steps: int = STEPS) -> list[float]:
    trainer = Trainer(generator, seed=SEED, max_epochs=1, steps_per_epoch=steps, warmup_steps=5, learning_rate=1e-2)
    losses = [trainer.step(batch, 0, step) for step in range(steps)]
    trainer.end_epoch([batch])
    generator.load(trainer.best(), {})
    return losses


def learnt(name: str, options: dict[str, Any]) -> Generator:
    key = f"{name} {options}"
    if key not in _learnt:
        generator, batch = make(name, options), sample_of(name)[1]
        if isinstance(generator, Trained):
            losses_of(generator, batch)
        elif isinstance(generator, Fitted):
            generator.merge([generator.fit(task, [batch]) for task in generator.tasks()])
        elif isinstance(generator, Remote):
            generator.remember(batch)
            generator.replies = replies
        generator.kernel_rows = kernel_rows(name)
        _learnt[key] = generator
    return _learnt[key]


def kernel_rows(name: str) -> int:
    return FEW_ROWS if Grids in find("generators", name).accepts else KERNEL_ROWS


def draws(name: str) -> Draws:
    return Draws.range(SEED, "generate", 0, kernel_rows(name))


def given_of(name: str, conditioned: bool) -> Given | None:
    return sample_of(name)[2] if conditioned else None


def same(one: Batch, two: Batch) -> bool:
    if (one.accepted is None) != (two.accepted is None) or one.arrays.keys() != two.arrays.keys():
        return False
    accepted = one.accepted is None or two.accepted is None or np.array_equal(one.accepted, two.accepted)
    return accepted and all(_bits(array) == _bits(two[key]) for key, array in one.arrays.items())


def _bits(array: Array) -> object:
    """numpy keeps texts elsewhere than in the array."""
    return array.tolist() if array.dtype.kind == "T" else array.tobytes()


def test_every_generator_of_the_shelf_is_tried() -> None:
    made = [name for name in available("generators") if not issubclass(find("generators", name), Choice)]
    assert made == sorted(OPTIONS), "give the new generator a row in OPTIONS"


@every_generator
def test_it_learns_in_twenty_steps(name: str, options: dict[str, Any]) -> None:
    """A tenth off the loss: far more than the noise of one batch seen twenty times."""
    generator, batch = make(name, options), sample_of(name)[1]
    if not isinstance(generator, Trained):
        pytest.skip("nothing is trained by steps")
    losses = losses_of(generator, batch)
    assert len(losses) == STEPS
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


@every_generator
def test_training_twice_gives_the_same_bits(name: str, options: dict[str, Any]) -> None:
    one, two = make(name, options), make(name, options)
    batch = sample_of(name)[1]
    for generator in (one, two):
        if isinstance(generator, Trained):
            losses_of(generator, batch, steps=8)
        elif isinstance(generator, Fitted):
            generator.merge([generator.fit(task, [batch]) for task in generator.tasks()])
    (arrays, facts), (others, other_facts) = one.state(), two.state()
    assert facts == other_facts
    assert {key: array.tobytes() for key, array in arrays.items()} == {key: array.tobytes() for key, array in others.items()}


@every_generator
@pytest.mark.parametrize("conditioned", [False, True])
def test_a_batch_has_the_rows_asked_for_in_the_layout_of_the_train_rows(
    name: str, options: dict[str, Any], conditioned: bool
) -> None:
    made, real = learnt(name, options).sample(draws(name), given_of(name, conditioned)), sample_of(name)[1]
    assert made.rows == kernel_rows(name)
    assert {key: (array.dtype, array.shape[1:]) for key, array in made.arrays.items()} == {
        key: (array.dtype, array.shape[1:]) for key, array in real.arrays.items()
    }
    if isinstance(layout := sample_of(name)[0], Fields):
        assert (made["codes"] >= 0).all()
        assert (made["codes"] < np.array(layout.sizes)).all()
    if isinstance(layout, Grids):
        assert len(np.unique(made["pixels"], axis=0)) > made.rows // 4, "each row has a picture of its own"
    if isinstance(layout, Tokens):
        tokens, rows = made["tokens"], np.arange(KERNEL_ROWS)
        assert ((tokens >= 0) & (tokens < layout.vocabulary)).all()
        ends = (tokens == Tokens.END).sum(axis=1)
        assert np.array_equal(made.accepted if made.accepted is not None else rows >= 0, ends == layout.texts) or conditioned
        length = (tokens != Tokens.PAD).sum(axis=1)
        assert (tokens[rows, length - 1] == Tokens.END)[ends == layout.texts].all()
        after_null = tokens[:, 1:][tokens[:, :-1] == Tokens.NULL]
        assert (after_null == Tokens.END).all(), "a text that is null has no tokens"
        assert len(after_null) or "top_p" in options
        assert (tokens[:, 0] != Tokens.NULL).all(), "the first text is never null"


@every_generator
@pytest.mark.parametrize("conditioned", [False, True])
def test_the_same_draws_give_the_same_rows(name: str, options: dict[str, Any], conditioned: bool) -> None:
    generator, condition = learnt(name, options), given_of(name, conditioned)
    first = generator.sample(draws(name), condition)
    np.random.default_rng().random(7)
    assert same(first, generator.sample(draws(name), condition))
    other = generator.sample(draws(name).attempt(1), condition)
    assert not same(first, other), "another attempt must be another row"


@every_generator
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), share=st.floats(0, 1), conditioned=st.booleans())
def test_rows_know_no_neighbours(name: str, options: dict[str, Any], seed: int, share: float, conditioned: bool) -> None:
    """Any rows in any order beside any others (few distinct ones too, where prefixes are shared): the same bits."""
    generator, condition, rows = learnt(name, options), given_of(name, conditioned), kernel_rows(name)
    alike = 1 + int(share * (rows - 1))
    index = np.random.default_rng(seed).integers(0, alike, rows)
    whole = generator.sample(draws(name), condition)
    assert same(generator.sample(draws(name).take(index), condition), whole.take(index))
    strangers = Draws.range(seed, "others", 0, rows - 1)
    one = Draws(SEED, "generate", np.append(strangers.rows + np.uint64(10**9), np.uint64(alike - 1)), np.zeros(rows, np.uint64))
    assert same(generator.sample(one, condition).take(slice(-1, None)), whole.take(slice(alike - 1, alike)))


@every_generator
def test_the_state_is_all_there_is(name: str, options: dict[str, Any]) -> None:
    generator, twin = learnt(name, options), make(name, options)
    arrays, facts = generator.state()
    stored = save({key: np.ascontiguousarray(array) for key, array in arrays.items()}) if arrays else b""
    twin.load(load(stored) if stored else {}, json.loads(json.dumps(facts)))
    twin.kernel_rows = kernel_rows(name)
    if isinstance(twin, Remote):
        twin.replies = replies
    for conditioned in (False, True):
        condition = given_of(name, conditioned)
        assert same(twin.sample(draws(name), condition), generator.sample(draws(name), condition))
