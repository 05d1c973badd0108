"""`raysynth keys`: who may ask a server."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysynth.commands.arguments import show

if TYPE_CHECKING:
    from raysynth.keys import Key

app = typer.Typer(no_args_is_help=True, help="Keys of those who may ask a server: made, listed, revoked.")

Keys = Annotated[
    str | None, typer.Option("--keys", metavar="URL", help="the file with the hashed keys; else RAYSYNTH_KEYS names it")
]


@app.command()
def new(
    name: Annotated[str, typer.Option(help="whose key it is: one line")],
    keys: Keys = None,
    max_running_jobs: Annotated[int, typer.Option(min=0, help="jobs of this key that run at once")] = 2,
    max_job_rows: Annotated[int, typer.Option(min=0, help="rows of one job")] = 100_000_000,
) -> None:
    """A new key. It is shown this once: only its hash is kept."""
    from raysynth.keys import Keyring

    made, token = Keyring(keys).new(name, max_running_jobs=max_running_jobs, max_job_rows=max_job_rows)
    show({"key": token, **_told(made)})


@app.command("list")
def list_(keys: Keys = None) -> None:
    """All keys, revoked ones too, without what would open anything."""
    from raysynth.keys import Keyring

    show({"keys": [_told(key) for key in Keyring(keys).list()]})


@app.command()
def revoke(id: Annotated[str, typer.Argument(metavar="ID")], keys: Keys = None) -> None:
    """From now on the key is refused; servers know within 5 s."""
    from raysynth.keys import Keyring

    show(_told(Keyring(keys).revoke(id)))


def _told(key: "Key") -> dict[str, Any]:
    return {name: value for name, value in asdict(key).items() if name != "sha256"}
