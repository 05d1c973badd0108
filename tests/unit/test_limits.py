"""What a command may take, what a cluster can give, and how long anybody waits for it: before any Ray."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
from ray.core.generated import autoscaler_pb2

from raysynth.cluster import capacity, devices, pulse, rank, session, stalled
from raysynth.cluster.capacity import Asked, Node, Seen, refusal, rows_asked
from raysynth.cluster.limits import limited, limits
from raysynth.cluster.stalled import StalledError, Watch
from raysynth.errors import RecipeError, StoppedError
from raysynth.layout import Batch
from raysynth.recipe import Cluster, Recipe
from raysynth.stages import train

messages: Any = autoscaler_pb2  # its names are made when it is imported
CPU = {"CPU": 1.0}
SPOT = {"ray.io/market-type": "spot"}
HEAD = Node({"CPU": 0.0}, {"CPU": 0.0}, {"pool": "head"})
WORKER = Node({"CPU": 4.0}, {"CPU": 3.0}, {"pool": "cpu", **SPOT})


def asked(labels: dict[str, str] | None = None, *, fallback: bool = False, **bundle: float) -> Asked:
    return Asked(bundle or CPU, labels or {}, "cluster.row_labels", fallback)


Recipes = Callable[..., Recipe]


@pytest.fixture
def told() -> Iterator[Recipes]:
    """`told(stall_seconds=1)`: the limits of a recipe that says so, until the test ends."""
    blocks = []

    def enter(**cluster: object) -> Recipe:
        recipe = Recipe.model_validate({"source": "examples://wine", "cluster": cluster})
        blocks.append(limited(recipe))
        blocks[-1].__enter__()
        return recipe

    yield enter
    for block in reversed(blocks):
        block.__exit__(None, None, None)


def test_limits_are_those_of_the_command_that_runs(told: Recipes) -> None:
    assert limits().cluster == Cluster()
    with limited(Recipe.model_validate({"source": "examples://wine", "cluster": {"max_seconds": 5}})):
        assert limits().cluster.max_seconds == 5
        limits().check()
    assert limits().cluster.max_seconds is None


def test_a_command_whose_time_is_spent_stops_and_says_how_to_go_on(told: Recipes) -> None:
    told(max_seconds=0.001)
    time.sleep(0.01)
    with pytest.raises(StoppedError, match=r"cluster\.max_seconds: 0\.001, and 0 s have passed\. Run the same command again"):
        limits().check()


def test_workers_ask_for_the_recipes_labels_and_where_it_says_so_for_nothing_else(told: Recipes) -> None:
    assert rows_asked().options() == {"num_cpus": 1.0}
    told(row_labels=SPOT)
    assert rows_asked(num_gpus=1).options() == {
        "num_cpus": 1.0,
        "num_gpus": 1.0,
        "label_selector": SPOT,
        "fallback_strategy": [{"label_selector": {}}],
    }
    told(row_labels=SPOT, fallback=False)
    assert "fallback_strategy" not in rows_asked().options()


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("cpu", True),
        ("gpu", False),
        ("!gpu", True),
        ("!cpu", False),
        ("in(gpu, cpu)", True),
        ("!in(gpu,cpu)", False),
        ("!in(gpu)", True),
    ],
)
def test_labels_are_read_in_rays_words(text: str, holds: bool) -> None:
    assert Seen((WORKER,)).holds(asked({"pool": text})) is holds


def test_a_node_must_have_room_and_labels_unless_any_will_do() -> None:
    seen = Seen((HEAD, WORKER))
    assert seen.holds(asked())
    assert not seen.holds(asked(CPU=1, GPU=1))
    assert not seen.holds(asked({"pool": "head"})), "the head has these labels, and no CPU"
    assert seen.holds(asked({"pool": "head"}, fallback=True))


def test_waiting_is_in_vain_without_an_autoscaler_or_by_its_own_word() -> None:
    assert Seen((HEAD,)).never(asked())
    assert not Seen((HEAD,), grows=True).never(asked())
    assert not Seen((HEAD, WORKER)).never(asked())
    refused = ((CPU, frozenset({"pool"}), 1),)
    assert Seen((HEAD,), grows=True, refused=refused).never(asked({"pool": "moon"}))
    assert not Seen((HEAD,), grows=True, refused=refused).never(asked({"zone": "a"})), "that was about other labels"
    assert not Seen((HEAD,), grows=True, refused=refused, coming=1).never(asked({"pool": "moon"}))


def test_workers_that_begin_together_are_refused_where_so_many_never_can() -> None:
    four = ((CPU, frozenset[str](), 4),)
    assert Seen((HEAD,), grows=True, refused=four).never(replace(asked(), together=4))
    assert not Seen((HEAD,), grows=True, refused=four).never(replace(asked(), together=2)), "fewer may find their nodes"


def test_what_an_autoscaler_says_of_workers_together_is_read() -> None:
    reply = messages.GetClusterStatusReply()
    request = messages.ResourceRequest(resources_bundle={"GPU": 1.0})
    constraint = request.label_selectors.add().label_constraints.add()
    constraint.label_key = "pool"
    gang = reply.autoscaling_state.infeasible_gang_resource_requests.add()
    gang.bundle_selectors.add().resource_requests.extend([request, request])
    assert capacity._seen(reply, {}).refused == (({"GPU": 1.0}, frozenset({"pool"}), 2),)


def test_a_refusal_names_the_key_the_value_and_what_is_there() -> None:
    labels = refusal(asked({"pool": "moon"}), Seen((HEAD, WORKER)))
    assert isinstance(labels, RecipeError)
    assert "cluster.row_labels: {pool: moon}: no node has these labels and room for 1 CPU, and there is no autoscaler" in str(
        labels
    )
    assert "{pool: cpu, ray.io/market-type: spot}; {pool: head}. Correct them" in str(labels)
    nothing = refusal(asked(), Seen((HEAD,), dead=2))
    assert isinstance(nothing, StoppedError)
    assert "no node has 1 CPU, and there is no autoscaler that could bring one (nodes: 1 alive, 2 dead; 0 of 0 CPUs free)" in str(
        nothing
    )


def says(told: object) -> Callable[..., Any]:
    """Whatever it is asked."""
    return lambda *_asked, **_named: told


def test_workers_that_begin_together_need_room_together() -> None:
    six = replace(asked(), together=6)
    assert Seen((HEAD, WORKER, WORKER)).holds(six) and not Seen((HEAD, WORKER)).holds(six)
    assert Seen((HEAD, WORKER)).never(six) and not Seen((HEAD, WORKER), grows=True).never(six)
    assert "the nodes do not have 6 × 1 CPU, and there is no autoscaler" in str(refusal(six, Seen((HEAD, WORKER))))
    labelled = replace(six, labels={"pool": "cpu"})
    assert Seen((HEAD, WORKER)).never(labelled)
    assert "{pool: cpu}: the nodes do not have these labels and room for 6 × 1 CPU, and" in str(
        refusal(labelled, Seen((HEAD, WORKER)))
    )


def watch(seen: Seen | None, heard: Callable[[], bytes] = bytes) -> Watch:
    return Watch(asked({"pool": "cpu"}), 7, 2, look=lambda: seen, hear=lambda key: heard())


def test_what_does_not_end_is_made_again_twice_and_the_third_time_all_stops(told: Recipes) -> None:
    told(stall_seconds=0.001)
    watching = watch(Seen((HEAD, WORKER), dead=1))
    for _ in range(2):
        time.sleep(0.01)
        with pytest.raises(
            StalledError, match="7 items left, 2 of them in flight; nodes: 2 alive, 1 dead; 3 of 4 CPUs free"
        ) as stalled:
            watching.look()
        watching.again(stalled.value)
    time.sleep(0.01)
    with (
        limits().spending.stage("mix"),
        pytest.raises(StoppedError, match=r"mix: made 3 times, .* nothing ended for 0\.001 s \(cluster\.stall_seconds\)"),
    ):
        watching.look()


def test_whoever_gets_on_has_all_its_tries_again(told: Recipes) -> None:
    told(stall_seconds=0.001)
    watching = watch(Seen((WORKER,)))
    for _ in range(6):
        time.sleep(0.01)
        with pytest.raises(StalledError) as stalled:
            watching.look()
        watching.again(stalled.value)
        watching.ended()
    assert watching.left == 1


def test_a_worker_that_tells_of_itself_within_a_long_item_is_no_stall(told: Recipes) -> None:
    told(stall_seconds=0.001)
    words = iter((b"a", b"b", b"b"))
    watching = watch(Seen((WORKER,)), lambda: next(words))
    for _ in range(2):
        time.sleep(0.01)
        watching.look()
    time.sleep(0.01)
    with pytest.raises(StalledError):
        watching.look()


def test_while_no_node_is_there_only_the_seconds_to_start_count(told: Recipes) -> None:
    told(stall_seconds=0.001, start_seconds=1000)
    growing = Seen((HEAD,), grows=True, pending=((CPU, 4),))
    waiting = watch(growing)
    time.sleep(0.01)
    waiting.look()
    told(start_seconds=0.001)
    with pytest.raises(
        StoppedError, match=r"cluster\.start_seconds: 0\.001, and no node with 1 CPU with .*waiting: 4 × \{CPU: 1\}"
    ):
        waiting.look()


def test_labels_that_an_autoscaler_cannot_bring_are_refused(told: Recipes) -> None:
    told()
    with pytest.raises(RecipeError, match=r"cluster\.row_labels: \{pool: cpu\}: .* none of the autoscaler's node types has"):
        watch(Seen((HEAD,), grows=True, refused=((CPU, frozenset({"pool"}), 1),))).look()


def test_a_command_stops_in_time_while_nothing_ends(told: Recipes) -> None:
    told(max_seconds=0.001)
    time.sleep(0.01)
    with pytest.raises(StoppedError, match=r"cluster\.max_seconds"):
        watch(Seen((WORKER,))).look()


def test_a_budget_is_never_asked_within_a_task_nor_time_after_the_last_one(told: Recipes) -> None:
    with limited(Recipe.model_validate({"source": "examples://wine", "budget": {"cpu_hours": 1e-12}})):
        watch(Seen((WORKER,))).look()
        with pytest.raises(StoppedError, match=r"budget\.cpu_hours"):
            limits().check()
    told(max_seconds=0.001)
    time.sleep(0.01)
    ended = watch(Seen((WORKER,)))
    ended.ended(7)
    ended.look()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The controllers that a watch over training has ended."""
    found: list[object] = []
    monkeypatch.setattr(pulse, "_end", found.append)
    return found


