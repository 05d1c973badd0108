"""The real application under schemathesis, and under requests that nobody would send: no answer fails, none is undocumented, every error is
a problem, nothing is told without a key, and what was planted as a secret is told to nobody.

Jobs are made here by a thread instead of Ray's replicas, through the same store, so that some complete while others are asked.
"""

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from silent import SilentMeters
from starlette.types import Message, Receive, Scope, Send

from raysynth.errors import RaysynthError
from raysynth.formats import FORMATS
from raysynth.keys import Key, Keyring
from raysynth.serving.api import PROBLEM, AskJob, Job, unprocessable
from raysynth.serving.jobs import JobCancelledError, JobStore, Record, job_id, job_sampler, record_of
from raysynth.serving.local import serve
from raysynth.serving.registry import Published, Registry, Served
from raysynth.serving.routes import OPEN_PATHS, make_app
from raysynth.serving.service import Service
from raysynth.serving.settings import Settings, read_settings

SEED = 7
SECRET = "planted-secret-4c1f"
PLANTED = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAYSYNTH_KEY")
COLUMNS = ("grade", "price", "stock", "day", "seen", "sold", "dear")
MOST_JOB_ROWS = 300
PLACES = {"id": "shop", "job": "0123456789abcdef0123"}
FEW = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Headers = Sequence[tuple[bytes, bytes]]
Answer = tuple[int, dict[str, str], bytes]


class Log(logging.Handler):
    """All that is logged, tracebacks too."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Shop:
    """The application with a key and jobs, in this process. `faults`: answers that break a law that holds for all of them."""

    def __init__(self, run: str, folder: Path, log: Log) -> None:
        self.keyring = Keyring(str(folder / "keys.json"))
        self.token = self.keyring.new("fuzz", max_job_rows=MOST_JOB_ROWS)[1]
        self.jobs, self.log = JobStore(str(folder / "jobs")), log
        self.faults: list[str] = []
        self.statuses: Counter[int] = Counter()
        self._loaded: dict[str, Served] = {}
        self._maker = ThreadPoolExecutor(1)
        asked = Settings.model_validate({"runs": (run,), "max_rows": 2000, "timeout_seconds": 5, "refresh_seconds": 3600})
        self.service = Service(asked, Registry(asked.runs, asked.refresh_seconds), self._load, SilentMeters())
        self._app = make_app(self.service, self.jobs, self._start_job, self.keyring.checked)
        self.paths: dict[str, Any] = json.loads(self.ask("GET", "/openapi.json")[2])["paths"]

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, watched."""
        told: list[Message] = []

        async def seen(message: Message) -> None:
            told.append(message)
            await send(message)

        await self._app(scope, receive, seen)
        if scope["type"] == "http":
            self._judge(f"{scope['method']} {scope['path']}", _answer(told))

    def ask(self, method: str, path: str, headers: Headers | None = None, body: bytes = b"", query: bytes = b"") -> Answer:
        """A request as no client would mend it; without `headers` with the key."""
        return asyncio.run(_asked(self, method, path, self.key if headers is None else headers, body, query))

    @property
    def key(self) -> Headers:
        return [(b"authorization", f"Bearer {self.token}".encode())]

    def documented(self, method: str, template: str) -> set[int]:
        return {int(status) for status in self.paths[template][method.lower()]["responses"]}

    def check(self, asked: object = None) -> None:
        """`asked`: what is told of a fault; importing schemathesis keeps Hypothesis from telling its examples."""
        faults, self.faults = self.faults, []
        assert not faults, f"{asked!r}: " + "\n".join(faults)
        for secret in (SECRET, self.token):
            assert not [line for line in self.log.lines if secret in line]

    def end(self) -> None:
        self._maker.shutdown(cancel_futures=True)

    def _judge(self, asked: str, answer: Answer) -> None:
        status, headers, body = answer
        self.statuses[status] += 1
        whole = repr(headers) + body.decode("latin-1")
        if SECRET in whole or self.token in whole:
            self.faults.append(f"{asked}: {status} tells a secret")
        if status >= 500:
            self.faults.append(f"{asked}: {status}")
        if not headers.get("x-request-id"):
            self.faults.append(f"{asked}: {status} has no request id")
        if status >= 400:
            told = json.loads(body) if headers.get("content-type") == PROBLEM else {}
            if told.get("status") != status or told.get("request_id") != headers.get("x-request-id"):
                self.faults.append(f"{asked}: {status} is no problem: {body[:200]!r}")

    async def _load(self, published: Published) -> Served:
        if published.key not in self._loaded:
            self._loaded[published.key] = await asyncio.to_thread(Served, published)
        return self._loaded[published.key]

    async def _start_job(self, key: Key, idempotency_key: str, ask: AskJob) -> tuple[Job, bool]:
        served = await self.service.served(ask.model)
        if ask.rows > key.max_job_rows:
            raise unprocessable(f"rows: {ask.rows}, and this key's jobs have at most {key.max_job_rows}")
        id = job_id(key.id, idempotency_key)
        try:
            record = record_of(ask, served, id=id, owner=key.id, created="2026-01-01T00:00:00", drawn_seed=SEED)
        except RaysynthError as error:
            raise unprocessable(str(error)) from None
        record, new = self.jobs.add(record)
        if new:
            self._maker.submit(self._make, record)
        return self.jobs.told(record), new

    def _make(self, record: Record) -> None:
        try:
            time.sleep(0.05)  # so that some are still running when they are cancelled
            sampler = job_sampler(record)
            for parts in self.jobs.tasks(record, 1):
                self.jobs.make(record, sampler, parts)
            self.jobs.finish(record)
        except JobCancelledError:
            return
        except RaysynthError as error:
            self.jobs.end(record, "failed", {"detail": str(error)})


