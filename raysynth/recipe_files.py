"""A YAML file and overrides → the checked recipe, or everything that is wrong with it, a line each; the recipe's JSON Schema."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from raysynth.errors import RecipeError
from raysynth.gates import check_gate
from raysynth.parts import check_options, explain, find, nearest, options_of, show
from raysynth.recipe import RULE_KINDS, Part, Recipe, SourcePart
from raysynth.yaml_text import lay_over, read_yaml

MAX_BYTES = 1_000_000


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The file with `a.b=c` overrides (values are YAML) laid over it. RecipeError lists everything that is wrong, a line each.

    Relative paths in it stay relative to the working directory. The parts are found and their options checked.
    """
    path = Path(path)
    try:
        size_bytes = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size_bytes <= MAX_BYTES else None
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    if text is None:
        raise RecipeError(f"{path}: a recipe has at most {MAX_BYTES:,} bytes (got {size_bytes:,})")
    raw = read_yaml(text, str(path))
    if not isinstance(raw, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys (got {show(raw)}). Keys: {', '.join(_keys(Recipe))}")
    values = cast("dict[str, Any]", raw)
    for key, inner in (("source", "url"), ("codec", "use"), ("generator", "use")):
        if isinstance(values.get(key), str) and any(override.startswith(f"{key}.") for override in overrides):
            values[key] = {inner: values[key]}  # spelled out, so that an option can be laid over it
    for override in overrides:
        lay_over(values, override)
    name = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).lstrip("-_")
    return parse_recipe({"name": name, **values} if name else values)


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
    """Plain values (of YAML or JSON) → the checked recipe. RecipeError lists everything that is wrong, a line each."""
    try:
        recipe = Recipe.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise RecipeError("\n".join(dict.fromkeys(_line(item) for item in error.errors(include_url=False)))) from None
    problems: list[str] = []
    for shelf, key, part in recipe.named_parts():
        problems += _part_problems(shelf, key, part)
    for number, gate in enumerate(recipe.evaluate.gates if recipe.evaluate else ()):
        try:
            check_gate(gate, f"evaluate.gates.{number}")
        except RecipeError as error:
            problems.append(str(error))
    if recipe.train.augmented and not recipe.augment:
        problems.append("train.augmented: true, and augment names no op. Name one, or leave it out")
    if recipe.mix is not None and recipe.mix.augmented and not recipe.augment:
        problems.append(f"mix.augmented: {recipe.mix.augmented}, and augment names no op. Name one, or leave it out")
    if problems:
        raise RecipeError("\n".join(problems))
    return recipe


def recipe_schema() -> dict[str, Any]:
    """The recipe's JSON Schema, for editors."""
    schema = Recipe.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "raysynth recipe"}


def _part_problems(shelf: str, key: str, part: Part) -> list[str]:
    try:
        cls = find(shelf, part.use)
    except RecipeError as error:
        return [f"{key}.use: {error}"]
    url = {"url": part.url} if isinstance(part, SourcePart) and "url" in options_of(cls) else {}
    try:
        check_options(cls, {**part.options, **url}, key)
    except RecipeError as error:
        return str(error).split("\n")
    return []


def _line(error: ErrorDetails) -> str:
    """One problem as `key: what (got value). What is allowed`."""
    path = [item for item in error["loc"] if item not in ("[key]", *RULE_KINDS)]
    key = "".join(f"[{item}]" if isinstance(item, int) else f".{item}" for item in path).removeprefix(".")
    if error["type"] == "extra_forbidden":
        known = _keys(_model_at(path[:-1]))
        return f"{key}: unknown key.{nearest(str(path[-1]), known)} Allowed: {', '.join(known)}"
    reason = explain(error)
    if error["type"] == "string_pattern_mismatch":
        currency = "must be three capital letters, such as USD"
        name = "must be lower-case letters, digits, _ and -, and start with a letter or digit"
        reason = currency if key == "prices.currency" else name
    if error["type"] in ("missing", "recipe"):  # nothing was given; or the reason quotes what was
        got = (
            f" (got {show(error['input'])})"
            if error["type"] == "recipe" and "(got" not in reason and "password" not in reason
            else ""
        )
        return f"{key}: {reason}{got}" if key else reason
    return f"{key or 'recipe'}: {reason} (got {show(error['input'])})"


def _model_at(path: Sequence[str | int]) -> type[BaseModel]:
    model: type[BaseModel] = Recipe
    inner: type[BaseModel] | None = None
    for step in path:
        if inner is not None:  # the step is a key of a mapping whose values are of this model
            model, inner = inner, None
            continue
        field = next((item for name, item in model.model_fields.items() if (item.alias or name) == step), None)
        kinds: list[Any] = [] if field is None else [field.annotation, *get_args(field.annotation)]
        found = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if found is None:
            break
        model, inner = (found, None) if found is kinds[0] or type(None) in kinds else (model, found)
    return model


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
