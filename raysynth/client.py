"""A server's URL and a key → its models, rows of any number, and jobs. Needs neither ray nor torch.

HTTP is the standard library's: it is certain to be there (aiohttp and requests only come with packages that the server side needs), it
follows no redirect and reads no proxy settings, so that the key goes to the host that was named and nowhere else.
"""

import io
import json
import os
import random
import re
import ssl
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from datetime import time as clock_time
from decimal import Decimal
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Any, cast
from urllib.parse import quote, urlsplit
from uuid import uuid4

import numpy as np
import pyarrow as pa

from raysynth.errors import RecipeError, StoppedError, StoreError
from raysynth.formats import FORMATS

ENVIRONMENT = "RAYSYNTH_KEY"
PAGE_ROWS = 10_000  # of one request: a second's work or so, and what is asked again after a fault
SEEDS = 2**53  # what a drawn seed is below: every reader of JSON keeps these whole
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 10.0  # between attempts
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.5, 5.0  # at a job that is waited for
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_PROBLEM_BYTES = 65_536
_chance = random.SystemRandom()


class ServerError(StoreError):
    """The server refused, failed, or did not answer. `status` is HTTP's, or None where no answer came; `transient`: another attempt may
    help, if `slow` one that asks for less."""

    def __init__(
        self, message: str, status: int | None = None, *, transient: bool = False, slow: bool = False, after_seconds: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status, self.transient, self.slow, self.after_seconds = status, transient, slow, after_seconds


class Client:
    """`key`: without one that of RAYSYNTH_KEY. `timeout_seconds`: how long the server may be silent; `attempts` times as long may a
    request take with all its attempts, unless rows keep coming.

    Faults that pass (408, 429, 500, 502, 503, 504, a lost connection) are tried again, not before the server wants it; others are a
    ServerError at once. Threads may share a client. RecipeError on a URL that is not http(s)://host[:port][/path].
    """

    def __init__(self, url: str, key: str | None = None, timeout_seconds: float = 60.0, attempts: int = 8) -> None:
        key = os.environ.get(ENVIRONMENT, "") if key is None else key
        self._wire = _Wire(url, key.strip(), timeout_seconds, attempts)
        self.url = self._wire.url

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def models(self) -> list[dict[str, Any]]:
        """Each published model's id, digest and number of rows."""
        return self._wire.json("GET", "/v1/models", holds="models")["models"]

    def model(self, id: str) -> dict[str, Any]:
        """A model's card: schema, profile, scores, gates, provenance."""
        return self._wire.json("GET", f"/v1/models/{_segment(id)}", holds="schema")

    def sample(
        self,
        model: str,
        *,
        rows: int,
        seed: int | None = None,
        offset: int = 0,
        where: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Rows offset … offset + rows - 1 of the model's data set of this seed (drawn if None; the schema's metadata say it, raysynth.seed,
        beside raysynth.digest). Without `where` the condition of the published data set holds, with {} none."""
        return pa.Table.from_batches(self.stream(model, rows=rows, seed=seed, offset=offset, where=where, columns=columns))

    def stream(
        self,
        model: str,
        *,
        rows: int,
        seed: int | None = None,
        offset: int = 0,
        where: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """What `sample` gives, as it comes, at most 10,000 rows at a time; no connection is open while the caller works."""
        if rows < 1 or offset < 0 or (columns is not None and not columns):
            raise RecipeError(
                f"rows {rows}, offset {offset}, columns {columns}: must be at least 1, at least 0, and None or some names"
            )
        seed = _chance.randrange(SEEDS) if seed is None else seed
        asked = {"seed": seed, "where": where, "columns": None if columns is None else list(columns)}
        _plain_json(asked)  # what JSON cannot say is refused here, not when the first row is wanted
        return _pages(self._wire, f"/v1/models/{_segment(model)}/sample", asked, offset, offset + rows)

    def submit(
        self,
        model: str,
        *,
        rows: int,
        seed: int | None = None,
        where: Mapping[str, Any] | None = None,
        rows_per_part: int | None = None,
        idempotency_key: str | None = None,
    ) -> "Job":
        """Start a data set of any size on the server's store. With the same `idempotency_key` (1 to 200 visible ASCII characters, drawn if
        None) it is the same job, however often it is submitted."""
        idempotency_key = uuid4().hex if idempotency_key is None else idempotency_key
        if not re.fullmatch(r"[!-~]{1,200}", idempotency_key):
            raise RecipeError(f"idempotency_key {idempotency_key!r}: must be 1 to 200 visible ASCII characters")
        asked = {"model": model, "rows": rows, "seed": seed, "where": where, "rows_per_part": rows_per_part}
        headers = {"Idempotency-Key": idempotency_key}
        return Job(self._wire, self._wire.json("POST", "/v1/jobs", asked, headers, holds="status"))

    def jobs(self) -> list["Job"]:
        """The key's own jobs, newest first."""
        return [Job(self._wire, facts) for facts in self._wire.json("GET", "/v1/jobs", holds="jobs")["jobs"]]

    def job(self, id: str) -> "Job":
        """A job that was submitted before."""
        return Job(self._wire, self._wire.json("GET", f"/v1/jobs/{_segment(id)}", holds="status"))


