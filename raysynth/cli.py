"""Arguments in → a stage or a question about a run → an exit code.

0 done, 2 bad recipe or input, 3 a gate failed, 4 stopped part-way (resumable), 1 anything else.
"""

import json
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from raysynth import progress
from raysynth.cluster.session import pin_cpu
from raysynth.errors import DataError, RaysynthError, RecipeError, StoppedError

if TYPE_CHECKING:
    from raysynth.runs import Folder, Run

pin_cpu()  # before torch, numpy and Arrow are first imported, inside the commands

WATCH_SECONDS = 2.0
INTERRUPTED = 130

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="the recipe, a YAML file")]
RunUrl = Annotated[str, typer.Argument(metavar="RUN", help="the run: a folder or a URL")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key: --set train.workers=4")]


@app.callback()
def options(json_lines: Annotated[bool, typer.Option("--json", help="JSON lines instead of bars and tables")] = False) -> None:
    progress.JSON_LINES = json_lines or not sys.stdout.isatty()


Force = Annotated[bool, typer.Option("--force", help="publish although a gate fails; the publication and its card say so")]


@app.command()
def run(recipe: RecipePath, set_: Overrides = None, force: Force = False) -> None:
    """Every stage: prepare, augment, train, generate, mix, evaluate, publish. What is done is skipped."""
    _stage("publish", recipe, set_, force=force)


@app.command()
def prepare(recipe: RecipePath, set_: Overrides = None) -> None:
    """Clean, type and split the real rows."""
    _stage("prepare", recipe, set_)


@app.command()
def augment(recipe: RecipePath, set_: Overrides = None) -> None:
    """Up to the augmented rows, where the recipe asks for some."""
    _stage("augment", recipe, set_)


@app.command()
def train(recipe: RecipePath, set_: Overrides = None) -> None:
    """Up to a trained generator."""
    _stage("train", recipe, set_)


@app.command()
def generate(recipe: RecipePath, set_: Overrides = None) -> None:
    """Up to the synthetic rows, committed but not published."""
    _stage("generate", recipe, set_)


@app.command()
def mix(recipe: RecipePath, set_: Overrides = None) -> None:
    """Up to real, augmented and synthetic rows in one data set, where the recipe asks for it."""
    _stage("mix", recipe, set_)


@app.command()
def evaluate(recipe: RecipePath, set_: Overrides = None) -> None:
    """Up to the scores and the report."""
    _stage("evaluate", recipe, set_)


@app.command()
def publish(recipe: RecipePath, set_: Overrides = None, force: Force = False) -> None:
    """Up to the publication, which asks the gates."""
    _stage("publish", recipe, set_, force=force)


@app.command()
def plan(recipe: RecipePath, set_: Overrides = None) -> None:
    """What would be made, and every key with its default: nothing is written."""
    from raysynth.pipeline import planned
    from raysynth.recipe import load_recipe

    asked = load_recipe(recipe, set_ or [])
    _show({"plan": planned(asked), "recipe": asked.defaults_view()})


@app.command()
def schema() -> None:
    """The JSON Schema of a recipe."""
    from raysynth.recipe import recipe_schema

    _show(recipe_schema())


@app.command()
def profile(
    source: Annotated[str, typer.Argument(help="a file, folder, glob or examples://NAME")],
    use: Annotated[str | None, typer.Option(help="csv, jsonl, parquet: where the name does not say it")] = None,
) -> None:
    """Is this data fit for it? Size, types, missing values, imbalance, duplicates, likely keys and personal data, drift between shards."""
    from raysynth.cluster.session import session
    from raysynth.recipe import parse_recipe
    from raysynth.stages.prepare import check_source, source_of
    from raysynth.stages.profile import run as survey

    use = use or _format_of_folder(source)
    recipe = parse_recipe({"name": "profile", "source": {"use": use, "url": source} if use else source})
    asked = source_of(recipe)
    shards = asked.shards(check_source(recipe))
    with session():
        _show(survey(asked, shards, workers=2))


@app.command()
def preview(
    run: RunUrl,
    rows: Annotated[int, typer.Option("-n", "--rows", min=1)] = 20,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    where: Annotated[list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="a value, [a, b] or {min: 1, max: 9}")] = None,
) -> None:
    """Rows of the run's current model, by number: those of the data set, unless --where asks for others. The rules hold in both."""
    from raysynth.models import load_model
    from raysynth.sampler import Sampler
    from raysynth.yaml_text import read_yaml

    found = _existing(run)
    folder = found.current("model")
    if folder is None:
        raise DataError(f"run '{run}': it has no trained model. Run: raysynth run RECIPE")
    model = load_model(folder)
    pairs = dict(_pair(item) for item in where or [])
    conditions = {name: read_yaml(value, f"--where {name}") for name, value in pairs.items()}
    synthetic = found.current("synthetic")
    asked = synthetic.plan().facts if synthetic is not None else {}
    kept = {"seed": asked.get("seed", model.facts["seed"]), "rules": asked.get("rules", ())}
    drawn = Sampler(model, where=conditions or asked.get("where"), **kept).range(offset, offset + rows)
    for row in drawn.to_pylist():
        sys.stdout.write(json.dumps(row, default=str, ensure_ascii=False) + "\n")


@app.command()
def path(run: RunUrl, stage: Annotated[str, typer.Argument(help="synthetic, model, prepared, …")] = "synthetic") -> None:
    """The URL of a stage's current, committed folder."""
    found = _existing(run)
    folder = found.current(stage)
    if folder is None:
        there = sorted({folder.name for folder in found.folders() if folder.committed})
        raise DataError(f"run '{run}': nothing committed under '{stage}'. There is: {', '.join(there) or 'nothing yet'}")
    sys.stdout.write(folder.url.removeprefix("file://") + "\n")


