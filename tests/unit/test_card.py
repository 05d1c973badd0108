"""The data card says all that was published, and nothing in it escapes its cell."""

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from raysynth.card import Card, card, fenced, plain, recipe_text, size_category
from raysynth.gates import Gate

CARD = Card(
    name="wine",
    recipe={"name": "wine", "seed": 7, "generator": {"use": "autoregressive"}, "rules": ["price > 0"]},
    folders={
        "synthetic": {"id": "ab12", "path": "synthetic/ab12", "rows": 100_000, "bytes": 5_000, "contains_real_rows": False},
        "mixed": {"id": "cd34", "path": "mixed/cd34", "rows": 200, "bytes": 70, "contains_real_rows": True},
    },
    scores=[
        {"name": "c2st_auc", "value": 0.61, "worst": 1.0, "best": 0.5, "ceiling": 0.5, "columns": {}, "facts": {}, "why": ""},
        {
            "name": "utility_mix",
            "value": None,
            "worst": 0,
            "best": 1,
            "ceiling": None,
            "columns": {},
            "facts": {},
            "why": "no | mix",
        },
    ],
    gates=[Gate("c2st_auc <= 0.6 or `a|b` > 1", False, {"c2st_auc": 0.61})],
    forced=True,
    snapshot=[{"path": "2024/wine|1.csv", "bytes": 1234, "sha256": "f" * 64}],
    versions={"raysynth": "0.1.0"},
    real_rows=178,
)


def front(text: str) -> dict[str, Any]:
    _, head, _ = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(head)


def test_the_head_is_what_the_hub_reads() -> None:
    head = front(card(CARD))
    assert head["pretty_name"] == "wine"
    assert head["tags"] == ["synthetic", "raysynth", "tabular"]
    assert front(card(replace(CARD, images=True)))["tags"] == ["synthetic", "raysynth", "image"]
    assert head["size_categories"] == ["100K<n<1M"]
    assert [config["config_name"] for config in head["configs"]] == ["synthetic", "mixed"]
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "synthetic/ab12/**/part-*.parquet"}]
    assert [file["path"] for file in head["configs"][1]["data_files"]] == [
        f"mixed/cd34/{split}/**/part-*.parquet" for split in ("train", "validation", "test")
    ]


def test_it_says_what_was_forced_what_failed_and_what_is_real() -> None:
    text = card(CARD)
    for said in ("by force", "**no**", "it contains real rows", "1 file, 178 rows", "f" * 64, "smoke tests", "price"):
        assert said in text
    assert "by force" not in card(replace(CARD, forced=False))
    assert "Not evaluated" in card(replace(CARD, scores=[], gates=[]))


def test_every_row_of_every_table_keeps_its_cells() -> None:
    lines = card(CARD).splitlines()
    tables = [list(re.finditer(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")]
    assert {len(bars) for bars in tables} == {4, 7}


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a|b", "`code`", "x" * 300, "🎈 two\nlines\n---\n# head", "[a](javascript:b)"]
)
def test_names_stay_letters(name: str) -> None:
    text = card(replace(CARD, name=name, recipe={"name": name, "rules": [name]}, gates=[Gate(name, True, {name: None})]))
    assert front(text)["pretty_name"] == " ".join(name.split())
    body = text.split("## How to make it again")[0].split("---\n", 2)[2]
    assert "<script" not in body
    assert "](javascript" not in body
    assert not re.search(r"^# head", body, re.MULTILINE)
    assert "\n" not in plain(name)


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert fenced("a\n````\nb", "yaml").startswith("`````yaml\n")
    inside = recipe_text({"rules": ["```\n# not a head"]})
    assert card(replace(CARD, recipe={"rules": ["```\n# not a head"]})).rstrip().endswith("````")
    assert yaml.safe_load(inside) == {"rules": ["```\n# not a head"]}


def test_columns_and_classes_that_are_only_called_like_secrets_are_kept() -> None:
    recipe = {"derive": {"token_len": "length(token)"}, "generate": {"where": {"secretary": "yes"}}, "source": {"secret": "x"}}
    text = recipe_text(recipe)
    assert "length(token)" in text and "secretary: 'yes'" in text
    assert "secret: (left out)" in text


def test_the_recipe_keeps_no_secret() -> None:
    recipe = {"source": {"url": "s3://me:hush@bucket/a/*.parquet?token=hush", "options": {"api_key": "hush", "sep": ";"}}}
    text = recipe_text(recipe)
    assert "hush" not in text
    assert yaml.safe_load(text)["source"] == {
        "url": "s3://bucket/a/*.parquet",
        "options": {"api_key": "(left out)", "sep": ";"},
    }


@pytest.mark.parametrize(
    ("rows", "bucket"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (999_999, "100K<n<1M"),
        (10**6, "1M<n<10M"),
        (10**12, "n>1T"),
        (10**15, "n>1T"),
    ],
)
def test_sizes_fall_into_the_hubs_buckets(rows: int, bucket: str) -> None:
    assert size_category(rows) == bucket
