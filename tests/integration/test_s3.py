"""The S3 store at two real servers (rclone ignores conditional writes, moto honours them), and behind faults."""

import importlib.util
import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from raysynth.errors import StoreError
from raysynth.stores.base import Store, join, store_for

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from s3_servers import KEY, SECRET, Faulty, environment, faulty, free_port, moto, rclone  # noqa: E402

SERVERS = {"rclone": rclone, "moto": moto}


def _laws() -> list[Callable[[Store, str], None]]:
    spec = importlib.util.spec_from_file_location("store_laws", HERE.parent / "contract" / "test_stores.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    laws: list[Callable[[Store, str], None]] = module.LAWS
    return laws


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("s3")
    with rclone(folder / "rclone") as one, moto(folder / "moto") as other:
        yield {"rclone": one, "moto": other}


@pytest.fixture(params=sorted(SERVERS))
def endpoint(request: pytest.FixtureRequest, endpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    use(endpoints[request.param], monkeypatch)
    return endpoints[request.param]


@pytest.fixture
def root() -> str:
    return f"s3://bucket/{uuid4().hex}"


def use(endpoint: str, monkeypatch: pytest.MonkeyPatch, secret: str = SECRET) -> None:
    for name, value in environment(endpoint, secret).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("law", _laws(), ids=lambda law: law.__name__)
def test_law(law: Callable[[Store, str], None], endpoint: str, root: str) -> None:
    law(store_for(root), root)


def test_check_notices_whether_conditional_writes_are_honoured(
    endpoints: dict[str, str], root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(endpoints["moto"], monkeypatch)
    assert store_for(root).check(root, write=True) == []
    use(endpoints["rclone"], monkeypatch)
    (warning,) = store_for(root).check(root, write=True)
    assert root in warning and "ignores conditional writes" in warning
    assert list(store_for(root).list(root)) == []


def test_a_big_object_goes_in_pieces_and_is_never_overwritten(endpoint: str, root: str) -> None:
    data, store = os.urandom(1 << 20) * 110, store_for(root)
    assert store.put(join(root, "big"), data) is True
    assert store.put(join(root, "big"), b"small") is False
    assert store.read(join(root, "big")) == data
    assert store.read_range(join(root, "big"), 105 << 20, 7) == data[105 << 20 :][:7]


def test_more_than_a_page_is_listed(endpoint: str, root: str) -> None:
    store = store_for(root)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(join(root, f"{number:04d}"), b"x"), range(1001)))
    assert [stat.url for stat in store.list(root)] == [join(root, f"{number:04d}") for number in range(1001)]


@pytest.mark.parametrize("seed", [1, 2])
def test_behind_a_faulty_proxy_everything_arrives_once_and_whole(
    seed: int, endpoint: str, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(endpoint, share=0.3, seed=seed) as proxy:
        use(proxy.url, monkeypatch)
        store = store_for(root)
        names = [join(root, f"part-{number:03d}") for number in range(20)]
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda url: store.put(url, url.encode() * 1000), names))
        again = [store.put(url, b"another") for url in names[:5]]
        listed = [(stat.url, stat.size_bytes) for stat in store.list(root)]
        bodies = [store.read(url) for url in names]
        store.replace(join(root, "run.json"), b"{}")
        store.delete(names[0])
        assert store.stat(names[0]) is None
    print(f"\n{endpoint} seed {seed}: {dict(proxy.requests)} requests, faults {dict(proxy.faults)}")
    assert all(made) and not any(again)
    assert listed == [(url, len(url) * 1000) for url in names]
    assert bodies == [url.encode() * 1000 for url in names]
    assert set(proxy.faults) == {"503", "reset", "delay", "drop"}


