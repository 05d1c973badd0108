"""ctranslate2's sampler draws from the distribution that torch's does, and our decoder is the network that transformers knows as LLaMA."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raysynth.draws import Draws
from raysynth.errors import MissingExtraError, RecipeError
from raysynth.generators import _ctranslate2
from raysynth.generators.language_model import LanguageModel
from raysynth.layout import Batch, Beginning, Field, Tokens, TokensGiven
from raysynth.training import initialise

ROWS = 6144
SPREAD = 1.5
"""What first weights are raised by, so that the tokens are far from equally likely."""

PLAIN = Tokens((Field("kind", "kind", 3),), 24, 12, (False,))
TWO = Tokens((Field("kind", "kind", 3),), 24, 16, (True, False))
TURNS = Tokens((), 24, 14, (False,), ((22, 23),))


@cache
def models(layout: Tokens, **options: Any) -> tuple[LanguageModel, LanguageModel]:
    """One set of weights, drawn from by torch and by ctranslate2."""
    pytest.importorskip("ctranslate2")
    size = {"width": 32, "layers": 2, "heads": 2, **options}
    ours = initialise(lambda: LanguageModel(layout, **size), 5)
    with torch.no_grad():
        for tensor in (ours.embedding, *ours.codes):
            tensor.mul_(SPREAD / 0.02 / 32**0.5)
    fast = LanguageModel(layout, sampler="ctranslate2", **size)
    fast.load(*ours.state())
    ours.eval()
    return ours, fast


def drawn(generator: LanguageModel, seed: int = 5) -> Batch:
    return generator.sample(Draws.range(seed, "generate", 0, ROWS), None)


def distance(one: NDArray[np.integer], two: NDArray[np.integer]) -> float:
    """Total variation between two samples of numbers."""
    left, right = Counter(one.tolist()), Counter(two.tolist())
    return sum(abs(left[key] / len(one) - right[key] / len(two)) for key in left | right) / 2


@pytest.mark.parametrize(
    ("layout", "options"),
    [(PLAIN, {"temperature": 0.6, "top_p": 0.8}), (PLAIN, {"repetition": 3.0}), (TWO, {"top_k": 20}), (TURNS, {})],
    ids=["top_p", "repetition", "two texts, one of them nullable", "turns"],
)
def test_its_rows_have_the_distribution_of_torchs(layout: Tokens, options: dict[str, Any]) -> None:
    """No further apart than two samples of torch's, times 1.3 and a little (the integers of 8 bits may add 0.01)."""
    ours, fast = models(layout, **options)
    one, two, theirs = drawn(ours), drawn(ours, 6), drawn(fast)
    tokens = theirs["tokens"]
    assert ((tokens >= 0) & (tokens < layout.vocabulary)).all() and theirs.accepted is not None
    assert np.array_equal(theirs.accepted, (tokens == Tokens.END).sum(axis=1) == layout.texts)
    after_null = tokens[:, 1:][tokens[:, :-1] == Tokens.NULL]
    assert (after_null == Tokens.END).all() and bool(len(after_null)) == (layout is TWO)
    told: dict[str, Callable[[Batch], NDArray[np.integer]]] = {
        "first": lambda batch: batch["tokens"][:, 0],
        "second": lambda batch: batch["tokens"][:, 1],
        "ends": lambda batch: (batch["tokens"] == Tokens.END).sum(axis=1),
        "length": lambda batch: (batch["tokens"] != Tokens.PAD).sum(axis=1),
        "all": lambda batch: batch["tokens"][batch["tokens"] != Tokens.PAD],
        "kinds of tokens": lambda batch: np.array([len(set(row)) for row in batch["tokens"].tolist()]),
    }
    for name, what in told.items():
        assert distance(what(one), what(theirs)) < 1.3 * distance(what(one), what(two)) + 0.02, name


def test_integers_are_taken_where_they_are_near_and_float32_where_they_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = models(PLAIN)
    monkeypatch.setattr(_ctranslate2, "MOST_APART", 1.0)
    near = _ctranslate2.Engine(ours)
    monkeypatch.setattr(_ctranslate2, "MOST_APART", 0.0)
    far = _ctranslate2.Engine(ours)
    assert len(near.files["model.bin"]) < 0.5 * len(far.files["model.bin"])


def test_the_same_call_gives_the_same_rows_again_and_another_seed_others() -> None:
    _, fast = models(PLAIN)
    assert np.array_equal(drawn(fast)["tokens"], drawn(fast)["tokens"])
    assert not np.array_equal(drawn(fast)["tokens"], drawn(fast, 6)["tokens"])


def test_the_model_says_that_its_rows_are_the_same_in_distribution_only() -> None:
    ours, fast = models(PLAIN)
    assert fast.state()[1]["rows"] == "the same in distribution only" and "rows" not in ours.state()[1]


def test_a_beginning_is_drawn_by_torch_whose_rows_it_gives() -> None:
    ours, fast = models(PLAIN)
    allowed = np.zeros((1, PLAIN.vocabulary), dtype=np.bool_)
    allowed[0, 7] = True
    given = TokensGiven({}, (Beginning(allowed, np.ones(PLAIN.vocabulary, dtype=np.int64)),))
    draws = Draws.range(5, "generate", 0, 512)
    made = fast.sample(draws, given)
    assert (made["tokens"][:, 0] == 7).all() and np.array_equal(made["tokens"], ours.sample(draws, given)["tokens"])


@pytest.mark.parametrize(
    ("layout", "options", "message"),
    [
        (PLAIN, {"top_k": 5, "top_p": 0.9}, r"generator\.sampler: ctranslate2 takes top_p of all tokens"),
        (TWO, {"repetition": 1.5}, r"generator\.sampler: ctranslate2 tells repetition within one plain text alone"),
        (PLAIN, {"guidance": 1.5}, r"generator\.sampler: ctranslate2 knows no guidance \(got guidance 1\.5\)"),
    ],
)
def test_what_it_would_do_otherwise_than_torch_is_refused(layout: Tokens, options: dict[str, Any], message: str) -> None:
    pytest.importorskip("ctranslate2")
    with pytest.raises(RecipeError, match=message):
        LanguageModel(layout, sampler="ctranslate2", **options)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ctranslate2, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'raysynth\[llm\]'"):
        LanguageModel(PLAIN, sampler="ctranslate2")


def test_our_decoder_has_the_logits_of_transformers_llama() -> None:
    pytest.importorskip("transformers")
    ours, _ = models(PLAIN)
    read = np.random.default_rng(5).integers(3, PLAIN.vocabulary, (128, 9))
    read[:, 0], read[:, 1] = PLAIN.vocabulary + np.arange(128) % 3, Tokens.END
    memory, mine = ours.memory(torch.device("cpu")), []
    with torch.inference_mode():
        for place in range(read.shape[1]):
            at = torch.full((128,), place)
            mine.append(ours.logits({}, memory, torch.from_numpy(read[:, place]), at, at * 0))
        theirs = _llama().as_llama(ours)(torch.from_numpy(read)).logits[:, :, : PLAIN.vocabulary]
    torch.testing.assert_close(torch.stack(mine, dim=1), theirs, rtol=1e-4, atol=1e-4)


def _llama() -> ModuleType:
    spec = spec_from_file_location("llama", Path(__file__).parents[2] / "benchmarks" / "llama.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
