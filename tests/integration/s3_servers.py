"""Real S3 servers on free loopback ports, and a proxy that fails on purpose; all are context managers.

with rclone(folder) as endpoint, faulty(endpoint, share=0.3, seed=7) as proxy: os.environ.update(environment(proxy.url))
"""

import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

KEY, SECRET = "raysynth-test-key", "raysynth-test-secret"
FAULTS = ("503", "reset", "delay", "drop")
MAX_START_SECONDS = 30.0


def environment(endpoint: str, secret: str = SECRET) -> dict[str, str]:
    """What a process needs in its environment to use a server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }


def free_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def rclone(folder: Path, bucket: str = "bucket") -> Iterator[str]:
    """`rclone serve s3` over `folder` (a bucket is a top-level folder): it checks keys and ignores conditional writes."""
    port, empty = free_port(), folder.parent / f"{folder.name}-rclone.conf"
    (folder / bucket).mkdir(parents=True, exist_ok=True)
    empty.touch()
    cache = folder.parent / f"{folder.name}-rclone-cache"
    command = [_program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"]
    with _served(
        [*command, "--config", str(empty), "--cache-dir", str(cache), str(folder)], port, folder.parent / "rclone.log"
    ) as url:
        yield url


@contextmanager
def moto(folder: Path, bucket: str = "bucket") -> Iterator[str]:
    """moto's server, in memory: it honours conditional writes and takes any secret."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    with _served([_program("moto_server"), "-H", "127.0.0.1", "-p", str(port)], port, folder / "moto.log") as url:
        import boto3

        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET)
        client.create_bucket(Bucket=bucket)
        client.close()
        yield url


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name}: pip install 'raysynth[dev]'")
    return found


@contextmanager
def _served(command: list[str], port: int, log: Path) -> Iterator[str]:
    with log.open("wb") as lines, subprocess.Popen(command, stdout=lines, stderr=lines) as server:
        try:
            _wait_for(port, server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + MAX_START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{server.args} did not start: {log.read_text()[-2000:]}")


@dataclass
class Faulty:
    """A running proxy: its URL, how many requests of each method came, how many faults of each kind it made, and
    (client, method, path, fault or "") of each request. `share` may be changed while it runs."""

    url: str
    share: float
    requests: Counter[str] = field(default_factory=Counter[str])
    faults: Counter[str] = field(default_factory=Counter[str])
    seen: list[tuple[str, str, str, str]] = field(default_factory=list[tuple[str, str, str, str]])


@contextmanager
def faulty(
    endpoint: str,
    *,
    share: float,
    seed: int,
    kinds: tuple[str, ...] = FAULTS,
    methods: tuple[str, ...] = (),
    delay_seconds: float = 0.2,
    address: str = "127.0.0.1",
) -> Iterator[Faulty]:
    """A proxy before `endpoint` that, on a seeded share of the requests (of `methods` only, if given), answers 503, resets the
    connection before asking, delays, or asks and then drops the reply."""
    server = ThreadingHTTPServer((address, 0), _Handler)
    server.daemon_threads = True
    state = Faulty(f"http://{address}:{server.server_port}", share)
    draws = random.Random(seed)  # noqa: S311
    lock, target = threading.Lock(), urlsplit(endpoint)

    def fault_of(method: str, client: str, path: str) -> str:
        with lock:
            state.requests[method] += 1
            spared = (methods and method not in methods) or draws.random() >= state.share
            kind = "" if spared else draws.choice(kinds)
            if kind:
                state.faults[kind] += 1
            state.seen.append((client, method, path.partition("?")[0], kind))
            return kind

    def connect() -> HTTPConnection:
        return HTTPConnection(target.hostname or "", target.port, timeout=60)

    server.fault_of, server.connect, server.delay_seconds = fault_of, connect, delay_seconds  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            pass  # the base class has answered it
        body = self._body()
        fault = self.server.fault_of(self.command, self.client_address[0], self.path)  # type: ignore[attr-defined]
        if fault == "503":
            self._send(503, [("Content-Type", "application/xml")], b"<Error><Code>SlowDown</Code><Message>Faulty</Message></Error>")
        elif fault == "reset":
            self._drop()
        else:
            if fault == "delay":
                time.sleep(self.server.delay_seconds)  # type: ignore[attr-defined]
            self._forward(body, drop=fault == "drop")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _forward(self, body: bytes, *, drop: bool) -> None:
        with closing(self.server.connect()) as upstream:  # type: ignore[attr-defined]
            hop = {"connection", "transfer-encoding", "content-length", "expect"}
            # Host stays the proxy's: it is part of what was signed.
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in hop:
                    upstream.putheader(name, value)
            upstream.putheader("Content-Length", str(len(body)))
            try:
                upstream.endheaders(body)
                reply: HTTPResponse = upstream.getresponse()
                data = reply.read()
            except (OSError, HTTPException):
                self._drop()
                return
        if drop:
            self._drop()
        else:
            headers = [
                (name, value) for name, value in reply.getheaders() if name.lower() not in {"connection", "transfer-encoding"}
            ]
            self._send(reply.status, headers, data)

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        try:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() != "content-length" or self.command == "HEAD":
                    self.send_header(name, value)
            if self.command != "HEAD" and status not in (204, 304):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client has gone

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # RST instead of FIN
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        return
