"""OpenAPI's description, the formats and the settings → docs/http.md and the tables of docs/production.md, so that neither is ever stale."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from raysynth import formats
from raysynth.schema import IMAGE, TURNS
from raysynth.serving.settings import Settings

Facts = Mapping[str, Any]

SETTINGS_BEGIN = "<!-- settings: written by raysynth.serving.reference.settings_table() -->"
SETTINGS_END = "<!-- end of settings -->"

_BEGINNING = """# The HTTP reference
All that `raysynth serve` and the Ray Serve application answer. A running server tells the same to machines: `GET
/openapi.json`. This page is made from that, by `raysynth.serving.reference.http_reference()`. From Python use
`raysynth.client.Client`, in a shell `raysynth sample`: both do by themselves what stands below about retries and cut answers.

## A first request
```
export RAYSYNTH_KEY=rs_…
curl -s localhost:8000/v1/models/flights/sample -H "Authorization: Bearer $RAYSYNTH_KEY" -H 'Content-Type: application/json' \\
  -H 'Accept: text/csv' -d '{"rows": 3, "seed": 7, "where": {"carrier": ["UA", "AA"]}, "columns": ["carrier", "dest"]}'
```
**The key** goes into the header `Authorization: Bearer KEY`, never into a URL. `raysynth keys new --name NAME` makes one;
`raysynth serve` on loopback makes the first one itself and shows it once. Only the health routes and the page (`/` and its
assets, which hold no data) are open; all else, a path that does not exist too, is 401 without a key. Bodies are JSON and need
`Content-Type: application/json`."""

_SAMPLES = """## Samples
- **Which rows.** A model's rows of one seed are numbered, without an end. `rows` and `offset` cut out a piece; wherever you
  cut, and in whatever format, they are the same rows, those of `raysynth preview` and of the batch path. Without `seed` one is
  drawn and told. What `generate.unique` promises holds in the published data set alone, where rows that repeated others were drawn again:
  rows that are sampled, and those of jobs, may repeat one another. The model's rules say so.
- **`where`** takes per column a value (`"UA"`, `null` is one too), a list of values (`["UA", "AA"]`) or a range (`{"min": 100,
  "under": 900}`; `min` or `over`, `max` or `under`; `over` and `under` exclude the bound). Dates and times are ISO 8601 text.
  Of a column of texts it says how they begin: `{"starts": "Once upon"}`, a prompt of at most 10,000 characters.
  Left out, the condition of the published data set holds, if it has one; `{}` is none.
- **The rules** of the recipe hold in every row.
- **Headers of an answer**: `X-Raysynth-Rows` (how many rows come), `X-Raysynth-Seed`, `X-Raysynth-Digest` (of the model:
  another digest, other rows), `X-Request-Id` (yours, if you send a harmless one; it stands in the server's log).

## Formats
`Accept` chooses, by its weights; without it JSON comes. Arrow is the fast path: text costs a server some thirty times as much."""

_AFTER_FORMATS = """In CSV a text that a spreadsheet would run (`=`, `+`, `-`, `@`, a tab or a carriage return comes first), or that
starts with `'`, has one `'` put before it: take one leading `'` off every text, and it is as it was. Text is quoted and null is
not, so that `""` is an empty text; a table of one column writes a null as an **empty line**, which some readers skip. Moments
before the year 0 or after 9999, which ISO 8601 cannot say, are numbers of their unit since 1970.

An image is the bytes of a PNG or JPEG file and a path, which is null for what is synthetic. In JSON, NDJSON and CSV the bytes are base64
(RFC 4648, section 4; a third more than in Arrow and Parquet): `data:image/png;base64,` before them makes a URL. Parquet says in its
metadata that the column holds images, so that Hugging Face's `datasets` opens it as such. Of a model with images a sample has no more
rows than `max_picture_bytes` holds of their bare pixels; beyond it 413.

## Is the answer whole?
A server may die, or run into a limit, when half of the rows are sent. The status is 200 then, and the answer stops. All answers
of rows are chunked, and a cut one lacks the last chunk: curl ends with exit code 18 and most libraries raise an error. Where
something between you and the server hides that, look here:

| format | the end of a whole answer |
|---|---|
| JSON | the closing `]}`: what was cut does not parse |
| NDJSON, CSV | there is none: count the rows (lines; in CSV less the header, and a text may hold line ends) against `X-Raysynth-Rows` |
| Arrow | the mark `FFFFFFFF 00000000`. Arrow's own readers take a missing mark for an end: count the rows as well |
| Parquet | the footer: what was cut does not open |

## Try again
**A sample can always be asked again**: with the `seed` (and the `X-Raysynth-Digest`) of the first try its rows are the same. So
ask with a seed of your own, and after a cut go on with `offset` at the first row that did not come. 408, 429, 500, 502, 503,
504 and a lost connection are worth another try, after `Retry-After` seconds where the answer says so; other statuses are not.

## Jobs and events
A job writes a data set of any size into the server's store: `POST /v1/jobs` with an `Idempotency-Key`, a word of yours (1 to
200 visible ASCII characters). The same word with the same body is the same job (202 the first time, then 200), so that this too
can be asked again; with another body it is 422. `Location` says where to look:

