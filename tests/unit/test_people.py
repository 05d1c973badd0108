"""Names found by presidio: replaced like those of a list, and what is missing is named. Where presidio is not installed, the tests that
need it are skipped; their model is a pipeline of rules that they save themselves."""

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raysynth import people
from raysynth.deidentify import Deidentifier
from raysynth.errors import MissingExtraError, RaysynthError, RecipeError
from raysynth.people import People
from raysynth.personal import Found
from raysynth.recipe_files import parse_recipe
from raysynth.stages.prepare_text import texts_of


def recipe_of(**text: Any) -> Any:
    asked = {"source": "examples://flights", "prepare": {"text": text}, "evaluate": None}
    return parse_recipe(asked)


def test_names_that_are_found_have_fakes_beside_those_of_a_list() -> None:
    """In texts that no pattern would look through."""

    def found(text: str) -> list[Found]:
        start = text.find("Ada Poe")
        return [Found(start, start + 7, "name", "ada poe")] if start >= 0 else []

    made, counts = Deidentifier(7, ["name"], ["Bob Ray"], None, found).column(
        pa.array(["Ada Poe met Bob Ray.", "She is Ada Poe, he is not.", None, ""])
    )
    told = " ".join(filter(None, made.to_pylist()))
    assert counts == {"name": 3} and "Ada Poe" not in told and "Bob Ray" not in told
    assert made[0].as_py().split(" met ")[0] == made[1].as_py()[7:].split(",")[0], "one person stays one person"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ({"presidio": {"en": "m"}}, "deidentify: name needs names.* or presidio"),
        ({"deidentify": ["name"]}, "deidentify: name needs names"),
        ({"deidentify": ["name"], "presidio": {"English": "m"}}, r"prepare\.text: presidio\.English: must be a code of ISO 639"),
    ],
)
def test_names_and_what_finds_them_belong_together(text: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipe_of(**text)


def test_a_package_or_a_model_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe_of(deidentify=["name"], presidio={"en": "no_such_model"})
    monkeypatch.setattr("raysynth.people.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"'presidio-analyzer'\. Install it: pip install 'raysynth\[presidio\]'"):
        texts_of(asked)
    monkeypatch.setattr("raysynth.people.find_spec", lambda name: None if name == "no_such_model" else name)
    with pytest.raises(RecipeError, match=r"prepare\.text\.presidio\.en: no spaCy model 'no_such_model' is installed here"):
        texts_of(asked)
    with pytest.raises(RecipeError, match="no spaCy model"):
        People({"en": str(tmp_path)})  # a folder that holds none
    monkeypatch.setattr("raysynth.people.find_spec", find_spec_of(("presidio_analyzer", "spacy")))
    with pytest.raises(RecipeError, match="no spaCy model 'json' is installed here"):
        People({"en": "json"})  # a package that is no model


def find_spec_of(there: tuple[str, ...]) -> Any:
    """As find_spec, which also finds these."""
    return lambda name: name if name in there else find_spec(name)


@pytest.mark.parametrize("length", [0, 1, 199, 9_999, 10_000, 10_001, 19_801, 1_000_000])
def test_a_long_text_is_looked_through_in_windows_that_overlap(length: int) -> None:
    pieces = list(people._pieces("x" * length, "en"))  # pyright: ignore[reportPrivateUsage]
    assert all(stop - start <= people.WINDOW_CHARACTERS for start, stop in pieces)
    assert [start for start, _ in pieces[:1]] == [0] * bool(length) and [stop for _, stop in pieces[-1:]] == [length] * bool(length)
    overlaps = [before - start for (_, before), (start, _) in pairwise(pieces)]
    assert set(overlaps) <= {people.OVERLAP_CHARACTERS}
    assert not list(people._pieces("1" * length, "en"))  # pyright: ignore[reportPrivateUsage]


def saved(folder: Path, language: str, *names: str) -> str:
    pytest.importorskip("presidio_analyzer", reason="presidio is not installed: pip install 'raysynth[presidio]'")
    spacy: Any = pytest.importorskip("spacy")
    pipeline = spacy.blank(language)
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": name} for name in names])
    pipeline.to_disk(folder)
    return str(folder)


def test_presidio_finds_what_its_models_know(tmp_path: Path) -> None:
    english, chinese = saved(tmp_path / "en", "en", "Ada Poe", "It's"), saved(tmp_path / "zh", "zh", "王小明")
    both = People({"en": english, "zh": chinese})
    found = [[(one.start, one.stop, one.value) for one in both(text)] for text in ("Ada Poe's cat", "王小明和Ada Poe", "2 + 2")]
    assert found == [[(0, 7, "ada poe")], [(4, 11, "ada poe"), (0, 3, "王小明")], []]
    texts = texts_of(recipe_of(deidentify=["name", "email"], presidio={"en": english, "zh": chinese}))
    assert texts is not None
    made, counts = texts.anew(pa.array(["I saw Ada Poe today.", "今天王小明来了，ada@poe.org"]))
    assert counts == {"name": 2, "email": 1} and not any(name in str(made.to_pylist()) for name in ("Ada Poe", "王小明"))
    facts = texts.facts()
    assert set(facts["presidio"]) == {"en", "zh"} and {"presidio-analyzer", "spacy"} < set(facts["packages"])


def test_another_model_is_another_id_and_no_worker_takes_it(tmp_path: Path) -> None:
    one = People({"en": saved(tmp_path / "one", "en", "Ada Poe")})
    same = People({"en": saved(tmp_path / "same", "en", "Ada Poe")})
    assert one.facts() == same.facts(), "wherever it lies"
    saved(tmp_path / "one", "en", "Bob Ray")
    people._digest_of.cache_clear()  # pyright: ignore[reportPrivateUsage] (on another node)
    with pytest.raises(RaysynthError, match=r"presidio\.en: the model .* of this node is not that of the node that began"):
        list(one("Ada Poe"))
