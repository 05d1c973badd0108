"""Arguments in → a stage or a question about a run → an exit code.

0 done, 2 bad recipe or input, 3 a gate failed, 4 stopped part-way (resumable), 1 anything else.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from raysynth import progress
from raysynth.cluster.session import pin_cpu
from raysynth.commands import about_runs, answer, keys, monitor, servers
from raysynth.commands.arguments import Overrides, RecipePath, show
from raysynth.errors import RaysynthError, StoppedError

if TYPE_CHECKING:
    from raysynth.runs import Folder

pin_cpu()  # before torch, numpy and Arrow are first imported, inside the commands

INTERRUPTED = 130

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def options(json_lines: Annotated[bool, typer.Option("--json", help="JSON lines instead of bars and tables")] = False) -> None:
    progress.JSON_LINES = json_lines or not sys.stdout.isatty()
    if told := os.environ.get("RAYSYNTH_SUBMITTED"):  # only a job has it
        from raysynth.cluster.submit import check_versions

        check_versions(told)


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
def submit(
    recipe: RecipePath,
    address: Annotated[str, typer.Option(help="the cluster's dashboard, http://head:8265; the token comes from Ray's own places")],
    set_: Overrides = None,
    force: Force = False,
    detach: Annotated[bool, typer.Option("--detach", help="do not wait for its end")] = False,
) -> None:
    """Every stage, as a Ray job on a cluster: its log follows, its exit code is this command's, Ctrl+C stops it."""
    from raysynth.cluster.submit import submit as submit_job
    from raysynth.recipe_files import load_recipe

    asked = load_recipe(recipe, set_ or [])
    command = [word for item in set_ or [] for word in ("--set", item)] + (["--force"] if force else [])
    raise SystemExit(submit_job(recipe, asked, address=address, command=command, detach=detach))


@app.command()
def plan(recipe: RecipePath, set_: Overrides = None) -> None:
    """What would be made, and every key with its default: nothing is written."""
    from raysynth.pipeline import planned
    from raysynth.recipe_files import load_recipe

    asked = load_recipe(recipe, set_ or [])
    show({"plan": planned(asked), "recipe": asked.defaults_view()})


@app.command()
def schema() -> None:
    """The JSON Schema of a recipe."""
    from raysynth.recipe_files import recipe_schema

    show(recipe_schema())


@app.command()
def profile(
    source: Annotated[str, typer.Argument(help="a file, folder, glob or examples://NAME")],
    use: Annotated[str | None, typer.Option(help="csv, jsonl, parquet: where the name does not say it")] = None,
) -> None:
    """Is this data fit for it? Size, types, missing values, imbalance, duplicates, likely keys and personal data, drift between shards."""
    from raysynth.cluster.session import session
    from raysynth.recipe_files import parse_recipe
    from raysynth.stages.prepare import check_source, source_of
    from raysynth.stages.profile import run as survey

    recipe = parse_recipe({"name": "profile", "source": {"use": use, "url": source} if use else source})
    asked = source_of(recipe)
    files = check_source(recipe)
    shards, notes = asked.shards(files), asked.notes(files)
    with session():
        show(survey(asked, shards, workers=2, notes=notes))


def _stage(last: str, path: Path, overrides: list[str] | None, *, force: bool = False) -> None:
    from raysynth.pipeline import run_to
    from raysynth.recipe_files import load_recipe

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


for command in (
    servers.serve,
    servers.sample,
    about_runs.preview,
    about_runs.path,
    about_runs.status,
    about_runs.verify,
    about_runs.gc,
    monitor.monitor,
    answer.answer,
):
    app.command()(command)
app.add_typer(keys.app, name="keys")


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
