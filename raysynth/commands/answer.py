"""`raysynth answer RUN QUESTION`: the replies that a run's rows have to the texts that are nearest to the question."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from raysynth import progress
from raysynth.commands.arguments import Conditions, RunUrl, conditions_of, existing
from raysynth.errors import RecipeError

if TYPE_CHECKING:
    from raysynth.retrieval import Answer
    from raysynth.schema import Schema

MOST_ROWS = 200_000
"""Among which is searched."""


def answer(
    run: RunUrl,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    most: Annotated[int, typer.Option("-n", "--most", min=1, max=1000, help="so many answers, the nearest first")] = 3,
    asked: Annotated[str | None, typer.Option(metavar="COLUMN", help="the texts that the question is like; else the first")] = None,
    reply: Annotated[str | None, typer.Option(metavar="COLUMN", help="what is answered to them; else the second")] = None,
    by: Annotated[Literal["words", "meaning"], typer.Option(help="what is near; meaning: by a sentence encoder")] = "words",
    rows: Annotated[Literal["mixed", "synthetic", "real"], typer.Option(help="among which rows")] = "mixed",
    where: Conditions = None,
) -> None:
    """What the run's rows answer to the texts most like a question; of a mix each says whether it is real, augmented or synthetic."""
    import pyarrow as pa

    from raysynth.committed_rows import committed
    from raysynth.retrieval import Replies
    from raysynth.texts import described_images
    from raysynth.where import parse_where, satisfied

    known = committed(existing(run), rows)
    asked, reply = _columns(known.schema, asked, reply)
    wanted = parse_where(conditions_of(where), known.schema)
    tables = known.tables("train", MOST_ROWS)
    found = [described_images(table.filter(pa.array(satisfied(wanted, table)))) for table in tables]
    replies = Replies(pa.concat_tables([described_images(known.schema.arrow.empty_table()), *found]), asked, reply, by)
    answers = replies.answers(question, most)
    if not answers:
        progress.say(stage="answer", warning="no row has a word in common with the question")
    _show(answers, asked, reply, rows)


def _columns(schema: "Schema", asked: str | None, reply: str | None) -> tuple[str, str]:
    """The two columns of texts. RecipeError where it is not plain which."""
    texts = [column.name for column in schema if column.kind == "text"]
    for option, name in (("--asked", asked), ("--reply", reply)):
        if name is not None and name not in texts:
            raise RecipeError(f"{option} {name}: must be a column of kind text. There are: {', '.join(texts) or 'none'}")
    others = [name for name in texts if name not in (asked, reply)]
    if sum(name is None for name in (asked, reply)) > len(others):
        raise RecipeError(
            f"--asked, --reply: a text and its reply are two columns of kind text, and there are: {', '.join(texts) or 'none'}"
        )
    asked = asked or others.pop(0)
    reply = reply or others.pop(0)
    if asked == reply:
        raise RecipeError(f"--reply {reply}: it is --asked as well. Name two columns")
    return asked, reply


def _show(answers: "list[Answer]", asked: str, reply: str, rows: str) -> None:
    if not sys.stdout.isatty() or progress.JSON_LINES:
        for answer in answers:
            told: dict[str, Any] = {"similarity": answer.similarity, **answer.row}
            sys.stdout.write(json.dumps(told, default=str, ensure_ascii=False) + "\n")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table("near", escape(asked), escape(reply), "from")
    for answer in answers:
        origin = answer.row.get("_origin", rows)
        table.add_row(f"{answer.similarity:.2f}", Text(str(answer.row[asked])), Text(str(answer.row[reply])), str(origin))
    Console().print(table)