def watched(training: Asked, heard: bytes | None, ended: list[object], monkeypatch: pytest.MonkeyPatch) -> pulse.Watch:
    """A watch over a training that says the same always, once it has ended it."""
    monkeypatch.setattr(pulse, "_kv", lambda: SimpleNamespace(_internal_kv_get=says(heard)))
    watching = pulse.Watch(training)
    watching.controller = "its controller"
    with watching:
        deadline = time.monotonic() + 30
        while not ended and time.monotonic() < deadline:
            time.sleep(0.05)
    assert ended == ["its controller"]
    return watching


BEAT = json.dumps(asdict(pulse.Beat(world=2, epoch=3, step=5, ended=3, cpu_seconds=1.0, done=False))).encode()


@pytest.mark.parametrize("heard", [None, BEAT])
def test_a_training_stops_in_time_whether_it_has_begun_or_not(
    told: Recipes, heard: bytes | None, ended: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    told(max_seconds=0.001)
    assert "cluster.max_seconds: 0.001" in str(watched(asked(), heard, ended, monkeypatch).error)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that has only a head, and is looked at often."""
    monkeypatch.setattr(pulse, "NODES_SECONDS", 0.0)
    monkeypatch.setattr(capacity, "GRACE_SECONDS", 0.1)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr(capacity, "look", says(Seen((HEAD,), dead=1)))
    monkeypatch.setattr(pulse, "_pending", str)


@pytest.mark.parametrize("heard", [None, BEAT])
def test_a_training_whose_nodes_are_gone_for_good_says_so_soon(
    told: Recipes, heard: bytes | None, ended: list[object], impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told()
    error = watched(replace(asked(), together=2), heard, ended, monkeypatch).error
    assert "the nodes do not have 2 × 1 CPU, and there is no autoscaler" in str(error)


def test_labels_that_no_node_can_have_are_given_up_soon_where_any_node_will_do(
    told: Recipes, ended: list[object], impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told()
    watching = watched(asked({"pool": "moon"}, fallback=True), None, ended, monkeypatch)
    assert watching.error is None and watching.stalled is not None and "no worker has begun" in watching.stalled


def test_seconds_to_train_are_those_of_all_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    resumed = object.__new__(rank._Rank)  # pyright: ignore[reportPrivateUsage]
    began: list[float] = []

    class EnoughError(Exception):
        """One epoch is enough to see since when it counts."""

    def epoch(number: int, since: float) -> dict[str, Any]:
        began.append(since)
        raise EnoughError

    monkeypatch.setattr(resumed, "_resume", says({"seconds": 100.0, "done": False}), raising=False)
    monkeypatch.setattr(resumed, "_epoch", epoch, raising=False)
    resumed.trainer = cast(Any, SimpleNamespace(cursor=SimpleNamespace(epoch=3)))
    resumed.pulse = cast(Any, SimpleNamespace(epoch_ended=says(None)))
    with pytest.raises(EnoughError):
        resumed.run()
    assert time.monotonic() - began[0] >= 100.0


def test_whether_there_is_a_gpu_is_not_guessed_from_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "is_embedded", says(False))
    monkeypatch.setattr(devices, "session", nullcontext)
    monkeypatch.setattr(devices, "look", says(None))
    with pytest.raises(StoppedError, match="use_gpu: auto: Ray's head does not tell"):
        devices.has_gpu()
    monkeypatch.setattr(devices, "look", says(Seen((HEAD,))))
    assert not devices.has_gpu()


def test_a_fit_that_reads_all_rows_tells_of_each_file(monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = []
    monkeypatch.setattr(train, "beat", words.append)
    monkeypatch.setattr(train, "read_rows", says(pa.table({"x": [1]})))

    def fit(task: str, batches: Iterator[Batch]) -> list[int]:
        return [batch.rows for batch in batches]

    fitted: Any = SimpleNamespace(fit=fit)
    assert train._fitter(fitted, ("a", "b"))("tree-7") == [1, 1]  # pyright: ignore[reportPrivateUsage]
    assert words == ["tree-7: 0", "tree-7: 1"]


def test_a_part_that_takes_many_calls_tells_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[object] = []
    monkeypatch.setattr(stalled, "beat", words.append)
    one, two = stalled.beats(7), stalled.beats(8)
    for told in (one, two, one):
        told()
    assert words == ["7: 1", "8: 1", "7: 2"]


@pytest.mark.parametrize(
    ("error", "code"), [(None, 0), (KeyboardInterrupt(), 4), (StoppedError(""), 4), (RecipeError(""), 2), (ValueError(), 1)]
)
def test_a_driver_whose_head_is_gone_ends_with_its_own_code(error: BaseException | None, code: int) -> None:
    assert session._exit_code(error) == code  # pyright: ignore[reportPrivateUsage]


def test_a_silent_head_is_waited_for_and_then_named(told: Recipes, monkeypatch: pytest.MonkeyPatch) -> None:
    told()
    silent = watch(None)
    silent.look()
    monkeypatch.setattr("raysynth.cluster.stalled.SILENT_SECONDS", 0.0)
    with pytest.raises(StoppedError, match=r"Ray's head has not answered for 0 s \(7 items left\)"):
        silent.look()
