"""An ASGI application → the same one behind a key, caps on bodies and requests, request ids, log lines, and problems for every error.

Denies by default: whatever is not in OPEN needs a key, a path that does not exist too.
"""

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raysynth.errors import DataError, StoreError
from raysynth.keys import Key
from raysynth.serving.api import INTERNAL, PROBLEM, TITLES, HttpError, problem

log = logging.getLogger("raysynth.serving")

_REQUEST_ID = re.compile(r"[ -~]{1,200}")
SECURITY: dict[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
RETRY_SECONDS = 1
BODY_SECONDS = 10.0


CheckKey = Callable[[str], Awaitable[Key | None]]
"""A token → its key, or None; its time must not tell which token is near."""


class Meter(Protocol):
    """Told of each request when it has ended, and of those that were refused for a limit."""

    def request(self, route: str, status: int, seconds: float) -> None: ...
    def refused(self, reason: str) -> None: ...


class Guard:
    """`open_paths`: answered without a key.
    `tells_id`: False where the server around it puts the request id on answers itself, as Ray Serve does."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        open_paths: frozenset[str],
        check: CheckKey,
        max_requests: int,
        max_body_bytes: int,
        meter: Meter,
        tells_id: bool = True,
    ) -> None:
        self.app, self.open_paths, self.check, self.meter = app, open_paths, check, meter
        self.max_requests, self.max_body_bytes = max_requests, max_body_bytes
        self.tells_id = tells_id
        self.answering = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        answer = _Answer(send, _request_id(headers), self.tells_id)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        began = time.monotonic()
        self.answering += 1
        try:
            await self._answer(scope, headers, receive, answer)
        except HttpError as error:
            await answer.refuse(error)
        except HTTPException as error:  # the body is above the cap before anybody reads it
            await answer.refuse(HttpError(error.status_code, TITLES[error.status_code], str(error.detail)))
        except Exception:
            log.exception("request %s failed", answer.request_id)
            await answer.refuse(INTERNAL)
        finally:
            self.answering -= 1
            seconds = time.monotonic() - began
            route = getattr(scope.get("route"), "path", "other")
            self.meter.request(route, answer.status, seconds)
            key = scope["state"].get("key")
            told = {"request_id": answer.request_id, "key": key.id if key else None, "method": scope["method"], "route": route}
            log.info("%s", json.dumps({**told, "status": answer.status, "seconds": round(seconds, 4), "whole": answer.whole}))

    async def _answer(self, scope: Scope, headers: Mapping[str, str], receive: Receive, answer: "_Answer") -> None:
        if scope["path"] not in self.open_paths:
            scope["state"]["key"] = await self._key(headers)
            if self.answering > self.max_requests:
                self.meter.refused("requests")
                raise HttpError(
                    429,
                    "Too many requests",
                    f"{self.max_requests} requests are being answered already",
                    retry_after_seconds=RETRY_SECONDS,
                )
        body = _Body(receive, self.max_body_bytes)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise HttpError(400, "Bad request", "content-length: must be a whole number")
        body.count(int(length[:20]), 0)
        await self.app(scope, body.receive, answer.send)

    async def _key(self, headers: Mapping[str, str]) -> Key:
        kind, _, token = headers.get("authorization", "").partition(" ")
        try:
            key = await self.check(token.strip()) if kind.lower() == "bearer" and token else None
        except (StoreError, DataError, OSError):
            log.exception("the keys cannot be read")
            raise HttpError(503, "Not ready", "the keys cannot be read", retry_after_seconds=5) from None
        if key is None:
            raise HttpError(401, "Unauthorized", "give a valid key in the header: Authorization: Bearer KEY")
        return key


class _Body:
    """What arrives, up to a cap and a deadline."""

    def __init__(self, receive: Receive, most_bytes: int) -> None:
        self._receive, self.most_bytes, self.bytes = receive, most_bytes, 0
        self._coming, self._ends = True, asyncio.get_running_loop().time() + BODY_SECONDS

    def count(self, announced: int, arrived: int) -> None:
        self.bytes += arrived
        if max(announced, self.bytes) > self.most_bytes:
            raise HTTPException(413, f"a body of at most {self.most_bytes:,} bytes is read")

    async def receive(self) -> Message:
        """FastAPI lets an HTTPException through, and takes every other error for a body that is no JSON."""
        try:
            async with asyncio.timeout_at(self._ends if self._coming else None):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"the body did not come within {BODY_SECONDS:g} s") from None
        self._coming = message.get("more_body", False)
        self.count(0, len(message.get("body", b"")))
        return message


class _Answer:
    """What is sent: every answer bears the request id and what keeps browsers safe."""

    def __init__(self, send: Send, request_id: str, tells_id: bool) -> None:
        self._send, self.request_id, self.tells_id = send, request_id, tells_id
        self.status, self.begun, self.whole = 500, False, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            there = {name for name, _ in message["headers"]}
            more = {**SECURITY, **({"x-request-id": self.request_id} if self.tells_id else {})}
            added = [(name.encode(), value.encode()) for name, value in more.items() if name.encode() not in there]
            message = {**message, "headers": [*message["headers"], *added]}
        elif message["type"] == "http.response.body":
            self.whole = not message.get("more_body", False)
        await self._send(message)

    async def refuse(self, error: HttpError) -> None:
        """A problem; of an answer that has begun nothing more is sent, so that whoever reads it sees that it was cut."""
        if self.begun:
            if not self.whole:
                raise ConnectionAbortedError("the answer was cut") from error
            return
        data = json.dumps(problem(error.status, error.title, str(error), self.request_id)).encode()
        headers: list[tuple[bytes, bytes]] = [(b"content-type", PROBLEM.encode()), (b"content-length", str(len(data)).encode())]
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if error.retry_after_seconds is not None:
            headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": data})


def _request_id(headers: Mapping[str, Any]) -> str:
    """The caller's own where it is harmless, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
