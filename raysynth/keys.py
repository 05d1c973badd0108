"""A file of hashed keys → new keys, revoked ones, and whose key a token is. A token is shown once, when it is made, and kept nowhere.

A token is `rs_` and 256 random bits, so a plain SHA-256 is enough: slow hashes and salts protect what people choose and others can guess,
and nobody guesses, or tables, 2^256 numbers (OWASP Password Storage and NIST SP 800-63B, section 5.1.2, ask for them for passwords).
"""

import asyncio
import contextlib
import hmac
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from raysynth.errors import DataError, StoreError
from raysynth.stores.base import absolute, store_for

log = logging.getLogger("raysynth.keys")

PREFIX = "rs_"  # what scanners of repositories and logs look for
ENVIRONMENT = "RAYSYNTH_KEYS"
DEFAULT_URL = "~/.config/raysynth/keys.json"
REFRESH_SECONDS = 5.0  # so long a revoked key may still be taken
STALE_SECONDS = 60.0  # so long the last known keys count while the store does not answer
LOCK_SECONDS = 30.0  # a writer needs far less: an older lock is a dead writer's
WRITE_ATTEMPTS = 20


@dataclass(frozen=True)
class Key:
    """One key and its quotas; `created` and `revoked` are ISO 8601 moments in UTC."""

    id: str
    name: str
    sha256: str = field(repr=False)
    created: str
    revoked: str | None = None
    max_running_jobs: int = 2
    max_job_rows: int = 100_000_000


Keys = tuple[Key, ...]