@app.command()
def status(
    run: RunUrl, watch: Annotated[bool, typer.Option("--watch", help="look again every 2 s, until interrupted")] = False
) -> None:
    """What is made, what is current, what is published: read from the store alone."""
    found = _existing(run)
    seen = _state(found)
    _show(seen)
    try:
        while watch:
            time.sleep(WATCH_SECONDS)
            if (now := _state(found)) != seen:
                _show(seen := now)
    except KeyboardInterrupt:
        return


@app.command()
def verify(run: RunUrl) -> None:
    """Re-hash every committed file of a run."""
    from raysynth.audit import verify as audit_run
    from raysynth.errors import CorruptRunError

    found = audit_run(_existing(run))
    for name in found.foreign:
        sys.stdout.write(f"foreign: {name}\n")
    if not found.whole:
        raise CorruptRunError("not whole: " + "; ".join(found.problems))
    sys.stdout.write(f"whole: {found.parts} files, {found.rows:,} rows, {found.bytes:,} bytes\n")


@app.command()
def gc(
    run: RunUrl,
    abandon: Annotated[str | None, typer.Option(metavar="STAGE/ID", help="an unfinished folder to give up")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
) -> None:
    """Delete leftovers of committed folders that are older than a day."""
    from raysynth.audit import gc as collect

    for name in collect(_existing(run), abandon=abandon, dry_run=dry_run):
        sys.stdout.write(f"{'would delete' if dry_run else 'deleted'}: {name}\n")


def _existing(url: str) -> "Run":
    """The run at a URL. DataError where there is none: a mistyped name must not read as an empty run that is whole."""
    from raysynth.runs import SYSTEM, Run

    run = Run(url)
    pointers = (f"{run.url}/run.json", f"{run.url}/published.json")
    if not any(f"/{SYSTEM}/" in stat.url or stat.url in pointers for stat in run.store.list(run.url)):
        raise DataError(f"run '{url}': there is no run. Give the folder or the URL that the recipe's key `run` names")
    return run


def _state(run: "Run") -> dict[str, Any]:
    folders = {folder.path: folder.outcome() or _progress(folder) for folder in run.started()}
    return {"folders": folders, "published": run.published()}


def _progress(folder: "Folder") -> dict[str, Any]:
    try:
        return {"unfinished": {"parts": sum(len(parts) for parts in folder.marked()), "of": folder.plan().parts}}
    except FileNotFoundError:  # training has no plan
        return {"unfinished": {}}


def _format_of_folder(url: str) -> str | None:
    """What the files in a folder are, where its name does not say it; None leaves the question to the recipe's check."""
    from raysynth.parts import find
    from raysynth.recipe import FORMATS

    if any(character in url for character in "*?[") or any(re.fullmatch(form, url, re.IGNORECASE) for form in FORMATS.values()):
        return None
    for use in ("parquet", "csv", "jsonl"):
        with suppress(DataError):
            if find("sources", use)(url).files():
                return use
    raise DataError(
        f"source '{url}': no such file, and no folder with Parquet, CSV or JSON Lines files. Check the name, or say --use csv"
    )


def _stage(last: str, path: Path, overrides: list[str] | None, *, force: bool = False) -> None:
    from raysynth.pipeline import run_to
    from raysynth.recipe import load_recipe

    made = run_to(load_recipe(path, overrides or []), last, force=force)
    _summary(made.folders, published=made.published)


def _summary(folders: "dict[str, Folder]", *, published: bool) -> None:
    rows = {name: (folder.outcome() or {}).get("rows", 0) for name, folder in folders.items()}
    report = {"report": f"{folders['evaluation'].url}/report.html"} if "evaluation" in folders else {}
    if not sys.stdout.isatty() or progress.JSON_LINES:
        lines = {name: {"url": folder.url, "rows": rows[name]} for name, folder in folders.items()}
        sys.stdout.write(json.dumps({**lines, **report, "published": published}) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "rows", "where")
    for name, folder in folders.items():
        table.add_row(name, f"{rows[name]:,}" if rows[name] else "", folder.url.removeprefix("file://"))
    for name, url in report.items():
        table.add_row(name, "", url.removeprefix("file://"))
    Console().print(table)


def _show(facts: Any) -> None:
    sys.stdout.write(json.dumps(facts, indent=2, default=str, ensure_ascii=False) + "\n")


def _pair(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals:
        raise RecipeError(f"--where {item}: give COLUMN=VALUE")
    return name, value


def main() -> NoReturn:
    """The entry point: raysynth's own errors, and those of the machine, become one line and their exit code."""
    try:
        app(standalone_mode=True)
    except RaysynthError as error:
        _end(f"{type(error).__name__}: {error}", error.exit_code)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # so typer ends what Ctrl+C stopped
            _end("stopped; the same command goes on from here", StoppedError.exit_code)
        raise
    except KeyboardInterrupt:
        _end("stopped; the same command goes on from here", StoppedError.exit_code)
    except OSError as error:
        _end(f"{type(error).__name__}: {error}. Mend that and run the same command again: what is made is kept", 1)
    raise SystemExit(0)


def _end(line: str, code: int) -> NoReturn:
    sys.stderr.write(f"{line}\n")
    raise SystemExit(code) from None


if __name__ == "__main__":
    main()
