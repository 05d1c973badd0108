"""The client against a server on this machine that keeps the HTTP contract, and breaks it on demand."""

import json
import logging
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from raysynth import client as client_module
from raysynth import wire
from raysynth.cli import app
from raysynth.client import Client, Job, ServerError
from raysynth.commits import parquet_bytes
from raysynth.errors import RecipeError, StoppedError
from raysynth.formats import FORMATS, decode, writer

KEY = "rs_Zk4cuQ3nmJtq"
PIECE_ROWS = 30
SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.string())])
Fault = Callable[["Handler"], bool]
"""True where it has answered, or broken the connection, itself."""


def rows_of(seed: int, offset: int, rows: int) -> pa.Table:
    """Row i is a function of the seed and i, as the contract says."""
    numbers = range(offset, offset + rows)
    return pa.table({"number": list(numbers), "text": [f"{seed}:{n}" for n in numbers]}, schema=SCHEMA)


class Server(ThreadingHTTPServer):
    """`faults`: what happens to the next requests, one each; `asked`: (method, path, headers, body) of all."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.faults: list[Fault | None] = []
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.max_rows = 1_000_000
        self.digest = "d1"
        self.job: dict[str, Any] = {"id": "j/1", "status": "running", "parts": 3, "parts_done": 0, "rows": 9}
        self.over = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up is part of the tests."""

    @property
    def samples(self) -> list[dict[str, Any]]:
        return [body for _, path, _, body in self.asked if path.endswith("/sample")]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"null"))

    def answer(self, body: Any) -> None:
        self.body = body
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        fault = self.server.faults.pop(0) if self.server.faults else None
        if fault is not None and fault(self):
            return
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self.problem(401, f"no such key: {self.headers.get('Authorization')}")
        elif self.path == "/v1/models":
            self.json(200, {"models": [{"id": "flights", "digest": "d1", "rows": 9, "published": True}]})
        elif self.path == "/v1/models/a%2Fb%20%3F":
            self.json(200, {"id": "a/b ?", "schema": []})
        elif self.path == "/v1/models/flights/sample":
            self.sample(body)
        elif self.path == "/v1/jobs":
            self.json(*((200, {"jobs": [self.server.job]}) if self.command == "GET" else (202, self.server.job)))
        elif self.path.startswith("/v1/jobs/j%2F1"):
            self.tell_job(self.path.removeprefix("/v1/jobs/j%2F1"))
        else:
            self.problem(404, "there is no such thing")

    def sample(self, body: dict[str, Any]) -> None:
        if body["rows"] > self.server.max_rows:
            self.problem(413, f"rows: {body['rows']}, and a sample has at most {self.server.max_rows}. POST /v1/jobs")
        elif body["where"] and "no" in body["where"]:
            self.problem(422, "where.no: no such column. Columns: number, text")
        else:
            self.begin(body["rows"])
            for piece in self.pieces(body):
                self.chunk(piece)
            self.chunk(b"")

    def pieces(self, body: dict[str, Any]) -> Iterator[bytes]:
        columns = body["columns"] or SCHEMA.names
        made = writer("arrow", pa.schema([SCHEMA.field(name) for name in columns]))
        yield made.begin()
        for start in range(0, body["rows"], PIECE_ROWS):
            yield made.rows(rows_of(body["seed"], body["offset"] + start, min(PIECE_ROWS, body["rows"] - start)))
        yield made.end()

    def begin(self, rows: int, **headers: str) -> None:
        self.send_response(200)
        told = {"X-Raysynth-Seed": str(self.body["seed"]), "X-Raysynth-Digest": self.server.digest, "X-Raysynth-Rows": str(rows)}
        framing = {} if "Content-Length" in headers else {"Transfer-Encoding": "chunked"}
        for name, value in {**told, **framing, "Content-Type": FORMATS["arrow"], **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def tell_job(self, action: str) -> None:
        job = self.server.job
        if action == "/events":
            self.events([("progress", job), ("progress", {**job, "parts_done": 2}), ("end", {**job, "status": "completed"})])
        elif action == "/manifest":
            done = job["status"] == "completed"
            self.json(200, {"files": [{"part": 0}]}) if done else self.problem(409, "it is running")
        elif action == "/cancel":
            self.json(200, {**job, "status": "cancelled"})
        else:
            self.json(200, job)

    def events(self, events: list[tuple[str, dict[str, Any]]], *, end: bool = True) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.chunk(b": still here\n\n")
        for name, job in events:
            self.chunk(f"event: {name}\ndata: {json.dumps(job)}\n\n".encode())
        if end:
            self.chunk(b"")
        self.close_connection = True

    def json(self, status: int, value: Any, **headers: str) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(data)), "X-Request-Id": "r-17", **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(data)

    def problem(self, status: int, detail: str, **headers: str) -> None:
        self.json(
            status, {"type": "about:blank", "title": "T", "status": status, "detail": detail, "request_id": "r-17"}, **headers
        )