class Keyring:
    """The keys at a store URL; without one those that RAYSYNTH_KEYS names, or ~/.config/raysynth/keys.json. Threads may share it."""

    def __init__(self, url: str | None = None) -> None:
        self.url = absolute(url or os.environ.get(ENVIRONMENT) or DEFAULT_URL)
        self._store = store_for(self.url)
        self._known: Keys | None = None
        self._looked_seconds = self._read_seconds = 0.0
        self._lock = threading.Lock()

    def check(self, token: str) -> Key | None:
        """The key of a token, or None if there is none or it was revoked. Every record is compared, each in constant time. Blocking: the
        file is read anew when 5 s are over. DataError if it is broken, StoreError if it could not be read for a minute."""
        digest = _digest(token)
        found: Key | None = None
        for key in self._current():
            if hmac.compare_digest(key.sha256.encode(), digest.encode()):
                found = key
        return found if found is not None and found.revoked is None else None

    async def checked(self, token: str) -> Key | None:
        """What `check` says, for an event loop: only where the store must be read it takes a thread."""
        if self._known is not None and self._fresh:
            return self.check(token)
        return await asyncio.to_thread(self.check, token)

    def list(self) -> Keys:
        """All keys, revoked ones too, in the order in which they were made. DataError if the file is broken."""
        try:
            data = self._store.read(self.url)
        except FileNotFoundError:
            return ()
        try:
            return tuple(_key(record) for record in json.loads(data)["keys"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"keys '{self.url}': it is no file of keys ({_cause(error)}). Put it right, or move it away and make new keys"
            ) from None

    def new(self, name: str, *, max_running_jobs: int = 2, max_job_rows: int = 100_000_000) -> tuple[Key, str]:
        """A key and its token, which nothing can show again. DataError on a name that is not one line of 1 to 100 characters,
        or on a negative quota."""
        if not 1 <= len(name) <= 100 or not name.isprintable():
            raise DataError(f"name {name!r}: must be one line of 1 to 100 characters")
        if min(max_running_jobs, max_job_rows) < 0:
            raise DataError(f"quotas {max_running_jobs} and {max_job_rows}: must be at least 0; 0 allows no job")
        token = PREFIX + secrets.token_urlsafe(32)
        key = Key(secrets.token_hex(4), name, _digest(token), _now(), None, max_running_jobs, max_job_rows)

        def added(keys: Keys) -> Keys:
            return (*keys, key)

        def arrived(keys: Keys) -> bool:
            return key in keys

        self._write(added, arrived)
        return key, token

    def revoke(self, id: str) -> Key:
        """From now on (within 5 s, where a server runs) the key is refused. DataError if there is none of this id."""
        moment = _now()

        def revoked(keys: Keys) -> Keys:
            if not any(key.id == id for key in keys):
                raise DataError(
                    f"key '{id}': there is none in '{self.url}'. There are: {', '.join(key.id for key in keys) or 'none'}"
                )
            return tuple(replace(key, revoked=key.revoked or moment) if key.id == id else key for key in keys)

        def arrived(keys: Keys) -> bool:
            return any(key.id == id and key.revoked for key in keys)

        written = self._write(revoked, arrived)
        return next(key for key in written if key.id == id)

    def _current(self) -> Keys:
        """The keys as of at most 5 s ago. While one thread reads, others go on with what is known."""
        known = self._known
        if known is not None and self._fresh:
            return known
        if not self._lock.acquire(blocking=known is None or self._stale):
            return known or ()
        try:
            self._known = self.list()
            self._looked_seconds = self._read_seconds = time.monotonic()
            return self._known
        except (StoreError, DataError, OSError) as error:
            if known is None or self._stale:  # a revoked key must not open the server as long as the file cannot be read
                raise
            self._looked_seconds = time.monotonic()
            log.warning("the keys known so far count for a minute: %s", error)
            return known
        finally:
            self._lock.release()

    @property
    def _fresh(self) -> bool:
        return time.monotonic() - self._looked_seconds < REFRESH_SECONDS and not self._stale

    @property
    def _stale(self) -> bool:
        return time.monotonic() - self._read_seconds > STALE_SECONDS

    def _write(self, change: Callable[[Keys], Keys], arrived: Callable[[Keys], bool]) -> Keys:
        """Read, change, write, read back; again if another writer came between."""
        for _ in range(WRITE_ATTEMPTS):
            with self._alone():
                text = json.dumps({"keys": [asdict(key) for key in change(self.list())]}, indent=2, ensure_ascii=False)
                self._store.replace(self.url, text.encode() + b"\n")
                self._hide()
                written = self.list()
            if arrived(written):
                self._known = None
                return written
        raise StoreError(f"keys '{self.url}': others overwrote it {WRITE_ATTEMPTS} times. Run the same command again")

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        """A store has no compare-and-swap, but only one writer can put an object that is not there: that one is the lock. One that a dead
        writer left is taken away; should two do that at once, reading back finds it out."""
        lock = self.url + ".lock"
        holder = secrets.token_hex(8).encode()
        began = time.monotonic()
        while not self._store.put(lock, holder):
            stat = self._store.stat(lock)
            old = stat is not None and stat.modified_seconds is not None and time.time() - stat.modified_seconds > LOCK_SECONDS
            if old or time.monotonic() - began > LOCK_SECONDS:
                self._store.delete(lock)
            time.sleep(0.01 + secrets.randbelow(40) / 1000)
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                if self._store.read(lock) == holder:  # else it was taken for a dead writer's
                    self._store.delete(lock)

    def _hide(self) -> None:
        """Only its owner may read the file: hashes open nothing, but names and quotas are nobody else's business."""
        if self.url.startswith("file://"):
            with contextlib.suppress(OSError):  # file systems without permissions
                Path(self.url.removeprefix("file://")).chmod(0o600)


def _key(record: dict[str, Any]) -> Key:
    """TypeError where a field is missing, unknown or of another type."""
    key = Key(**record)
    texts = (key.id, key.name, key.sha256, key.created, key.revoked or "")
    if {type(text) for text in texts} != {str} or {type(key.max_running_jobs), type(key.max_job_rows)} != {int}:
        raise TypeError(f"a field of key {key.id!r} is of another type")
    return key


def _digest(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _cause(error: Exception) -> Any:
    return f"no '{error.args[0]}'" if isinstance(error, KeyError) else error