def _answer(told: Sequence[Message]) -> Answer:
    """What was sent → status, headers, body; of what was sent twice the header that comes last."""
    begun = told[0]
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in begun["headers"]}
    return begun["status"], headers, b"".join(message.get("body", b"") for message in told[1:])


async def _asked(shop: Shop, method: str, path: str, headers: Headers, body: bytes, query: bytes) -> Answer:
    told: list[Message] = []
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()  # nobody hangs up
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        told.append(message)

    scope: Scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method}
    scope |= {"scheme": "http", "path": path, "raw_path": path.encode(errors="replace"), "root_path": "", "query_string": query}
    await shop.app({**scope, "headers": list(headers)}, receive, send)
    return _answer(told)


@pytest.fixture(scope="module")
def log() -> Iterator[Log]:
    handler, root = Log(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.fixture(scope="module")
def shop(published_run: str, tmp_path_factory: pytest.TempPathFactory, log: Log) -> Iterator[Shop]:
    with pytest.MonkeyPatch.context() as patch:
        for name in PLANTED:
            patch.setenv(name, SECRET)
        patch.setattr("raysynth.serving.routes.EVENT_SECONDS", 0.05)  # else most of the time goes by between two events
        made = Shop(published_run, tmp_path_factory.mktemp("shop"), log)
        yield made
        made.end()


# By the description


def within_reach(context: object, description: dict[str, Any]) -> None:
    """Without it, that a job is ever started hangs on luck: no text that comes to mind is the name of the model."""
    asked = description["components"]["schemas"]["AskJob"]["properties"]
    asked["model"]["enum"] = ["shop", "bakery"]
    asked["rows"]["maximum"] = MOST_JOB_ROWS + 1


def test_schemathesis_finds_nothing(shop: Shop) -> None:
    """Every operation by its schema and against it, then chains of operations, such as a job that is started, watched and cancelled."""
    key = {"Authorization": f"Bearer {shop.token}"}
    config = SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "headers": key,
            "continue-on-failure": True,
            "generation": {"deterministic": True, "max-examples": 60, "database": "none"},
            "phases": {"stateful": {"max-steps": 10}},
            # most of what a schema allows fits no published model: a column that it does not have, more rows than may be asked for
            # and a body that is too large is refused before its schema is looked at
            "checks": {
                "positive_data_acceptance": {"enabled": False},
                "negative_data_rejection": {"expected-statuses": [400, 401, 404, 405, 409, 413, 415, 422]},
            },
        }
    )
    schemathesis.hook("before_load_schema")(within_reach)
    try:
        described = schemathesis.openapi.from_asgi("/openapi.json", shop.app, config=config, headers=key)
    finally:
        schemathesis.hooks.unregister_all()
    failures: list[str] = []
    operations: set[str] = set()
    for event in from_schema(described).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            error = event.value if isinstance(event, events.NonFatalError) else event.exception
            raise AssertionError(f"schemathesis itself ended with {error!r}") from error
        if isinstance(event, events.ScenarioFinished):
            operations |= {node.value.operation.label for node in event.recorder.cases.values()}
            failures += [
                f"{event.phase.value}: {check.name}: {check.failure_info.failure.message}\n{check.failure_info.code_sample}"
                for checks in event.recorder.checks.values()
                for check in checks
                if check.failure_info is not None
            ]
    shop.check()
    assert not failures, "\n\n".join(failures[:10])
    assert len(operations) == sum(len(methods) for methods in shop.paths.values())
    assert {200, 202, 400, 401, 404, 405, 409, 413, 415, 422} <= set(shop.statuses)
    records = shop.jobs.records(shop.keyring.list()[0].id)
    endings = {outcome[0] for record in records if (outcome := shop.jobs.outcome(record))}
    assert "completed" in endings  # the manifest of one could be asked for; whether one was cancelled in time is chance


