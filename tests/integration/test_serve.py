"""A real server: its rows are those of the batch path whatever dies under it, and its jobs end as if nothing had died."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pyarrow as pa
import pytest
from served import Server
from tales import SCHEMA as TALES

from raysynth.client import Client, ServerError
from raysynth.commits import commit, write_task
from raysynth.keys import Keyring
from raysynth.orders import Order, files_of
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Folder, Plan, Run, read_rows
from raysynth.sampler import Sampler
from raysynth.serving.registry import Served, read_published
from raysynth.stages import generate

PARTS, ROWS_PER_PART = 200, 50
SEED = 77
API, MAKER, COORDINATOR, PROXY = (
    "ray::ServeReplica:raysynth:Api",
    "ray::ServeReplica:raysynth:Maker",
    "ray::ServeReplica:raysynth:Coordinator",
    "ray::ProxyActor",
)
DEADLINE_SECONDS = 300


@pytest.fixture(scope="module")
def server(published_run: str, published_tales: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = {"max_rows": 10_000_000, "max_waiting_rows": 20_000_000, "job_replicas": 2, "replica_cpus": 0.5}
    made = Server(published_run, tmp_path_factory.mktemp("serve"), published_tales, settings=limits)
    yield made
    made.end()


@pytest.fixture(scope="module")
def served(published_run: str) -> Served:
    return Served(read_published(published_run))


def alone(served: Served, seed: int, start: int, stop: int) -> pa.Table:
    return Sampler(served.model, seed=seed, rules=served.facts["rules"]).range(start, stop)


def part_names(folder: Folder) -> list[str]:
    """They bear the hashes of their bytes."""
    return [url.rsplit("/", 1)[1] for url in folder.part_urls()]


@pytest.fixture(scope="module")
def batch(served: Served, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The parts of the job's data set, by the batch path."""
    facts = served.facts
    order = Order(
        served.model.digest, SEED, tuple(facts["rules"]), PARTS * ROWS_PER_PART, ROWS_PER_PART, {}, facts["max_attempts"], "avx2"
    )
    plan = order.plan(len(served.model.schema))
    folder = Run(str(tmp_path_factory.mktemp("batch"))).folder("synthetic", "0")
    folder.write_plan(plan)
    sampler = Sampler(served.model, seed=SEED, rules=facts["rules"])
    for start in range(0, PARTS, 50):
        write_task(folder, plan, range(start, start + 50), files_of(sampler, plan))
    commit(folder, plan)
    return part_names(folder)


def test_many_clients_at_once_get_the_rows_of_the_batch_path(server: Server, served: Served) -> None:
    client = server.client()
    with ThreadPoolExecutor(32) as pool:
        asked = [(seed, 1000 * seed, 100 + 37 * seed) for seed in range(64)]
        got = list(pool.map(lambda one: client.sample("shop", rows=one[2], seed=one[0], offset=one[1]), asked))
    for (seed, offset, rows), table in zip(asked, got, strict=True):
        assert table.equals(alone(served, seed, offset, offset + rows))
    assert client.sample("shop", rows=25_000, seed=3).equals(alone(served, 3, 0, 25_000))


def drawn_by(workers: int, published: str, place: Path) -> pa.Table:
    """Chinese tales by the batch path on Ray, in a copy of the run: no row is there that was made before."""
    shutil.copytree(published.removeprefix("file://"), place)
    run = Run(str(place))
    prepared, model = run.folder("prepared", "0"), run.current("model")
    prepared.write_plan(Plan(0, {"schema": TALES.to_json()}))
    asked = {"rows": 90, "rows_per_part": 15, "workers": workers, "where": {"tongue": "zh"}}
    assert model is not None
    made = generate.run(parse_recipe({"source": "examples://wine", "seed": SEED, "generate": asked}), run, prepared, model)
    return pa.concat_tables([read_rows(url) for url in made.part_urls()])


