"""Arguments in → a stage or a question about a run → an exit code.

0 done, 2 bad recipe or input, 3 a gate failed, 4 stopped part-way (resumable), 1 anything else.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from raysynth import progress
from raysynth.cluster.session import pin_cpu
from raysynth.errors import DataError, RaysynthError, RecipeError, StoppedError

if TYPE_CHECKING:
    from raysynth.keys import Key
    from raysynth.runs import Folder, Run

pin_cpu()  # before torch, numpy and Arrow are first imported, inside the commands

WATCH_SECONDS = 2.0
INTERRUPTED = 130

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
keys_app = typer.Typer(no_args_is_help=True, help="Keys of those who may ask a server: made, listed, revoked.")
app.add_typer(keys_app, name="keys")

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="the recipe, a YAML file")]
RunUrl = Annotated[str, typer.Argument(metavar="RUN", help="the run: a folder or a URL")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key: --set train.workers=4")]
Conditions = Annotated[
    list[str] | None, typer.Option("--where", metavar="COLUMN=VALUE", help=r"a value, \[a, b] or {min: 1, max: 9}; may be repeated")
]
Keys = Annotated[
    str | None, typer.Option("--keys", metavar="URL", help="the file with the hashed keys; else RAYSYNTH_KEYS names it")
]


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
    from raysynth.recipe import load_recipe

    asked = load_recipe(recipe, set_ or [])
    command = [word for item in set_ or [] for word in ("--set", item)] + (["--force"] if force else [])
    raise SystemExit(submit_job(recipe, name=asked.name, address=address, command=command, detach=detach))


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
    where: Conditions = None,
) -> None:
    """Rows of the run's current model, by number: those of the data set, unless --where asks for others. The rules hold in both."""
    from raysynth.models import load_model
    from raysynth.sampler import Sampler

    found = _existing(run)
    folder = found.current("model")
    if folder is None:
        raise DataError(f"run '{run}': it has no trained model. Run: raysynth run RECIPE")
    model = load_model(folder)
    conditions = _conditions(where)
    synthetic = found.current("synthetic")
    asked = synthetic.plan().facts if synthetic is not None else {}
    kept = {"seed": asked.get("seed", model.facts["seed"]), "rules": asked.get("rules", ())}
    drawn = Sampler(model, where=conditions or asked.get("where"), **kept).range(offset, offset + rows)
    for row in drawn.to_pylist():
        sys.stdout.write(json.dumps(row, default=str, ensure_ascii=False) + "\n")


@app.command()
def serve(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="published runs: folders or URLs")],
    host: Annotated[str, typer.Option(help="an address of this machine; others than loopback need a key")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 8000,
    keys: Annotated[str | None, typer.Option(metavar="URL", help="the file with the hashed keys")] = None,
    jobs: Annotated[str | None, typer.Option(metavar="URL", help="where jobs write; without it there are none")] = None,
    haproxy: Annotated[bool, typer.Option("--haproxy", help="HAProxy in front: a tenth of the Python proxy's CPU time")] = False,
    settings: Annotated[Path | None, typer.Option(help="a YAML file with any of the other limits (see docs/production.md)")] = None,
) -> None:
    """The models of published runs over HTTP, with a page to look at, until it is interrupted."""
    from raysynth.serving.local import serve as serve_here
    from raysynth.serving.settings import read_settings

    asked = read_settings(settings, {"runs": runs, "keys": keys, "jobs": jobs})
    serve_here(asked, host=host, port=port, haproxy=haproxy)


@app.command()
def sample(
    url: Annotated[str, typer.Argument(metavar="URL", help="the server; its key is read from RAYSYNTH_KEY")],
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    rows: Annotated[int, typer.Option("-n", "--rows", min=1)],
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**53 - 1, help="the same seed gives the same rows; else one is drawn")
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="the number of the first row")] = 0,
    where: Conditions = None,
    columns: Annotated[str | None, typer.Option(metavar="A,B", help="some columns, in this order")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="a .parquet, .csv, .arrow, .ndjson or .json file")] = None,
) -> None:
    """Rows of a served model, into a file or as JSON lines."""
    from raysynth.formats import FORMATS

    format = "ndjson" if output is None else output.suffix[1:].lower()
    if format not in FORMATS:
        raise RecipeError(f"--output {output}: must end in one of {', '.join(f'.{known}' for known in FORMATS)}")
    named = columns.split(",") if columns is not None else None
    asked = {"rows": rows, "seed": seed, "offset": offset, "where": _conditions(where) or None, "columns": named}
    pieces = _sampled(url, model, format, asked)
    if output is not None:
        _write_whole(output, pieces)
        return
    with suppress(BrokenPipeError):  # whoever reads has had enough
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python itself would try to flush at its end


@keys_app.command()
def new(
    name: Annotated[str, typer.Option(help="whose key it is: one line")],
    keys: Keys = None,
    max_running_jobs: Annotated[int, typer.Option(min=0, help="jobs of this key that run at once")] = 2,
    max_job_rows: Annotated[int, typer.Option(min=0, help="rows of one job")] = 100_000_000,
) -> None:
    """A new key. It is shown this once: only its hash is kept."""
    from raysynth.keys import Keyring

    made, token = Keyring(keys).new(name, max_running_jobs=max_running_jobs, max_job_rows=max_job_rows)
    _show({"key": token, **_told(made)})


@keys_app.command("list")
def list_(keys: Keys = None) -> None:
    """All keys, revoked ones too, without what would open anything."""
    from raysynth.keys import Keyring

    _show({"keys": [_told(key) for key in Keyring(keys).list()]})


@keys_app.command()
def revoke(id: Annotated[str, typer.Argument(metavar="ID")], keys: Keys = None) -> None:
    """From now on the key is refused; servers know within 5 s."""
    from raysynth.keys import Keyring

    _show(_told(Keyring(keys).revoke(id)))


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


def _sampled(url: str, model: str, format: str, asked: dict[str, Any]) -> Iterator[bytes]:
    """The pieces of a file with a served model's rows; nothing is asked before the first one is wanted."""
    from pyarrow import Table

    from raysynth.client import Client
    from raysynth.formats import encode

    batches = Client(url).stream(model, **asked)
    first = next(batches)
    told = {name.decode(): value.decode() for name, value in (first.schema.metadata or {}).items()}
    head = {"model": model, "digest": told["raysynth.digest"], "seed": int(told["raysynth.seed"]), "offset": asked["offset"]}
    tables = (Table.from_batches([batch]) for batch in chain([first], batches))
    yield from encode(format, first.schema.remove_metadata(), tables, head)


def _write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """Beside, then renamed: a file that bears the name is whole."""
    if path.is_dir():
        raise RecipeError(f"--output {path}: it is a folder. Name a file")
    if not path.absolute().parent.is_dir():
        raise RecipeError(f"--output {path}: there is no folder {path.absolute().parent}. Make it first")
    beside = path.with_name(f".{path.name}.{os.getpid()}.raysynth-tmp")
    try:
        with beside.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _told(key: "Key") -> dict[str, Any]:
    return {name: value for name, value in asdict(key).items() if name != "sha256"}


def _conditions(where: list[str] | None) -> dict[str, Any]:
    from raysynth.yaml_text import read_yaml

    return {name: read_yaml(value, f"--where {name}") for name, value in map(_pair, where or [])}


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
