"""The ASGI application, without Ray: rows are those of the batch path in every format; what is wrong is told as a problem."""

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from here import Server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from raysynth import formats
from raysynth.runs import Run, read_rows
from raysynth.sampler import Sampler
from raysynth.serving.registry import Published, Served, read_published

SAMPLE = "/v1/models/shop/sample"
DEALT = {"grade": {"shares": {"=1+1": 3, "plain": 1}}, "sold": {"shares": "as_is"}}
WHERES: list[dict[str, Any]] = [
    {},
    {"grade": ["=1+1", None]},
    {"stock": {"min": 4, "under": 9}, "sold": False},
    {"dear": True},
    DEALT,
]


CLOSED = (
    "/openapi.json",
    "/v1/models",
    "/v1/models/shop",
    "/v1/jobs",
    "/v1/x",
    "/../x",
    "/docs",
    "/health",
    "/v1/jobs/x/events",
)


@pytest.fixture(scope="module")
def server(published_run: str, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(published_run, tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def served(published_run: str) -> Served:
    return Served(read_published(published_run))


def alone(served: Served, ask: Mapping[str, Any]) -> pa.Table:
    """What the batch path's sampler gives."""
    sampler = Sampler(served.model, seed=ask["seed"], rules=served.facts["rules"], where=ask.get("where") or {})
    rows = sampler.range(ask.get("offset", 0), ask.get("offset", 0) + ask["rows"])
    return rows.select(ask["columns"]) if ask.get("columns") else rows


def problem_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and body["request_id"] == answer.headers["x-request-id"]
    return body["detail"]


# The same rows


asks = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 700),
        "seed": st.sampled_from([11, 12, 2**53 - 1]),
        "offset": st.sampled_from([0, 1, 511, 1000, 10**9, 2**52]),
        "where": st.sampled_from(WHERES),
    },
    optional={
        "columns": st.lists(st.sampled_from(["grade", "price", "stock", "day", "seen", "sold", "dear"]), min_size=1, unique=True)
    },
)


@given(ask=asks, format=st.sampled_from(list(formats.FORMATS)))
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_format_gives_the_rows_of_the_batch_path(server: Server, served: Served, ask: dict[str, Any], format: str) -> None:
    answer = server.sample(ask, format)
    assert answer.status_code == 200, answer.text
    expected = alone(served, ask)
    assert formats.decode(format, answer.content, expected.schema, ask["rows"]).equals(expected)
    assert answer.headers["x-raysynth-seed"] == str(ask["seed"])
    assert answer.headers["x-raysynth-rows"] == str(ask["rows"])
    assert answer.headers["x-raysynth-digest"] == served.model.digest


def test_the_seed_of_the_data_set_gives_its_parts_byte_for_byte(server: Server, published_run: str) -> None:
    synthetic = Run(published_run).current("synthetic")
    assert synthetic is not None
    urls = synthetic.part_urls()
    answer = server.sample({"rows": 1000, "seed": 11}, "parquet")
    assert answer.content == synthetic.store.read(urls[0])
    rest = server.sample({"rows": 500, "seed": 11, "offset": 1000})
    assert formats.decode("arrow", rest.content, read_rows(urls[1]).schema).equals(read_rows(urls[1]))


def test_long_answers_cut_anywhere_are_one(server: Server, served: Served) -> None:
    whole = alone(served, {"rows": 10_000, "seed": 5})
    for cuts in ((0, 10_000), (0, 4096, 4097, 9000, 10_000)):
        pieces = [
            formats.decode("arrow", server.sample({"rows": stop - start, "seed": 5, "offset": start}).content, whole.schema)
            for start, stop in pairwise(cuts)
        ]
        assert pa.concat_tables(pieces).equals(whole)


