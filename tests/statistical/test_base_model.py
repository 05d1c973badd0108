"""A language model that begins with a pre-trained one: it learns, what it learnt stands alone, its rows know no neighbours, and folders from
which nothing can be begun are refused by name. The bases are tiny and made on the spot."""

import json
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from safetensors.numpy import load, save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM

from raysynth import base_folder
from raysynth.codecs.text import Text
from raysynth.draws import Draws
from raysynth.errors import MissingExtraError, RecipeError
from raysynth.generators.language_model import LanguageModel
from raysynth.layout import Batch, Tokens
from raysynth.recipe import Recipe
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.stages.model_parts import parts_of
from raysynth.training import Trainer, initialise
from raysynth.where import parse_where

SCHEMA = Schema((Column("mood", "category", pa.string()), Column("text", "text", pa.string())))
WORDS = {"good": ["warm soup", "很快 好吃"], "bad": ["cold soup", "太慢 难吃"]}
ROWS, END = 512, "<|endoftext|>"
FOLDER = Path(mkdtemp(prefix="raysynth-base-"))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    shutil.rmtree(FOLDER)


@cache
def base(kind: str) -> str:
    """The folder of a tiny model, as transformers saves one, with a byte-level tokenizer."""
    path = FOLDER / kind
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner = trainers.BpeTrainer(vocab_size=290, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([text for texts in WORDS.values() for text in texts] * 9, learner)
    sizes: dict[str, Any] = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(3)
    network: Any = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, **sizes)),
        "llama": lambda: LlamaForCausalLM(
            LlamaConfig(
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=64,
                **sizes,
            )
        ),
        "mamba": lambda: MambaForCausalLM(MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4, **sizes)),
    }[kind]()
    network.save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    return str(path)


@cache
def rows() -> pa.Table:
    noise = np.random.default_rng(5)
    moods = noise.choice(["good", "bad"], ROWS, p=[0.7, 0.3]).tolist()
    texts = [str(noise.choice(WORDS[mood])) for mood in moods]
    return pa.table({"mood": moods, "text": texts, FILE: ["a.csv"] * ROWS, ROW: pa.array(range(ROWS), pa.int64())})


@cache
def codec(kind: str) -> Text:
    made = Text(SCHEMA, seed=5, tokenizer=base(kind))
    made.settle(made.observe(rows()))
    return made


def made(kind: str, **options: Any) -> LanguageModel:
    layout = codec(kind).layout
    assert isinstance(layout, Tokens)
    return initialise(lambda: LanguageModel(layout, base=base(kind), temperature=1.0, **options), 5)  # type: ignore[return-value]


@cache
def learnt(kind: str, tune: str) -> tuple[LanguageModel, list[float]]:
    """And the loss of each of its steps."""
    generator, steps = made(kind, tune=tune, learning_rate=2e-2 if tune == "lora" else 1e-2), 40 if tune == "lora" else 120
    batch = codec(kind).encode(rows())
    trainer = Trainer(generator, seed=5, max_epochs=1, steps_per_epoch=steps, warmup_steps=5)
    losses = [trainer.step(batch.take(slice(64 * (step % 8), 64 * (step % 8) + 64)), 0, step) for step in range(steps)]
    trainer.end_epoch([batch.take(slice(0, 64))])
    generator.load(trainer.best(), {})
    return generator, losses


def drawn(generator: LanguageModel, rows: int = 512, where: dict[str, Any] | None = None, kind: str = "llama") -> Batch:
    return generator.sample(Draws.range(5, "generate", 0, rows), codec(kind).condition(parse_where(where or {}, SCHEMA)))


@pytest.mark.parametrize(("kind", "tune"), [("llama", "lora"), ("gpt2", "lora"), ("llama", "full")])
def test_it_learns_what_the_base_did_not_know(kind: str, tune: str) -> None:
    """With lora less: the head of a base that knows nothing stays what it is."""
    generator, losses = learnt(kind, tune)
    assert np.mean(losses[-5:]) < (0.7 if tune == "lora" else 0.2) * losses[0]
    before, after = load((Path(base(kind)) / "model.safetensors").read_bytes()), generator.state()[0]
    moved = {name for name, array in before.items() if not np.array_equal(array, after[f"base.network.{name}"])}
    assert any("attn" in name for name in moved) and any("mlp" in name for name in moved)
    assert any("norm" in name or "ln_" in name or "embed" in name for name in moved) == (tune == "full")


def test_what_it_draws_is_what_it_learnt_under_the_label_that_was_asked_for() -> None:
    generator, _ = learnt("llama", "full")
    batch = drawn(generator, 512, {"mood": "bad"})
    table = codec("llama").decode(batch, Draws.range(5, "generate", 0, 512)).filter(pa.array(batch.accepted))
    assert table.num_rows > 200 and set(table["mood"].to_pylist()) == {"bad"}
    assert np.mean([text in WORDS["bad"] for text in table["text"].to_pylist()]) > 0.6


