"""`raysynth preview`, `path`, `status`, `verify` and `gc`: questions about a run, and its tidying."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysynth.commands.arguments import Conditions, RunUrl, conditions_of, existing
from raysynth.errors import DataError

if TYPE_CHECKING:
    from raysynth.models import Model
    from raysynth.runs import Run
    from raysynth.sampler import Sampler


def preview(
    run: RunUrl,
    rows: Annotated[int, typer.Option("-n", "--rows", min=1)] = 20,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    where: Conditions = None,
) -> None:
    """Rows by number: those of the run's data set, by the model that it was drawn from, unless --where asks for others of that model; before
    there is one, those of the current model. The rules hold in both. Where generate.unique drew rows again, the data set is read, and it
    ends. Of an image its format and size are told."""
    from raysynth.models import load_model, model_in
    from raysynth.runs import read_numbers
    from raysynth.texts import described_images

    found = existing(run)
    synthetic = found.current("synthetic")
    asked = synthetic.plan().facts if synthetic is not None else {}
    folder = model_in(found, asked["model"]) if "model" in asked else found.current("model")
    if folder is None:
        raise DataError(f"run '{run}': it has no trained model. Run: raysynth run RECIPE")
    conditions = conditions_of(where)
    model = load_model(folder)
    if synthetic is not None and "unique" in asked and not conditions:
        drawn = read_numbers(synthetic, range(offset, offset + rows))
    else:
        drawn = _sampler(found, model, asked, conditions).range(offset, offset + rows)
    for row in described_images(drawn).to_pylist():
        sys.stdout.write(json.dumps(row, default=str, ensure_ascii=False) + "\n")


def _sampler(run: "Run", model: "Model", asked: Mapping[str, Any], where: Mapping[str, Any]) -> "Sampler":
    """As stages.generate has it. `asked`: the facts of the data set's plan; none before there is one."""
    from raysynth.runs import Folder
    from raysynth.sampler import Sampler
    from raysynth.serving.registry import filters_of
    from raysynth.stores.base import join

    told = asked.get("filters")
    filters = filters_of(Folder(join(run.url, told["path"])) if told is not None else None, told, model.schema)
    kept = {name: asked[name] for name in ("rules", "max_attempts") if name in asked}
    seed = asked.get("seed", model.facts["seed"])
    return Sampler(model, seed=seed, filters=filters, where=where or asked.get("where"), **kept)


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
