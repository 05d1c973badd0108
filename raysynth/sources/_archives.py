"""A zip or a tar → its members, one after the other and in memory: nothing is ever unpacked to a disk, and no name in it is a path to us.

A member says its size before it is read, and a larger one than is asked for is never read. What reads archives is Python's own, with the
doors shut that memory could be filled through: headers of a tar that claim to be huge, and packings of a zip that cannot be unpacked in
pieces.
"""

import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

from raysynth.errors import DataError, UnreadableError
from raysynth.sources._files import open_file
from raysynth.sources.base import InputFile

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")

_HEADER_BYTES = 1 << 20  # a long name or a table of attributes is read whole
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, struct.error, IndexError)
_TAR_FAULTS = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, RecursionError, struct.error, IndexError)
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others are unpacked at once, whatever comes out
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Member:
    """`row`: its place among all that the archive lists. `name`: its path there, without what leads out of it. `data` is None where it
    could not be read, for the `reason`."""

    row: int
    name: str
    data: bytes | None
    reason: str = ""


def is_zip(path: str) -> bool:
    return path.lower().endswith(".zip")


def is_archive(path: str) -> bool:
    return path.lower().endswith(ARCHIVES)


def cut_zip(file: InputFile, most_bytes: int, most_rows: int) -> list[tuple[int, int]]:
    """(first member, members) of runs of so many packed bytes at most: what the zip's own list tells. UnreadableError if it is none."""
    with _opened_zip(file) as packed:
        infos = packed.infolist()
    cuts: list[tuple[int, int]] = []
    first, held_bytes = 0, 0
    for row, info in enumerate(infos):
        if row > first and (held_bytes + info.compress_size > most_bytes or row - first >= most_rows):
            cuts.append((first, row - first))
            first, held_bytes = row, 0
        held_bytes += info.compress_size
    return [*cuts, (first, len(infos) - first)]


def zip_names(file: InputFile) -> list[str]:
    with _opened_zip(file) as packed:
        return [inner_path(info.filename) for info in packed.infolist() if not info.is_dir()]


def zip_members(
    file: InputFile, wanted: Callable[[str], bool], max_bytes: int, first: int = 0, rows: int | None = None
) -> Iterator[Member]:
    """UnreadableError if the zip's own list is broken; a member that is broken says so itself."""
    with _opened_zip(file) as packed:
        infos = packed.infolist()
        for row in range(first, len(infos) if rows is None else min(first + rows, len(infos))):
            name = inner_path(infos[row].filename)
            if not infos[row].is_dir() and wanted(name):
                yield _zip_member(packed, infos[row], row, name, max_bytes)


def zip_file(file: InputFile, name: str, max_bytes: int) -> bytes | None:
    """One file of the zip by its path; None if it has none, DataError if it cannot be read or is larger."""
    found = next(zip_members(file, lambda inner: inner == name, max_bytes), None)
    if found is None:
        return None
    if found.data is None:
        raise DataError(f"file '{file.path}': of its '{name}': {found.reason}. Write the zip again")
    return found.data


@contextmanager
def _opened_zip(file: InputFile) -> Generator[zipfile.ZipFile]:
    with open_file(file) as stream:
        try:
            packed = zipfile.ZipFile(stream)
        except _ZIP_FAULTS as error:
            raise UnreadableError(f"file '{file.path}': it cannot be read as a zip ({error}). Write the file again") from error
        with packed:
            yield packed


def _zip_member(packed: zipfile.ZipFile, info: zipfile.ZipInfo, row: int, name: str, max_bytes: int) -> Member:
    if info.file_size > max_bytes:
        return Member(row, name, None, too_large(info.file_size, max_bytes))
    if info.flag_bits & _ENCRYPTED:
        return Member(row, name, None, "it is encrypted, and no password is asked for. Write the zip without one")
    if info.compress_type not in _PACKED:
        return Member(
            row, name, None, f"it is packed by method {info.compress_type}. Write the zip with deflate, or without packing"
        )
    try:
        with packed.open(info) as member:  # no more than it claims is unpacked, whatever is in it
            return Member(row, name, member.read(info.file_size))
    except FileNotFoundError:  # not the member, the whole zip
        raise
    except _ZIP_FAULTS as error:
        return Member(row, name, None, f"it cannot be unpacked ({error})")


