"""Laws that every store on the shelf keeps: an object is there whole or not at all, and put never overwrites.

`LAWS` runs here over the stores that need no server; tests/integration/test_s3.py runs the same laws over S3 servers."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from raysynth.errors import StoreError
from raysynth.stores.base import Store, absolute, join, store_for

PLACES: dict[str, Callable[[Path], str]] = {
    "file": lambda folder: absolute(str(folder / "a folder with spaces" / "run")),
    "memory": lambda folder: f"memory://{uuid4().hex}/run",
}
NEED_A_SERVER = {"s3"}  # tests/integration/test_s3.py


def law_what_was_put_is_read_back(store: Store, root: str) -> None:
    for data in (b"", b"x", bytes(range(256)) * 4096):
        url = join(root, f"deep/er/{len(data)}.bin")
        assert store.put(url, data) is True
        assert store.read(url) == data
        stat = store.stat(url)
        assert stat is not None and (stat.url, stat.size_bytes) == (url, len(data))
        assert store.exists(url)


def law_put_never_overwrites(store: Store, root: str) -> None:
    url = join(root, "once")
    assert store.put(url, b"first") is True
    assert store.put(url, b"second") is False
    assert store.put(url, b"first") is False
    assert store.read(url) == b"first"


def law_replace_overwrites_whole(store: Store, root: str) -> None:
    url = join(root, "run.json")
    store.replace(url, b"a long first version")
    before = store.stat(url)
    store.replace(url, b"short")
    assert store.read(url) == b"short"
    assert before is not None and store.stat(url) != before


def law_what_is_absent_is_said_to_be(store: Store, root: str) -> None:
    url = join(root, "nowhere/file")
    for read in (store.read, lambda absent: store.read_range(absent, 0, 5)):
        with pytest.raises(FileNotFoundError):
            read(url)
    assert store.stat(url) is None and not store.exists(url)
    assert list(store.list(join(root, "nowhere"))) == []
    store.delete(url)


def law_a_folder_is_not_an_object(store: Store, root: str) -> None:
    store.put(join(root, "folder/file"), b"x")
    assert store.stat(join(root, "folder")) is None
    with pytest.raises(FileNotFoundError):
        store.read(join(root, "folder"))


def law_ranges_are_cut_at_the_end(store: Store, root: str) -> None:
    url = join(root, "digits")
    store.put(url, b"0123456789")
    spans = {(0, 3): b"012", (4, 2): b"45", (8, 99): b"89", (10, 1): b"", (50, 5): b"", (3, 0): b""}
    assert {span: store.read_range(url, *span) for span in spans} == spans


def law_list_is_recursive_sorted_and_keeps_to_its_folder(store: Store, root: str) -> None:
    names = ["a", "b/2", "b/10", "b/c/1", "b-x", "ü ö%20&+#", "z"]
    for name in names:
        store.put(join(root, "in", name), name.encode())
    store.put(join(root, "in-side/other"), b"x")
    listed = list(store.list(join(root, "in")))
    assert [stat.url for stat in listed] == sorted(join(root, "in", name) for name in names)
    assert {stat.url: stat.size_bytes for stat in listed} == {join(root, "in", name): len(name.encode()) for name in names}
    assert [store.stat(stat.url) for stat in listed] == listed
    assert [store.read(stat.url) for stat in listed] == [stat.url.removeprefix(join(root, "in") + "/").encode() for stat in listed]
    assert list(store.list(join(root, "in") + "/")) == listed


def law_a_listing_is_never_stale(store: Store, root: str) -> None:
    url = join(root, "fresh/1")
    assert list(store.list(join(root, "fresh"))) == []
    other = pickle.loads(pickle.dumps(store))  # noqa: S301
    other.put(url, b"1")
    assert [stat.url for stat in store.list(join(root, "fresh"))] == [url]
    other.delete(url)
    assert list(store.list(join(root, "fresh"))) == [] and store.stat(url) is None


def law_of_many_writers_one_wins_and_the_object_is_whole(store: Store, root: str) -> None:
    if store.check(root, write=True) and root.startswith("s3"):
        pytest.skip("this server ignores conditional writes")
    url = join(root, "contested")
    bodies = [bytes([number]) * 200_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda body: store.put(url, body), bodies))
    assert sum(made) == 1
    assert store.read(url) == bodies[made.index(True)]


def law_check_leaves_nothing_behind(store: Store, root: str) -> None:
    store.put(join(root, "checked/file"), b"x")
    assert store.check(join(root, "checked"), write=False) == []
    store.check(join(root, "checked"), write=True)
    assert [stat.url for stat in store.list(root)] == [join(root, "checked/file")]


def law_a_store_travels(store: Store, root: str) -> None:
    store.put(join(root, "x"), b"x")
    assert pickle.loads(pickle.dumps(store)).read(join(root, "x")) == b"x"  # noqa: S301


LAWS = [law for name, law in sorted(globals().items()) if name.startswith("law_")]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("scheme", sorted(PLACES))
def test_law(scheme: str, law: Callable[[Store, str], None], tmp_path: Path) -> None:
    root = PLACES[scheme](tmp_path)
    law(store_for(root), root)


def test_every_store_on_the_shelf_has_its_row() -> None:
    from raysynth.stores import base

    shelf = {file.stem for file in Path(base.__file__).parent.glob("*.py")} - {"__init__", "base"}
    assert shelf == set(PLACES) | NEED_A_SERVER


def test_a_file_is_never_seen_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, store = absolute(str(tmp_path / "part")), store_for("file:///")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for write in (store.put, store.replace):
        with pytest.raises(StoreError, match=r"part'.*No space left.*free some space"):
            write(url, b"x" * 100)
    assert store.stat(url) is None and list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".0123.raysynth-tmp").write_bytes(b"half")
    assert list(store_for("file:///").list(absolute(str(tmp_path)))) == []


def test_without_hard_links_a_file_is_still_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", refuse)
    root = absolute(str(tmp_path))
    law_of_many_writers_one_wins_and_the_object_is_whole(store_for(root), root)


def test_a_file_where_a_folder_should_be_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store = store_for("file:///")
    with pytest.raises(StoreError, match="file/below"):
        store.put(absolute(str(tmp_path / "file" / "below")), b"x")
    with pytest.raises(StoreError, match="folder stands where"):
        store.put(absolute(str(tmp_path)), b"x")
    assert store.stat(absolute(str(tmp_path / "file" / "below"))) is None
    with pytest.raises(StoreError, match="no such"):
        store.check(absolute(str(tmp_path / "absent")), write=False)


def test_permission_denied_is_a_store_error() -> None:
    store = store_for("file:///")
    with pytest.raises(StoreError, match="file:///proc/"):
        store.put("file:///proc/raysynth/x", b"x")
    with pytest.raises(StoreError, match="file:///proc/"):
        store.check("file:///proc/raysynth", write=True)


@pytest.mark.parametrize("url", ["s3://AK:hush@b/k", "s3://hush@b/k", "s3://b/k?endpoint_override=http://hush", "s3://b?x=hush"])
def test_user_info_and_queries_are_refused_without_repeating_them(url: str) -> None:
    store = store_for("s3://b")
    for ask in (
        store.read,
        store.stat,
        store.list,
        store.delete,
        lambda url: store.put(url, b""),
        lambda url: store.check(url, write=True),
    ):
        with pytest.raises(StoreError, match="refused") as told:
            ask(url)
        assert "hush" not in str(told.value)


@pytest.mark.parametrize("url", ["file://relative/x", "memory://", "s3://", "s3:///key", "ftp://x/y", "base://x"])
def test_a_malformed_url_is_a_store_error(url: str) -> None:
    with pytest.raises(StoreError, match=url):
        store_for(url).read(url)
