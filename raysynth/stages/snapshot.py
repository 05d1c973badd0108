"""The input files → the snapshot by which they are known: path, size and SHA-256 of each; and whether one is still what was listed."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from raysynth.errors import DataError
from raysynth.runs import READERS, SYSTEM, Run
from raysynth.sources.base import InputFile
from raysynth.stores.base import store_for

HASHES = "hashes.json"
FEW = 16  # files at a time: many small ones cost their round trips, so several are on their way

Result = TypeVar("Result")


def snapshot_of(files: list[InputFile], known: dict[str, str]) -> list[dict[str, Any]]:
    hashes = of_each(files, lambda file: known.get(_tag(file)) or _sha256(file))
    return [{"path": file.path, "bytes": file.size_bytes, "sha256": sha256} for file, sha256 in zip(files, hashes, strict=True)]


def known_hashes(run: Run) -> dict[str, str]:
    """What the run's current rows were made of, so that a run with nothing to do rereads nothing. Only a hint: a file whose tag is
    another is read."""
    current = run.current("prepared")
    try:
        return {} if current is None else cast("dict[str, str]", current.read_json(f"{SYSTEM}/{HASHES}"))
    except (FileNotFoundError, ValueError):
        return {}


def hashes_of(files: list[InputFile], snapshot: list[dict[str, Any]]) -> dict[str, str]:
    return {_tag(file): entry["sha256"] for file, entry in zip(files, snapshot, strict=True)}


def _tag(file: InputFile) -> str:
    """A file as its store tells it apart from what it was before: URL, size and ETag."""
    return f"{file.url} {file.size_bytes} {file.etag}"


def _sha256(file: InputFile) -> str:
    """The content's hash, read in pieces; a packaged example is known by the version of its package."""
    if is_packaged(file):
        return file.etag
    hashed, start, store = hashlib.sha256(), 0, store_for(file.url)
    while start < file.size_bytes and (data := store.read_range(file.url, start, min(32 << 20, file.size_bytes - start))):
        hashed.update(data)
        start += len(data)
    check_unchanged(file)  # one that has grown is no longer what was listed
    return hashed.hexdigest()


def of_each(files: Sequence[InputFile], ask: Callable[[InputFile], Result]) -> list[Result]:
    """What is asked of each file, in their order, several at a time."""
    if len(files) < FEW:
        return [ask(file) for file in files]

    def ask_some(start: int) -> list[Result]:
        return [ask(file) for file in files[start : start + FEW]]

    with ThreadPoolExecutor(READERS) as pool:
        return [result for results in pool.map(ask_some, range(0, len(files), FEW)) for result in results]


def is_packaged(file: InputFile) -> bool:
    return file.url.startswith("examples://")


def check_unchanged(file: InputFile) -> None:
    """DataError if the file is not what was listed: its size and its tag are compared, so nothing is read again."""
    if is_packaged(file):
        return
    now = store_for(file.url).stat(file.url)
    if now is None or (now.size_bytes, now.etag) != (file.size_bytes, file.etag):
        raise DataError(
            f"{file.url}: {'is gone' if now is None else 'changed'} since it was listed. Run again when nobody writes to it"
        )
