"""`raysynth preview`, `path`, `status`, `verify` and `gc`: questions about a run, and its tidying."""

import json
import sys
from typing import Annotated

import typer

from raysynth.commands.arguments import Conditions, RunUrl, conditions_of, existing
from raysynth.errors import DataError


def preview(
    run: RunUrl,
    rows: Annotated[int, typer.Option("-n", "--rows", min=1)] = 20,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    where: Conditions = None,
) -> None:
    """Rows of the run's current model, by number: those of the data set, unless --where asks for others. The rules hold in both.
    Where generate.unique drew rows again, the data set is read, and it ends. Of an image its format and size are told."""
    from raysynth.models import load_model
    from raysynth.runs import read_numbers
    from raysynth.sampler import Sampler
    from raysynth.texts import described_images

    found = existing(run)
    folder = found.current("model")
    if folder is None:
        raise DataError(f"run '{run}': it has no trained model. Run: raysynth run RECIPE")
    model = load_model(folder)
    conditions = conditions_of(where)
    synthetic = found.current("synthetic")
    asked = synthetic.plan().facts if synthetic is not None else {}
    kept = {"seed": asked.get("seed", model.facts["seed"]), "rules": asked.get("rules", ())}
    if synthetic is not None and "unique" in asked and not conditions:
        drawn = read_numbers(synthetic, range(offset, offset + rows))
    else:
        drawn = Sampler(model, where=conditions or asked.get("where"), **kept).range(offset, offset + rows)
    for row in described_images(drawn).to_pylist():
        sys.stdout.write(json.dumps(row, default=str, ensure_ascii=False) + "\n")


def path(run: RunUrl, stage: Annotated[str, typer.Argument(help="synthetic, model, prepared, …")] = "synthetic") -> None:
    """The URL of a stage's current, committed folder."""
    found = existing(run)
    folder = found.current(stage)
    if folder is None:
        there = sorted({folder.name for folder in found.folders() if folder.committed})
        raise DataError(f"run '{run}': nothing committed under '{stage}'. There is: {', '.join(there) or 'nothing yet'}")
    sys.stdout.write(folder.url.removeprefix("file://") + "\n")


def status(
    run: RunUrl, watch: Annotated[bool, typer.Option("--watch", help="look again every 2 s, until interrupted")] = False
) -> None:
    """How far each stage is, what is current, what is published: read from the store alone, from any machine."""
    from raysynth.commands import watching
    from raysynth.status import Watch

    watched = Watch(existing(run))
    (watching.watch if watch else watching.show_once)(watched)


def verify(run: RunUrl) -> None:
    """Re-hash every committed file of a run."""
    from raysynth.audit import verify as audit_run
    from raysynth.errors import CorruptRunError

    found = audit_run(existing(run))
    for name in found.foreign:
        sys.stdout.write(f"foreign: {name}\n")
    if not found.whole:
        raise CorruptRunError("not whole: " + "; ".join(found.problems))
    sys.stdout.write(f"whole: {found.parts} files, {found.rows:,} rows, {found.bytes:,} bytes\n")


def gc(
    run: RunUrl,
    abandon: Annotated[str | None, typer.Option(metavar="STAGE/ID", help="an unfinished folder to give up")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
) -> None:
    """Delete leftovers of committed folders that are older than a day."""
    from raysynth.audit import gc as collect

    for name in collect(existing(run), abandon=abandon, dry_run=dry_run):
        sys.stdout.write(f"{'would delete' if dry_run else 'deleted'}: {name}\n")