def test_the_same_seed_gives_the_same_texts_by_any_number_of_workers_and_over_http(
    server: Server, cluster: None, published_tales: str, tmp_path: Path
) -> None:
    """Whoever asks at the same time, for other texts or with another seed."""
    whole, *others = (drawn_by(workers, published_tales, tmp_path / str(workers)) for workers in (1, 2, 4))
    assert all(rows.equals(whole) for rows in others)
    assert whole.num_rows == 90 and set(whole["tongue"].to_pylist()) == {"zh"} and len(set(whole["tale"].to_pylist())) > 60
    client = server.client()

    def ask(number: int) -> tuple[int, pa.Table]:
        offset = number * 11 % 80
        mine = number % 3 > 0
        where = {"tongue": "zh"} if mine else {"tongue": ["ar", "en"], "tale": {"starts": "the"}} if number % 2 else None
        return offset, client.sample("tales", rows=10, offset=offset, seed=SEED if mine else number, where=where)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))
    for number, (offset, rows) in enumerate(answers):
        if number % 3:
            assert rows.equals(whole.slice(offset, 10)), number
        elif number % 2:
            assert set(rows["tongue"].to_pylist()) <= {"ar", "en"} and all(
                text.startswith("the") for text in rows["tale"].to_pylist()
            )


def test_a_replica_killed_under_load_costs_no_call(server: Server, served: Served) -> None:
    client = server.client()
    stop = threading.Event()
    wrong: list[str] = []
    calls = [0]

    def call(seed: int) -> None:
        expected = alone(served, seed, 0, 3000)
        while not stop.is_set():
            try:
                if not client.sample("shop", rows=3000, seed=seed).equals(expected):
                    wrong.append(f"seed {seed}: other rows")
                calls[0] += 1
            except Exception as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    first = server.kill(API)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (set(server.pids(API)) - {first}) and time.monotonic() < deadline:
        time.sleep(0.2)
    before = calls[0]
    while calls[0] < before + 8 and time.monotonic() < deadline:
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join(DEADLINE_SECONDS)
    assert not wrong
    assert calls[0] >= before + 8


def test_a_job_whose_makers_coordinator_and_proxy_are_killed_ends_completed_with_the_bytes_of_the_batch_path(
    server: Server, batch: list[str]
) -> None:
    job = server.client().submit("shop", rows=PARTS * ROWS_PER_PART, seed=SEED, rows_per_part=ROWS_PER_PART)
    server.kill(MAKER)
    server.kill(COORDINATOR)
    time.sleep(1)
    server.kill(PROXY)
    server.kill(MAKER)
    done = job.wait(DEADLINE_SECONDS)
    told = done.facts
    assert (told["status"], told["parts"], told["parts_done"], told["rows_done"]) == (
        "completed",
        PARTS,
        PARTS,
        PARTS * ROWS_PER_PART,
    )
    assert part_names(Folder(told["url"])) == batch
    assert [entry["name"].rsplit("/", 1)[1] for entry in job.manifest()] == batch


def test_a_job_is_one_job_per_key_and_body_and_nobody_elses(server: Server) -> None:
    client = server.client()
    first = client.submit("shop", rows=100, seed=1, idempotency_key="the-same")
    again = client.submit("shop", rows=100, seed=1, idempotency_key="the-same")
    assert again.id == first.id
    with pytest.raises(ServerError, match="another body") as refused:
        client.submit("shop", rows=101, seed=1, idempotency_key="the-same")
    assert refused.value.status == 422
    first.wait(DEADLINE_SECONDS)
    other = Client(server.url, Keyring(str(server.jobs.parent / "keys.json")).new("another")[1])
    deadline = time.monotonic() + 30
    while True:  # a running server looks at its keys every few seconds
        try:
            assert other.jobs() == []
            break
        except ServerError as error:
            assert error.status == 401 and time.monotonic() < deadline
            time.sleep(0.5)
    with pytest.raises(ServerError) as hidden:
        other.job(first.id)
    assert hidden.value.status == 404


