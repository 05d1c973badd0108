"""`memory://…` URLs → bytes in this process, for tests: one dictionary for every store made here, gone with the process."""

import builtins
import threading
from collections.abc import Iterator
from hashlib import sha256

from raysynth.errors import StoreError
from raysynth.stores.base import Stat, Store

_objects: dict[str, bytes] = {}
_lock = threading.Lock()


def make() -> Store:
    return Memory()


class Memory(Store):
    """Everything that file and s3 promise, except that another process sees none of it."""

    def read(self, url: str) -> bytes:
        key = _key(url)
        with _lock:
            if key not in _objects:
                raise FileNotFoundError(url)
            return _objects[key]

    def read_range(self, url: str, start: int, length: int) -> bytes:
        return self.read(url)[start : start + length]

    def put(self, url: str, data: bytes) -> bool:
        key, whole = _key(url), bytes(data)
        with _lock:
            if key in _objects:
                return False
            _objects[key] = whole
            return True

    def replace(self, url: str, data: bytes) -> None:
        key = _key(url)
        with _lock:
            _objects[key] = bytes(data)

    def list(self, url: str) -> Iterator[Stat]:
        below = _key(url) + "/"
        with _lock:
            found = {key: data for key, data in _objects.items() if key.startswith(below)}
        return iter([_stat(key, found[key]) for key in sorted(found)])

    def stat(self, url: str) -> Stat | None:
        key = _key(url)
        with _lock:
            data = _objects.get(key)
        return None if data is None else _stat(key, data)

    def delete(self, url: str) -> None:
        key = _key(url)
        with _lock:
            _objects.pop(key, None)

    def check(self, url: str, *, write: bool) -> builtins.list[str]:
        _key(url)
        return ["memory: what is written here is gone when this process ends, and no other process sees it"] if write else []


def _key(url: str) -> str:
    if not url.startswith("memory://") or not url.removeprefix("memory://").strip("/"):
        raise StoreError(f"url '{url}': must be memory://name/…")
    return url.rstrip("/")


def _stat(url: str, data: bytes) -> Stat:
    return Stat(url, len(data), sha256(data).hexdigest())