# By hand


texts = st.text(st.characters(), max_size=12)  # halves of surrogate pairs too
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.sampled_from(
        ["plain", "=1+1", "2024-02-30", "2024-03-01", "9999-12-31", "0001-01-01", "2024-01-05T00:00:00+02:00", "1e999", "0x10", ""]
    ),
    st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "2024-01-05T24:00:00", "-0001-01-01"]),
)
bounds = st.dictionaries(st.sampled_from(["min", "max", "over", "under"]), scalars, max_size=3)
wheres = st.dictionaries(st.sampled_from(COLUMNS) | texts, scalars | st.lists(scalars, max_size=3) | bounds, max_size=3)


@given(where=wheres, columns=st.none() | st.lists(st.sampled_from(COLUMNS) | texts, max_size=4), format=st.sampled_from([*FORMATS]))
@example(where={"seen": {"min": "0001-01-01T00:00:00+14:00"}}, columns=None, format="json")
@example(where={"grade": ["\ud800", None]}, columns=None, format="csv")
@example(where={}, columns=["\ud800"], format="arrow")
@FEW
def test_any_condition_on_real_columns_is_met_or_refused(
    shop: Shop, where: Mapping[str, Any], columns: Sequence[str] | None, format: str
) -> None:
    asked = {"rows": 3, "seed": SEED, "where": where, "columns": columns}
    headers = [*shop.key, (b"content-type", b"application/json"), (b"accept", FORMATS[format].encode())]
    status, _, body = shop.ask("POST", "/v1/models/shop/sample", headers, json.dumps(asked).encode())
    shop.check(asked)
    assert status in (200, 408, 422), (asked, body)


routes = st.sampled_from(
    [
        ("POST", "/v1/models/{id}/sample"),
        ("POST", "/v1/jobs"),
        ("POST", "/v1/jobs/{job}/cancel"),
        ("GET", "/v1/jobs/{job}/events"),
        ("GET", "/v1/models/{id}"),
        ("GET", "/v1/jobs"),
    ]
)
lines = st.binary(max_size=30).filter(lambda line: not {0, 10, 13} & set(line))  # whatever a server lets through
names = st.sampled_from([b"content-type", b"accept", b"idempotency-key", b"content-length", b"x-request-id", b"cookie", b"range"])
bodies = st.one_of(
    st.binary(max_size=40),
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)).map(
        lambda value: json.dumps(value).encode()
    ),
    st.sampled_from([b"[" * 20_000, b'{"rows": ' + b"9" * 5000 + b"}", b'{"rows": NaN}', b'{"rows":3,"rows":3}', b" " * 70_000]),
)


