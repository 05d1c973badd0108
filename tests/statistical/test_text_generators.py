"""The generators of texts on a small corpus: what they draw is made of what they learnt, a condition is met in every row, and the latent
space of the autoencoder is used: it has not collapsed."""

from functools import cache

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from raysynth.codecs.text import Text
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.generators.base import Trained
from raysynth.generators.language_model import LanguageModel
from raysynth.generators.text_vae import TextVae
from raysynth.layout import Batch, Tokens
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.training import Trainer, initialise
from raysynth.where import parse_where

SCHEMA = Schema((Column("mood", "category", pa.string()), Column("text", "text", pa.string())))
WORDS = {
    "good": ["great", "tasty", "warm", "fresh", "quick", "friendly", "好吃", "很快", "热情", "干净"],
    "bad": ["cold", "late", "stale", "rude", "slow", "greasy", "难吃", "太慢", "凉了", "很差"],
}
ROWS = 1536
STEPS = ROWS // 64


@cache
def rows() -> pa.Table:
    noise = np.random.default_rng(5)
    moods = noise.choice(["good", "bad"], ROWS, p=[0.7, 0.3]).tolist()
    texts = [" ".join(noise.choice(WORDS[mood], 2).tolist()) for mood in moods]
    return pa.table({"mood": moods, "text": texts, FILE: ["a.csv"] * ROWS, ROW: pa.array(range(ROWS), pa.int64())})


@cache
def codec() -> Text:
    made = Text(SCHEMA, seed=5)
    made.settle(made.observe(rows()))
    return made


def layout() -> Tokens:
    assert isinstance(codec().layout, Tokens)
    return codec().layout  # type: ignore[return-value]


def learnt(generator: Trained, epochs: int) -> Trained:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        batch = codec().encode(rows())
        trainer = Trainer(
            generator, seed=5, max_epochs=epochs, steps_per_epoch=STEPS, learning_rate=5e-3, warmup_steps=5, patience=epochs
        )
        for epoch in range(epochs):
            for step in range(STEPS):
                trainer.step(batch.take(slice(64 * step, 64 * step + 64)), epoch, step)
            trainer.end_epoch([batch.take(slice(0, 64))])
        generator.load({name: value.detach().numpy() for name, value in generator.state_dict().items()}, {})
    finally:
        torch.set_num_threads(threads)
    return generator


@cache
def model() -> LanguageModel:
    made = initialise(lambda: LanguageModel(layout(), width=32, layers=1, heads=2, dropout=0.0), 5)
    assert isinstance(learnt(made, 9), LanguageModel)
    return made  # type: ignore[return-value]


@cache
def vae() -> TextVae:
    made = initialise(
        lambda: TextVae(layout(), width=64, latent=8, warmup_steps=240, free_bits=1.0, word_dropout=0.5, dropout=0.0), 5
    )
    assert isinstance(learnt(made, 15), TextVae)
    return made  # type: ignore[return-value]


def drawn(generator: LanguageModel | TextVae, where: dict[str, object], rows: int = 512) -> pa.Table:
    draws = Draws.range(5, "generate", 0, rows)
    batch = generator.sample(draws, codec().condition(parse_where(where, SCHEMA)))
    assert batch.accepted is not None
    return codec().decode(batch, draws).filter(pa.array(batch.accepted))


def agrees(table: pa.Table) -> float:
    """The share of the words that are their row's mood's."""
    pairs = zip(table["mood"].to_pylist(), table["text"].to_pylist(), strict=True)
    right = [word in WORDS[mood] for mood, text in pairs for word in text.split()]
    return float(np.mean(right))


@pytest.mark.parametrize("name", ["language_model", "text_vae"])
def test_what_it_draws_is_what_it_learnt_under_the_label_that_was_asked_for(name: str) -> None:
    generator = model() if name == "language_model" else vae()
    free = drawn(generator, {})
    assert free.num_rows > 450
    assert abs(free["mood"].to_pylist().count("bad") / free.num_rows - 0.3) < 0.1
    asked = drawn(generator, {"mood": "bad"})
    assert set(asked["mood"].to_pylist()) == {"bad"}
    for table in (free, asked):
        assert agrees(table) > 0.9
        assert len(set(table["text"].to_pylist())) > 60, "of the hundred pairs of words that a mood has"


