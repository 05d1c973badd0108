"""`s3://bucket/key` URLs → objects by s3fs; endpoint, region and credentials come from each process's AWS environment."""

import builtins
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from enum import Enum
from hashlib import sha256
from typing import Any, cast
from uuid import uuid4

import s3fs
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
)
from botocore.parsers import ResponseParserError
from fsspec.exceptions import FSTimeoutError

from raysynth.errors import StoreError
from raysynth.stores.base import Stat, Store

MAX_CALL_SECONDS = 120.0  # how long one call is tried again at a server that has answered this process, or who sent it a store
MAX_FIRST_SECONDS = 8.0  # and at one that never has: a wrong endpoint is told within seconds
MAX_WAIT_SECONDS = 5.0

_log = logging.getLogger(__name__)
_filesystems: dict[str, Any] = {}
_answered: set[str] = set()  # the AWS environments in which a server has answered


def make() -> Store:
    return S3()


class S3(Store):
    """Holds neither secrets nor connections, so it travels to workers as it is; every process opens its own client on first use."""

    def read(self, url: str) -> bytes:
        path = "/".join(_split(url))
        return bytes(self._call(url, "read", lambda fs: fs.cat_file(path)))

    def read_range(self, url: str, start: int, length: int) -> bytes:
        path = "/".join(_split(url))
        if length <= 0:
            return b"" if self._stat(url) else self.read(url)
        try:
            return bytes(self._call(url, "read", lambda fs: fs.cat_file(path, start=start, end=start + length)))
        except _BeyondEndError:
            return b""

    def put(self, url: str, data: bytes) -> bool:
        """Asks first whether the object is there, since some servers ignore the condition. Where replies are lost, two writers of
        equal bytes may both hear True; of two writers of different bytes one does, where the server honours the condition."""
        bucket, key = _split(url)
        if self._stat(url) is not None:
            return False

        def read_back() -> bool | None:
            """True: ours. False: another's. None: nothing there, put again."""
            try:
                return self.read(url) == data
            except FileNotFoundError:
                return None

        try:
            self._call(url, "write", lambda fs: fs.pipe_file(f"{bucket}/{key}", data, mode="create"), read_back)
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise StoreError(f"url '{url}': cannot write it: no bucket '{bucket}'. Create it, or check the name") from error
        return True

    def replace(self, url: str, data: bytes) -> None:
        bucket, key = _split(url)
        try:
            self._call(url, "write", lambda fs: fs.pipe_file(f"{bucket}/{key}", data))
        except FileNotFoundError as error:
            raise StoreError(f"url '{url}': cannot write it: no bucket '{bucket}'. Create it, or check the name") from error

    def list(self, url: str) -> Iterator[Stat]:
        bucket, key = _split(url, folder=True)
        prefix = f"{key}/" if key else ""
        found: dict[str, Stat] = {}
        page: dict[str, str] = {}
        while True:
            answer = self._page(url, bucket, Prefix=prefix, **page)
            for entry in answer.get("Contents", []):
                if not entry["Key"].endswith("/"):  # folder markers of other tools hold nothing
                    found[entry["Key"]] = _seen(f"s3://{bucket}/{entry['Key']}", entry["Size"], entry)
            if not answer.get("IsTruncated"):
                return iter([found[name] for name in sorted(found)])
            page = {"ContinuationToken": answer["NextContinuationToken"]}

    def stat(self, url: str) -> Stat | None:
        return self._stat(url)

    def delete(self, url: str) -> None:
        bucket, key = _split(url)
        try:
            self._call(url, "delete", lambda fs: fs.call_s3("delete_object", Bucket=bucket, Key=key))
        except FileNotFoundError:
            return

    def check(self, url: str, *, write: bool) -> builtins.list[str]:
        bucket, key = _split(url, folder=True)
        self._page(url, bucket, Prefix=f"{key}/" if key else "", MaxKeys=1)
        if not write:
            return []
        probe = f"s3://{bucket}/{key + '/' if key else ''}_raysynth-probe-{uuid4().hex}"
        self.replace(probe, b"raysynth")
        try:
            self._call(probe, "write", lambda fs: fs.pipe_file(probe, b"raysynth", mode="create"))
        except FileExistsError:
            return []
        finally:
            self.delete(probe)
        return [
            f"url '{url}': this server ignores conditional writes (If-None-Match), so two drivers of one run may do the same work "
            "twice, and a plan with remote generators must have one driver only; parts stay safe: their names bear their hashes"
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {"answered": _environment() in _answered}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["answered"]:
            _answered.add(_environment())

    def _stat(self, url: str) -> Stat | None:
        bucket, key = _split(url)
        try:
            facts = self._call(url, "read", lambda fs: fs.call_s3("head_object", Bucket=bucket, Key=key))
        except FileNotFoundError:
            return None
        return _seen(f"s3://{bucket}/{key}", facts["ContentLength"], facts)

    def _page(self, url: str, bucket: str, **options: object) -> dict[str, Any]:
        try:
            return self._call(url, "list", lambda fs: cast(dict[str, Any], fs.call_s3("list_objects_v2", Bucket=bucket, **options)))
        except FileNotFoundError as error:
            raise StoreError(f"url '{url}': cannot list it: no bucket '{bucket}'. Create it, or check the name") from error

    def _call(self, url: str, verb: str, ask: Callable[[Any], Any], read_back: Callable[[], bool | None] | None = None) -> Any:
        """What `ask` answers, asked again after passing failures until the deadline, every wait logged with its cause.
        `read_back` says what a put without a reply left: this object (True), another (False), or nothing."""
        began, turn = time.monotonic(), 0
        while True:
            try:
                answer = ask(_filesystem())
                _answered.add(_environment())
                return answer
            except StoreError:
                raise
            except Exception as error:  # botocore's, aiohttp's and s3fs's own all come through
                failure, kind = error, _kind(error)
            if _reply(failure) is not None:
                _answered.add(_environment())
            # Even a first 412 may be one's own object: aiohttp sends a PUT again by itself when a kept-alive connection breaks.
            if kind is not _Kind.PASSING and not (kind is _Kind.EXISTS and read_back):
                raise _final(url, verb, failure, kind) from failure
            left = read_back() if read_back else None
            if left is False:
                raise FileExistsError(url) from failure
            if left is True:
                return None
            self._wait(url, verb, failure, began, turn)
            turn += 1

    def _wait(self, url: str, verb: str, error: Exception, began: float, turn: int) -> None:
        max_seconds = MAX_CALL_SECONDS if _environment() in _answered else MAX_FIRST_SECONDS
        wait_seconds = min(MAX_WAIT_SECONDS, 0.1 * 2**turn) * random.uniform(0.5, 1.0)  # noqa: S311 (spreads workers)
        if time.monotonic() - began + wait_seconds > max_seconds:
            raise StoreError(_told(url, verb, error) + f" (tried {turn + 1} times in {time.monotonic() - began:.0f} s)") from error
        _log.info("waits %.1f s, then tries again: %s", wait_seconds, _told(url, verb, error))
        time.sleep(wait_seconds)


class _BeyondEndError(Exception):
    """A range that starts after the object's last byte."""


class _Kind(Enum):
    PASSING = "a reply that asks to come back, or no reply"
    EXISTS = "the condition failed: an object is there"
    ABSENT = "no such object or bucket"
    BEYOND_END = "the range starts after the end"
    FATAL = "asking again would not help"


_CODES = {
    "PreconditionFailed": _Kind.EXISTS,
    "412": _Kind.EXISTS,
    "InvalidRange": _Kind.BEYOND_END,
    "416": _Kind.BEYOND_END,
    "RequestTimeout": _Kind.PASSING,
    "IncompleteBody": _Kind.PASSING,
    "BadDigest": _Kind.PASSING,
    "XAmzContentSHA256Mismatch": _Kind.PASSING,
    "SlowDown": _Kind.PASSING,
}
_STATUSES = {404: _Kind.ABSENT, 412: _Kind.EXISTS, 416: _Kind.BEYOND_END} | dict.fromkeys(
    (408, 409, 429, 500, 502, 503, 504), _Kind.PASSING
)
_NO_REPLY = (
    HTTPClientError,
    ResponseParserError,
    FSTimeoutError,
    ConnectionError,
    TimeoutError,
    EndpointConnectionError,
    ConnectTimeoutError,
    ProxyConnectionError,
)
_NO_REPLY_NAMES = {
    "ClientPayloadError",
    "ServerDisconnectedError",
    "ClientOSError",
    "IncompleteRead",
    "IncompleteReadError",
}  # aiohttp's


def _final(url: str, verb: str, error: Exception, kind: _Kind) -> Exception:
    if kind is _Kind.ABSENT:
        return FileNotFoundError(url)
    if kind is _Kind.EXISTS:
        return FileExistsError(url)
    return _BeyondEndError() if kind is _Kind.BEYOND_END else StoreError(_told(url, verb, error))


def _reply(error: BaseException) -> ClientError | None:
    """The server's own error reply behind what s3fs raised; None: there was no reply."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, ClientError):
        link = link.__cause__  # never __context__: that may be an earlier call's failure
    return link


def _kind(error: Exception) -> _Kind:
    reply = _reply(error)
    if reply is not None:
        facts = cast(dict[str, Any], reply.response)
        status = int(facts.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return _CODES.get(str(facts["Error"].get("Code")), _STATUSES.get(status, _Kind.FATAL))
    if isinstance(error, FileNotFoundError):
        return _Kind.ABSENT
    if isinstance(error, _NO_REPLY) or type(error).__name__ in _NO_REPLY_NAMES:
        return _Kind.PASSING
    return _Kind.FATAL


def _told(url: str, verb: str, error: Exception) -> str:
    """The URL, the cause and what to do, with no secret in it."""
    reply = _reply(error)
    cause = f"{type(error).__name__}: {error}"
    remedy = "Check the url"
    if reply is not None:
        facts = cast(dict[str, Any], reply.response)
        status = int(facts.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        cause = f"the server answered {status} {facts['Error'].get('Code', '')}: {facts['Error'].get('Message', '')}"
        if status in (401, 403):
            remedy = "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION and the bucket's policy"
        elif status >= 500 or status == 429:
            remedy = "Try again later"
    elif isinstance(error, _NO_REPLY):
        remedy = "Check AWS_ENDPOINT_URL and the network"
    elif isinstance(error, BotoCoreError):
        remedy = "Check the AWS environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL"
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"):
        if os.environ.get(name):
            cause = cause.replace(os.environ[name], "***")
    return f"url '{url}': cannot {verb} it: {cause[:500]}. {remedy}"


def _seen(url: str, size: Any, facts: dict[str, Any]) -> Stat:
    """What a listing or a HEAD says of an object."""
    modified = facts.get("LastModified")
    return Stat(url, int(size), str(facts.get("ETag", "")).strip('"'), modified.timestamp() if modified else None)


def _split(url: str, *, folder: bool = False) -> tuple[str, str]:
    """s3://bucket/key → (bucket, key). StoreError, which does not repeat them, on user info or a query: both could carry secrets or
    point elsewhere."""
    rest = url.removeprefix("s3://")
    bucket, _, key = rest.partition("/")
    if "@" in bucket or "?" in rest:
        raise StoreError(
            "an s3 url with user info or a query was refused (not repeated, it may hold secrets). Allowed: s3://bucket/key; "
            "credentials and endpoint come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL"
        )
    key = key.rstrip("/")
    if not url.startswith("s3://") or not bucket or (not key and not folder):
        raise StoreError(f"url '{url}': must be s3://bucket/key")
    return bucket, key


def _environment() -> str:
    """What says where the server is and who asks, as a hash: a changed key or endpoint gives another."""
    return sha256(repr(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))).encode()).hexdigest()


def _filesystem() -> Any:
    """The client of this process for its present AWS environment."""
    identity = f"{os.getpid()} {_environment()}"
    if identity not in _filesystems:
        if "@" in os.environ.get("AWS_ENDPOINT_URL_S3", os.environ.get("AWS_ENDPOINT_URL", "")):
            raise StoreError("AWS_ENDPOINT_URL: must not hold user info. Use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        made = s3fs.S3FileSystem(
            use_listings_cache=False,
            skip_instance_cache=True,
            client_kwargs={"region_name": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"},
            config_kwargs={
                "connect_timeout": 3,
                "read_timeout": 20,
                "retries": {"total_max_attempts": 1},  # S3._call tries again: it alone knows what a lost reply means
                "request_checksum_calculation": "when_required",  # rclone and other servers reject the newer checksums
                "response_checksum_validation": "when_required",
            },
        )
        made.retries = 1
        _filesystems[identity] = made
    return _filesystems[identity]