```
curl -s localhost:8000/v1/jobs -H "Authorization: Bearer $RAYSYNTH_KEY" -H 'Content-Type: application/json' \\
  -H 'Idempotency-Key: june' -d '{"model": "flights", "rows": 1000000, "seed": 7, "where": {"month": 6}}'
curl -sN localhost:8000/v1/jobs/JOB/events -H "Authorization: Bearer $RAYSYNTH_KEY"
```
**Events** (`text/event-stream`): `progress` with the job at every change, a comment at least every 15 s, and `end` as the last
one. A stream that ends without `end` was cut (the server ends every answer after `request_timeout_s`, 90 s by default): open it
again. Browsers' `EventSource` cannot send a key: read it with `fetch`.

A completed job's `url` is a committed folder of Parquet parts, the bytes that `raysynth run` gives for that model, seed,
condition and `rows_per_part`; `…/manifest` lists the files with their hashes. Who sees a job is its key alone. `…/cancel` stops
a running one; of a cancellation and a completion at once the first counts, and the other is told with 409.

## Errors
Every error of raysynth is `application/problem+json` (RFC 9457): `title`, `status`, `detail` (what was wrong, what is allowed)
and `request_id`. An answer in plain text comes from Ray Serve, or from what stands before it: 408 when `request_timeout_s` is
over, 500 when a replica was lost, 503 when there is none, 429 when too many requests wait for one.

