"""What a served sample costs beside the bare sampler, and how the server bears too much → three tables, all from one run of this script.

    python benchmarks/serve.py [--run URL] [--proxies python haproxy] [--clients 1 16 64]

- Cost: CPU-milliseconds (user and system, /proc/PID/stat) of all processes of a server, known by a word in their environment, for one
  request of 1,000 rows as Arrow, each of another seed. What the same processes burn while nobody asks is measured first and taken off.
  `bare` is Sampler.pieces for the same (seed, rows) in this process, one thread, no encoding: one request a call; `in full kernels`
  gives each call as many requests as one kernel holds, which is what a replica does when several wait.
- Overload: requests arrive at five times the rate that was reached before, whether or not earlier ones were answered.
- Memory: 10,000 requests of 100 rows; the replica's resident bytes after 2,000 of them and at the end.

Clients are raw sockets with keep-alive in a process of their own, which is not counted. Without --run the model is the small one of
tests/shop.py. A run at the defaults writes its lines into docs/benchmarks.md.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raysynth.cluster.session import pin_cpu

pin_cpu()
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from quality import write_into_docs  # noqa: E402
from served import Server  # noqa: E402
from shop import published  # noqa: E402

from raysynth.formats import ARROW_END, FORMATS  # noqa: E402
from raysynth.serving.registry import Served, read_published  # noqa: E402

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
ROWS, FEW_ROWS = 1000, 100
TARGET_MS = 3.0
OVER = 5
LOST, CUT, LATE = 0, -1, -2  # no connection, no end of the answer, no answer half a minute after the last request
MOST_OPEN = 1000  # connections of the overload: far more than the server answers at once
IDLE_SECONDS, OVERLOAD_SECONDS, SETTLED_SECONDS, LATE_SECONDS = 5, 20, 8, 30
PARTS = {"ray::ServeReplica:raysynth:Api": "replica", "ray::ProxyActor": "proxy", "ray::HAProxy": "proxy"}


@dataclass
class Told:
    """What clients saw: by HTTP's status, or LOST, CUT, LATE."""

    statuses: Counter[int] = field(default_factory=Counter[int])
    milliseconds: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    seconds: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        self.milliseconds.setdefault(status, []).append(1000 * seconds)

    def percentiles(self, status: int) -> str:
        found = self.milliseconds.get(status)
        return " / ".join(f"{value:,.0f}" for value in np.percentile(found, [50, 95, 99])) if found else "none"


