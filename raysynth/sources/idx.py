"""Files in MNIST's format IDX (also .gz) → one picture a row, as PNG, with the label that a second file beside them holds.

The format: two null bytes, the type of a value, the number of dimensions, each of them as four bytes, big end first; then the values
(http://yann.lecun.com/exdb/mnist). Pictures are bytes in three dimensions (grey) or four (the last 1 or 3), labels bytes in one.
"""

import math
import re
import struct
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Annotated

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import AfterValidator

from raysynth.errors import DataError, UnreadableError
from raysynth.pictures import encoded, image_array
from raysynth.schema import ROW_ID, Kind
from raysynth.sources._files import file_at, matched, nothing_in, open_file, with_row_ids
from raysynth.sources.base import BadRow, InputFile, Shard, Source
from raysynth.stores.base import absolute

_BYTES = 0x08  # the type of a value: unsigned byte
_NAME = re.compile(r".*(idx[1-4]?-ubyte|\.idx[1-4]?)(\.gz)?", re.IGNORECASE)
_LABELS = re.compile(r"label|idx1[-.]", re.IGNORECASE)
_TABLE_ROWS = 1_000
_TABLE_BYTES = 32 << 20
_MOST_BYTES = 108_000_000  # of one picture's pixels
_SUFFIXES = ("idx3-ubyte", "idx3-ubyte.gz", ".idx", ".idx.gz")


def _free_name(name: str) -> str:
    if not name.strip() or name in (*ROW_ID, "image"):
        raise ValueError(f"must be a name, and none of {', '.join(ROW_ID)}, image")
    return name


class Idx(Source):
    """`_row` is the place in the file of pictures. Labels are found by name: train-labels-idx1-ubyte of train-images-idx3-ubyte; `labels`
    names them where there is one file of pictures. They are a column of texts, `label_column`."""

    def __init__(
        self, url: str, *, labels: str | None = None, label_column: Annotated[str, AfterValidator(_free_name)] = "label"
    ) -> None:
        self.url = url
        self.labels = labels
        self.label_column = label_column

    def files(self) -> list[InputFile]:
        """Of pictures, and behind them of labels."""
        root, found = matched(self.url, lambda path: _NAME.fullmatch(path) is not None)
        pictures = [file for file in found if not _is_labels(file.path)]
        if not pictures:
            raise nothing_in(absolute(self.url), _SUFFIXES)
        return [*pictures, *self._labels_at(root, pictures)]

    def shards(self, files: list[InputFile]) -> list[Shard]:
        pictures, labels = self._apart(files)
        return [Shard(file, beside=(labels[file.path],) if file.path in labels else ()) for file in pictures]

    def kinds(self) -> Mapping[str, Kind]:
        return {"image": "image", self.label_column: "category"}

    def notes(self, files: list[InputFile]) -> list[str]:
        pictures, labels = self._apart(files)
        bare = [file.path for file in pictures if file.path not in labels]
        return [f"file '{path}': there is no file of labels beside it. Name it by the option labels" for path in bare]

    def read(self, shard: Shard) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        path = shard.file.path
        labels = _labels_in(shard.beside[0]) if shard.beside else None
        with _unpacked(shard.file) as stream:
            count, *shape = _head(stream, path, (3, 4))
            if labels is not None and len(labels) != count:
                raise DataError(
                    f"file '{path}': it has {count:,} pictures, and '{shard.beside[0].path}' has {len(labels):,} labels. Give the labels "
                    "of these pictures"
                )
            for row, pixels in _pictures(stream, path, count, shape):
                rows = np.arange(row, row + len(pixels), dtype=np.int64)
                columns = {"image": image_array([encoded(one) for one in pixels], [f"{path}/{at}" for at in rows.tolist()])}
                if labels is not None:
                    columns[self.label_column] = pa.array(labels[rows]).cast(pa.string())
                yield with_row_ids(pa.table(columns), path, rows), []

    def _labels_at(self, root: str, pictures: list[InputFile]) -> list[InputFile]:
        if self.labels is None:
            named = (next(filter(None, (file_at(name, root) for name in _label_names(file.path))), None) for file in pictures)
            return [labels for labels in named if labels is not None]
        if len(pictures) > 1:
            raise DataError(f"source.labels: '{self.url}' has {len(pictures)} files of pictures. Give one of them by its own URL")
        labels = file_at(self.labels, root) or file_at(absolute(self.labels), root)
        if labels is None:
            raise DataError(f"source.labels: '{self.labels}' is not there. Give its path below {root}, or its URL")
        return [labels]

    def _apart(self, files: list[InputFile]) -> tuple[list[InputFile], dict[str, InputFile]]:
        """The files of pictures, sorted by path, and the labels of each by its path."""
        if self.labels is not None:
            return files[:1], {files[0].path: files[1]}
        known = {file.path: file for file in files if _is_labels(file.path)}
        pictures = sorted((file for file in files if file.path not in known), key=lambda file: file.path)
        named = ((file.path, next(filter(None, map(known.get, _label_names(file.path))), None)) for file in pictures)
        return pictures, {path: labels for path, labels in named if labels is not None}