def test_a_text_goes_on_from_the_beginning_that_was_asked_for() -> None:
    generator, _ = learnt("llama", "full")
    batch = drawn(generator, 512, {"text": {"starts": "太"}})
    texts = codec("llama").decode(batch, Draws.range(5, "generate", 0, 512))["text"].to_pylist()
    assert all(text.startswith("太") for text in texts)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_rows_know_no_neighbours(kind: str) -> None:
    generator, _ = learnt(kind, "lora")
    whole, index = drawn(generator, kind=kind), np.random.default_rng(1).integers(0, 512, 512)
    assert np.array_equal(drawn(generator, kind=kind)["tokens"], whole["tokens"])
    again = generator.sample(Draws.range(5, "generate", 0, 512).take(index), None)
    assert np.array_equal(again["tokens"], whole["tokens"][index]) and np.array_equal(again["codes"], whole["codes"][index])


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_training_twice_gives_the_same_bits_to_whoever_commits_them(tune: str) -> None:
    """A worker trains; the command, which has trained nothing, takes up the weights."""
    states: list[dict[str, bytes]] = []
    for _ in range(2):
        trainer = Trainer(made("gpt2", tune=tune), seed=5, max_epochs=1, steps_per_epoch=3)
        batch = codec("gpt2").encode(rows())
        for step in range(3):
            trainer.step(batch.take(slice(32 * step, 32 * step + 32)), 0, step)
        trainer.end_epoch([batch.take(slice(0, 32))])
        layout = codec("gpt2").layout
        assert isinstance(layout, Tokens)
        commits = LanguageModel(layout, base=base("gpt2"), tune=tune)  # type: ignore[arg-type]
        commits.load(trainer.best(), {})
        states.append({name: array.tobytes() for name, array in commits.state()[0].items()})
    assert states[0] == states[1]


def test_a_training_with_lora_keeps_checkpoints_of_what_it_moves_alone() -> None:
    trainer = Trainer(made("llama"), seed=5, max_epochs=1, steps_per_epoch=3)
    trainer.step(codec("llama").encode(rows()).take(slice(0, 32)), 0, 0)
    arrays, facts = trainer.state()
    assert any("base.adapters" in name for name in arrays) and not any("base.network" in name for name in arrays)
    twin = Trainer(made("llama"), seed=5, max_epochs=1, steps_per_epoch=3)
    twin.load(arrays, facts)
    losses = [each.step(codec("llama").encode(rows()).take(slice(32, 64)), 0, 1) for each in (trainer, twin)]
    states = [{name: array.tobytes() for name, array in each.state()[0].items()} for each in (trainer, twin)]
    assert losses[0] == losses[1] and states[0] == states[1]


