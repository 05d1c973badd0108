"""What a model's id is made of: a key that changes no byte of a plain model is not in it, so that ids of long ago stay."""

from typing import Any

import pytest
import torch

from raysynth.errors import NondeterminismError, RecipeError
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Folder
from raysynth.stages.train import model_facts, train_facts

PREPARED = Folder("memory://run/prepared/0123456789ab")
PLAIN = {
    "stage",
    "rows_version",
    "prepared",
    "seed",
    "parts",
    "workers",
    "device",
    "max_epochs",
    "max_train_seconds",
    "torch",
    "capability",
}


def facts(**train: Any) -> dict[str, Any]:
    return train_facts(parse_recipe({"source": "examples://wine", "train": {"use_gpu": False} | train}), PREPARED)


def test_a_plain_model_is_named_by_what_it_always_was() -> None:
    assert set(facts()) == PLAIN
    assert facts(precision="float32") == facts(precision="auto") == facts(), "on a CPU auto is float32"


def test_what_changes_the_bytes_is_in_the_id() -> None:
    assert facts(precision="bfloat16") == {**facts(), "precision": "bfloat16"}
    assert facts(workers=2, min_workers=1) == {**facts(workers=2), "min_workers": 1}
    gpu = facts(use_gpu=True)
    assert (gpu["device"], gpu["precision"]) == ("cuda", "bfloat16"), "on a GPU auto is bfloat16"
    assert "precision" not in facts(use_gpu=True, precision="float32")
    text = {"source": "examples://dialogues", "generator": {"use": "language_model"}, "train": {"use_gpu": False}}
    assert train_facts(parse_recipe(text), PREPARED)["generator_version"] == 2, "an old run's model is none of this version's"


def test_a_fitted_model_is_named_by_what_decides_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def facts_of(**train: Any) -> dict[str, Any]:
        asked = {"source": "examples://wine", "generator": {"use": "trees"}, "train": train}
        return train_facts(parse_recipe(asked), PREPARED)

    plain = facts_of()
    more = {"generator_version", "libraries"}
    assert set(plain) == {"stage", "rows_version", "prepared", "seed", "parts", "capability", *more}
    assert plain == facts_of(use_gpu=True, workers=4, max_epochs=3, precision="bfloat16", max_train_seconds=9)
    assert plain["libraries"].keys() == {"numpy", "scikit-learn", "scipy"}
    monkeypatch.setattr("raysynth.stages.train.version", lambda name: "9.9")
    assert facts_of() != plain, "another scikit-learn grows other trees"


def test_the_recipe_s_name_is_neither_in_the_id_nor_in_the_bytes() -> None:
    one, two = (parse_recipe({"name": name, "source": "examples://wine", "train": {"use_gpu": False}}) for name in ("one", "two"))
    facts = train_facts(one, PREPARED)
    assert facts == train_facts(two, PREPARED)
    assert model_facts(one, [], {}, facts) == model_facts(two, [], {}, facts)


def test_a_worker_refuses_what_would_be_another_model() -> None:
    from raysynth.cluster.rank import Job, device_of

    plain: dict[str, Any] = {
        "schema": [],
        "parts": {},
        "codec_state": ({}, {}),
        "train": (),
        "validation": (),
        "rows": 1,
        "seed": 1,
        "max_epochs": 1,
    }
    plain |= {
        "seed": 1,
        "max_epochs": 1,
        "model": PREPARED,
        "max_train_seconds": None,
        "workers": 1,
        "min_workers": None,
        "precision": "float32",
    }
    here, cpu = torch.backends.cpu.get_cpu_capability(), torch.device("cpu")
    assert device_of(Job(**plain, use_gpu=False, capability=here), cpu) == cpu
    with pytest.raises(NondeterminismError, match=f"its CPU would train another model: {here} against AVX999"):
        device_of(Job(**plain, use_gpu=False, capability="AVX999"), cpu)
    with pytest.raises(RecipeError, match=r"train\.use_gpu: a worker got a GPU that its torch cannot use"):
        device_of(Job(**plain, use_gpu=True, capability=here), cpu)
