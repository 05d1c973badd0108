"""A Ray of one's own on a machine that is too busy to start it in the time that Ray allows."""

import pytest
import ray

from raysynth.cluster.session import START_ATTEMPTS, session
from raysynth.errors import StoppedError


def starts(monkeypatch: pytest.MonkeyPatch, error: str) -> list[str]:
    """How often a Ray that does not start was asked to."""
    asked: list[str] = []

    def init(**options: object) -> None:
        asked.append(str(options["address"]))
        raise Exception(error)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return asked


def test_a_busy_machine_is_asked_again_and_then_told_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = starts(monkeypatch, "The current node timed out during startup. This could happen because …")
    with pytest.raises(StoppedError, match="Ray did not start on this machine in 3 attempts: it is too busy"), session():
        pass
    assert asked == ["local"] * START_ATTEMPTS


def test_any_other_fault_of_the_start_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = starts(monkeypatch, "no such port")
    with pytest.raises(Exception, match="no such port"), session():
        pass
    assert len(asked) == 1