class Job:
    """A data set that the server writes. `facts`: what was last heard of it."""

    def __init__(self, wire: "_Wire", facts: dict[str, Any]) -> None:
        self.facts = facts
        self._wire = wire
        self._path = f"/v1/jobs/{_segment(self.id)}"

    def __repr__(self) -> str:
        return f"Job({self.id!r}, {self.status!r})"

    @property
    def id(self) -> str:
        return str(self.facts["id"])

    @property
    def status(self) -> str:
        """running, completed, cancelled or failed, as it was when last heard of."""
        return str(self.facts["status"])

    @property
    def url(self) -> str | None:
        """The folder of the data, once completed."""
        return self.facts.get("url")

    def refresh(self) -> "Job":
        self.facts = self._wire.json("GET", self._path, holds="status")
        return self

    def wait(self, timeout_seconds: float | None = None) -> "Job":
        """Until it is completed. ServerError if it fails or is cancelled; StoppedError when the time is over: the job goes on. With a
        `timeout_seconds`, a server that does not answer for a while is waited for as long."""
        ends = float("inf") if timeout_seconds is None else time.monotonic() + timeout_seconds
        pause = FIRST_LOOK_SECONDS
        while self._still_running(patient=timeout_seconds is not None):
            left = ends - time.monotonic()
            if left <= 0:
                done = f"{self.facts.get('parts_done')} of {self.facts.get('parts')} parts"
                raise StoppedError(f"job '{self.id}': not completed after {timeout_seconds} s ({done}). It goes on: wait again")
            time.sleep(min(pause, left))
            pause = min(LONGEST_LOOK_SECONDS, pause * 1.5)
        if self.status != "completed":
            raise ServerError(f"job '{self.id}': {self.status}. {self.facts.get('detail') or 'Submit it again'}")
        return self

    def _still_running(self, patient: bool) -> bool:
        try:
            return self.refresh().status == "running"
        except ServerError as error:
            if not (patient and error.transient):
                raise
            return True

    def events(self) -> Iterator[dict[str, Any]]:
        """The job's facts at every change, until it has ended. A lost connection is opened again."""
        patience = self._wire.patience()
        while True:
            try:
                for last, facts in self._heard(patience):
                    patience = self._wire.patience()
                    if last or facts != self.facts:
                        self.facts = facts
                        yield facts
                    if last:
                        return
            except ServerError as error:
                patience.wait(error)

    def cancel(self) -> "Job":
        """ServerError (409) if it has ended otherwise."""
        self.facts = self._wire.json("POST", f"{self._path}/cancel", holds="status")
        return self

    def manifest(self) -> list[dict[str, Any]]:
        """Part, name, rows, bytes, sha256 and URL of each file. ServerError (409) until it is completed."""
        return self._wire.json("GET", f"{self._path}/manifest", holds="files")["files"]

    def _heard(self, patience: "_Patience") -> Iterator[tuple[bool, dict[str, Any]]]:
        """(whether it is the last, what is told), from one connection. ServerError when it stops without a last one."""
        with self._wire.answer("GET", f"{self._path}/events", patience, accept="text/event-stream") as response:
            event = ""
            for line in _body(response):
                name, _, value = line.decode().rstrip("\r\n").partition(":")
                if name == "event":
                    event = value.strip()
                elif name == "data":
                    yield event == "end", json.loads(value)
                    if event == "end":
                        return
            raise IncompleteRead(b"")


