"""What goes over HTTP: the bodies of requests and answers, and problems (RFC 9457)."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from raysynth.errors import RaysynthError

PROBLEM = "application/problem+json"
MOST_ROW_NUMBER = 2**53 - 1  # JavaScript's largest whole number; a data set of so many rows is not to be had
SEED = Field(
    ge=0,
    le=MOST_ROW_NUMBER,
    strict=True,
    description="the same seed and offset give the same rows; left out, one is drawn and told",
)


def _of_characters(where: dict[str, Any]) -> dict[str, Any]:
    """JSON can say half of a surrogate pair (RFC 8259, section 8.2), and no UTF-8 can."""
    try:
        json.dumps(where, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no character") from None
    return where


Number = int | Annotated[float, Field(allow_inf_nan=False)]
Scalar = bool | Number | str | None
Bounds = Annotated[
    dict[Literal["min", "max", "over", "under"], Number | str], Field(min_length=1, max_length=2, description="a range")
]
Beginning = Annotated[
    dict[Literal["starts"], Annotated[str, Field(min_length=1, max_length=10_000)]],
    Field(min_length=1, max_length=1, description="how a text begins"),
]
MOST_SHARES = 64  # each costs its own draws before the first row is there
Share = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Dealt = Annotated[
    dict[
        Literal["shares"],
        Literal["equal", "as_is"] | Annotated[dict[str, Share], Field(min_length=1, max_length=MOST_SHARES)],
    ],
    Field(min_length=1, max_length=1, description="each value's share of the rows"),
]
Where = Annotated[
    dict[str, Scalar | Annotated[list[Scalar], Field(min_length=1, max_length=1000)] | Bounds | Beginning | Dealt],
    Field(
        max_length=100,
        description="column → a value, a list of values, a range, how a text begins, or the share of each value; null is a value",
    ),
    AfterValidator(_of_characters),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ask(_Body):
    """A sample of a model's rows."""

    rows: int = Field(100, ge=1, le=MOST_ROW_NUMBER, strict=True)
    seed: Annotated[int, SEED] | None = None
    offset: int = Field(0, ge=0, le=MOST_ROW_NUMBER, strict=True, description="the number of the first row")
    where: Where | None = Field(None, description="left out: the condition of the published data set, if it has one")
    columns: Annotated[list[str], Field(min_length=1, max_length=10_000)] | None = Field(None, description="left out: all")


class AskJob(_Body):
    """A data set of any size, written into the store that the server is set up with."""

    model: str = Field(min_length=1, max_length=200)
    rows: int = Field(ge=1, le=MOST_ROW_NUMBER, strict=True)
    seed: Annotated[int, SEED] | None = None
    where: Where | None = None
    rows_per_part: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] | None = Field(
        None, description="left out: about 128 MiB"
    )


class Alive(_Body):
    status: Literal["live", "ready"]


class ModelEntry(_Body):
    id: str
    digest: str
    rows: int
    published: bool


class Models(_Body):
    models: list[ModelEntry]


class ModelCard(_Body):
    id: str
    digest: str
    seed: int
    rules: list[str]
    where: dict[str, Any]
    rows: int
    schema_: list[dict[str, Any]] = Field(alias="schema")
    profile: dict[str, Any]
    scores: list[dict[str, Any]]
    gates: list[dict[str, Any]]
    forced: bool
    provenance: dict[str, Any]


class Sample(_Body):
    model: str
    digest: str
    seed: int
    offset: int
    columns: list[str]
    rows: list[list[Any]]


JobStatus = Literal["running", "completed", "cancelled", "failed"]


class Job(_Body):
    """`url`: the folder of the data, once they are complete. `detail`: why it failed."""

    id: str
    model: str
    digest: str
    seed: int
    where: dict[str, Any]
    rows: int
    rows_per_part: int
    status: JobStatus
    parts: int
    parts_done: int
    rows_done: int
    created: str
    detail: str = ""
    url: str | None = None


class Jobs(_Body):
    jobs: list[Job]


class JobFile(_Body):
    part: int
    name: str
    rows: int
    bytes: int
    sha256: str
    url: str


class JobFiles(_Body):
    files: list[JobFile]


class Problem(_Body):
    type: str
    title: str
    status: int
    detail: str
    request_id: str


class HttpError(RaysynthError):
    """An answer that is not what was asked for. `retry_after_seconds`: when it is worth another try."""

    def __init__(self, status: int, title: str, detail: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.title, self.retry_after_seconds = status, title, retry_after_seconds


TITLES = {400: "Bad request", 404: "Not found", 405: "Method not allowed", 408: "Request timeout", 413: "Content too large"}
INTERNAL = HttpError(500, "Internal error", "the server failed; its log has the request id")


def problem(status: int, title: str, detail: str, request_id: str) -> dict[str, Any]:
    return Problem(type="about:blank", title=title, status=status, detail=detail, request_id=request_id).model_dump()


def bad_request(detail: str) -> HttpError:
    return HttpError(400, "Bad request", detail)


def not_found(detail: str) -> HttpError:
    return HttpError(404, "Not found", detail)


def conflict(detail: str) -> HttpError:
    return HttpError(409, "Conflict", detail)


def unprocessable(detail: str) -> HttpError:
    return HttpError(422, "Unprocessable content", detail)


def too_many(detail: str, retry_after_seconds: int) -> HttpError:
    return HttpError(429, "Too many requests", detail, retry_after_seconds=retry_after_seconds)
