"""Keys: shown once, kept hashed, compared in constant time, revoked within seconds, and never lost to another writer."""

import hmac
import json
import logging
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from raysynth import keys
from raysynth.cli import app
from raysynth.errors import DataError, StoreError
from raysynth.keys import Keyring
from raysynth.stores.base import store_for
from raysynth.stores.memory import Memory


@pytest.fixture
def url() -> str:
    return f"memory://{uuid4().hex}/keys.json"


def test_a_new_key_is_checked_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "keys.json"
    ring = Keyring(str(file))
    key, token = ring.new("page", max_running_jobs=3)
    assert token.startswith("rs_") and len(token) >= 46
    assert ring.check(token) == key
    assert (key.name, key.max_running_jobs, key.max_job_rows, key.revoked) == ("page", 3, 100_000_000, None)
    assert json.loads(file.read_text()) == {"keys": [asdict(key)]}
    assert key.sha256 == sha256(token.encode()).hexdigest()
    assert token not in file.read_text() + repr(key) and key.sha256 not in repr(key)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(file.parent.iterdir()) == [file]


def test_what_is_no_key_is_none(url: str) -> None:
    ring = Keyring(url)
    assert ring.check("rs_nothing") is None
    _, token = ring.new("a")
    for other in ("", "rs_", token[:-1], token + "x", token.upper(), " " + token, "\ud800", "é"):
        assert ring.check(other) is None


