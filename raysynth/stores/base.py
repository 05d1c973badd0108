"""Store: where URLs live. Objects are written whole, once, under a name; pointers are the only things that are overwritten."""

import builtins
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stat:
    """One object: its full URL, its size, the store's own tag of its content ('' where it has none), and when it was written (Unix time)."""

    url: str
    size_bytes: int
    etag: str
    modified_seconds: float | None = field(default=None, compare=False)  # servers round it differently in a listing and alone


class Store(ABC):
    """Every URL given is absolute (`scheme://…`, or for files an absolute path after `file://`). A store is
    cheap to make and picklable without secrets: workers read credentials from their own environment."""

    @abstractmethod
    def read(self, url: str) -> bytes:
        """The whole object. FileNotFoundError if absent; StoreError if it cannot be reached or may not be read."""

    @abstractmethod
    def read_range(self, url: str, start: int, length: int) -> bytes:
        """`length` bytes from `start` (fewer at the end)."""

    @abstractmethod
    def put(self, url: str, data: bytes) -> bool:
        """Write the object whole if absent: True if this call made it, False if an object was there already (then the
        caller may compare). After a failed put the store reads back and compares: a lost reply is not an error. Never half-written,
        never overwritten."""

    @abstractmethod
    def replace(self, url: str, data: bytes) -> None:
        """Write or overwrite a pointer, whole. Only for the run's pointer files."""

    @abstractmethod
    def list(self, url: str) -> Iterator[Stat]:
        """Every object below a folder URL, recursively, sorted by URL. Nothing if the folder does not exist."""

    @abstractmethod
    def stat(self, url: str) -> Stat | None:
        """The object itself, or None."""

    @abstractmethod
    def delete(self, url: str) -> None:
        """Remove one object (only gc and the clearing of tmp/ ask for it); absent is fine."""

    @abstractmethod
    def check(self, url: str, *, write: bool) -> builtins.list[str]:
        """Can this place be read (and written)? StoreError within seconds if not, with the cause. Returns warnings, such as that
        the server ignores conditional writes and what is lost by it."""

    def exists(self, url: str) -> bool:
        return self.stat(url) is not None


def store_for(url: str) -> "Store":
    """The store of a URL's scheme; a plain path is a file. StoreError on a scheme that no file in raysynth/stores bears."""
    from importlib import import_module
    from importlib.util import find_spec

    from raysynth.errors import StoreError

    scheme = url.split("://", 1)[0] if "://" in url else "file"
    if not scheme.isidentifier() or scheme == "base" or find_spec(f"raysynth.stores.{scheme}") is None:
        shown = f"{scheme}://…@{url.rsplit('@', 1)[1]}" if "@" in url else url  # what stands before it may be a password
        raise StoreError(f"url '{shown}': no store for the scheme '{scheme}'. Allowed: file, s3, memory, or a plain path")
    made: Store = import_module(f"raysynth.stores.{scheme}").make()
    return made


def absolute(url: str) -> str:
    """A URL as stores take it: plain paths become `file:///…`; no trailing slash."""
    from pathlib import Path

    if "://" in url:
        return url.rstrip("/")
    return "file://" + str(Path(url).expanduser().absolute())


def join(url: str, *parts: str) -> str:
    return "/".join([url.rstrip("/"), *(part.strip("/") for part in parts)])