def test_cancelling_ends_a_job_and_a_third_one_waits_for_its_quota(server: Server) -> None:
    client = server.client(attempts=1)
    jobs = [client.submit("shop", rows=5_000_000, seed=n, rows_per_part=1000) for n in (1, 2)]
    with pytest.raises(ServerError, match="2 may") as refused:
        client.submit("shop", rows=10, seed=3)
    assert refused.value.status == 429
    assert [job.cancel().status for job in jobs] == ["cancelled", "cancelled"]
    assert client.submit("shop", rows=10, seed=3).wait(DEADLINE_SECONDS).status == "completed"
    for job in jobs:
        assert job.refresh().status == "cancelled"
        assert not (server.jobs / job.id / "published.json").exists()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_after_a_client_hangs_up_the_replica_rests(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    body = b'{"rows": 10000000, "seed": 1}'
    head = f"POST /v1/models/shop/sample HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server.key}\r\n"
    head += f"Accept: application/vnd.apache.arrow.stream\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as wire:
        wire.sendall(head.encode() + body)
        assert wire.recv(65_536).startswith(b"HTTP/1.1 200")
    replicas = server.pids(API)
    deadline = time.monotonic() + 60
    while True:
        before = sum(map(cpu_seconds, replicas))
        time.sleep(1)
        if sum(map(cpu_seconds, replicas)) - before < 0.3:
            return
        assert time.monotonic() < deadline, "it still samples"


def test_a_newer_version_is_taken_up_and_no_call_fails(publish: object, published_run: str, tmp_path: Path) -> None:
    assert callable(publish)
    url = str(tmp_path / "shop")
    shutil.copytree(published_run.removeprefix("file://"), url)
    server = Server(url, tmp_path)
    try:
        client = server.client()
        old = client.models()[0]["digest"]
        failed: list[str] = []
        digests: set[str] = set()
        stop = threading.Event()

        def call() -> None:
            while not stop.is_set():
                try:
                    digests.add(client.sample("shop", rows=10, seed=1).schema.metadata[b"raysynth.digest"].decode())
                except Exception as error:
                    failed.append(repr(error))

        thread = threading.Thread(target=call)
        thread.start()
        publish(url, epochs=1)
        deadline = time.monotonic() + 60
        while len(digests) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        stop.set()
        thread.join(60)
        assert not failed
        assert len(digests) == 2 and old in digests
    finally:
        server.end()


def status_of(port: int, token: str, ask: dict[str, int]) -> int:
    wire = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    wire.request("POST", "/v1/models/shop/sample", json.dumps(ask), headers)
    status = wire.getresponse().status
    wire.close()
    return status


def test_a_rolling_redeploy_under_load_fails_no_call(cluster: None, published_run: str, served: Served, tmp_path: Path) -> None:
    from ray import serve

    from raysynth.serving.app import build
    from raysynth.serving.settings import Settings

    keys = str(tmp_path / "keys.json")
    token = Keyring(keys).new("tests")[1]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    asked = {"runs": (published_run,), "keys": keys, "replica_cpus": 0.2}
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run(build(Settings.model_validate(asked)), name="raysynth", route_prefix="/")
        client = Client(f"http://127.0.0.1:{port}", token)
        expected = alone(served, 5, 0, 2000)
        failed: list[str] = []
        stop = threading.Event()

        def call() -> None:
            while not stop.is_set():
                try:
                    if not client.sample("shop", rows=2000, seed=5).equals(expected):
                        failed.append("other rows")
                except Exception as error:
                    failed.append(repr(error))

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        serve.run(build(Settings.model_validate({**asked, "max_rows": 50_000})), name="raysynth", route_prefix="/")
        time.sleep(2)
        stop.set()
        for thread in threads:
            thread.join(60)
        assert not failed
        assert status_of(port, token, {"rows": 60_000}) == 413
    finally:
        serve.shutdown()


def test_an_unpublished_run_an_open_host_without_a_key_and_a_taken_port_are_refused_before_ray_starts(
    published_run: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "raysynth", "serve"]
    ended = subprocess.run([*command, str(tmp_path / "none")], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "nothing is published" in ended.stderr
    open_to_all = subprocess.run(
        [*command, published_run, "--host", "0.0.0.0", "--keys", str(tmp_path / "keys.json")],  # noqa: S104
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (open_to_all.returncode, "raysynth keys new" in open_to_all.stderr) == (2, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        second = subprocess.run([*command, published_run, "--port", port], capture_output=True, text=True, timeout=60)
    assert (second.returncode, second.stderr.count("\n")) == (2, 1)
    assert f"--port {port}" in second.stderr
