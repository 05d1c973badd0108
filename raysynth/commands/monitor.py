"""`raysynth monitor RUN STREAM`: a run's labelled texts and a dated stream → by window the share of each label, and alarms."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from raysynth import progress
from raysynth.commands.arguments import RunUrl, existing, source_at
from raysynth.errors import DataError, GateError, RecipeError

if TYPE_CHECKING:
    import pyarrow as pa

    from raysynth.committed_rows import Committed
    from raysynth.monitor import Classifier, Counts, Window
    from raysynth.sources.base import Source

MOST_ROWS = 200_000
"""From which the classifier learns."""
MOST_TEST_ROWS = 20_000

Texts = Annotated[list[str] | None, typer.Option("--text", metavar="COLUMN", help="a column of texts; else all; may be repeated")]


def monitor(
    run: RunUrl,
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="a file, folder or glob: rows with a date and the run's texts")],
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="the run's label; else its evaluate.target")] = None,
    watch: Annotated[str, typer.Option(metavar="VALUE", help="the value whose share may not jump")] = "negative",
    text: Texts = None,
    date: Annotated[str, typer.Option(metavar="COLUMN", help="the stream's dates")] = "date",
    date_order: Annotated[
        str | None, typer.Option(metavar="ORDER", help="how they are written, such as D/M/Y; else told by them")
    ] = None,
    window: Annotated[Literal["hour", "day", "week", "month"], typer.Option(help="what is compared")] = "day",
    rows: Annotated[Literal["mixed", "synthetic", "real"], typer.Option(help="what the classifier learns from")] = "mixed",
    reference: Annotated[
        int, typer.Option(min=5, max=1000, help="windows before, without an alarm, that each is held against")
    ] = 28,
    false_alarms: Annotated[float, typer.Option(min=1e-9, max=0.2, help="share of windows that may raise one by chance")] = 0.01,
    use: Annotated[str | None, typer.Option(help="csv, jsonl, parquet: where the stream's name does not say it")] = None,
    fail: Annotated[bool, typer.Option("--fail", help="exit code 3 where an alarm was raised")] = False,
) -> None:
    """A classifier that learnt from the run's rows labels a dated stream; a window in which one label's share jumps raises an alarm."""
    from raysynth.cells import ORDERS
    from raysynth.committed_rows import committed
    from raysynth.monitor import alarms, judged

    if date_order is not None and date_order not in ORDERS:
        raise RecipeError(f"--date-order {date_order}: must be one of {', '.join(ORDERS)}")
    known = committed(existing(run), rows)
    label = label or _target(run)
    source = source_at(stream, use)
    texts = _text_columns(known, label, text)
    classifier, about = _learnt(known, label, texts, watch)
    counts = _counted(source, classifier, texts, date, date_order, window)
    found = list(judged(counts, classifier.labels, watch, unit=window, reference=reference, false_alarms=false_alarms))
    if not found:
        raise DataError(
            f"'{stream}': no row has both a date in '{date}' and a text in {', '.join(texts)} ({dict(counts.left_out)})"
        )
    raised = alarms(found)
    total = {"watched": watch, "alarms": raised, "windows": len(found), "rows": sum(one.rows for one in found)}
    _show(found, {**total, "left_out": dict(counts.left_out), "classifier": about})
    if fail and raised:
        raise GateError(f"the share of '{watch}' jumped in {len(raised)} of {len(found)} windows: {', '.join(raised[:10])}")


def _target(url: str) -> str:
    folder = existing(url).current("evaluation")
    target = None if folder is None else folder.read_json("scores.json").get("target")
    if target is None:
        raise RecipeError("--label: must be given, for the run was not evaluated with evaluate.target")
    return str(target)


def _text_columns(known: "Committed", label: str, asked: list[str] | None) -> list[str]:
    columns = {name: known.schema[name] for name in (label, *(asked or ()))}  # DataError on one that is not there
    if columns[label].kind not in ("category", "boolean", "integer"):
        raise RecipeError(f"--label {label}: its kind is {columns[label].kind}, and a label is a category, a boolean or an integer")
    if wrong := [name for name in asked or () if columns[name].kind != "text"]:
        raise RecipeError(f"--text {wrong[0]}: its kind is {columns[wrong[0]].kind}, and texts are asked for")
    found = asked or [column.name for column in known.schema if column.kind == "text"]
    if not found:
        raise RecipeError("--text: the run has no column of kind text, so that nothing can be learnt from texts")
    return found


def _learnt(known: "Committed", label: str, texts: list[str], watch: str) -> "tuple[Classifier, dict[str, Any]]":
    """The classifier, and how well it tells the label that is watched in rows that it did not learn from, where there are some."""
    from raysynth.monitor import Classifier

    said, labels = _labelled(known, "train", label, texts, MOST_ROWS)
    classifier = Classifier(said, labels)
    if watch not in classifier.labels:
        shown = ", ".join(classifier.labels[:10])
        raise RecipeError(f"--watch {watch}: '{label}' has no such value in the {known.rows} rows. It has: {shown}")
    told: dict[str, Any] = {"label": label, "rows": len(said)}
    tested, own = _labelled(known, "test", label, texts, MOST_TEST_ROWS)
    if tested:
        found = [classifier.labels[code] if code >= 0 else "" for code in classifier.codes(tested).tolist()]
        hits = sum(one == two == watch for one, two in zip(found, own, strict=True))
        told |= {"test_rows": len(own), "right": _share(sum(a == b for a, b in zip(found, own, strict=True)), len(own))}
        told |= {"precision": _share(hits, found.count(watch)), "recall": _share(hits, own.count(watch))}
    return classifier, told


def _labelled(
    known: "Committed", split: Literal["train", "test"], label: str, texts: list[str], most: int
) -> tuple[list[str], list[str]]:
    import pyarrow as pa

    from raysynth.monitor import texts_of

    said: list[str] = []
    labels: list[str] = []
    for rows in known.tables(split, most):
        own: list[str | None] = rows.column(label).cast(pa.string()).to_pylist()
        for text, value in zip(texts_of(rows, texts), own, strict=True):
            if value is not None and text:
                said.append(text)
                labels.append(value)
    return said, labels


def _counted(source: "Source", classifier: "Classifier", texts: list[str], date: str, order: str | None, window: Any) -> "Counts":
    """All that the stream says, a table at a time."""
    from raysynth.monitor import Counts, Dates, order_of, texts_of

    counts, dates = Counts(len(classifier.labels)), None
    for rows, bad in _tables(source, (date, *texts)):
        counts.left_out["bad"] += bad
        if rows.num_rows:
            dates = dates or Dates(date, window, order or order_of(rows, date))
            counts.add(dates.begins(rows), classifier.codes(texts_of(rows, texts)))
    return counts


def _tables(source: "Source", columns: Sequence[str]) -> "Iterator[tuple[pa.Table, int]]":
    """The stream's rows, and how many could not be read. A column that some rows had may be missing in later ones: it is null there."""
    import pyarrow as pa

    seen: set[str] = set()
    for shard in source.shards(source.files()):
        for rows, bad in source.read(shard):
            for name in seen - set(rows.column_names):
                rows = rows.append_column(name, pa.nulls(rows.num_rows, pa.string()))
            seen |= set(rows.column_names) & set(columns)
            yield rows, len(bad)


def _show(windows: "list[Window]", total: dict[str, Any]) -> None:
    if not sys.stdout.isatty() or progress.JSON_LINES:
        for window in windows:
            sys.stdout.write(json.dumps(asdict(window), ensure_ascii=False) + "\n")
        sys.stdout.write(json.dumps(total, ensure_ascii=False) + "\n")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table("window", "rows", escape(f"share of {total['watched']}"), "expected", "p-value", "")
    for window in windows:
        expected = "" if window.expected is None else f"{window.expected:.1%}"
        p_value = "" if window.p_value is None else f"{window.p_value:.2g}"
        verdict = Text(window.verdict, style="bold red" if window.verdict == "alarm" else "")
        table.add_row(window.begins, f"{window.rows:,}", f"{window.share:.1%}", expected, p_value, verdict)
    Console().print(table)
    for name in ("alarms", "left_out", "classifier"):
        Console().print(Text(f"{name.replace('_', ' ')}: {json.dumps(total[name], ensure_ascii=False)}"))


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