def test_64_concurrent_requests_share_kernels_and_get_their_own_rows(server: Server, served: Served) -> None:
    asked = [{"rows": 50 + n, "seed": n % 5, "offset": 7 * n, "where": WHERES[n % 5]} for n in range(64)]
    accept = {"accept": formats.FORMATS["arrow"]}

    async def all_at_once() -> list[httpx.Response]:
        async with server.client() as client:
            return await asyncio.gather(*(client.post(SAMPLE, json=ask, headers=accept) for ask in asked))

    before = server.service.batcher.kernels
    answers = asyncio.run(all_at_once())
    kernels = server.service.batcher.kernels - before
    samplers = [Sampler(served.model, seed=0, rules=served.facts["rules"], where=where) for where in WHERES[:5]]
    apart: list[int] = []
    for n, (ask, answer) in enumerate(zip(asked, answers, strict=True)):
        numbers = np.arange(ask["offset"], ask["offset"] + ask["rows"], dtype=np.uint64)
        rows = samplers[n % 5].pieces([(ask["seed"], numbers)], between=lambda: apart.append(1))
        assert formats.decode("arrow", answer.content, served.model.schema.arrow, ask["rows"]).equals(rows)
    assert kernels < len(apart) / 2


def test_a_seed_that_is_not_given_is_drawn_and_told(server: Server, served: Served) -> None:
    answer = server.sample({"rows": 5})
    again = server.sample({"rows": 5, "seed": int(answer.headers["x-raysynth-seed"])})
    assert again.content == answer.content
    assert server.sample({"rows": 5}).headers["x-raysynth-seed"] != answer.headers["x-raysynth-seed"]


# Ends and limits