def _is_labels(path: str) -> bool:
    return _LABELS.search(path.rpartition("/")[2]) is not None


def _label_names(path: str) -> list[str]:
    """How the labels of a file of pictures may be called: packed as it is, or not."""
    folder, slash, name = path.rpartition("/")
    named = re.sub("images?", "labels", re.sub("idx[34]", "idx1", name))
    if not _is_labels(named):
        return []
    bare = named.removesuffix(".gz")
    return [f"{folder}{slash}{one}" for one in sorted((bare, f"{bare}.gz"), key=lambda one: one != named)]


@contextmanager
def _unpacked(file: InputFile) -> Generator[IO[bytes]]:
    try:
        with open_file(file) as stream:
            yield stream
    except (EOFError, zlib.error, OSError) as error:
        raise UnreadableError(f"file '{file.path}': it cannot be unpacked ({error}). Write the file again") from error


def _head(stream: IO[bytes], path: str, dimensions: tuple[int, ...]) -> list[int]:
    """The sizes of a file with as many dimensions. UnreadableError on another."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _BYTES or magic[3] not in dimensions:
        raise UnreadableError(
            f"file '{path}': it is no IDX file of bytes in {' or '.join(map(str, dimensions))} dimensions: it begins with {magic!r}"
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise _cut_off(path)
    return list(struct.unpack(f">{magic[3]}I", sizes))


def _pictures(stream: IO[bytes], path: str, count: int, shape: list[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(row of the first, pixels (pictures, height, width, channels)) of some pictures at a time."""
    height, width, channels = [*shape, 1][:3]
    size_bytes = math.prod((height, width, channels))
    if not 0 < size_bytes <= _MOST_BYTES or channels not in (1, 3):
        raise UnreadableError(f"file '{path}': its pictures are {height} × {width} × {channels}, and 1 or 3 channels may be")
    step = max(1, min(_TABLE_ROWS, _TABLE_BYTES // size_bytes))
    for row in range(0, count, step):
        rows = min(step, count - row)
        data = stream.read(rows * size_bytes)
        if len(data) < rows * size_bytes:
            raise _cut_off(path)
        yield row, np.frombuffer(data, np.uint8).reshape(rows, height, width, channels)
    _check_end(stream, path)


def _labels_in(file: InputFile) -> NDArray[np.uint8]:
    with _unpacked(file) as stream:
        (count,) = _head(stream, file.path, (1,))
        if count > _MOST_BYTES:
            raise UnreadableError(f"file '{file.path}': it claims {count:,} labels, and at most {_MOST_BYTES:,} may be")
        data = stream.read(count)
        if len(data) < count:
            raise _cut_off(file.path)
        _check_end(stream, file.path)
    return np.frombuffer(data, np.uint8)


def _check_end(stream: IO[bytes], path: str) -> None:
    if stream.read(1):
        raise UnreadableError(f"file '{path}': it goes on behind the last value that its head tells of. Write the file again")


def _cut_off(path: str) -> UnreadableError:
    return UnreadableError(
        f"file '{path}': it is cut off: it ends before the last value that its head tells of. Write the file again"
    )
