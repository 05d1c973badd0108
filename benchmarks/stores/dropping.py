"""`dropping:///…` URLs → files, but for Parquet parts: those are hashed and named by their makers as ever, and then dropped."""

import builtins
from collections.abc import Iterator
from dataclasses import replace

from raysynth.stores.base import Stat, Store
from raysynth.stores.file import File


def make() -> Store:
    return Dropping()


class Dropping(Store):
    """Keeps what a driver needs to know that the parts were made: plan, markers, manifest, outcome."""

    def __init__(self) -> None:
        self.files = File()

    def read(self, url: str) -> bytes:
        return self.files.read(_file(url))

    def read_range(self, url: str, start: int, length: int) -> bytes:
        return self.files.read_range(_file(url), start, length)

    def put(self, url: str, data: bytes) -> bool:
        return url.rsplit("/", 1)[1].startswith("part-") or self.files.put(_file(url), data)

    def replace(self, url: str, data: bytes) -> None:
        self.files.replace(_file(url), data)

    def list(self, url: str) -> Iterator[Stat]:
        return (replace(stat, url=stat.url.replace("file://", "dropping://", 1)) for stat in self.files.list(_file(url)))

    def stat(self, url: str) -> Stat | None:
        found = self.files.stat(_file(url))
        return found and replace(found, url=url)

    def delete(self, url: str) -> None:
        self.files.delete(_file(url))

    def check(self, url: str, *, write: bool) -> builtins.list[str]:
        return self.files.check(_file(url), write=write)


def _file(url: str) -> str:
    return url.replace("dropping://", "file://", 1)