def test_a_lost_reply_is_not_an_error_and_not_another_put(endpoint: str, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(endpoint, share=1.0, seed=1, kinds=("drop",), methods=("PUT",)) as proxy:
        use(proxy.url, monkeypatch)
        assert store_for(root).put(join(root, "mine"), b"mine") is True
    print(f"\n{endpoint}: {proxy.requests['PUT']} PUT on the wire for one put whose replies were all lost")
    use(endpoint, monkeypatch)
    assert store_for(root).read(join(root, "mine")) == b"mine"


def test_racing_writers_behind_faults_agree(endpoints: dict[str, str], root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(endpoints["moto"], share=0.5, seed=5, methods=("PUT",)) as proxy:
        use(proxy.url, monkeypatch)
        store, url = store_for(root), join(root, "outcome.json")
        bodies = [bytes([65 + number]) * 1000 for number in range(6)]
        with ThreadPoolExecutor(6) as pool:
            made = list(pool.map(lambda body: store.put(url, body), bodies))
        assert sum(made) == 1 and store.read(url) == bodies[made.index(True)]


def test_a_server_that_only_says_503_is_given_up_with_the_cause(endpoint: str, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysynth.stores.s3.MAX_CALL_SECONDS", 2.0)
    with faulty(endpoint, share=1.0, seed=1, kinds=("503",)) as proxy:
        use(proxy.url, monkeypatch)
        with pytest.raises(StoreError, match=r"503.*tried \d+ times"):
            store_for(root).put(join(root, "x"), b"x")


def test_a_dead_endpoint_is_told_within_seconds(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(f"http://127.0.0.1:{free_port()}", monkeypatch)
    for ask in (store_for(root).read, lambda url: store_for(root).check(url, write=True)):
        seconds = _seconds_to_refuse(ask, root + "/x", "Check AWS_ENDPOINT_URL")
        print(f"\ndead endpoint: StoreError after {seconds:.1f} s")
        assert seconds < 15


def test_a_server_that_takes_no_connection_is_asked_again(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does whose queue is full, or whose host is off the net: nothing refuses, nothing answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as mute:
        address = mute.getsockname()
        queue = [socket.socket() for _ in range(4)]
        for one in queue:
            one.setblocking(False)
            one.connect_ex(address)
        use("http://{}:{}".format(*address), monkeypatch)
        with pytest.raises(StoreError, match=r"Connect timeout.*AWS_ENDPOINT_URL and the network \(tried [2-9] times"):
            store_for(root).read(root + "/x")
        for one in queue:
            one.close()


def test_a_server_that_has_answered_is_waited_for_by_every_store_and_in_other_processes(
    endpoints: dict[str, str], root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that starts again refuses for a while; of one that nobody has ever reached nothing is expected."""
    monkeypatch.setattr("raysynth.stores.s3.MAX_FIRST_SECONDS", 0.0)
    monkeypatch.setattr("raysynth.stores.s3._answered", set[str]())
    with faulty(endpoints["moto"], share=1.0, seed=1, kinds=("reset",)) as proxy:
        use(proxy.url, monkeypatch)
        with pytest.raises(StoreError, match="tried 1 times"):
            store_for(root).check(root, write=False)
        proxy.share = 0.0
        store_for(root).check(root, write=False)
        proxy.share = 1.0
        threading.Timer(2.0, lambda: setattr(proxy, "share", 0.0)).start()
        assert store_for(root).stat(join(root, "x")) is None
        sent = pickle.dumps(store_for(root))
        monkeypatch.setattr("raysynth.stores.s3._answered", set[str]())
        proxy.share = 1.0
        threading.Timer(2.0, lambda: setattr(proxy, "share", 0.0)).start()
        assert pickle.loads(sent).stat(join(root, "x")) is None  # noqa: S301


def test_a_wrong_secret_is_told_within_seconds_and_not_repeated(
    endpoints: dict[str, str], root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(endpoints["rclone"], monkeypatch, secret="not-the-secret")
    store = store_for(root)
    for ask in (store.read, store.stat, store.list, lambda url: store.put(url, b""), lambda url: store.check(url, write=True)):
        assert _seconds_to_refuse(ask, root + "/x", "403.*AWS_SECRET_ACCESS_KEY") < 5


def _seconds_to_refuse(ask: Callable[[str], object], url: str, match: str) -> float:
    began = time.monotonic()
    with pytest.raises(StoreError, match=match) as refused:
        ask(url)
    assert url in str(refused.value)
    assert not any(secret in str(refused.value) for secret in (KEY, SECRET, "not-the-secret"))
    return time.monotonic() - began


def test_a_missing_bucket_is_told(endpoint: str) -> None:
    store = store_for("s3://nobucket")
    for ask in (lambda url: store.put(url, b"x"), store.list, lambda url: store.check(url, write=False)):
        with pytest.raises(StoreError, match="no bucket 'nobucket'"):
            ask("s3://nobucket/x")


def test_a_store_that_has_worked_travels_without_secrets(endpoint: str, root: str) -> None:
    store = store_for(root)
    store.put(join(root, "x"), b"x")
    travelled = pickle.dumps(store)
    assert KEY.encode() not in travelled and SECRET.encode() not in travelled and b"127.0.0.1" not in travelled
    assert pickle.loads(travelled).read(join(root, "x")) == b"x"  # noqa: S301


def test_a_reader_sees_every_version_of_a_pointer_whole(endpoint: str, root: str) -> None:
    store, url, seen = store_for(root), join(root, "run.json"), set[bytes]()
    versions = [bytes([48 + number]) * 10_000 for number in range(10)]
    store.replace(url, versions[0])
    done = threading.Event()

    def follow() -> None:
        while not done.is_set():
            seen.add(store.read(url))

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        for version in versions:
            store.replace(url, version)
        done.set()
        following.result()
    assert seen <= set(versions)


def test_the_proxy_counts_what_it_did(endpoints: dict[str, str], root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(endpoints["moto"], share=0.0, seed=1) as proxy:
        assert isinstance(proxy, Faulty)
        use(proxy.url, monkeypatch)
        store_for(root).put(join(root, "x"), b"x")
    assert proxy.requests == {"HEAD": 1, "PUT": 1} and not proxy.faults