@pytest.mark.parametrize(("kind", "tune"), [("llama", "lora"), ("gpt2", "lora"), ("llama", "full")])
def test_the_state_stands_alone(kind: str, tune: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever samples needs neither the folder nor peft, and draws what the adapted base draws."""
    generator, _ = learnt(kind, tune)
    arrays, facts = generator.state()
    assert not any("lora" in name or "adapter" in name for name in arrays)
    stored, told = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}), json.dumps(facts)
    assert base(kind) not in told
    layout = codec(kind).layout
    assert isinstance(layout, Tokens)
    monkeypatch.setitem(sys.modules, "peft", None)
    twin = LanguageModel(layout, base="/nowhere", tune=tune)  # type: ignore[arg-type]
    twin.load(load(stored), json.loads(told))
    ours, theirs = drawn(generator, kind=kind), drawn(twin, kind=kind)
    # sums in another order: hardly a row is on the edge between two tokens
    assert np.mean((ours["tokens"] == theirs["tokens"]).all(axis=1)) > 0.97
    again, more = twin.state()
    assert more == facts and {name: array.tobytes() for name, array in again.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }


def test_the_tokenizer_is_the_bases_and_stands_alone_too() -> None:
    ours = codec("llama")
    twin = Text(SCHEMA, seed=5, tokenizer="/nowhere")
    arrays, facts = ours.state()
    twin.load(load(save({name: np.ascontiguousarray(array) for name, array in arrays.items()})), json.loads(json.dumps(facts)))
    odd = pa.table(
        {"mood": ["good"] * 4, "text": ["warm soup", END, "", "👩‍👩‍👧 \x00"], FILE: ["a"] * 4, ROW: pa.array(range(4), pa.int64())}
    )
    batch = twin.encode(odd)
    assert np.array_equal(batch["tokens"], ours.encode(odd)["tokens"]) and facts["told"]["changed_by_tokenizer"] == 0
    long = twin.encode(odd.slice(0, 1))["tokens"]
    expected = Tokenizer.from_file(f"{base('llama')}/tokenizer.json").encode("warm soup").ids
    assert long[0, : len(expected)].tolist() == [3 + number for number in expected]
    assert [twin.vocabulary.decode(ids) for ids in twin.vocabulary.encode(odd["text"].to_pylist())] == odd["text"].to_pylist()


def test_a_recipe_with_a_base_takes_its_tokenizer() -> None:
    recipe = Recipe.model_validate({"source": "x.csv", "generator": {"use": "language_model", "base": "/models/small"}})
    assert parts_of(recipe)["codec"]["tokenizer"] == "/models/small"
    own = Recipe.model_validate({"source": "x.csv", "generator": "language_model"})
    assert parts_of(own)["codec"]["tokenizer"] is None


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(base("gpt2"), tmp_path / "base"))


def changed(path: Path, **changes: Any) -> None:
    told = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**told, **changes}))


def broken(path: Path, how: str) -> None:
    weights = path / "model.safetensors"
    match how:
        case "nothing there":
            shutil.rmtree(path)
        case "no config":
            (path / "config.json").unlink()
        case "broken config":
            (path / "config.json").write_text("{not json")
        case "unknown architecture":
            changed(path, model_type="secret", auto_map={"AutoModelForCausalLM": "secret.Secret"})
        case "refused config":
            changed(path, n_embd="wide")
        case "quantized":
            changed(path, quantization_config={"quant_method": "awq"})
        case "pickle only":
            weights.rename(path / "pytorch_model.bin")
        case "cut off":
            weights.write_bytes(weights.read_bytes()[:1000])
        case "no tokenizer":
            (path / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nothing there", r"is no folder\. Give the local folder"),
        ("no config", r"has no config\.json\. Save it with transformers"),
        ("broken config", r"has a config\.json that is no model's"),
        ("unknown architecture", r"is of the architecture 'secret', .* is never run\)\. Take another model"),
        ("refused config", r"has a config\.json that transformers refuses"),
        ("quantized", r"has quantized weights"),
        ("pickle only", r"has its weights as pickle \(pytorch_model\.bin\), .* never read\. Save it with transformers"),
        ("cut off", r"has a model\.safetensors that cannot be read .* Copy the file again"),
        ("no tokenizer", r"has no tokenizer\.json\. With transformers"),
    ],
)
def test_a_folder_that_is_no_base_is_refused(how: str, message: str, tmp_path: Path) -> None:
    path = copied(tmp_path)
    base_folder.check(str(path))
    before = base_folder.digest(str(path))
    broken(path, how)
    with pytest.raises(RecipeError, match=rf"generator\.base: '{path}' {message}"):
        base_folder.check(str(path))
    if how in ("broken config", "cut off"):
        assert base_folder.digest(str(path)) != before


@pytest.mark.parametrize("package", ["transformers", "peft"])
def test_without_a_package_it_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_folder, "find_spec", lambda name: None if name == package else name)
    with pytest.raises(MissingExtraError, match=rf"needs the package '{package}'\. Install it: pip install 'raysynth\[llm\]'"):
        base_folder.check(base("gpt2"), adapted=True)


def test_weights_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    path = copied(tmp_path)
    arrays = load((path / "model.safetensors").read_bytes())
    del arrays["transformer.h.1.mlp.c_fc.weight"]
    (path / "model.safetensors").write_bytes(save(arrays, metadata={"format": "pt"}))
    layout = codec("gpt2").layout
    assert isinstance(layout, Tokens)
    with pytest.raises(RecipeError, match=r"has no weights of transformer\.h\.1\.mlp\.c_fc\.weight"):
        LanguageModel(layout, base=str(path)).begin()


def test_a_network_that_cannot_be_drawn_from_slot_by_slot_is_refused() -> None:
    layout = codec("llama").layout
    assert isinstance(layout, Tokens)
    with pytest.raises(RecipeError, match=r"generator\.base: the architecture 'mamba'"):
        LanguageModel(layout, base=base("mamba")).begin()


def test_rows_longer_than_the_base_reads_are_refused() -> None:
    layout = Tokens((), 293, 200, (False,))
    with pytest.raises(RecipeError, match=r"generator\.base: reads 64 tokens, and a row has up to 200"):
        LanguageModel(layout, base=base("gpt2")).begin()


def test_its_rows_are_not_drawn_by_ctranslate2() -> None:
    with pytest.raises(RecipeError, match=r"generator\.sampler: ctranslate2 draws from what is made without a base"):
        LanguageModel(Tokens((), 300, 9, (False,)), base="x", sampler="ctranslate2")