def test_the_latent_space_has_not_collapsed() -> None:
    """The law: more than 3 nats lie in z, and another row's z costs more than half a nat a token."""
    generator, batch = vae(), codec().encode(rows())
    mean, variance = generator.encode(batch)
    divergence = (np.square(mean - generator.prior(batch["codes"])) + variance - 1 - np.log(variance)).sum(axis=1) / 2
    assert divergence.mean() > 3
    own = generator.nats(batch, mean)
    random = generator.prior(batch["codes"]) + Draws.range(5, "others", 0, ROWS).normal("z", 8).astype(np.float32)
    assert generator.nats(batch, random) - own > 0.5


def test_a_text_can_be_encoded_and_the_way_between_two_is_made_of_texts() -> None:
    generator, batch = vae(), codec().encode(rows()).take(slice(0, 2))
    mean, _ = generator.encode(batch)
    share = np.linspace(0, 1, 128)[:, None].astype(np.float32)
    codes = np.repeat(batch["codes"][:1], 128, axis=0)
    draws = Draws.range(5, "between", 0, 128)
    between = generator.decode(codes, (1 - share) * mean[:1] + share * mean[1:], draws)
    assert isinstance(between, Batch) and between.accepted is not None and between.accepted.mean() > 0.8
    texts = codec().decode(between, draws)["text"].to_pylist()
    known = {word for words in WORDS.values() for word in words}
    assert np.mean([word in known for text in texts for word in text.split()]) > 0.8


def test_sharper_options_draw_fewer_kinds_of_texts() -> None:
    generator = model()
    free = len(set(drawn(generator, {})["text"].to_pylist()))
    try:
        generator.temperature, generator.top_k = 0.5, 2
        sharp = len(set(drawn(generator, {})["text"].to_pylist()))
    finally:
        generator.temperature, generator.top_k = 1.0, 0
    assert sharp < free


def test_widths_that_do_not_divide_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"generator\.width: must be a multiple of 2 × heads, 8 \(got 100\)"):
        LanguageModel(layout(), width=100, heads=4)


@pytest.mark.parametrize("name", ["language_model", "text_vae"])
def test_a_text_goes_on_from_the_beginning_that_was_asked_for(name: str) -> None:
    generator = model() if name == "language_model" else vae()
    asked = drawn(generator, {"text": {"starts": "stale "}, "mood": "bad"})
    assert asked.num_rows > 400 and all(text.startswith("stale ") for text in asked["text"].to_pylist())
    assert len(set(asked["text"].to_pylist())) > 5 and agrees(asked) > 0.85


def test_a_beginning_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"where\.text: starts has \d+ tokens, and a text of this model at most \d+"):
        codec().condition(parse_where({"text": {"starts": "zq" * 50}}, SCHEMA))


def test_the_temperature_makes_texts_as_varied_as_real_ones_and_never_more() -> None:
    generator, batch = LanguageModel(layout(), width=32, layers=1, heads=2, dropout=0.0), codec().encode(rows())
    generator.load(*model().state())
    few, random = batch.take(np.arange(80) % 20), batch["tokens"][:300].copy()
    random[:] = np.random.default_rng(1).integers(3, layout().vocabulary, random.shape)
    generator.calibrate([few])
    assert generator.temperature < 0.8
    generator.calibrate([batch.take(np.arange(300) % 5)])
    assert generator.temperature == 1.0, "what is always the same says nothing of how varied texts are"
    generator.temperature = 0.5
    generator.calibrate([Batch({"codes": batch["codes"][:300], "tokens": random})])
    assert generator.temperature == 1.0
    generator.calibrate([few.take(slice(0, 9))])
    assert generator.temperature == 1.0, "nine texts tell nothing"
    twin = LanguageModel(layout(), width=32, layers=1, heads=2)
    twin.load(generator.state()[0], {"temperature": 0.75})
    assert twin.temperature == 0.75
    asked = LanguageModel(layout(), width=32, layers=1, heads=2, temperature=0.9)
    asked.calibrate([few])
    assert asked.temperature == 0.9


