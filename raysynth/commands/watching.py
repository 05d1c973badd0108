"""`raysynth status RUN --watch`: looks at a run → a live table on a terminal, JSON elsewhere, until it is interrupted."""

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from raysynth import progress
from raysynth.commands.arguments import show
from raysynth.status import STAGES, Watch, newest, unchanging

if TYPE_CHECKING:
    from rich.table import Table

WATCH_SECONDS = 2.0
SILENT_SECONDS = 60.0
"""Without anything new for so long, that is told; and again after as long."""


def watch(watched: Watch) -> None:
    """Until Ctrl+C."""
    try:
        if sys.stdout.isatty() and not progress.JSON_LINES:
            _live(watched)
        else:
            _lines(watched)
    except KeyboardInterrupt:
        return


def _lines(watched: Watch) -> None:
    seen, told = watched.look(), time.monotonic()
    show(seen)
    while True:
        time.sleep(WATCH_SECONDS)
        now = watched.look()
        if unchanging(now) != unchanging(seen):
            show(now)
            told = time.monotonic()
        elif time.monotonic() - told >= SILENT_SECONDS and _works(now):
            sys.stdout.write(json.dumps({"nothing_new_for_seconds": now["last_sign_of_life_seconds"]}) + "\n")
            sys.stdout.flush()
            told = time.monotonic()
        seen = now


def _live(watched: Watch) -> None:
    from rich.live import Live

    with Live(_table(watched.look()), auto_refresh=False) as live:
        while True:
            live.update(_table(watched.look()), refresh=True)
            time.sleep(WATCH_SECONDS)


def show_once(watched: Watch) -> None:
    if not sys.stdout.isatty() or progress.JSON_LINES:
        show(watched.look())
        return
    from rich.console import Console

    Console().print(_table(watched.look()))


def _works(state: dict[str, Any]) -> bool:
    return any("unfinished" in told for told in state["folders"].values())


def _table(state: dict[str, Any]) -> "Table":
    from rich.table import Table

    caption = f"published: {_published(state['published'])}{_silence(state)}"
    table = Table("stage", "folder", "done", "rows", "speed", "to go", "", caption=caption)
    for path, told in newest(state["folders"], 1):
        table.add_row(STAGES.get(path.split("/")[0], ""), path, *_cells(told.get("unfinished"), told))
    return table


def _published(told: dict[str, Any] | None) -> str:
    if told is None or "broken" in told:
        return "nothing yet" if told is None else told["broken"]
    return ", ".join(f"{name}/{entry['id']}" for name, entry in told["folders"].items())


def _cells(open_: dict[str, Any] | None, outcome: dict[str, Any]) -> tuple[str, ...]:
    if open_ is None:
        word = "abandoned" if "abandoned" in outcome else "committed"
        return (word, f"{outcome['rows']:,}" if outcome.get("rows") else "", "", "", "")
    if "parts" in open_:
        speed = f"{open_['rows_per_second']:,.0f} rows/s" if open_["rows_per_second"] else ""
        rows = f"{'~' if open_['rows_estimated'] else ''}{open_['rows']:,}"
        return (f"{open_['parts']:,} of {open_['of']:,} parts", rows, speed, _seconds(open_["eta_seconds"]), "")
    if "epoch" in open_:
        done = f"epoch {open_['epoch']}" + (f" of {open_['of']}" if open_["of"] else "")
        losses = " ".join(
            f"{name.removesuffix('_loss')} {open_[name]:.4f}" for name in ("train_loss", "validation_loss") if open_[name]
        )
        eta = _seconds(open_["eta_seconds"])
        return (done, "", "", f"at most {eta}" if eta else "", open_.get("broken", losses))
    return ("broken" if "broken" in open_ else "begun", "", "", "", open_.get("broken", ""))


def _silence(state: dict[str, Any]) -> str:
    seconds = state["last_sign_of_life_seconds"]
    if not _works(state) or seconds is None or seconds < SILENT_SECONDS:
        return ""
    return f"\nnothing new for {seconds:.0f} s"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
