"""A file, folder or glob URL → the sorted input files; bytes of one of them as a stream; row-id columns for the tables read."""

import gzip
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import IO, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.errors import DataError
from raysynth.schema import FILE, ROW
from raysynth.sources.base import InputFile
from raysynth.stores.base import Stat, absolute, store_for

TEXT_BYTES = 10_000  # how much of a bad row is kept
_READ_AHEAD_BYTES = 8 << 20


def list_files(url: str, suffixes: Sequence[str]) -> list[InputFile]:
    """Every object of the file, folder or glob `url`, sorted by path; of a folder, those that end in `suffixes`."""
    _, found = matched(url, lambda path: _is_data(path, suffixes))
    if not found:
        raise nothing_in(absolute(url), suffixes)
    return found


def matched(url: str, is_data: Callable[[str], bool]) -> tuple[str, list[InputFile]]:
    """The root of a file, folder or glob, and its objects sorted by path: the file, those of the folder that are data, or those that the
    glob takes; where it takes none, it may be the very name of a file or folder, such as `a[1]`."""
    url = absolute(url)
    store = store_for(url)
    if re.search(r"[*?\[]", url):
        root, pattern = _split_glob(url)
        found = [_input_file(stat, root) for stat in store.list(root)]
        if taken := [file for file in found if pattern.fullmatch(file.path)]:
            return root, sorted(taken, key=lambda file: file.path)
    if (stat := store.stat(url)) is not None:
        root = url.rsplit("/", 1)[0]
        return root, [_input_file(stat, root)]
    found = (_input_file(stat, url) for stat in store.list(url))
    return url, sorted((file for file in found if is_data(file.path)), key=lambda file: file.path)


def nothing_in(url: str, suffixes: Sequence[str]) -> DataError:
    return DataError(f"source '{url}': no input files. Expected a file, a folder with {', '.join(suffixes)} files, or a glob")


def file_at(url: str, root: str) -> InputFile | None:
    """One object, by its URL or its path below the root; None if it is not there."""
    url = url if "://" in url or url.startswith("/") else f"{root}/{url}"
    stat = store_for(url).stat(absolute(url))
    if stat is None:
        return None
    return _input_file(stat, root if stat.url.startswith(f"{root}/") else stat.url.rsplit("/", 1)[0])


def open_file(file: InputFile) -> IO[bytes]:
    """The bytes of a file as a stream read in ranges of 8 MiB; unpacked where the name ends in .gz."""
    stream = cast("IO[bytes]", io.BufferedReader(RangeFile(file), buffer_size=_READ_AHEAD_BYTES))
    return cast("IO[bytes]", gzip.GzipFile(fileobj=stream)) if file.path.lower().endswith((".gz", ".tgz")) else stream


def with_row_ids(table: pa.Table, path: str | Sequence[str], rows: NDArray[np.int64]) -> pa.Table:
    """The table with `_file`, one path or that of each row, and `_row` first; a column of the file with such a name is refused."""
    if {FILE, ROW} & set(table.column_names):
        shown = path if isinstance(path, str) else path[0]
        raise DataError(f"file '{shown}': the column names '{FILE}' and '{ROW}' are raysynth's own. Rename the column in the input")
    if isinstance(path, str):
        file = pa.DictionaryArray.from_arrays(np.zeros(table.num_rows, dtype=np.int32), pa.array([path], pa.string()))
    else:
        file = pa.array(path, pa.string()).dictionary_encode()
    return table.add_column(0, FILE, file).add_column(1, ROW, pa.array(rows, pa.int64()))


def apart(names: Iterable[str]) -> list[str]:
    """The names, of which a second `a` is a_2."""
    seen: dict[str, None] = {}
    for base in names:
        name, count = base, 1
        while name in seen:
            count += 1
            name = f"{base}_{count}"
        seen[name] = None
    return list(seen)


class RangeFile(io.RawIOBase):
    """A stored object as a seekable, read-only file."""

    def __init__(self, file: InputFile) -> None:
        super().__init__()
        self._url = file.url
        self._size_bytes = file.size_bytes
        self._store = store_for(file.url)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size_bytes - self._at)
        length = left if size is None or size < 0 else min(size, left)
        data = self._store.read_range(self._url, self._at, length) if length else b""
        self._at += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _input_file(stat: Stat, root: str) -> InputFile:
    return InputFile(path=stat.url[len(root) :].lstrip("/"), url=stat.url, size_bytes=stat.size_bytes, etag=stat.etag)


def _is_data(path: str, suffixes: Sequence[str]) -> bool:
    return path.lower().endswith(tuple(suffixes)) and not any(part.startswith(("_", ".")) for part in path.split("/"))


def _split_glob(url: str) -> tuple[str, re.Pattern[str]]:
    """`scheme://a/b/**/*.csv` → (`scheme://a/b`, the pattern of the paths below). `**/` spans folders, `*` and `?` do not."""
    parts = url.split("/")
    first = next(index for index, part in enumerate(parts) if re.search(r"[*?\[]", part))
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", "/".join(parts[first:]))
    spelled = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    texts = [spelled.get(token) or (token.replace("[!", "[^") if len(token) > 1 else re.escape(token)) for token in tokens]
    return "/".join(parts[:first]), re.compile("".join(texts))
