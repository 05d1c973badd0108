"""A service and the store of its jobs → the ASGI application: routes, formats and statuses of docs/http.md, behind the guard."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Annotated, Any

import pyarrow as pa
from fastapi import Depends, FastAPI, Header, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from raysynth import formats
from raysynth.errors import RaysynthError
from raysynth.keys import Key
from raysynth.serving.api import (
    INTERNAL,
    PROBLEM,
    TITLES,
    Alive,
    Ask,
    AskJob,
    HttpError,
    Job,
    JobFiles,
    Jobs,
    ModelCard,
    ModelEntry,
    Models,
    Problem,
    Sample,
    not_found,
    problem,
)
from raysynth.serving.guard import CheckKey, Guard
from raysynth.serving.jobs import JobStore, Record
from raysynth.serving.service import Admitted, Service

PAGE = files("raysynth.serving") / "page"
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
ASSETS = {
    item.name: TYPES[f".{item.name.rpartition('.')[2]}"] for item in PAGE.iterdir() if f".{item.name.rpartition('.')[2]}" in TYPES
}
OPEN_PATHS = frozenset({"/", "/health/live", "/health/ready", *(f"/{name}" for name in ASSETS)})
EVENT_SECONDS, HEARTBEAT_SECONDS = 1.0, 15.0
IdempotencyKey = Annotated[str, Header(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
ModelId = Annotated[str, Path(min_length=1, max_length=200)]
JobId = Annotated[str, Path(pattern=r"^[0-9a-f]{20}$")]
StartJob = Callable[[Key, str, AskJob], Awaitable[tuple[Job, bool]]]
"""(key, Idempotency-Key, what is asked) → the job, and whether it is new."""

_WHY = {
    400: "no JSON, or a broken header",
    401: "no valid key",
    404: "no such thing",
    405: "not this method",
    406: "no such format",
    408: "it took too long",
    409: "it has ended, or not yet",
    413: "too large",
    415: "not application/json",
    422: "what was asked does not fit",
    429: "too much at once: try again later",
    503: "not ready: try again later",
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Those that every operation behind the key has, and these."""
    return _open_errors(401, 429, 503, *statuses)


def _open_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"description": _WHY[status], "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        for status in sorted({400, 413, *statuses})
    }