def _pages(wire: "_Wire", path: str, asked: Mapping[str, Any], at: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Rows at … stop-1, page after page; after a fault from the first row that did not come."""
    page_rows, digest, patience = PAGE_ROWS, "", wire.patience()
    while at < stop:
        page = _Page({**asked, "rows": min(page_rows, stop - at), "offset": at}, digest)
        fault = page.read(wire, path, patience)
        yield from page.batches
        digest = page.digest
        if page.rows:
            at, patience = at + page.rows, wire.patience()
        if fault is None:
            continue
        above_cap = fault.status == 413 and page.asked_rows > 1
        if above_cap or fault.slow:
            page_rows = max(1, page.asked_rows // 2)
        if not above_cap:
            patience.wait(fault)


class _Page:
    """The rows of one request, as far as they came."""

    def __init__(self, asked: Mapping[str, Any], digest: str) -> None:
        self.asked, self.asked_rows, self.digest = asked, int(asked["rows"]), digest
        self.batches: list[pa.RecordBatch] = []

    @property
    def rows(self) -> int:
        return sum(batch.num_rows for batch in self.batches)

    def read(self, wire: "_Wire", path: str, patience: "_Patience") -> ServerError | None:
        """What went wrong; what came before that is kept."""
        try:
            with wire.answer("POST", path, patience, self.asked, accept=FORMATS["arrow"]) as response:
                self._begin(response)
                for batch in pa.ipc.open_stream(_body(response, patience)):
                    self._add(batch)
                if self.rows != self.asked_rows:
                    raise IncompleteRead(b"")
        except ServerError as error:
            return error
        return None

    def _begin(self, response: HTTPResponse) -> None:
        """ServerError if what comes is not what was asked for: then no further attempt helps."""
        digest, rows = response.getheader("X-Raysynth-Digest", ""), response.getheader("X-Raysynth-Rows", "none")
        if rows != str(self.asked_rows) or not digest:
            raise ServerError(f"{self.asked_rows} rows were asked for, and {rows[:20]} are announced. Is it a raysynth server?")
        if self.digest not in ("", digest):
            raise ServerError("another version of the model was published meanwhile: its rows are others. Ask again")
        self.digest = digest

    def _add(self, batch: pa.RecordBatch) -> None:
        if self.rows + batch.num_rows > self.asked_rows:
            raise ServerError(f"more than the {self.asked_rows} rows came that were asked for. Is it a raysynth server?")
        told = {"raysynth.seed": str(self.asked["seed"]), "raysynth.digest": self.digest}
        self.batches.append(batch.replace_schema_metadata(told))


class _Wire:
    """One server: requests go out, answers or ServerErrors come in. It alone knows the key."""

    def __init__(self, url: str, key: str, timeout_seconds: float, attempts: int) -> None:
        if timeout_seconds <= 0 or attempts < 1:
            raise RecipeError(f"timeout_seconds {timeout_seconds}, attempts {attempts}: must be above 0 and at least 1")
        if not re.fullmatch(r"[!-~]*", key):
            raise RecipeError("key: it holds a character that no key has (it is not repeated here). Copy it again")
        self.url, self._host, self._port, self._path = _address(url)
        self._key, self._timeout_seconds, self._attempts = key, timeout_seconds, attempts
        self._tls = ssl.create_default_context() if self.url.startswith("https:") else None

    def patience(self) -> "_Patience":
        return _Patience(self._attempts, self._attempts * self._timeout_seconds)

    def json(
        self,
        method: str,
        path: str,
        asked: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        holds: str,
    ) -> dict[str, Any]:
        """An object with the field `holds`; faults that pass are tried again."""
        patience = self.patience()
        while True:
            try:
                with self.answer(method, path, patience, asked, headers) as response:
                    told = json.loads(_body(response, patience).read())
            except ServerError as error:
                patience.wait(error)
                continue
            if not isinstance(told, dict) or holds not in told:
                raise ServerError(f"{self.url}: its answer has no '{holds}'. Is it a raysynth server?")
            return cast("dict[str, Any]", told)

    @contextmanager
    def answer(
        self,
        method: str,
        path: str,
        patience: "_Patience",
        asked: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        accept: str = "application/json",
    ) -> Generator[HTTPResponse]:
        """One request, once. ServerError for whatever is no success, and for every fault inside the block, such as a cut."""
        body = None if asked is None else _plain_json(asked)
        said = {"Accept": accept, "User-Agent": "raysynth", "Connection": "close", **(headers or {})}
        said |= {"Content-Type": "application/json"} if body else {}
        said |= {"Authorization": f"Bearer {self._key}"} if self._key else {}
        connection = self._connection(min(self._timeout_seconds, patience.left_seconds))
        begun = False
        try:
            connection.request(method, self._path + path, body, said)
            response = connection.getresponse()
            if not 200 <= response.status < 300:
                raise self._refusal(response)
            begun = True
            yield response
        except (OSError, HTTPException, ValueError, pa.ArrowException) as error:
            raise self._fault(error, begun) from error
        finally:
            connection.close()

    def _connection(self, timeout_seconds: float) -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(self._host, self._port, timeout=timeout_seconds)
        return HTTPSConnection(self._host, self._port, timeout=timeout_seconds, context=self._tls)

    def _refusal(self, response: HTTPResponse) -> ServerError:
        """An answer that is no success → what its problem says, never the key."""
        status = response.status
        if 300 <= status < 400:
            return ServerError(
                f"{self.url}: it points to another place ({status}), and the key is not sent on. Give that URL", status
            )
        told = _problem(response)
        detail = str(told.get("detail") or told.get("title") or response.reason)[:500]
        request = response.getheader("X-Request-Id", "")[:100]
        hint = {401: f". Give a valid key, or set {ENVIRONMENT}", 413: ". Client.submit makes data sets of any size"}.get(
            status, ""
        )
        message = f"{self.url}: {status}: {detail}{f' (request {request})' if request else ''}{hint}"
        return ServerError(
            message.replace(self._key, "***") if self._key else message,
            status,
            transient=status in TRANSIENT,
            slow=status == 408,
            after_seconds=_after_seconds(response.getheader("Retry-After")),
        )

    def _fault(self, error: Exception, begun: bool) -> ServerError:
        if isinstance(error, TimeoutError):
            return ServerError(
                f"{self.url}: it was silent for too long. Ask for less, or raise timeout_seconds", transient=True, slow=True
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            return ServerError(
                f"{self.url}: its certificate is not trusted ({error.verify_message}). Mend that, or set SSL_CERT_FILE"
            )
        if begun:
            return ServerError(f"{self.url}: the answer stops before its end ({type(error).__name__})", transient=True)
        return ServerError(
            f"{self.url}: no answer ({type(error).__name__}: {error}). Check the URL, and that it runs", transient=True
        )


class _Patience:
    """How long one request, with all its attempts, is worth waiting for."""

    def __init__(self, attempts: int, seconds: float) -> None:
        self.attempts, self.failed = attempts, 0
        self.ends = time.monotonic() + seconds

    @property
    def left_seconds(self) -> float:
        return max(0.001, self.ends - time.monotonic())

    def wait(self, error: ServerError) -> None:
        """Until the next attempt: twice as long each time, not all clients at once, and as long as the server asks for. The error itself if
        there is no next attempt."""
        self.failed += 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self.failed - 1)) * _chance.uniform(0.5, 1.0)
        pause = max(pause, error.after_seconds)
        if not error.transient or self.failed >= self.attempts or pause >= self.left_seconds:
            raise error
        time.sleep(pause)


class _Raw(io.RawIOBase):
    """An answer's body. IncompleteRead where it is cut (http.client lets some cuts pass), TimeoutError when the time is over."""

    def __init__(self, response: HTTPResponse, patience: _Patience | None) -> None:
        self.response, self.patience = response, patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.patience is not None and time.monotonic() > self.patience.ends:
            raise TimeoutError
        data = self.response.read1(len(buffer))
        if not data and self.response.length:
            raise IncompleteRead(b"", self.response.length)
        buffer[: len(data)] = data
        return len(data)


def _body(response: HTTPResponse, patience: _Patience | None = None) -> io.BufferedReader:
    return io.BufferedReader(_Raw(response, patience), 1 << 16)


def _address(url: str) -> tuple[str, str, int | None, str]:
    """URL → (as it is shown, host, port, path before /v1)."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if "@" in url or "?" in url or "#" in url:
        raise RecipeError(
            "url: user names, passwords, queries and fragments are not taken (it is not repeated here, it may hold secrets)"
        )
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[!-~]+", url):
        raise RecipeError(f"url {url!r}: must be http://host[:port] or https://host[:port], and may have a path")
    return parts.geturl().rstrip("/"), host, port, parts.path.rstrip("/")


def _segment(name: str) -> str:
    return quote(name, safe="")


def _plain_json(asked: Mapping[str, Any]) -> bytes:
    """RecipeError on what JSON cannot say. Dates, times and decimals are sent as text."""
    try:
        return json.dumps(asked, default=_plain, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"where: {error}. Give numbers, text, true or false, null, dates, times, or lists or ranges of them"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, date | datetime | clock_time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, set | frozenset):
        return list(cast("set[Any]", value))
    if isinstance(value, np.datetime64):
        return str(value)  # ISO 8601
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is no value of a column")


def _problem(response: HTTPResponse) -> dict[str, Any]:
    try:
        told = json.loads(response.read(_PROBLEM_BYTES))
    except (OSError, HTTPException, ValueError):
        return {}
    return cast("dict[str, Any]", told) if isinstance(told, dict) else {}


def _after_seconds(header: str | None) -> float:
    """Retry-After: seconds, or a date (RFC 9110, section 10.2.3); 0 where it says neither."""
    if header is None:
        return 0.0
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
