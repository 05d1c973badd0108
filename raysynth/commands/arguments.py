"""What several commands take and say: words of the command line → a run, conditions; facts → JSON on the standard output."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysynth.errors import DataError, RecipeError

if TYPE_CHECKING:
    from raysynth.runs import Run
    from raysynth.sources.base import Source

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="the recipe, a YAML file")]
RunUrl = Annotated[str, typer.Argument(metavar="RUN", help="the run: a folder or a URL")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key: --set train.workers=4")]
Conditions = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="COLUMN=VALUE",
        help=r"a value, \[a, b], {min: 1, max: 9}, {starts: Once} or {shares: equal}; may be repeated",
    ),
]


def existing(url: str) -> "Run":
    """The run at a URL. DataError where there is none: a mistyped name must not read as an empty run that is whole."""
    from raysynth.runs import SYSTEM, Run

    run = Run(url)
    pointers = (f"{run.url}/run.json", f"{run.url}/published.json")
    if not any(f"/{SYSTEM}/" in stat.url or stat.url in pointers for stat in run.store.list(run.url)):
        raise DataError(f"run '{url}': there is no run. Give the folder or the URL that the recipe's key `run` names")
    return run


def source_at(url: str, use: str | None) -> "Source":
    """The source at a URL, its format by its name or what lies in it, unless `use` says it."""
    from raysynth.parts import find
    from raysynth.recipe_files import parse_recipe

    asked = parse_recipe({"name": "source", "source": {"use": use, "url": url} if use else url}).source
    made: Source = find("sources", asked.use)(asked.url, **asked.options)
    return made


def conditions_of(where: list[str] | None) -> dict[str, Any]:
    from raysynth.yaml_text import read_yaml

    return {name: read_yaml(value, f"--where {name}") for name, value in map(_pair, where or [])}


def _pair(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals:
        raise RecipeError(f"--where {item}: give COLUMN=VALUE")
    return name, value


def show(facts: Any) -> None:
    sys.stdout.write(json.dumps(facts, indent=2, default=str, ensure_ascii=False) + "\n")
    sys.stdout.flush()  # whoever reads it through a pipe watches it come