async def raw(app: ASGIApp, token: str, ask: Mapping[str, Any], leave_after: int) -> int:
    """A client that hangs up after some messages; how many it got."""
    body = json.dumps(ask).encode()
    got = 0
    gone = asyncio.Event()
    sent = False

    async def receive() -> Mapping[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal got
        got += 1
        if got >= leave_after:
            gone.set()

    headers = [
        (b"authorization", f"Bearer {token}".encode()),
        (b"content-type", b"application/json"),
        (b"accept", b"application/vnd.apache.arrow.stream"),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
    }
    scope |= {"path": SAMPLE, "raw_path": SAMPLE.encode(), "root_path": "", "query_string": b"", "headers": headers}
    with contextlib.suppress(Exception):
        await app(scope, receive, send)  # type: ignore[arg-type]
    return got


def test_after_a_client_hangs_up_no_further_kernel_starts(published_run: str, tmp_path: Path) -> None:
    server = Server(published_run, tmp_path, max_rows=10_000_000)

    async def hang_up() -> tuple[int, int]:
        await raw(server.app, server.token, {"rows": 5_000_000, "seed": 1}, leave_after=3)
        await asyncio.sleep(0.3)  # what runs, ends
        at_once = server.service.batcher.kernels
        await asyncio.sleep(0.5)
        return at_once, server.service.batcher.kernels

    at_once, later = asyncio.run(hang_up())
    assert later == at_once < 50
    assert server.sample({"rows": 3, "seed": 1}).status_code == 200


def test_what_cannot_be_made_in_time_is_a_408_and_stops(published_run: str, tmp_path: Path) -> None:
    server = Server(published_run, tmp_path, max_rows=10_000_000, timeout_seconds=0.001)
    detail = problem_of(server.sample({"rows": 4096, "seed": 1}), 408)
    assert "0.001 s" in detail


def test_a_condition_that_hardly_any_row_meets_is_refused_at_once(server: Server) -> None:
    before = server.service.batcher.kernels
    detail = problem_of(server.sample({"rows": 4096, "seed": 1, "where": {"dear": True, "price": {"under": 20}}}), 422)
    assert "0.00% hold" in detail
    assert server.service.batcher.kernels - before <= 2


def test_a_condition_that_few_rows_meet_does_not_hold_up_the_others(server: Server) -> None:
    rare = {"rows": 4096, "seed": 1, "where": {"dear": True, "price": {"under": 21}}}
    ended: list[str] = []

    async def ask(name: str, asked: dict[str, Any], client: httpx.AsyncClient) -> None:
        assert (await client.post(SAMPLE, json=asked)).status_code == 200
        ended.append(name)

    async def both() -> None:
        async with server.client() as client:
            slow = asyncio.create_task(ask("rare", rare, client))
            await asyncio.sleep(0.05)
            for n in range(5):
                await ask(f"plain {n}", {"rows": 10, "seed": n}, client)
            await slow

    asyncio.run(both())
    assert ended[-1] == "rare"


def test_more_rows_than_may_be_owed_are_a_429_that_says_when(published_run: str, tmp_path: Path) -> None:
    server = Server(published_run, tmp_path, max_waiting_rows=9000)

    async def two() -> list[httpx.Response]:
        async with server.client() as client:
            return await asyncio.gather(*(client.post(SAMPLE, json={"rows": 6000, "seed": n}) for n in range(8)))

    answers = asyncio.run(two())
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    problem_of(refused, 429)
    assert server.sample({"rows": 6000, "seed": 1}).status_code == 200


def test_rules_that_cannot_be_met_are_told(server: Server) -> None:
    detail = problem_of(server.sample({"rows": 2, "seed": 1, "where": {"stock": 20}}), 422)
    assert "stock" in detail


# What is refused


@pytest.mark.parametrize(
    ("ask", "status", "told"),
    [
        ({"rows": 0}, 422, "rows"),
        ({"rows": -1}, 422, "rows"),
        ({"rows": 100_001}, 413, "/v1/jobs"),
        ({"rows": "many"}, 422, "rows"),
        ({"rows": 1, "sed": 3}, 422, "sed"),
        ({"rows": 1, "seed": -3}, 422, "seed"),
        ({"rows": 1, "offset": 2**53}, 422, "offset"),
        ({"rows": 1, "columns": []}, 422, "columns"),
        ({"rows": 1, "columns": ["colour"]}, 422, "no column 'colour'"),
        ({"rows": 1, "columns": ["\ud800"]}, 422, "no column"),
        ({"rows": 1, "where": {"grade": ["\ud800"]}}, 422, "surrogate"),
        ({"rows": 1, "where": {"colour": 3}}, 422, "no such column"),
        ({"rows": 1, "where": {"stock": "x"}}, 422, "stock"),
        ({"rows": 1, "where": {"stock": []}}, 422, "where.stock"),
        ({"rows": 1, "where": {"grade": {"min": 1}}}, 422, "range"),
        ({"rows": 1, "where": {"stock": {"min": 5, "max": 1}}}, 422, "empty"),
        ({"rows": 1, "where": {"grade": "never seen"}}, 422, "never seen"),
        ({"rows": 1, "where": {"stock": 1e400}}, 422, "stock"),
        ({"rows": 1, "where": {"grade": {"shares": "alike"}}}, 422, "shares"),
        ({"rows": 1, "where": {"grade": {"shares": {"plain": -1}}}}, 422, "shares"),
        ({"rows": 1, "where": {"grade": {"shares": {"plain": 0}}}}, 422, "shares"),
        ({"rows": 1, "where": {"grade": {"shares": {"never seen": 1}}}}, 422, "never seen"),
        ({"rows": 1, "where": {"grade": {"shares": {"plain": 1}, "min": 1}}}, 422, "where.grade"),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_an_ask_that_does_not_fit_is_told_why(server: Server, ask: dict[str, Any], status: int, told: str) -> None:
    body = json.dumps(ask).encode()
    answer = server.ask("POST", SAMPLE, content=body, headers={"content-type": "application/json"})
    assert told in problem_of(answer, status)


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("POST", SAMPLE, {"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ("POST", SAMPLE, {"content": b"\xff\xfe", "headers": {"content-type": "application/json"}}, 400),
        ("POST", SAMPLE, {"content": b"rows=3", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 415),
        ("POST", SAMPLE, {"content": b'{"rows": 3}'}, 415),
        ("POST", SAMPLE, {"json": {"rows": 3}, "headers": {"accept": "image/png"}}, 406),
        ("POST", SAMPLE, {"content": b" " * 70_000, "headers": {"content-type": "application/json"}}, 413),
        ("POST", "/v1/models/other/sample", {"json": {"rows": 3}}, 404),
        ("GET", "/v1/models/..%2f..", {}, 404),
        ("GET", SAMPLE, {}, 405),
        ("GET", "/v1/nothing", {}, 404),
        ("GET", "/docs", {}, 404),
        ("GET", "/v1/jobs/0123456789abcdef0123", {}, 404),
        ("GET", "/v1/jobs/x", {}, 422),
        ("POST", "/v1/jobs", {"json": {"model": "shop", "rows": 5}}, 422),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_a_problem(server: Server, method: str, path: str, more: dict[str, Any], status: int) -> None:
    problem_of(server.ask(method, path, **more), status)


def test_a_405_names_all_methods_of_the_path(server: Server) -> None:
    answer = server.ask("PUT", "/v1/jobs")
    problem_of(answer, 405)
    assert answer.headers["allow"] == "GET, POST"


def test_what_fails_within_is_a_problem_that_does_not_say_why(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> Mapping[str, Published]:
        raise KeyError("what is nobody's business")

    monkeypatch.setattr(server.service, "models", fails)
    assert problem_of(server.ask("GET", "/v1/models"), 500) == "the server failed; its log has the request id"


def test_everything_but_health_and_the_page_needs_a_key(server: Server) -> None:
    async def statuses() -> dict[str, int]:
        async with server.client("rs_wrong") as client:
            return {path: (await client.get(path)).status_code for path in CLOSED}

    assert set(asyncio.run(statuses()).values()) == {401}
    answer = server.ask("GET", "/v1/models", headers={"authorization": "Basic cnM6cnM="})
    assert answer.headers["www-authenticate"] == "Bearer"
    problem_of(answer, 401)
    for path in ("/health/live", "/health/ready", "/", "/page.js", "/page.css"):
        open_answer = server.ask("GET", path, headers={"authorization": ""})
        assert open_answer.status_code == 200
        assert "default-src 'none'" in open_answer.headers["content-security-policy"]


def test_a_revoked_key_is_refused(published_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysynth.keys.REFRESH_SECONDS", 0.0)
    server = Server(published_run, tmp_path)
    assert server.ask("GET", "/v1/models").status_code == 200
    server.keyring.revoke(server.keyring.list()[0].id)
    problem_of(server.ask("GET", "/v1/models"), 401)


def test_a_run_that_is_no_longer_published_is_no_longer_served_and_a_newer_one_is(
    published_run: str, publish: Callable[..., str], tmp_path: Path
) -> None:
    url = str(tmp_path / "copy")
    shutil.copytree(published_run.removeprefix("file://"), url)
    server = Server(url, tmp_path, refresh_seconds=0.001)
    first = server.sample({"rows": 20, "seed": 1})
    publish(url, epochs=1)
    second = server.sample({"rows": 20, "seed": 1})
    assert first.status_code == second.status_code == 200
    assert first.headers["x-raysynth-digest"] != second.headers["x-raysynth-digest"]
    (Path(url) / "published.json").unlink()
    problem_of(server.sample({"rows": 20, "seed": 1}), 404)
    problem_of(server.ask("GET", "/health/ready"), 503)


@pytest.mark.parametrize("broken", ["[]", "3", '{"name": ["x"]}', "{}", '{"name": "shop", "folders": {}, "forced": false}'])
def test_a_publication_that_is_not_whole_is_not_served_and_keeps_nobody_elses(
    published_run: str, publish: Callable[..., str], tmp_path: Path, broken: str
) -> None:
    url = str(tmp_path / "copy")
    shutil.copytree(published_run.removeprefix("file://"), url)
    (Path(url) / "published.json").write_text(broken)
    server = Server(published_run, tmp_path, runs=(url, published_run))
    assert [model["id"] for model in server.ask("GET", "/v1/models").json()["models"]] == ["shop"]
    assert server.sample({"rows": 1}).status_code == 200


def test_a_chunked_body_above_the_cap_is_refused_as_a_long_one_is(server: Server) -> None:
    async def ask() -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b" " * 40_000

        async with server.client() as client:
            return await client.post(SAMPLE, content=body(), headers={"content-type": "application/json"})

    assert "65,536" in problem_of(asyncio.run(ask()), 413)


def test_a_body_that_does_not_come_holds_nobody_for_long(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysynth.serving.guard.BODY_SECONDS", 0.2)

    async def ask() -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.sleep(5)

        async with server.client() as client:
            return await client.post(SAMPLE, content=body(), headers={"content-type": "application/json"})

    assert "0.2 s" in problem_of(asyncio.run(ask()), 408)


def test_keys_that_cannot_be_read_are_a_503(published_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysynth.keys.REFRESH_SECONDS", 0.0)
    monkeypatch.setattr("raysynth.keys.STALE_SECONDS", 0.3)
    server = Server(published_run, tmp_path)
    assert server.ask("GET", "/v1/models").status_code == 200
    (tmp_path / "keys.json").write_text("{")
    assert server.ask("GET", "/v1/models").status_code == 200  # for a while those that are known count
    time.sleep(0.4)
    answers = [server.ask("GET", "/v1/models") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [503] * 4
    assert int(answers[0].headers["retry-after"]) >= 1


def test_the_card_tells_what_the_page_needs_and_no_place_of_the_store(server: Server, published_run: str) -> None:
    answer = server.ask("GET", "/v1/models/shop")
    card = answer.json()
    assert card["rules"] == ["stock < 15"] and [column["name"] for column in card["schema"]][:2] == ["grade", "price"]
    assert published_run not in answer.text


def test_openapi_names_every_route_and_status(server: Server) -> None:
    described = server.ask("GET", "/openapi.json").json()
    assert set(described["paths"]) == {
        "/health/live",
        "/health/ready",
        "/v1/models",
        "/v1/models/{id}",
        "/v1/models/{id}/sample",
        "/v1/jobs",
        "/v1/jobs/{job}",
        "/v1/jobs/{job}/events",
        "/v1/jobs/{job}/manifest",
        "/v1/jobs/{job}/cancel",
    }
    assert described["security"] == [{"key": []}]


def test_only_as_many_requests_as_are_allowed_are_answered_at_once(published_run: str, tmp_path: Path) -> None:
    server = Server(published_run, tmp_path, max_requests=2)

    async def many() -> list[int]:
        async with server.client() as client:
            answers = await asyncio.gather(*(client.post(SAMPLE, json={"rows": 3000, "seed": n}) for n in range(6)))
            return [answer.status_code for answer in answers]

    assert sorted(set(asyncio.run(many()))) == [200, 429]


# Texts


@pytest.fixture(scope="module")
def tales(published_tales: str, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(published_tales, tmp_path_factory.mktemp("tales"))


@pytest.mark.parametrize("format", list(formats.FORMATS))
def test_texts_begin_as_asked_and_are_those_of_the_batch_path(tales: Server, published_tales: str, format: str) -> None:
    where = {"tale": {"starts": "从前有一只 fox\n"}, "tongue": ["zh", "en"]}
    model = Served(read_published(published_tales)).model
    expected = Sampler(model, seed=3, where=where).range(0, 20)
    assert all(str(text).startswith("从前有一只 fox\n") for text in expected["tale"].to_pylist())
    ask = {"rows": 20, "seed": 3, "where": where}
    answer = tales.ask("POST", "/v1/models/tales/sample", json=ask, headers={"accept": formats.FORMATS[format]})
    assert answer.status_code == 200, answer.text
    assert formats.decode(format, answer.content, expected.schema, 20).equals(expected)


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ({"tale": {"starts": ""}}, "where.tale: must be a value, a list of values, a range"),
        ({"tale": {"starts": 3}}, "where.tale: must be a value, a list of values, a range"),
        ({"tale": {"starts": "x" * 10_001}}, "takes a text of 1 to 10,000 characters"),
        ({"tale": {"starts": "once", "min": "a"}}, "where.tale: must be a value, a list of values, a range"),
        ({"tale": {"starts": ["once"]}}, "where.tale: must be a value, a list of values, a range"),
        ({"tale": {"starts": "\ud83d"}}, "where.tale: must be a value, a list of values, a range"),
        ({"tale": {"starts": "fox " * 500}}, "where.tale: starts has"),
        ({"tongue": {"starts": "e"}}, "where.tongue: starts needs a column of kind text"),
        ({"nobody": {"starts": "e"}}, "where.nobody: no such column"),
    ],
)
def test_a_beginning_that_cannot_be_is_refused_by_name(tales: Server, where: dict[str, Any], why: str) -> None:
    body = json.dumps({"rows": 1, "where": where})
    answer = tales.ask("POST", "/v1/models/tales/sample", content=body, headers={"content-type": "application/json"})
    assert why in problem_of(answer, 422)


def test_openapi_says_how_a_text_begins(tales: Server) -> None:
    described = tales.ask("GET", "/openapi.json").json()["components"]["schemas"]
    for body in ("Ask", "AskJob"):
        kinds = described[body]["properties"]["where"]["anyOf"][0]["additionalProperties"]["anyOf"]
        [starts] = [kind for kind in kinds if kind.get("propertyNames", {}).get("const") == "starts"]
        assert starts["additionalProperties"] == {"type": "string", "minLength": 1, "maxLength": 10_000}