@dataclass(frozen=True)
class Target:
    """Where requests go, and as whom."""

    host: str
    port: int
    key: str
    model: str

    def request(self, rows: int, seed: int) -> bytes:
        body = json.dumps({"rows": rows, "seed": seed}).encode()
        head = (
            f"POST /v1/models/{self.model}/sample HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.key}\r\n"
            f"Accept: {FORMATS['arrow']}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


# Clients, in a process of their own


class Connection:
    """One socket, kept alive; opened when it is needed."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, rows: int, seed: int, told: Told) -> None:
        began = time.monotonic()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(self.target.host, self.target.port)
            reader, writer = self._streams
            writer.write(self.target.request(rows, seed))
            status, body = await _answer(reader)
            told.add(CUT if status == 200 and not body.endswith(ARROW_END) else status, time.monotonic() - began)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            told.add(LOST, time.monotonic() - began)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    if b"transfer-encoding: chunked" not in head:
        return status, await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
    chunks: list[bytes] = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        chunks.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return status, b"".join(chunks)


async def steady(target: Target, clients: int, seeds: range, rows: int) -> Told:
    """Each client asks as soon as it was answered."""
    told, left, began = Told(), iter(seeds), time.monotonic()

    async def client() -> None:
        connection = Connection(target)
        for seed in left:
            await connection.ask(rows, seed, told)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    told.seconds = time.monotonic() - began
    return told


async def arriving(target: Target, per_second: float, seconds: float, rows: int) -> Told:
    """Requests start on time, whether or not others were answered; each takes a connection that is free, up to MOST_OPEN."""
    told, began = Told(), time.monotonic()
    free: list[Connection] = []
    opened = 0
    asking: set[asyncio.Task[None]] = set()

    async def one(connection: Connection, seed: int) -> None:
        await connection.ask(rows, seed, told)
        free.append(connection)

    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
        while not free and opened >= MOST_OPEN:
            await asyncio.sleep(0.001)
        if time.monotonic() > began + seconds:
            break
        if not free:
            opened += 1
        task = asyncio.create_task(one(free.pop() if free else Connection(target), number))
        asking.add(task)
        task.add_done_callback(asking.discard)
    told.seconds = time.monotonic() - began
    _, late = await asyncio.wait(asking, timeout=LATE_SECONDS) if asking else (None, set())
    told.statuses[LATE] = len(late)
    return told


Clients = Callable[..., Coroutine[Any, Any, Told]]


def apart(clients: Clients, *arguments: Any) -> Iterator[Told | None]:
    """What clients in another process saw; None ten times a second until then."""
    here, there = multiprocessing.get_context("fork").Pipe()

    def work() -> None:
        there.send(asyncio.run(clients(*arguments)))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    while not here.poll(0.1):
        if not process.is_alive() and not here.poll(0.1):
            raise SystemExit("the clients died")
        yield None
    told: Told = here.recv()
    process.join()
    yield told


def until_told(clients: Clients, *arguments: Any) -> Told:
    return next(told for told in apart(clients, *arguments) if told is not None)


# The server, from outside


def cpu_ms(server: Server) -> dict[int, tuple[str, float]]:
    """Process → (replica, proxy or rest; CPU-milliseconds since it began), of all that the server started."""
    found: dict[int, tuple[str, float]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if server.word.encode() not in (entry / "environ").read_bytes():
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        named = (part for title, part in PARTS.items() if command.startswith(title))
        part = "proxy" if "/haproxy " in command else next(named, "rest")
        found[int(entry.name)] = part, TICK_MS * (int(stat[11]) + int(stat[12]))
    return found


def burnt(server: Server, before: dict[int, tuple[str, float]]) -> dict[str, float]:
    """replica, proxy, rest → CPU-milliseconds since `before`."""
    spent = {"replica": 0.0, "proxy": 0.0, "rest": 0.0}
    for pid, (part, now) in cpu_ms(server).items():
        spent[part] += now - before.get(pid, ("", 0.0))[1]
    return spent


def replica_bytes(server: Server) -> int:
    """Resident."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in server.pids("ray::ServeReplica:raysynth:Api")]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


# What is measured


def bare_ms(run: str, requests: int) -> tuple[float, float]:
    """CPU-milliseconds of the sampler alone for one request's rows: a request a call, and in full kernels."""
    torch.set_num_threads(1)
    served = Served(read_published(run))
    sampler = served.sampler(served.facts["where"])
    numbers = np.arange(ROWS, dtype=np.uint64)
    together = max(1, served.model.generator.kernel_rows // ROWS)

    def measured(size: int) -> float:
        seeds = [(seed, numbers) for seed in range(requests)]
        sampler.pieces(seeds[:size])
        began = time.process_time()
        for start in range(0, requests, size):
            sampler.pieces(seeds[start : start + size])
        return 1000 * (time.process_time() - began) / requests

    return measured(1), measured(together)


@dataclass(frozen=True)
class Cost:
    """CPU-milliseconds of one request, what is burnt idle taken off."""

    replica: float
    proxy: float
    rest: float
    per_second: float

    @property
    def all(self) -> float:
        return self.replica + self.proxy + self.rest


def cost(server: Server, target: Target, clients: int, requests: int, idle: dict[str, float]) -> Cost:
    before = cpu_ms(server)
    told = until_told(steady, target, clients, range(requests), ROWS)
    spent = burnt(server, before)
    if set(told.statuses) != {200}:
        raise SystemExit(f"{clients} clients: {dict(told.statuses)}, and all should be 200")
    each = {part: max(0.0, spent[part] - idle[part] * told.seconds) / requests for part in spent}
    return Cost(**each, per_second=requests / told.seconds)


def idle_ms(server: Server) -> dict[str, float]:
    """CPU-milliseconds of a second in which nobody asks."""
    before = cpu_ms(server)
    time.sleep(IDLE_SECONDS)
    return {part: spent / IDLE_SECONDS for part, spent in burnt(server, before).items()}


def overload(server: Server, target: Target, capacity: float) -> str:
    """A line of the second table."""
    resident: list[int] = []
    told, began = Told(), time.monotonic()
    for seen in apart(arriving, target, OVER * capacity, OVERLOAD_SECONDS, ROWS):
        if time.monotonic() - began > SETTLED_SECONDS:
            resident.append(replica_bytes(server))
        told = seen or told
    names = {LOST: "lost", CUT: "cut", LATE: "late"}
    others = ", ".join(
        f"{count} {names.get(status, status)}" for status, count in told.statuses.items() if count and status not in (200, 429)
    )
    rate = sum(told.statuses.values()) / told.seconds
    counts = f"{rate:,.0f} | {told.statuses[200]:,} | {told.statuses[429]:,} | {others or 'none'}"
    growth = f"{max(resident) / resident[0]:.3f} × ({resident[0] >> 20:,} → {max(resident) >> 20:,} MiB)"
    return f"{counts} | {told.percentiles(200)} | {told.percentiles(429)} | {growth}"


def memory(server: Server, target: Target, requests: int) -> str:
    """A line of the third table."""
    first = requests // 5
    until_told(steady, target, 16, range(first), FEW_ROWS)
    before = replica_bytes(server)
    until_told(steady, target, 16, range(first, requests), FEW_ROWS)
    after = replica_bytes(server)
    return f"{first:,} | {before >> 20:,} | {requests:,} | {after >> 20:,} | {after / before:.3f}"


def measured(run: str, proxy: str, asked: argparse.Namespace, bare: tuple[float, float]) -> tuple[list[str], str, str]:
    """The lines of one kind of server in each table."""
    costs: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        options = ["--haproxy"] if proxy == "haproxy" else []
        server = Server(run, Path(folder), *options, settings={"max_replicas": 1})
        try:
            parts = urlsplit(server.url)
            target = Target(str(parts.hostname), int(parts.port or 80), server.key, server.client().models()[0]["id"])
            until_told(steady, target, 16, range(500), ROWS)
            idle = idle_ms(server)
            capacity = 0.0
            for clients in asked.clients:
                each = cost(server, target, clients, asked.requests if clients > 1 else asked.requests // 4, idle)
                capacity = max(capacity, each.per_second)
                parts_ms = f"{each.all:.2f} | {each.replica:.2f} | {each.proxy:.2f} | {each.rest:.2f}"
                beside = f"{each.all - bare[0]:+.2f} | {each.all - bare[1]:+.2f} | {each.per_second:,.0f}"
                costs.append(f"| {proxy} | {clients} | {parts_ms} | {beside} |")
                print(costs[-1], flush=True)
            over = f"| {proxy} | {capacity:,.0f} | {overload(server, target, capacity)} |"
            print(over, flush=True)
            grown = f"| {proxy} | {memory(server, target, asked.many)} |"
            print(grown, flush=True)
        finally:
            server.end()
    return costs, over, grown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="URL of a published run; by default a small one is made")
    parser.add_argument("--proxies", nargs="+", choices=("python", "haproxy"), default=("python", "haproxy"))
    parser.add_argument("--clients", type=int, nargs="+", default=(1, 16, 64))
    parser.add_argument("--requests", type=int, default=2000, help="of 1,000 rows, at each number of clients; a quarter at one")
    parser.add_argument("--many", type=int, default=10_000, help="requests of 100 rows, for the memory")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = asked.run or published(f"{folder}/shop")
        bare = bare_ms(run, asked.requests // 4)
        told = f"The bare sampler needs {bare[0]:.2f} CPU-ms for 1,000 rows, {bare[1]:.2f} in full kernels."
        print(told, flush=True)
        found = [measured(run, proxy, asked, bare) for proxy in asked.proxies]
    lines = [
        told,
        f"Wanted: at most {TARGET_MS:g} more with HAProxy at 16 and 64 clients; only 200 and 429; memory within 10 %.",
        "",
        "| proxy | clients | CPU-ms | replica | proxy's | rest | more than bare | than full kernels | requests per s |",
        "|" + " --- |" * 9,
        *(line for costs, _, _ in found for line in costs),
        "",
        "| proxy | capacity per s | arriving per s | 200 | 429 | others | ms of 200: p50 / p95 / p99 | of 429 | replica's memory |",
        "|" + " --- |" * 9,
        *(over for _, over, _ in found),
        "",
        "| proxy | requests of 100 rows | replica MiB | requests | replica MiB | × |",
        "|" + " --- |" * 6,
        *(grown for _, _, grown in found),
    ]
    if asked == parser.parse_args([]):
        write_into_docs("serve", lines)


if __name__ == "__main__":
    main()