@given(route=routes, headers=st.lists(st.tuples(names, lines), max_size=4), body=bodies, query=lines, of_json=st.booleans())
@FEW
def test_any_header_and_body_gets_a_documented_answer(
    shop: Shop, route: tuple[str, str], headers: Headers, body: bytes, query: bytes, of_json: bool
) -> None:
    method, template = route
    more = [(b"content-type", b"application/json"), (b"idempotency-key", b"fuzz")] if of_json else []
    status, _, told = shop.ask(method, template.format(**PLACES), [*shop.key, *more, *headers], body, query)
    shop.check((route, headers, body))
    assert status in shop.documented(method, template), (route, headers, body, told)


# Without a key


methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "QUERY"]) | st.text(
    "ABCxyz-", min_size=1, max_size=8
)
steps = st.sampled_from(
    ["v1", "models", "shop", "sample", "jobs", "health", "live", "ready", "openapi.json", "docs", "..", ".", "", "%2e"]
)
paths = st.lists(steps | texts, min_size=1, max_size=5).map(lambda found: "/" + "/".join(found)) | texts
keys = st.none() | st.one_of(
    lines,
    lines.map(lambda line: b"Bearer " + line),
    st.sampled_from([b"Bearer", b"Bearer ", b"Bearer null", b"Basic cnM6cnM=", b"Bearer rs_" + b"A" * 43, b"bearer \xff"]),
)


@given(method=methods, path=paths, key=keys, query=lines)
@example(method="GET", path="/v1/models", key=None, query=b"")
@example(method="GET", path="/health/live/", key=None, query=b"")
@example(method="GET", path="//health/live", key=None, query=b"")
@example(method="GET", path="/health/live/../../v1/models", key=None, query=b"")
@FEW
def test_without_a_key_every_path_and_method_is_a_401(shop: Shop, method: str, path: str, key: bytes | None, query: bytes) -> None:
    headers = [(b"authorization", key)] if key is not None else []
    status, told, _ = shop.ask(method, path, headers, query=query)
    shop.check((method, path, key))
    if path not in OPEN_PATHS:
        assert status == 401 and told["www-authenticate"] == "Bearer", (method, path, key)


def test_without_a_key_every_operation_is_a_401(shop: Shop) -> None:
    for template, operations in shop.paths.items():
        for method in operations:
            status, _, _ = shop.ask(method.upper(), template.format(**PLACES), [])
            assert status == (200 if template in OPEN_PATHS else 401), template


# What was planted


@pytest.mark.parametrize(
    "planted",
    [
        {"max_rows": SECRET},
        {"password": SECRET},
        {"jobs": [SECRET]},
        {"jobs": f"s3://user:{SECRET}@bucket/jobs"},
        {"jobs": f"s3://bucket/jobs?secret_access_key={SECRET}"},
        {"keys": f"https://user:{SECRET}@localhost/keys.json"},
        {"runs": [f"s3://user:{SECRET}@bucket/run"]},
    ],
    ids=lambda planted: "-".join(planted),
)
def test_a_secret_in_the_settings_is_not_repeated(
    published_run: str, tmp_path: Path, log: Log, planted: Mapping[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(json.dumps({"runs": [published_run], **planted}))
    with pytest.raises(RaysynthError) as refused:
        serve(read_settings(path, {}), host="127.0.0.1", port=0, haproxy=False)
    told = capfd.readouterr()
    for text in (str(refused.value), told.out, told.err, *log.lines):
        assert SECRET not in text, text


def test_what_was_planted_lies_in_no_file_of_a_job(shop: Shop) -> None:
    headers = [*shop.key, (b"content-type", b"application/json"), (b"idempotency-key", b"files")]
    assert shop.ask("POST", "/v1/jobs", headers, b'{"model": "shop", "rows": 20}')[0] == 202
    files = [file for file in Path(shop.jobs.url.removeprefix("file://")).rglob("*") if file.is_file()]
    assert files
    for file in files:
        data = file.read_bytes()
        assert SECRET.encode() not in data and shop.token.encode() not in data