def test_every_record_is_compared_whichever_matches(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Keyring(url)
    tokens = [ring.new(str(n))[1] for n in range(5)]
    compared: list[bool] = []
    real = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        compared.append(real(one, other))
        return compared[-1]

    monkeypatch.setattr(keys.hmac, "compare_digest", counted)
    found = [ring.check(token) for token in (tokens[0], tokens[4], "rs_none")]
    assert [key and key.name for key in found] == ["0", "4", None]
    assert len(compared) == 15


def test_keys_are_listed_in_order_and_a_revoked_one_stays_listed(url: str) -> None:
    ring = Keyring(url)
    (first, token), (second, _) = ring.new("first"), ring.new("second")
    assert [key.id for key in ring.list()] == [first.id, second.id]
    revoked = ring.revoke(first.id)
    assert revoked.revoked is not None and ring.revoke(first.id) == revoked
    assert ring.list() == (revoked, second)
    assert ring.check(token) is None
    with pytest.raises(DataError, match=rf"key 'nobody': there is none .* There are: {first.id}, {second.id}"):
        ring.revoke("nobody")


def test_another_process_is_believed_after_five_seconds(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    key, token = Keyring(url).new("a")
    server = Keyring(url)
    assert server.check(token) == key
    Keyring(url).revoke(key.id)
    clock.seconds += 4.9
    assert server.check(token) == key
    clock.seconds += 0.2
    assert server.check(token) is None


def test_a_store_that_is_away_is_bridged_for_a_minute(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, (key, token), server = Clock(monkeypatch), Keyring(url).new("a"), Keyring(url)
    assert server.check(token) == key
    reads: list[str] = []

    def away(_: Memory, asked: str) -> bytes:
        reads.append(asked)
        raise StoreError(f"url '{asked}': nobody answers")

    monkeypatch.setattr(Memory, "read", away)
    clock.seconds += 6
    with caplog.at_level(logging.WARNING):
        assert [server.check(token) for _ in range(9)] == [key] * 9
    assert len(reads) == len(caplog.records) == 1
    clock.seconds += 60
    with pytest.raises(StoreError, match="nobody answers"):
        server.check(token)
    with pytest.raises(StoreError, match="nobody answers"):
        Keyring(url).check(token)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"keys": [{}]}', '{"keys": [{"id": 1}]}', '{"keys": 5}', "\xff", '{"keys": [{"name": "a", "more": 1}]}'],
)
def test_a_broken_file_is_named_and_never_overwritten(text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(text.encode("latin-1"))
    ring = Keyring(str(file))
    for act in (ring.list, lambda: ring.check("rs_x"), lambda: ring.new("b"), lambda: ring.revoke("b")):
        with pytest.raises(DataError, match=rf"keys 'file://{file}': it is no file of keys"):
            act()
    assert file.read_bytes() == text.encode("latin-1")
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


def test_a_field_of_another_type_is_refused(url: str) -> None:
    ring = Keyring(url)
    key, _ = ring.new("a")
    for name, value in {"max_job_rows": "many", "sha256": None, "max_running_jobs": True, "revoked": 5}.items():
        store_for(url).replace(url, json.dumps({"keys": [asdict(key) | {name: value}]}).encode())
        with pytest.raises(DataError, match="another type"):
            ring.list()


@pytest.mark.parametrize("name", ["", "two\nlines", "n" * 101])
def test_a_name_is_one_line(url: str, name: str) -> None:
    with pytest.raises(DataError, match="must be one line of 1 to 100 characters"):
        Keyring(url).new(name)


def test_a_negative_quota_is_refused(url: str) -> None:
    with pytest.raises(DataError, match="at least 0"):
        Keyring(url).new("a", max_job_rows=-1)


@pytest.mark.parametrize("place", ["file", "memory"])
def test_writers_at_once_lose_no_key(place: str, url: str, tmp_path: Path) -> None:
    at = url if place == "memory" else str(tmp_path / "keys.json")
    first, _ = Keyring(at).new("revoked meanwhile")
    with ThreadPoolExecutor(9) as pool:
        revoking = pool.submit(lambda: Keyring(at).revoke(first.id))
        made = list(pool.map(Keyring(at).new, map(str, range(24))))
    assert {key.id for key in Keyring(at).list()} == {first.id, *(key.id for key, _ in made)}
    assert revoking.result().revoked and Keyring(at).list()[0].revoked
    ring = Keyring(at)
    assert all(ring.check(token) == key for key, token in made)


def test_a_writer_that_comes_between_is_found_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that holds no lock, as after two have taken the same dead writer's."""
    other, _ = Keyring(url).new("other")
    before = store_for(url).read(url)
    real = Memory.replace
    times: list[int] = []

    def overwritten(store: Memory, at: str, data: bytes) -> None:
        real(store, at, data)
        if not times:
            times.append(1)
            real(store, at, before)

    monkeypatch.setattr(Memory, "replace", overwritten)
    mine, _ = Keyring(url).new("mine")
    assert [key.id for key in Keyring(url).list()] == [other.id, mine.id]


def test_a_dead_writers_lock_is_taken_away(tmp_path: Path) -> None:
    file, lock = tmp_path / "keys.json", tmp_path / "keys.json.lock"
    lock.write_text("dead")
    os.utime(lock, (time.time() - 60, time.time() - 60))
    key, _ = Keyring(str(file)).new("a")
    assert Keyring(str(file)).list() == (key,) and not lock.exists()


def test_without_a_url_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSYNTH_KEYS", str(tmp_path / "mine.json"))
    assert Keyring().url == f"file://{tmp_path}/mine.json"
    monkeypatch.delenv("RAYSYNTH_KEYS")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Keyring().url == f"file://{tmp_path}/.config/raysynth/keys.json"


def test_the_commands_make_list_and_revoke_keys(tmp_path: Path) -> None:
    def told(*arguments: str) -> Any:
        done = CliRunner().invoke(app, ["keys", *arguments, "--keys", str(tmp_path / "keys.json")])
        assert done.exit_code == 0, done.exception
        return json.loads(done.stdout)

    assert told("list") == {"keys": []}
    made = told("new", "--name", "Ada's notebook", "--max-running-jobs", "1", "--max-job-rows", "5000")
    ring = Keyring(str(tmp_path / "keys.json"))
    key = ring.check(made.pop("key"))
    assert key is not None and (key.name, key.max_running_jobs, key.max_job_rows) == ("Ada's notebook", 1, 5000)
    assert told("list") == {"keys": [made]} and "sha256" not in made
    assert told("revoke", key.id)["revoked"] is not None
    assert told("list")["keys"][0]["revoked"] is not None


class Clock:
    """time.monotonic of raysynth.keys, which stands still until it is told otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1000.0
        monkeypatch.setattr(keys, "time", SimpleNamespace(monotonic=lambda: self.seconds, time=time.time, sleep=time.sleep))