def test_what_was_said_is_said_less_often_again() -> None:
    generator, size = model(), layout().vocabulary
    logits, seen = torch.zeros(4, size), torch.zeros(4, size, dtype=torch.bool)
    logits[:, 300], logits[:, 301] = 12.0, 6.0
    seen[2:, 300] = True
    told = (torch.zeros(4, dtype=torch.bool), torch.full((4,), 301), torch.zeros(4, dtype=torch.bool), torch.tensor([0.5] * 4))
    try:
        generator.repetition = 4.0
        assert generator._chosen(logits.clone(), seen, *told).tolist() == [300, 300, 301, 301]
    finally:
        generator.repetition = 1.0
    assert generator._chosen(logits.clone(), seen, *told).tolist() == [300] * 4


def test_guidance_goes_on_from_what_is_said_without_the_control_tokens() -> None:
    """Told and untold logits, each drawn by a model of its own; at 1 the untold half is not even computed."""
    generator, previous = model(), torch.full((128,), layout().vocabulary + 1)
    start = torch.zeros(128, dtype=torch.long)

    def logits(guidance: float, read: Tensor) -> Tensor:
        generator.guidance = guidance
        try:
            memory = generator.memory(torch.device("cpu"))
            generator.logits({}, memory, read, start, start)
            return generator.logits({}, memory, torch.full((128,), Tokens.END), start + 1, start)
        finally:
            generator.guidance = 1.0

    with torch.inference_mode():
        told, untold = logits(1.0, previous), logits(1.0, torch.full((128,), layout().vocabulary + 2))
        torch.testing.assert_close(logits(2.5, previous), untold + 2.5 * (told - untold), rtol=1e-4, atol=1e-4)


def test_guidance_is_as_little_as_makes_labels_found_in_texts_as_often_as_in_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = LanguageModel(layout(), width=32, layers=1, heads=2)
    batch, seen = codec().encode(rows()), list[float]()
    strong = {2.0, 2.5, 3.0, 4.0}

    def sample(draws: Draws, given: object) -> Batch:
        """Of real rows; too weak a guidance mixes up which label is whose."""
        seen.append(generator.guidance)
        told = batch.take(slice(0, len(draws)))
        return told if generator.guidance in strong else Batch({**told.arrays, "codes": np.roll(told["codes"], 1, axis=0)})

    monkeypatch.setattr(generator, "sample", sample)
    generator.calibrate([batch.take(slice(0, 600))])
    assert generator.guidance == 2.0 and generator.state()[1]["guidance"] == 2.0
    generator.calibrate([batch.take(slice(0, 9))])
    assert generator.guidance == 1.0, "nine texts tell nothing"
    asked = LanguageModel(layout(), width=32, layers=1, heads=2, guidance=1.5, temperature=1.0)
    asked.calibrate([batch])
    assert asked.guidance == 1.5
    twin = LanguageModel(layout(), width=32, layers=1, heads=2)
    twin.load(generator.state()[0], {"guidance": 1.75})
    assert twin.guidance == 1.75


def test_without_guidance_every_row_is_learnt_from_with_its_control_tokens() -> None:
    batch = codec().encode(rows()).take(slice(0, 64))
    for guidance, learns in ((1.0, False), (None, True)):
        generator = LanguageModel(layout(), width=32, layers=1, heads=2, guidance=guidance)
        trainer = Trainer(generator, seed=5, max_epochs=1, steps_per_epoch=1, weight_decay=0.0)
        before = generator.untold[0].detach().clone()
        trainer.step(batch, 0, 0)
        assert torch.equal(before, generator.untold[0]) != learns
