"""The recipes of texts: each loads, fits rows of the columns that its head names, and where the folder RAYSYNTH_DATA is, real ones too."""

import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.pipeline import check_columns
from raysynth.recipe import Recipe
from raysynth.recipe_files import load_recipe
from raysynth.schema import Schema
from raysynth.stages import prepare
from raysynth.stages.first_rows import first_rows
from raysynth.where import parse_where

RECIPES = Path(__file__).parents[2] / "jobs/recipes"
NAMES = ["customer-service", "finance-news", "headlines", "sentiment-en", "sentiment-zh"]
EN = "the {} card of number {} has not arrived yet and nobody answers"
ZH = "第{}份外卖送得太慢了，味道{}也不好"
REAL: dict[str, list[list[str]]] = {
    "sentiment-zh": [["source=sentiment/waimai_10k_zh.parquet"]],
    "sentiment-en": [["source=sentiment/sst2_sentences_en.parquet"]],
    "headlines": [["source=text/thucnews_headlines_dev_zh.parquet"], ["source=text/ag_news_test_en.parquet"]],
    "customer-service": [
        ["source=dialogue/chatterbot_pairs_en.parquet", "evaluate.target=category"],
        ["source=dialogue/chatterbot_pairs_zh.parquet", "evaluate.target=category"],
        ["source=dialogue/banking77_en.parquet", "evaluate.target=category", "schema={columns: {text: {kind: text}}}"],
    ],
}


def text_of(name: str) -> str:
    return (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")


def told_columns(name: str) -> list[str]:
    """Those that the line of the source names; the head explains each."""
    [line] = re.findall(r"^source: \S+ +# (.+)$", text_of(name), re.MULTILINE)
    columns = line.split(", ")
    assert set(columns) <= set(re.findall(r"^#   (\w+)  ", text_of(name), re.MULTILINE))
    return columns


def some_rows(name: str, columns: list[str]) -> pa.Table:
    """300 rows; whatever is no text has few values."""
    short: dict[str, list[Any]] = {
        "label": ["finance", "sports"] if name == "headlines" else [0, 1],
        "sentiment": ["negative", "neutral", "positive"],
        "intent": ["card", "refund"],
        "company": ["Acme", "长城公司"],
        "date": ["2024-01-30", "2024-01-31"],
    }
    form = ZH if name.endswith("zh") else EN
    return pa.table(
        {
            column: [
                short[column][row % len(short[column])] if column in short else form.format(row, 7 * row) for row in range(300)
            ]
            for column in columns
        }
    )


def fitted(recipe: Recipe) -> Schema:
    """What `raysynth plan` asks before it reckons."""
    first = first_rows(recipe, prepare.check_source(recipe))
    check_columns(recipe, first.schema)
    assert first.splits["train"].num_rows > 100
    return first.schema


@pytest.mark.parametrize("name", [*NAMES, "dialogues"])
def test_it_loads_and_its_gates_forbid_copies(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml", [])
    assert (recipe.name, recipe.run) == (name, f"runs/{name}")
    assert recipe.evaluate is not None and recipe.evaluate.target is not None
    assert any(gate.startswith("exact_copies") for gate in recipe.evaluate.gates)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_the_columns_that_its_head_names_fit(name: str, tmp_path: Path) -> None:
    columns = told_columns(name)
    pq.write_table(some_rows(name, columns), tmp_path / "rows.parquet")
    recipe = load_recipe(RECIPES / f"{name}.yaml", [f"source={tmp_path}/rows.parquet", f"run={tmp_path}/run"])
    schema = fitted(recipe)
    assert {column.name for column in schema if column.kind == "text"} == {
        name for name, column in recipe.schema_.columns.items() if column.kind == "text"
    }
    assert [column.name for column in schema] == columns


@pytest.mark.parametrize("name", NAMES)
def test_every_override_that_its_head_names_fits(name: str, tmp_path: Path) -> None:
    columns = told_columns(name)
    pq.write_table(some_rows(name, columns), tmp_path / "rows.parquet")
    told = re.findall(r"--set (generate\.where\S+|'generate\.where[^']+')", text_of(name))
    assert told
    for one in told:
        recipe = load_recipe(RECIPES / f"{name}.yaml", [one.strip("'"), f"source={tmp_path}/rows.parquet"])
        schema = first_rows(recipe, prepare.check_source(recipe)).schema
        assert parse_where(recipe.generate.where, schema)


@pytest.mark.parametrize(("name", "overrides"), [(name, given) for name, all in REAL.items() for given in all])
def test_real_rows_fit(name: str, overrides: list[str]) -> None:
    folder = os.environ.get("RAYSYNTH_DATA")
    if folder is None:
        pytest.skip("RAYSYNTH_DATA names no folder with real data")
    fitted(load_recipe(RECIPES / f"{name}.yaml", [one.replace("source=", f"source={folder}/") for one in overrides]))
