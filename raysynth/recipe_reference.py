"""The recipe's models → docs/recipe.md: every key with its type, its default and what it means."""

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

from raysynth.recipe import (
    Budget,
    Cluster,
    ColumnSpec,
    Evaluate,
    ExtractorFile,
    Generate,
    KnowledgeFiles,
    Mix,
    Op,
    Part,
    Pool,
    Prepare,
    PrepareImage,
    PrepareText,
    Prices,
    Recipe,
    SourcePart,
    Train,
)


def recipe_reference() -> str:
    """docs/recipe.md: every key with its type, default and meaning, from the models."""
    lines = [
        "# The recipe",
        "",
        "One YAML file drives a run. Every key but `source` has a default; unknown keys are refused; `--set train.workers=4`",
        "overrides one. This page is made from the models by `raysynth.recipe_reference.recipe_reference()`.",
        "",
        *_table(Recipe, ""),
    ]
    for name, model in (
        ("source", SourcePart),
        ("codec, generator", Part),
        ("prepare", Prepare),
        ("prepare.text", PrepareText),
        ("prepare.image", PrepareImage),
        ("schema.columns.COLUMN", ColumnSpec),
        ("train", Train),
        ("generate", Generate),
        ("augment", Op),
        ("knowledge", KnowledgeFiles),
        ("mix", Mix),
        ("evaluate", Evaluate),
        ("evaluate.extractor", ExtractorFile),
        ("cluster", Cluster),
        ("prices", Prices),
        ("prices.rows, prices.train", Pool),
        ("budget", Budget),
    ):
        lines += ["", f"## {name}", "", *_table(model, "" if "," in name else f"{name}.")]
    return "\n".join([*lines, "", *_GRAMMAR, ""])


_GRAMMAR = (
    "## Expressions",
    "",
    '`derive` and `rules` share one grammar, Python\'s: columns (`` `in backquotes` `` or `col("…")` where a name is not a plain',
    "word), numbers, texts, `True`, `False`, `None`, `+ - * / // % **`, comparisons and chains of them, `and`, `or`, `not`,",
    "`in (…)`, `is None`, and the functions `abs min max round length lower upper year month day hour weekday isnull coalesce`.",
    "Dates and times are compared with ISO text: `departed >= '2013-06-01'`. Weekday 0 is Monday. A division by zero and a number",
    "out of range are null; a null makes a rule pass.",
)


def _table(model: type[BaseModel], prefix: str) -> list[str]:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    properties = cast("dict[str, Any]", model.model_json_schema(by_alias=True)["properties"])
    for key, facts in properties.items():
        field = next(item for name, item in model.model_fields.items() if (item.alias or name) == key)
        default = "required" if field.is_required() else f"`{json.dumps(_plain(field.get_default(call_default_factory=True)))}`"
        lines.append(f"| `{prefix}{key}` | {_type_name(facts)} | {default} | {field.description} |")
    return lines


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True, exclude_defaults=True) if isinstance(value, BaseModel) else value


def _type_name(facts: Mapping[str, Any]) -> str:
    if "anyOf" in facts:
        return " or ".join(_type_name(item) for item in facts["anyOf"])
    if "const" in facts:
        return json.dumps(facts["const"])
    if "enum" in facts:
        return ", ".join(f"`{json.dumps(item)}`".replace('"', "") for item in facts["enum"])
    if "$ref" in facts:
        return "mapping"
    names = {
        "object": "mapping",
        "array": "list",
        "string": "text",
        "number": "number",
        "integer": "integer",
        "boolean": "true or false",
    }
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {facts[bound]:g}" for bound, sign in bounds.items() if bound in facts and abs(facts[bound]) < 2**53]
    return " ".join([names.get(str(facts.get("type")), str(facts.get("type"))), ", ".join(limits)]).strip()