def tar_members(file: InputFile, wanted: Callable[[str], bool], max_bytes: int) -> Iterator[Member]:
    """UnreadableError if there is no first member. Where it breaks further on, that is the last member, and of every name."""
    with open_file(file) as stream:
        try:
            tar: Any = tarfile.open(fileobj=cast("IO[bytes]", _Guarded(stream)), mode="r:")  # noqa: SIM115  (it holds nothing but the stream)
        except _TAR_FAULTS as error:
            raise UnreadableError(f"file '{file.path}': it cannot be read as a tar ({error}). Write the file again") from error
        row, at = -1, -1
        try:
            while (info := tar.next()) is not None:
                row += 1
                tar.members.clear()  # it would keep them all
                if info.size < 0 or tar.offset <= at:
                    raise tarfile.ReadError("a member of negative size")
                at = tar.offset
                name = inner_path(info.name)
                if not info.isdir() and wanted(name):
                    yield _tar_member(stream, info, row, name, max_bytes)
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):  # the end is a block of nulls, or nothing
                raise tarfile.ReadError("what follows is no header")
        except FileNotFoundError:
            raise
        except _TAR_FAULTS as error:
            yield Member(row + 1, "", None, f"the archive is cut off or broken from member {row + 1:,} on ({error})")


def _tar_member(stream: IO[bytes], info: tarfile.TarInfo, row: int, name: str, max_bytes: int) -> Member:
    if not info.isreg() or info.issparse():
        return Member(row, name, None, "it is a link or a hole, and these are not followed")
    if info.size > max_bytes:
        return Member(row, name, None, too_large(info.size, max_bytes))
    stream.seek(info.offset_data)
    data = stream.read(info.size)
    if len(data) < info.size:
        raise tarfile.ReadError("its last member is cut off")
    return Member(row, name, data)


class _Guarded:
    """A stream whose reader may not ask for much at once: tarfile reads headers whole, however large they say that they are."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_BYTES:
            raise tarfile.ReadError(f"a header that claims {size:,} bytes")
        return self._stream.read(size)

    def seek(self, offset: int) -> int:
        return self._stream.seek(offset)

    def tell(self) -> int:
        return self._stream.tell()


def too_large(size_bytes: int, max_bytes: int) -> str:
    return f"it has {size_bytes:,} bytes, and at most {max_bytes:,} are read. See the option max_file_bytes"


def inner_path(name: str) -> str:
    """`/a/../b\\c.png` → `a/b/c.png`: no root, no way up; and text that UTF-8 can write."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\\", "/")
    return "/".join(part for part in text.split("/") if part not in ("", ".", ".."))


def stem_and_suffix(name: str) -> tuple[str, str]:
    """`a/b.c.JPG` → (`a/b.c`, `.jpg`)."""
    folder, slash, last = name.rpartition("/")
    stem, dot, suffix = last.rpartition(".")
    return (f"{folder}{slash}{stem}", f".{suffix.lower()}") if dot and stem else (name, "")


def in_groups(members: Iterable[Member]) -> Iterator[list[Member]]:
    """Members that follow one another under one name, whatever their suffix: how WebDataset keeps what belongs together. A suffix that
    comes again begins another group."""
    group: list[Member] = []
    stem, suffixes = "", set[str]()
    for member in members:
        own_stem, suffix = stem_and_suffix(member.name)
        if group and (own_stem != stem or suffix in suffixes):
            yield group
            group, suffixes = [], set()
        stem = own_stem
        suffixes.add(suffix)
        group.append(member)
    if group:
        yield group
