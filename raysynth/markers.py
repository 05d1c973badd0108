"""Markers: what a finished task says of the parts it wrote; and the one form of JSON and of hashes that names in a run rest on."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from raysynth.errors import CorruptRunError
from raysynth.stores.base import Store

HASH_CHARACTERS = 12
NAME = re.compile(r"(\d{9,})-(\d{9,})-[0-9a-f]{12}\.json")


def canonical(value: object) -> bytes:
    """JSON in its one form: sorted keys, no spaces, UTF-8. TypeError or ValueError on what JSON cannot say (NaN too)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put_content(store: Store, url: str, data: bytes) -> None:
    """Write under a name that bears its hash. CorruptRunError if other bytes lie there already."""
    if not store.put(url, data) and store.read(url) != data:
        raise CorruptRunError(
            f"{url}: its name bears the hash {digest(data)[:HASH_CHARACTERS]}, its bytes do not. "
            "Something outside raysynth changed it: delete the file, then run the same command again"
        )


@dataclass(frozen=True)
class PartFile:
    """One file of a part. `columns`: per column [min, max], where Arrow orders the type and the values are short."""

    sub: str
    name: str
    rows: int
    bytes: int
    sha256: str
    columns: dict[str, list[Any]]


@dataclass(frozen=True)
class Part:
    """All files of one part (none is allowed) and what its maker noted, such as rejects."""

    part: int
    files: tuple[PartFile, ...]
    extra: dict[str, Any]

    @property
    def hash(self) -> str:
        """One number for all its bytes, by which two makings of a part are compared."""
        return digest(canonical([[file.sub, file.name, file.sha256] for file in self.files]))


@dataclass(frozen=True)
class Marker:
    """The proof that the parts first … stop - 1 are written."""

    first: int
    stop: int
    parts: tuple[Part, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(marker: Mapping[str, Any]) -> "Marker":
        parts = tuple(
            Part(part["part"], tuple(PartFile(**file) for file in part["files"]), part["extra"]) for part in marker["parts"]
        )
        return Marker(marker["first"], marker["stop"], parts)

    def named(self) -> tuple[str, bytes]:
        """The file name, which bears the hash of the content, and the content."""
        data = canonical(self.to_json())
        return f"{self.first:09d}-{self.stop:09d}-{digest(data)[:HASH_CHARACTERS]}.json", data


def proven(name: str) -> range | None:
    """The parts that a marker proves, by its file name; None where the name is no marker's."""
    found = NAME.fullmatch(name)
    return range(int(found[1]), int(found[2])) if found else None