def refused(status: int, **headers: str) -> Fault:
    def fault(handler: Handler) -> bool:
        handler.problem(status, "not now", **headers)
        return True

    return fault


def reset(handler: Handler) -> bool:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    return True


def cut(bytes_: int, *, length: bool = False) -> Fault:
    """The answer stops after so many bytes of its body."""

    def fault(handler: Handler) -> bool:
        data = b"".join(handler.pieces(handler.body))
        handler.begin(handler.body["rows"], **({"Content-Length": str(len(data))} if length else {}))
        if length:
            handler.wfile.write(data[:bytes_])
        else:
            handler.wfile.write(b"%x\r\n%s" % (len(data), data[:bytes_]))
        handler.close_connection = True
        return True

    return fault


def silent(handler: Handler) -> bool:
    handler.server.over.wait(10)
    return True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(wire, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(client_module, "FIRST_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(client_module, "PAGE_ROWS", 100)
    monkeypatch.delenv("RAYSYNTH_KEY", raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def client(server: Server) -> Client:
    return Client(server.url, KEY, timeout_seconds=5, attempts=5)


def length_of(rows: int) -> int:
    """Bytes of the stream's head and of its first rows."""
    made = writer("arrow", SCHEMA)
    pieces = [made.rows(rows_of(3, start, PIECE_ROWS)) for start in range(0, rows, PIECE_ROWS)]
    return len(made.begin()) + sum(map(len, pieces))


def test_models_are_listed_and_described(client: Client, server: Server) -> None:
    assert [model["id"] for model in client.models()] == ["flights"]
    assert client.model("a/b ?")["id"] == "a/b ?"
    headers = server.asked[0][2]
    assert headers["Authorization"] == f"Bearer {KEY}" and headers["Accept"] == "application/json"


def test_a_sample_has_the_rows_that_were_asked_for(client: Client, server: Server) -> None:
    table = client.sample("flights", rows=45, seed=3, offset=7)
    assert table.equals(rows_of(3, 7, 45))
    assert table.schema.metadata == {b"raysynth.seed": b"3", b"raysynth.digest": b"d1"}
    assert server.samples == [{"seed": 3, "where": None, "columns": None, "rows": 45, "offset": 7}]


def test_more_rows_than_one_request_takes_are_asked_for_piece_by_piece_with_one_seed(client: Client, server: Server) -> None:
    table = client.sample("flights", rows=250, columns=["text"])
    seed = server.samples[0]["seed"]
    assert table.equals(rows_of(seed, 0, 250).select(["text"]))
    assert [(body["offset"], body["rows"], body["seed"]) for body in server.samples] == [
        (0, 100, seed),
        (100, 100, seed),
        (200, 50, seed),
    ]
    assert 0 <= seed < 2**53
    assert client.sample("flights", rows=1).schema.metadata[b"raysynth.seed"] != str(seed).encode()


def test_a_server_with_a_lower_cap_is_asked_for_less(client: Client, server: Server) -> None:
    server.max_rows = 13
    assert client.sample("flights", rows=40, seed=1).equals(rows_of(1, 0, 40))
    assert [body["rows"] for body in server.samples] == [40, 20, 10, 10, 10, 10]


def test_a_cap_that_even_one_row_is_above_is_an_error(client: Client, server: Server) -> None:
    server.max_rows = 0
    with pytest.raises(ServerError, match=r"413: rows: 1, .* Client.submit makes"):
        client.sample("flights", rows=4, seed=1)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_fault_that_passes_is_tried_again_with_the_same_seed(client: Client, server: Server, status: int) -> None:
    server.faults = [refused(status), refused(status)]
    table = client.sample("flights", rows=20)
    seeds = {body["seed"] for body in server.samples}
    assert len(seeds) == 1 and table.equals(rows_of(seeds.pop(), 0, 20))
    assert client.models() and len(server.asked) == (7 if status == 408 else 4)


def test_what_was_too_slow_is_asked_for_in_halves(client: Client, server: Server) -> None:
    server.faults = [refused(408), refused(408)]
    client.sample("flights", rows=100, seed=1)
    assert [body["rows"] for body in server.samples] == [100, 50, 25, 25, 25, 25]


def test_a_reset_before_the_answer_is_tried_again(client: Client, server: Server) -> None:
    server.faults = [reset, reset]
    assert client.sample("flights", rows=20, seed=3).equals(rows_of(3, 0, 20))
    server.faults = [reset]
    assert client.models()


@pytest.mark.parametrize("length", [False, True], ids=["chunked", "length"])
@pytest.mark.parametrize("came", [0, 5, "head", "head+9", "one piece", "one piece+100", "all but the end"])
def test_a_cut_answer_goes_on_at_the_first_row_that_did_not_come(client: Client, server: Server, came: Any, length: bool) -> None:
    places = {"head": (length_of(0), 0), "head+9": (length_of(0) + 9, 0), "one piece": (length_of(30), 30)}
    places |= {"one piece+100": (length_of(30) + 100, 30), "all but the end": (length_of(90), 90)}
    bytes_, rows = places.get(came, (came, 0))
    server.faults = [cut(bytes_, length=length)]
    assert client.sample("flights", rows=95, seed=3).equals(rows_of(3, 0, 95))
    assert [(body["offset"], body["rows"]) for body in server.samples] == [(0, 95), (rows, 95 - rows)]


def test_a_cut_at_every_byte_loses_and_doubles_nothing(client: Client, server: Server) -> None:
    for bytes_ in range(0, length_of(60) + 8, 97):
        server.faults = [cut(bytes_), None, cut(bytes_, length=True)]
        table = pa.Table.from_batches(client.stream("flights", rows=150, seed=3))
        assert table.equals(rows_of(3, 0, 150))


def test_rows_that_keep_coming_renew_the_attempts(server: Server) -> None:
    server.faults = [cut(length_of(30) + 100)] * 12
    assert Client(server.url, KEY, attempts=2).sample("flights", rows=400, seed=3).equals(rows_of(3, 0, 400))


def test_attempts_are_counted(client: Client, server: Server) -> None:
    server.faults = [refused(503)] * 9
    with pytest.raises(ServerError, match="503: not now") as told:
        client.sample("flights", rows=1)
    assert (told.value.status, len(server.asked)) == (503, 5)
    server.faults = [reset] * 9
    with pytest.raises(ServerError, match="no answer"):
        client.models()
    assert len(server.asked) == 10


def test_retry_after_is_honoured_and_a_wait_beyond_the_deadline_is_not_begun(server: Server) -> None:
    server.faults = [refused(429, Retry_After="1")]
    began = time.monotonic()
    assert Client(server.url, KEY).models()
    assert time.monotonic() - began >= 1
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    for header in ("10", soon, "9" * 400):
        server.faults = [refused(503, Retry_After=header)]
        began = time.monotonic()
        with pytest.raises(ServerError, match="503"):
            Client(server.url, KEY, timeout_seconds=1).models()
        assert time.monotonic() - began < 0.9
    for header in ("soon", "-5", "Wed, 21 Oct 2015 07:28:00 GMT"):
        server.faults = [refused(503, Retry_After=header)]
        assert Client(server.url, KEY).models()


def test_a_silent_server_is_given_up(server: Server) -> None:
    client = Client(server.url, KEY, timeout_seconds=0.1, attempts=3)
    server.faults = [silent, silent]
    assert client.sample("flights", rows=80, seed=3).equals(rows_of(3, 0, 80))
    assert [body["rows"] for body in server.samples] == [80, 40, 20, 20, 20, 20]
    server.faults = [silent] * 9
    began = time.monotonic()
    with pytest.raises(ServerError, match="silent for too long"):
        client.models()
    assert time.monotonic() - began < 2


def test_a_server_that_drips_is_given_up_at_the_deadline(server: Server) -> None:
    def drip(handler: Handler) -> bool:
        handler.begin(50)
        for byte in b"".join(handler.pieces(handler.body)):
            handler.chunk(bytes([byte]))
            if handler.server.over.wait(0.02):
                break
        return True

    server.faults = [drip]
    began = time.monotonic()
    with pytest.raises(ServerError, match="silent for too long"):
        Client(server.url, KEY, timeout_seconds=0.3, attempts=2).sample("flights", rows=50)
    assert 0.5 < time.monotonic() - began < 3


@pytest.mark.parametrize("model", ["nobody", "../jobs"])
def test_an_unknown_model_is_an_error_at_once(client: Client, server: Server, model: str) -> None:
    with pytest.raises(ServerError, match=r"404: there is no such thing \(request r-17\)") as told:
        client.sample(model, rows=1)
    assert (told.value.status, len(server.asked)) == (404, 1)


def test_a_condition_that_does_not_fit_is_an_error_at_once(client: Client, server: Server) -> None:
    with pytest.raises(ServerError, match=r"422: where\.no: no such column. Columns: number, text"):
        client.sample("flights", rows=1, where={"no": 1})
    assert len(server.asked) == 1


def test_a_wrong_key_is_an_error_at_once_and_is_never_shown(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    client = Client(server.url, "rs_secret")
    with caplog.at_level(logging.DEBUG), pytest.raises(ServerError, match="401: no such key: Bearer \\*\\*\\*") as told:
        client.sample("flights", rows=1)
    assert "RAYSYNTH_KEY" in str(told.value) and len(server.asked) == 1
    assert "rs_secret" not in f"{client!r} {told.value!r} {told.value.__cause__!r} {caplog.text}"
    with pytest.raises(RecipeError) as refusal:
        Client(server.url, "rs_secret\nX-More: 1")
    assert "rs_secret" not in str(refusal.value)


def test_the_key_comes_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSYNTH_KEY", KEY + "\n")
    assert Client(server.url).models()
    with pytest.raises(ServerError, match="401"):
        Client(server.url, "").models()
    assert "Authorization" not in server.asked[1][2]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_refused(client: Client, server: Server, status: int) -> None:
    server.faults = [refused(status, Location=f"{server.url}/v1/models")]
    with pytest.raises(ServerError, match=rf"points to another place \({status}\)"):
        client.models()
    assert len(server.asked) == 1


def test_a_proxy_of_the_environment_does_not_get_the_key(client: Client, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert client.models()


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host", "file:///etc/passwd", "http://", "http://host:port", "http://ho st", "http://h\n"]
)
def test_only_http_urls_are_taken(url: str) -> None:
    with pytest.raises(RecipeError, match="must be http://"):
        Client(url, KEY)


@pytest.mark.parametrize("url", ["http://user:geheim@host", "http://geheim@host", "https://host?key=geheim", "https://host#geheim"])
def test_a_url_with_secrets_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        Client(url, KEY)
    assert "geheim" not in str(refusal.value)


def test_a_path_before_the_api_is_kept(server: Server) -> None:
    with pytest.raises(ServerError, match="404"):
        Client(f"{server.url}/behind/", KEY).models()
    assert server.asked[0][1] == "/behind/v1/models"


def test_rows_of_another_version_of_the_model_are_never_mixed_in(client: Client, server: Server) -> None:
    def changed(handler: Handler) -> bool:
        handler.server.digest = "d2"
        return False

    server.faults = [None, changed]
    with pytest.raises(ServerError, match="another version of the model"):
        client.sample("flights", rows=150, seed=1)


def test_a_server_of_another_kind_is_told(client: Client, server: Server) -> None:
    def other(handler: Handler) -> bool:
        handler.json(200, {"hello": "world"})
        return True

    for ask in (client.models, lambda: client.model("x"), client.jobs, lambda: client.sample("flights", rows=1)):
        server.faults = [other]
        with pytest.raises(ServerError, match="Is it a raysynth server"):
            ask()
    server.faults = [lambda handler: (handler.begin(5), handler.chunk(b"<html>" * 99), handler.chunk(b"")) != ()] * 5
    with pytest.raises(ServerError, match="stops before its end"):
        client.sample("flights", rows=5)


def test_more_rows_than_asked_for_are_refused(client: Client, server: Server) -> None:
    def more(handler: Handler) -> bool:
        handler.begin(5)
        for piece in handler.pieces({**handler.body, "rows": 6}):
            handler.chunk(piece)
        return True

    server.faults = [more]
    with pytest.raises(ServerError, match="more than the 5 rows"):
        client.sample("flights", rows=5)


def test_conditions_are_sent_as_json(client: Client, server: Server) -> None:
    where = {
        "day": date(2024, 1, 31),
        "at": {"min": datetime(2024, 1, 31, 12, tzinfo=UTC)},
        "price": Decimal("1.50"),
        "carrier": {"UA"},
        "n": [np.int64(3), None, np.float64(0.5), True],
    }
    client.sample("flights", rows=1, where=where)
    assert server.samples[0]["where"] == {
        "day": "2024-01-31",
        "at": {"min": "2024-01-31T12:00:00+00:00"},
        "price": "1.50",
        "carrier": ["UA"],
        "n": [3, None, 0.5, True],
    }


@pytest.mark.parametrize(
    "asked",
    [
        {"rows": 0},
        {"rows": 1, "offset": -1},
        {"rows": 1, "columns": []},
        {"rows": 1, "where": {"x": float("nan")}},
        {"rows": 1, "where": {"x": object()}},
    ],
    ids=["no rows", "offset", "no columns", "nan", "object"],
)
def test_what_cannot_be_asked_is_refused_before_it_is_sent(client: Client, server: Server, asked: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        client.stream("flights", **asked)
    assert not server.asked


def test_a_job_is_submitted_once_however_often_it_is_tried(client: Client, server: Server) -> None:
    server.faults = [refused(503), reset]
    job = client.submit("flights", rows=9, where={"text": None}, rows_per_part=3)
    assert (job.id, job.status, job.url, repr(job)) == ("j/1", "running", None, "Job('j/1', 'running')")
    keys = {headers["Idempotency-Key"] for _, _, headers, _ in server.asked}
    assert len(server.asked) == 3 and len(keys) == 1
    assert server.asked[2][3] == {"model": "flights", "rows": 9, "seed": None, "where": {"text": None}, "rows_per_part": 3}
    client.submit("flights", rows=9, idempotency_key="mine")
    assert server.asked[3][2]["Idempotency-Key"] == "mine"
    for bad in ("", "two words", "ü", "n" * 201, "a\r\nb"):
        with pytest.raises(RecipeError, match="1 to 200 visible ASCII characters"):
            client.submit("flights", rows=9, idempotency_key=bad)


def test_a_job_is_found_again(client: Client) -> None:
    assert [job.id for job in client.jobs()] == ["j/1"]
    assert client.job("j/1").facts["parts"] == 3


def test_a_job_is_waited_for(client: Client, server: Server) -> None:
    job = client.job("j/1")
    with pytest.raises(StoppedError, match=r"job 'j/1': not completed after 0\.05 s \(0 of 3 parts\)"):
        job.wait(0.05)

    def done(_: Handler) -> bool:
        server.job = {**server.job, "status": "completed", "url": "file:///data"}
        return False

    server.faults = [None, refused(503), None, done]
    assert job.wait().url == "file:///data"
    assert job.manifest() == [{"part": 0}]


@pytest.mark.parametrize(("status", "detail"), [("failed", "the rules cannot be met"), ("cancelled", "")])
def test_a_job_that_ends_otherwise_is_an_error(client: Client, server: Server, status: str, detail: str) -> None:
    server.job |= {"status": status, "detail": detail}
    with pytest.raises(ServerError, match=f"job 'j/1': {status}. {detail or 'Submit it again'}"):
        client.job("j/1").wait()


def test_a_job_is_cancelled_and_has_no_manifest_before_its_end(client: Client) -> None:
    job = client.job("j/1")
    with pytest.raises(ServerError, match="409: it is running"):
        job.manifest()
    assert job.cancel().status == "cancelled"


def test_events_tell_every_change_once_over_lost_connections(client: Client, server: Server) -> None:
    job = client.job("j/1")

    def first(handler: Handler) -> bool:
        handler.events([("progress", server.job), ("progress", {**server.job, "parts_done": 1})], end=False)
        return True

    def clean_end_without_the_last(handler: Handler) -> bool:
        handler.events([("progress", {**server.job, "parts_done": 1})])
        return True

    server.faults = [first, clean_end_without_the_last, refused(503), reset]
    seen = [(facts["status"], facts["parts_done"]) for facts in job.events()]
    assert seen == [
        ("running", 1),
        ("running", 0),
        ("running", 2),
        ("completed", 0),
    ]  # the last three: a server that tells all again
    assert job.status == "completed"


def test_events_of_a_job_that_is_gone_are_an_error(client: Client, server: Server) -> None:
    job = Job(client._wire, {"id": "gone", "status": "running"})  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(ServerError, match="404"):
        list(job.events())


def test_threads_share_a_client(client: Client, server: Server) -> None:
    found: dict[int, pa.Table] = {}

    def ask(seed: int) -> None:
        found[seed] = client.sample("flights", rows=120, seed=seed)

    server.faults = [reset, None, refused(503), cut(700)]
    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[seed].equals(rows_of(seed, 0, 120)) for seed in range(6))


def test_the_client_needs_neither_ray_nor_torch() -> None:
    code = "import raysynth.client, sys; print(sorted({'ray', 'torch', 's3fs', 'fastapi', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def run(server: Server, *arguments: str, key: str = KEY) -> Result:
    return CliRunner().invoke(app, ["sample", server.url, *arguments], env={"RAYSYNTH_KEY": key})


def test_the_command_writes_json_lines(server: Server) -> None:
    server.faults = [cut(length_of(30))]
    done = run(server, "flights", "-n", "120", "--seed", "3", "--offset", "5", "--columns", "text,number")
    assert done.exit_code == 0
    assert [json.loads(line) for line in done.stdout.splitlines()] == rows_of(3, 5, 120).select(["text", "number"]).to_pylist()


@pytest.mark.parametrize("format", FORMATS)
def test_the_command_writes_files_of_every_format(server: Server, tmp_path: Path, format: str) -> None:
    file = tmp_path / f"out.{format.upper()}"
    done = run(server, "flights", "-n", "120", "--seed", "3", "-o", str(file))
    assert (done.exit_code, done.output) == (0, "")
    data = file.read_bytes()
    assert decode(format, data, SCHEMA, 120).equals(rows_of(3, 0, 120), check_metadata=True)
    if format == "json":
        assert {name: json.loads(data)[name] for name in ("model", "digest", "seed", "offset")} == {
            "model": "flights",
            "digest": "d1",
            "seed": 3,
            "offset": 0,
        }
    if format == "parquet":
        assert data == parquet_bytes(rows_of(3, 0, 120))
    assert list(tmp_path.iterdir()) == [file]


def test_the_command_leaves_an_old_file_as_it_is_when_it_fails(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.write_text("old")
    server.faults = [None, refused(422)]
    done = run(server, "flights", "-n", "150", "-o", str(file))
    assert isinstance(done.exception, ServerError)
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_the_command_asks_nothing_if_the_file_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name in ("out.xlsx", "out", "folder.csv"):
        done = run(server, "flights", "-n", "1", "-o", str(tmp_path / name))
        assert isinstance(done.exception, RecipeError) and "--output" in str(done.exception)
    assert isinstance(run(server, "flights", "-n", "1", "-o", str(tmp_path / "no" / "out.csv")).exception, RecipeError)
    assert not server.asked


def test_the_command_takes_conditions_as_preview_does(server: Server) -> None:
    run(server, "flights", "-n", "1", "--where", "text=[a, null]", "--where", "number={min: 1, under: 2.5}")
    assert server.samples[0]["where"] == {"text": ["a", None], "number": {"min": 1, "under": 2.5}}
    run(server, "flights", "-n", "1")
    assert server.samples[1]["where"] is None


def test_the_command_says_what_the_server_says(server: Server) -> None:
    assert "401" in str(run(server, "flights", "-n", "1", key="").exception)
    assert "404" in str(run(server, "nobody", "-n", "1").exception)
