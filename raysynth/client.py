"""A server's URL and a key → its models, rows of any number, and jobs. Needs neither ray nor torch."""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPResponse, IncompleteRead
from typing import Any
from uuid import uuid4

import pyarrow as pa

from raysynth.errors import RecipeError, StoppedError
from raysynth.formats import FORMATS
from raysynth.wire import Patience, ServerError, Wire, body_of, chance, plain_json, segment

ENVIRONMENT = "RAYSYNTH_KEY"
PAGE_ROWS = 10_000  # of one request: a second's work or so, and what is asked again after a fault
SEEDS = 2**53  # what a drawn seed is below: every reader of JSON keeps these whole
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.5, 5.0  # at a job that is waited for


class Client:
    """`key`: without one that of RAYSYNTH_KEY. `timeout_seconds`: how long the server may be silent; `attempts` times as long may a
    request take with all its attempts, unless rows keep coming.

    Faults that pass (408, 429, 500, 502, 503, 504, a lost connection) are tried again, not before the server wants it; others are a
    ServerError at once. Threads may share a client. RecipeError on a URL that is not http(s)://host[:port][/path].
    """

    def __init__(self, url: str, key: str | None = None, timeout_seconds: float = 60.0, attempts: int = 8) -> None:
        key = os.environ.get(ENVIRONMENT, "") if key is None else key
        self._wire = Wire(url, key.strip(), timeout_seconds, attempts)
        self.url = self._wire.url

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def models(self) -> list[dict[str, Any]]:
        """Each published model's id, digest and number of rows."""
        return self._wire.json("GET", "/v1/models", holds="models")["models"]

    def model(self, id: str) -> dict[str, Any]:
        """A model's card: schema, profile, scores, gates, provenance."""
        return self._wire.json("GET", f"/v1/models/{segment(id)}", holds="schema")

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
        beside raysynth.digest). Without `where` the condition of the published data set holds, with {} none.

        `where`: column → a value, a list of values, a range ({"min": 1, "under": 9}), or how a text begins ({"starts": "Once upon"}); every
        row meets all of it."""
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
        seed = chance.randrange(SEEDS) if seed is None else seed
        asked = {"seed": seed, "where": where, "columns": None if columns is None else list(columns)}
        plain_json(asked)  # what JSON cannot say is refused here, not when the first row is wanted
        return _pages(self._wire, f"/v1/models/{segment(model)}/sample", asked, offset, offset + rows)

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
        return Job(self._wire, self._wire.json("GET", f"/v1/jobs/{segment(id)}", holds="status"))


class Job:
    """A data set that the server writes. `facts`: what was last heard of it."""

    def __init__(self, wire: "Wire", facts: dict[str, Any]) -> None:
        self.facts = facts
        self._wire = wire
        self._path = f"/v1/jobs/{segment(self.id)}"

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

    def _heard(self, patience: "Patience") -> Iterator[tuple[bool, dict[str, Any]]]:
        """(whether it is the last, what is told), from one connection. ServerError when it stops without a last one."""
        with self._wire.answer("GET", f"{self._path}/events", patience, accept="text/event-stream") as response:
            event = ""
            for line in body_of(response):
                name, _, value = line.decode().rstrip("\r\n").partition(":")
                if name == "event":
                    event = value.strip()
                elif name == "data":
                    yield event == "end", json.loads(value)
                    if event == "end":
                        return
            raise IncompleteRead(b"")


def _pages(wire: "Wire", path: str, asked: Mapping[str, Any], at: int, stop: int) -> Iterator[pa.RecordBatch]:
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

    def read(self, wire: "Wire", path: str, patience: "Patience") -> ServerError | None:
        """What went wrong; what came before that is kept."""
        try:
            with wire.answer("POST", path, patience, self.asked, accept=FORMATS["arrow"]) as response:
                self._begin(response)
                for batch in pa.ipc.open_stream(body_of(response, patience)):
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