def _json_only(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HttpError(415, "Unsupported media type", "content-type: must be application/json")


def make_app(
    service: Service, jobs: JobStore | None, start_job: StartJob, check_key: CheckKey, *, tells_id: bool = True
) -> ASGIApp:
    """`jobs` None: the server writes no jobs, and says so. `tells_id`: see Guard."""
    app = FastAPI(title="raysynth", version="1", docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.openapi = lambda: _described(app)
    _add_errors(app)
    _add_page(app)
    _add_models(app, service)
    _add_sample(app, service)
    _add_jobs(app, jobs, start_job)
    settings = service.settings
    return Guard(
        app,
        open_paths=OPEN_PATHS,
        check=check_key,
        max_requests=settings.max_requests,
        max_body_bytes=settings.max_body_bytes,
        meter=service.meters,
        tells_id=tells_id,
    )


def _described(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        parts = schema.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"key": []}]
        for path, methods in schema["paths"].items():
            for method in methods.values():
                if path in OPEN_PATHS:
                    method["security"] = []
        app.openapi_schema = schema
    return app.openapi_schema


def _add_errors(app: FastAPI) -> None:
    """Every error is a problem; HttpError goes up to the guard as it is."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:  # pyright: ignore[reportUnusedFunction]
        found = error.errors()
        if any(one["type"] == "json_invalid" for one in found):
            return _problem(request, 400, "Bad request", "the body is not JSON")
        told = "; ".join(dict.fromkeys(map(_told, found[:20])))
        return _problem(request, 422, "Unprocessable content", told)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:  # pyright: ignore[reportUnusedFunction]
        title = TITLES.get(error.status_code, str(error.detail))
        headers = {"allow": _allowed(app, request)} if error.status_code == 405 else error.headers
        return _problem(request, error.status_code, title, str(error.detail), headers)

    @app.exception_handler(HttpError)
    async def answered(request: Request, error: HttpError) -> Response:  # pyright: ignore[reportUnusedFunction]
        retry = {} if error.retry_after_seconds is None else {"retry-after": str(error.retry_after_seconds)}
        return _problem(request, error.status, error.title, str(error), retry)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Starlette raises the error again: the guard logs it."""
        return _problem(request, 500, INTERNAL.title, str(INTERNAL))


def _allowed(app: FastAPI, request: Request) -> str:
    """The methods of all routes of this path; the router's own header names those of the first (RFC 9110, section 15.5.6)."""
    there = (route for route in app.routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE)
    return ", ".join(sorted({method for route in there for method in route.methods or ()}))


def _told(error: Mapping[str, Any]) -> str:
    """`rows: must be …`; of a condition, which may be many things, one sentence instead of one for each."""
    steps = [str(step) for step in error["loc"][1:]] or [str(error["loc"][0])]
    if steps[0] == "where" and len(steps) > 1:
        return (
            f"where.{steps[1]}: must be a value, a list of values, a range with min or over and max or under, {{starts: …}}, which "
            "takes a text of 1 to 10,000 characters, or {shares: …}, which takes equal, as_is, or each value with its share"
        )
    return f"{'.'.join(steps)}: {error['msg']}"


def _problem(request: Request, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """In ASCII: a detail may repeat what was asked, and JSON can say what UTF-8 cannot."""
    body = json.dumps(problem(status, title, detail, request.state.request_id))
    return Response(body, status, media_type=PROBLEM, headers=dict(headers or {}))


def _add_page(app: FastAPI) -> None:
    def asset(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
        data = (PAGE / name).read_bytes()

        async def read() -> Response:
            return Response(data, media_type=kind)

        return read

    for name, kind in ASSETS.items():
        app.get(f"/{name}", include_in_schema=False)(asset(name, kind))
    if "index.html" in ASSETS:
        app.get("/", include_in_schema=False)(asset("index.html", ASSETS["index.html"]))


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/health/live", responses=_open_errors())
    async def live() -> Alive:  # pyright: ignore[reportUnusedFunction]
        """The process answers."""
        return Alive(status="live")

    @app.get("/health/ready", responses=_open_errors(503))
    async def ready() -> Alive:  # pyright: ignore[reportUnusedFunction]
        """There is a model to sample."""
        if not await service.models():
            raise HttpError(503, "Not ready", "no run has published a model", retry_after_seconds=5)
        return Alive(status="ready")

    @app.get("/v1/models", responses=_errors())
    async def models() -> Models:  # pyright: ignore[reportUnusedFunction]
        """The published models."""
        found = (await service.models()).values()
        return Models(models=[ModelEntry(id=one.id, digest=one.digest, rows=one.rows, published=True) for one in found])

    @app.get("/v1/models/{id}", responses=_errors(404, 422))
    async def model(id: ModelId) -> ModelCard:  # pyright: ignore[reportUnusedFunction]
        """A model's card: its columns, how they are distributed, scores beside their ceilings, gates, where it comes from."""
        return ModelCard.model_validate((await service.served(id)).card)


def _add_sample(app: FastAPI, service: Service) -> None:
    content = {media: {} for name, media in formats.FORMATS.items() if name != "json"}

    @app.post(
        "/v1/models/{id}/sample",
        dependencies=[Depends(_json_only)],
        response_model=Sample,
        responses={200: {"content": content}, **_errors(404, 406, 408, 415, 422)},
    )
    async def sample(id: ModelId, ask: Ask, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Rows of a model, in the format that Accept asks for. The same seed and offset give the same rows."""
        format = formats.negotiate(request.headers.get("accept"))
        if format is None:
            raise HttpError(406, "Not acceptable", f"accept: must allow one of {', '.join(formats.FORMATS.values())}")
        admitted = await service.admit(id, ask)
        tables = service.tables(admitted)
        first = await anext(tables)  # whatever can be refused is, before the answer begins
        headers = {
            "x-raysynth-seed": str(admitted.seed),
            "x-raysynth-digest": admitted.served.model.digest,
            "x-raysynth-rows": str(admitted.rows),
        }
        body = _encoded(service, admitted, format, first, tables)
        return StreamingResponse(body, media_type=formats.FORMATS[format], headers=headers)


async def _encoded(
    service: Service, admitted: Admitted, format: str, first: pa.Table, rest: AsyncIterator[pa.Table]
) -> AsyncGenerator[bytes]:
    head = {
        "model": admitted.served.published.id,
        "digest": admitted.served.model.digest,
        "seed": admitted.seed,
        "offset": admitted.offset,
    }
    writer = formats.writer(format, admitted.schema, head)

    def timed(table: pa.Table) -> bytes:
        began = time.monotonic()
        data = writer.rows(table)
        service.meters.encoded(format, table.num_rows, time.monotonic() - began)
        return data

    try:
        yield writer.begin() + timed(first)
        async for table in rest:
            yield timed(table)
        yield writer.end()
    finally:
        await rest.aclose()  # pyright: ignore[reportAttributeAccessIssue] (who hangs up stops the sampling)


def _add_jobs(app: FastAPI, jobs: JobStore | None, start_job: StartJob) -> None:
    def store() -> JobStore:
        if jobs is None:
            raise not_found("this server writes no jobs. Start it with --jobs URL")
        return jobs

    def owner(request: Request) -> str:
        key: Key = request.state.key
        return key.id

    async def record_of(job: str, request: Request) -> Record:
        return await asyncio.to_thread(store().find, job, owner(request))

    @app.post(
        "/v1/jobs",
        status_code=202,
        dependencies=[Depends(_json_only)],
        responses={
            200: {"model": Job, "description": "it was asked before, under the same key"},
            **_errors(404, 415, 422),
        },
    )
    async def start(ask: AskJob, request: Request, response: Response, idempotency_key: IdempotencyKey) -> Job:  # pyright: ignore[reportUnusedFunction]
        """Start a job. The same Idempotency-Key and body are the same job."""
        store()
        job, new = await start_job(request.state.key, idempotency_key, ask)
        response.status_code = 202 if new else 200
        response.headers["location"] = f"/v1/jobs/{job.id}"
        return job

    @app.get("/v1/jobs", responses=_errors(404))
    async def own(request: Request) -> Jobs:  # pyright: ignore[reportUnusedFunction]
        """The key's own jobs, the newest first."""

        def told() -> list[Job]:
            records = sorted(store().records(owner(request)), key=lambda record: record.created, reverse=True)
            return [store().told(record) for record in records]

        return Jobs(jobs=await asyncio.to_thread(told))

    @app.get("/v1/jobs/{job}", responses=_errors(404, 422))
    async def one(job: JobId, request: Request) -> Job:  # pyright: ignore[reportUnusedFunction]
        """How a job goes."""
        record = await record_of(job, request)
        return await asyncio.to_thread(store().told, record)

    @app.get(
        "/v1/jobs/{job}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}, **_errors(404, 422)},
    )
    async def events(job: JobId, request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Server-sent events: `progress` at every change, `end` as the last one."""
        record = await record_of(job, request)
        return StreamingResponse(_events(store(), record), media_type="text/event-stream")

    @app.get("/v1/jobs/{job}/manifest", responses=_errors(404, 409, 422))
    async def manifest(job: JobId, request: Request) -> JobFiles:  # pyright: ignore[reportUnusedFunction]
        """The files of a completed job."""
        record = await record_of(job, request)
        return await asyncio.to_thread(store().files, record)

    @app.post("/v1/jobs/{job}/cancel", responses=_errors(404, 409, 422))
    async def cancel(job: JobId, request: Request) -> Job:  # pyright: ignore[reportUnusedFunction]
        """Stop a job. Of a cancellation and a completion at once, the first counts."""
        record = await record_of(job, request)
        return await asyncio.to_thread(store().cancel, record)


async def _events(store: JobStore, record: Record) -> AsyncGenerator[bytes]:
    told: Job | None = None
    said = time.monotonic()
    while True:
        try:
            now = await asyncio.to_thread(store.told, record)
        except (RaysynthError, OSError):  # the store may hiccup: the next look tells
            now = told
        if now is not None and now.status != "running":
            yield _event("end", now)
            return
        if now is not None and now != told:
            yield _event("progress", now)
            told, said = now, time.monotonic()
        elif time.monotonic() - said > HEARTBEAT_SECONDS:
            yield b": still here\n\n"
            said = time.monotonic()
        await asyncio.sleep(EVENT_SECONDS)


def _event(name: str, job: Job) -> bytes:
    return f"event: {name}\ndata: {json.dumps(job.model_dump())}\n\n".encode()
