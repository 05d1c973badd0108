"""One server over HTTP: requests go out, answers or ServerErrors come in; how often and how long a request is worth trying.

HTTP is the standard library's: it is certain to be there (aiohttp and requests only come with packages that the server side needs), it
follows no redirect and reads no proxy settings, so that the key goes to the host that was named and nowhere else.
"""

import io
import json
import random
import re
import ssl
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from datetime import time as clock_time
from decimal import Decimal
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Any, cast
from urllib.parse import quote, urlsplit

import numpy as np
import pyarrow as pa

from raysynth.errors import RecipeError, StoreError

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 10.0  # between attempts
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_PROBLEM_BYTES = 65_536
chance = random.SystemRandom()


class ServerError(StoreError):
    """The server refused, failed, or did not answer. `status` is HTTP's, or None where no answer came; `transient`: another attempt may
    help, if `slow` one that asks for less."""

    def __init__(
        self, message: str, status: int | None = None, *, transient: bool = False, slow: bool = False, after_seconds: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status, self.transient, self.slow, self.after_seconds = status, transient, slow, after_seconds


class Wire:
    """One server: requests go out, answers or ServerErrors come in. It alone knows the key."""

    def __init__(self, url: str, key: str, timeout_seconds: float, attempts: int) -> None:
        if timeout_seconds <= 0 or attempts < 1:
            raise RecipeError(f"timeout_seconds {timeout_seconds}, attempts {attempts}: must be above 0 and at least 1")
        if not re.fullmatch(r"[!-~]*", key):
            raise RecipeError("key: it holds a character that no key has (it is not repeated here). Copy it again")
        self.url, self._host, self._port, self._path = _address(url)
        self._key, self._timeout_seconds, self._attempts = key, timeout_seconds, attempts
        self._tls = ssl.create_default_context() if self.url.startswith("https:") else None

    def patience(self) -> "Patience":
        return Patience(self._attempts, self._attempts * self._timeout_seconds)

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
                    told = json.loads(body_of(response, patience).read())
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
        patience: "Patience",
        asked: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        accept: str = "application/json",
    ) -> Generator[HTTPResponse]:
        """One request, once. ServerError for whatever is no success, and for every fault inside the block, such as a cut."""
        body = None if asked is None else plain_json(asked)
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
        hint = {401: ". Give a valid key, or set RAYSYNTH_KEY", 413: ". Client.submit makes data sets of any size"}.get(status, "")
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


class Patience:
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
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self.failed - 1)) * chance.uniform(0.5, 1.0)
        pause = max(pause, error.after_seconds)
        if not error.transient or self.failed >= self.attempts or pause >= self.left_seconds:
            raise error
        time.sleep(pause)


class _Raw(io.RawIOBase):
    """An answer's body. IncompleteRead where it is cut (http.client lets some cuts pass), TimeoutError when the time is over."""

    def __init__(self, response: HTTPResponse, patience: Patience | None) -> None:
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


def body_of(response: HTTPResponse, patience: Patience | None = None) -> io.BufferedReader:
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


def segment(name: str) -> str:
    return quote(name, safe="")


def plain_json(asked: Mapping[str, Any]) -> bytes:
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
