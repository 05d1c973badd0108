"""`file:///…` URLs → files, each written beside, synced and then linked into place: whole or absent, never overwritten by put."""

import builtins
import errno
import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR
from uuid import uuid4

from raysynth.errors import StoreError
from raysynth.stores.base import Stat, Store

TEMPORARY = ".raysynth-tmp"  # what a killed writer leaves behind ends so, and is never listed

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_REMEDIES = {
    errno.ENOSPC: "free some space, or name another place",
    errno.EDQUOT: "free some of the quota, or name another place",
    errno.EROFS: "name a place that can be written",
    errno.EACCES: "change the permissions, or name another place",
    errno.EPERM: "change the permissions, or name another place",
    errno.ENAMETOOLONG: "choose shorter names",
    errno.ENOTDIR: "a file stands where a folder should be: name another place",
    errno.EISDIR: "a folder stands where a file should be: name another place",
}


def make() -> Store:
    return File()


class File(Store):
    """A URL is `file://` and the absolute path as it is, spaces and all: nothing is percent-decoded."""

    def read(self, url: str) -> bytes:
        with _told(url, "read"):
            return _path(url).read_bytes()

    def read_range(self, url: str, start: int, length: int) -> bytes:
        with _told(url, "read"), _path(url).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def put(self, url: str, data: bytes) -> bool:
        path = _path(url)
        with _told(url, "write", absent=False):
            if path.exists():
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                return False
            with _written_beside(path, data) as beside:
                made = _link(beside, path)
            _sync_folder(path.parent)
            return made

    def replace(self, url: str, data: bytes) -> None:
        path = _path(url)
        with _told(url, "write", absent=False):
            with _written_beside(path, data) as beside:
                beside.replace(path)
            _sync_folder(path.parent)

    def list(self, url: str) -> Iterator[Stat]:
        with _told(url, "list"):
            found = sorted(_files_below(str(_path(url))))
        stats = (self.stat("file://" + name) for name in found)
        return (stat for stat in stats if stat is not None)  # None: it was removed meanwhile

    def stat(self, url: str) -> Stat | None:
        path = _path(url)
        try:
            with _told(url, "read"):
                facts = path.stat()
        except FileNotFoundError:
            return None
        if S_ISDIR(facts.st_mode):
            return None
        # The inode and its change time stand in for a content tag: any rewrite changes one of them, and nobody can set them back.
        return Stat("file://" + str(path), facts.st_size, f"{facts.st_ino:x}-{facts.st_ctime_ns:x}", facts.st_mtime)

    def delete(self, url: str) -> None:
        with _told(url, "delete", absent=False):
            try:
                _path(url).unlink(missing_ok=True)
            except NotADirectoryError:
                return

    def check(self, url: str, *, write: bool) -> builtins.list[str]:
        path = _path(url)
        if write:
            probe = f"{url.rstrip('/')}/_raysynth-probe-{uuid4().hex}"
            try:
                self.put(probe, b"raysynth")
            finally:
                self.delete(probe)
        elif not path.exists():
            raise StoreError(f"url '{url}': cannot read it: no such file or folder. Check the name")
        elif not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            raise StoreError(f"url '{url}': cannot read it: Permission denied. Change the permissions, or name another place")
        return []


def _path(url: str) -> Path:
    path = url.removeprefix("file://") if url.startswith("file://") else url
    if not path.startswith("/") or "\0" in path:
        raise StoreError(f"url '{url}': must be file:// and an absolute path, such as file:///data/run")
    return Path(path)


@contextmanager
def _told(url: str, verb: str, *, absent: bool = True) -> Generator[None]:
    """Any OSError inside → StoreError with the URL and the cause; with `absent`, a missing file stays FileNotFoundError."""
    try:
        yield
    except OSError as error:
        if absent and isinstance(error, _ABSENT):
            raise FileNotFoundError(url) from error
        remedy = _REMEDIES.get(error.errno or 0, "mend that, or name another place")
        raise StoreError(f"url '{url}': cannot {verb} it: {error.strerror or error}; {remedy}") from error


@contextmanager
def _written_beside(path: Path, data: bytes) -> Generator[Path]:
    """A synced temporary file in the folder of `path`, holding `data`; gone afterwards, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{uuid4().hex}{TEMPORARY}"
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _link(beside: Path, path: Path) -> bool:
    """Give the file its name unless something has it: True if it got it."""
    try:
        os.link(beside, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        return _rename_under_lock(beside, path)
    return True


def _rename_under_lock(beside: Path, path: Path) -> bool:
    """Where there are no hard links (exFAT, some network mounts): look and rename under a lock that dies with its holder."""
    with (path.parent / f".lock{TEMPORARY}").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return False
        beside.replace(path)
        return True


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)


def _files_below(root: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        if not isinstance(error, _ABSENT):
            raise error

    for folder, _, names in os.walk(root, onerror=refuse):
        yield from (f"{folder.rstrip('/')}/{name}" for name in names if not name.endswith(TEMPORARY))