| status | what it says |
|---|---|"""

_STATUSES: Mapping[int, str] = {
    400: "the body is no JSON, or a header is malformed",
    401: "no key, a wrong or a revoked one",
    404: "no such model, job (of this key) or path; or the server writes no jobs",
    405: "not this method; `Allow` says which",
    406: "`Accept` allows none of the five formats",
    408: "the first rows were not made within `timeout_seconds`: ask for fewer, or start a job. Later, the answer is cut",
    409: "the job has ended otherwise, or has not ended yet",
    413: "more rows than `max_rows` (start a job), or a body above `max_body_bytes`",
    415: "`Content-Type` is not `application/json`",
    422: "what was asked does not fit: a field, a column, a value, `where` and the rules together, a job beyond the key's quota",
    429: "too many requests or rows at once, or jobs of this key; `Retry-After` says when to try again",
    500: "a fault; the server's log has the request id",
    503: "no model is published: try again later",
}

_MEANINGS: Mapping[str, str] = {
    "*.id": "of the model: the recipe's name",
    "*.digest": "of the model",
    "*.seed": "of the rows",
    "*.where": "the condition of the rows",
    "*.rows": "how many",
    "*.model": "a model's id",
    "*.url": "where it lies",
    "*.bytes": "its size",
    "*.sha256": "its hash",
    "Alive.status": "what was asked for holds",
    "AskJob.seed": "left out, one is drawn and told",
    "Job.id": "20 hexadecimal digits",
    "Job.rows_per_part": "of each file but the last",
    "Job.status": "running, or how it ended",
    "Job.parts": "how many files it will be",
    "Job.parts_done": "how many are written",
    "Job.rows_done": "how many are written",
    "Job.created": "when it was asked for (UTC)",
    "Job.detail": "why it failed",
    "Job.url": "the folder of the data, once completed",
    "JobFile.part": "its number",
    "JobFile.name": "below the job's `url`",
    "JobFiles.files": "in order of part",
    "Jobs.jobs": "of this key, the newest first",
    "ModelCard.seed": "of the published data set",
    "ModelCard.rules": "expressions that every row obeys",
    "ModelCard.where": "the condition of the published data set",
    "ModelCard.rows": "of the published data set",
    "ModelCard.schema": "name, kind, Arrow type, nullable, derived of each column",
    "ModelCard.profile": "per column a histogram of the real rows",
    "ModelCard.scores": "each with worst, best and ceiling: see [trust](trust.md)",
    "ModelCard.gates": "each with whether it holds",
    "ModelCard.forced": "published although a gate failed",
    "ModelCard.provenance": "the run, its folders, versions",
    "ModelEntry.rows": "of the published data set",
    "ModelEntry.published": "always true: others are not served",
    "Models.models": "all of this server",
    "Problem.type": "always `about:blank`",
    "Problem.title": "the status in words",
    "Problem.status": "as in the answer's first line",
    "Problem.detail": "what was wrong, and what is allowed",
    "Problem.request_id": "to find it in the log",
    "Sample.offset": "the number of the first row",
    "Sample.columns": "names, in order",
    "Sample.rows": "each a list of values",
    "{id}": "of a model",
    "{job}": "of a job: 20 hexadecimal digits",
    "idempotency-key": "a word of yours for this job; visible ASCII",
}
"""What OpenAPI does not say. `*` is any body."""

_EXAMPLES: Sequence[tuple[str, pa.DataType, Any]] = (
    ("text", pa.string(), 'a "b"'),
    ("text, a formula", pa.string(), "=1+1"),
    ("integer", pa.int64(), -8),
    ("number", pa.float64(), 0.1),
    ("number, not finite", pa.float64(), float("nan")),
    ("number, not finite", pa.float64(), float("-inf")),
    ("decimal", pa.decimal128(9, 2), Decimal("12.50")),
    ("boolean", pa.bool_(), True),
    ("date", pa.date32(), date(2013, 6, 1)),
    ("time", pa.time64("us"), time(13, 5)),
    ("datetime", pa.timestamp("us"), datetime(2013, 6, 1, 13, 5)),
    ("datetime of a zone", pa.timestamp("ms", "America/New_York"), datetime(2013, 6, 1, 17, 5, tzinfo=UTC)),
    ("duration", pa.duration("us"), timedelta(seconds=90)),
    ("turns", TURNS, [{"role": "user", "content": "Hi"}]),
    ("image", IMAGE, {"bytes": b"\x89PNG\r\n", "path": None}),
    ("null", pa.int64(), None),
)


def http_reference(openapi: Facts) -> str:
    """docs/http.md."""
    return "\n".join(
        [
            _BEGINNING,
            "",
            *_routes(openapi),
            "",
            _SAMPLES,
            "",
            *_formats(),
            "",
            _AFTER_FORMATS,
            *(f"| {status} | {meaning} |" for status, meaning in _STATUSES.items()),
            "",
            *_bodies(openapi),
            "",
        ]
    )


def settings_table() -> str:
    """Every setting of a server with its type, default and meaning, between the marks that docs/production.md has."""
    lines = [SETTINGS_BEGIN, "| setting | type | default | meaning |", "|---|---|---|---|"]
    properties = cast("dict[str, Facts]", Settings.model_json_schema()["properties"])
    for name, facts in properties.items():
        default = "required" if Settings.model_fields[name].is_required() else f"`{json.dumps(facts['default'])}`"
        meaning = facts.get("description") or {"max_body_bytes": "of one request; beyond it 413"}[name]
        lines.append(f"| `{name}` | {_type(facts)} | {default} | {meaning} |")
    return "\n".join([*lines, SETTINGS_END])


def _operations(openapi: Facts) -> Iterator[tuple[str, Facts]]:
    """(`POST /v1/jobs`, what it is), in the order in which the routes were made."""
    for path, methods in openapi["paths"].items():
        for method, facts in methods.items():
            yield f"{method.upper()} {path}", facts


def _routes(openapi: Facts) -> list[str]:
    lines = ["## Routes", "| route | what it does | body | answer | errors |", "|---|---|---|---|---|"]
    parameters: dict[str, str] = {}
    for route, facts in _operations(openapi):
        sent = _content(facts.get("requestBody", {}))
        answers = {int(status): answer for status, answer in facts["responses"].items()}
        given = " ".join(f"{status} {_content(answer) or '–'}" for status, answer in sorted(answers.items()) if status < 400)
        errors = ", ".join(str(status) for status in sorted(answers) if status >= 400)
        open_ = " No key." if facts.get("security") == [] else ""
        lines.append(f"| `{route}` | {facts['description']}{open_} | {sent or '–'} | {given} | {errors or '–'} |")
        for found in facts.get("parameters", ()):
            name = f"{{{found['name']}}}" if found["in"] == "path" else found["name"]
            parameters[name] = f"| `{name}` | {found['in']} | {_type(found['schema'])} | {_MEANINGS[name]} |"
    lines += ["", "Any route may answer 405 to another method, and 500.", ""]
    return [*lines, "| parameter | in | type | meaning |", "|---|---|---|---|", *parameters.values()]


def _content(facts: Facts) -> str:
    """The body of a request or an answer: links to what stands under Bodies, or media types."""
    named = [_type(content["schema"]) for content in facts.get("content", {}).values() if content.get("schema")]
    bare = [media for media, content in facts.get("content", {}).items() if not content.get("schema")]
    if named and bare:
        return f"{named[0]}, or another of the [formats](#formats)"
    return ", ".join(named or [f"`{media}`" for media in bare])


def _bodies(openapi: Facts) -> list[str]:
    lines = ["## Bodies", "What is sent has no other fields; what is answered may get more."]
    known = cast("dict[str, Facts]", openapi["components"]["schemas"])
    for name in (name for name in known if "HTTP" not in name and name != "ValidationError"):
        body = known[name]
        lines += ["", f"### {name}"]
        if "description" in body and "`" not in body["description"]:
            lines += [body["description"], ""]
        lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
        for field, facts in body["properties"].items():
            default = "required" if field in body.get("required", ()) else f"`{json.dumps(facts.get('default'))}`"
            meaning = facts.get("description") or _inner(facts) or _MEANINGS.get(f"{name}.{field}") or _MEANINGS[f"*.{field}"]
            lines.append(f"| `{field}` | {_type(facts)} | {default} | {meaning} |")
    return lines


def _inner(facts: Facts) -> str:
    """A field that may be null has its description with its other type."""
    return next((one["description"] for one in facts.get("anyOf", ()) if "description" in one), "")


def _type(facts: Facts) -> str:
    """`integer 1 to 100`, in words, of one JSON Schema."""
    if "$ref" in facts:
        name = facts["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in facts:
        kinds = list(dict.fromkeys(_type(one) for one in facts["anyOf"]))
        return "condition" if len(kinds) > 3 else " or ".join(kinds)
    if "enum" in facts:
        return ", ".join(f"`{one}`" for one in facts["enum"])
    if facts.get("type") == "array":
        items = facts.get("items", {})
        return f"list of {_type(items)}" if items else "list"
    if facts.get("type") == "object":
        return f"column → {_type(more)}" if isinstance(more := facts.get("additionalProperties"), dict) else "object"
    return ("text" if facts["type"] == "string" else str(facts["type"])) + _bounds(facts)


def _bounds(facts: Facts) -> str:
    low = facts.get("minimum", facts.get("minLength"))
    high = facts.get("maximum", facts.get("maxLength"))
    above = facts.get("exclusiveMinimum")
    unit = " characters" if "maxLength" in facts else ""
    if above is not None:
        return f" > {above:g}"
    if low is None:
        return ""
    return f" {low:g} to {_number(high)}{unit}" if high is not None else f" ≥ {low:g}"


def _number(value: float) -> str:
    return "2^53 - 1" if value == 2**53 - 1 else f"{int(value):,}"


def _formats() -> list[str]:
    """The same values in every format, as they are really written."""
    names = {"json": "JSON", "ndjson": "NDJSON", "csv": "CSV", "arrow": "Arrow", "parquet": "Parquet"}
    shapes = {
        "json": "one object: `model`, `digest`, `seed`, `offset`, `columns`, and `rows`, each a list",
        "ndjson": "an object a line",
        "csv": "RFC 4180 with line feeds, a header first",
        "arrow": "Arrow's IPC stream, a record batch per 4,096 rows at most",
        "parquet": "one file, the bytes of a part with these rows; it comes when its last row is made",
    }
    lines = ["| format | `Accept` | what comes |", "|---|---|---|"]
    lines += [f"| {names[format]} | `{media}` | {shapes[format]} |" for format, media in formats.FORMATS.items()]
    lines += ["", "| value | JSON, NDJSON | CSV | Arrow | Parquet |", "|---|---|---|---|---|"]
    for name, type, value in _EXAMPLES:
        table = pa.table({"x": pa.array([value], type)})
        line, cell = (_written(format, table).decode().removesuffix("\n") for format in ("ndjson", "csv"))
        shown = line.removeprefix('{"x":').removesuffix("}")
        stored = pq.read_schema(pa.BufferReader(_written("parquet", table))).field("x").type
        kinds = ["null", "null"] if value is None else [str(type), str(stored)]
        lines.append(f"| {name} | `{shown}` | {f'`{cell}`' if cell else 'nothing'} | {kinds[0]} | {kinds[1]} |")
    return lines


def _written(format: str, table: pa.Table) -> bytes:
    data = b"".join(formats.encode(format, table.schema, [table]))
    return data.partition(b"\n")[2] if format == "csv" else data
