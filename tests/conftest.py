"""Pins what rows depend on before anything imports torch, numpy or Arrow; and a small published run for whoever serves it."""

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from raysynth.cluster.session import pin_cpu

pin_cpu()
gc.set_threshold(200_000, 20, 100)


def pytest_collection_finish() -> None:
    """Modules and thousands of tests stay until the end: to look through them again and again would take a sixth of the time."""
    gc.freeze()


@pytest.fixture(scope="session")
def publish() -> Callable[..., str]:
    """(url, name=, epochs=, rows=) → the URL of a run that is published there."""
    from shop import published

    return published


@pytest.fixture(scope="session")
def published_run(publish: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its URL."""
    return publish(str(tmp_path_factory.mktemp("run") / "shop"))


@pytest.fixture(scope="session")
def published_tales(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a published run of texts."""
    from tales import published

    return published(str(tmp_path_factory.mktemp("run") / "tales"))


@pytest.fixture(scope="session")
def published_blots(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a published run of pictures; who loads its model puts its generator on the shelf."""
    from blots import on_shelf, published

    with on_shelf():
        return published(str(tmp_path_factory.mktemp("run") / "blots"))


@pytest.fixture(autouse=True)
def no_keys_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYSYNTH_KEYS", str(tmp_path / "keys.json"))
