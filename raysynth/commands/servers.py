"""`raysynth serve` and `raysynth sample`: published runs over HTTP, and what such a server is asked for."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from raysynth.commands.arguments import Conditions, conditions_of
from raysynth.errors import RecipeError


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
    asked = {"rows": rows, "seed": seed, "offset": offset, "where": conditions_of(where) or None, "columns": named}
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
