"""Trains a generator with Ray Train on a feed of encoded parts → its best weights: on one or several workers, however often they die.

A worker that starts (for the first time, after a failure, or in another session) takes up the latest checkpoint on the store, which one
worker resumes bit-exactly. What stands still is ended and resumed; nobody waits for ever.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from raysynth.cluster import capacity
from raysynth.cluster.capacity import Asked
from raysynth.cluster.checkpoints import final
from raysynth.cluster.limits import limits
from raysynth.cluster.pulse import Watch
from raysynth.cluster.rank import Job, work
from raysynth.cluster.session import session
from raysynth.errors import RaysynthError, StoppedError
from raysynth.layout import Arrays, Facts
from raysynth.progress import say

TRIES = 3  # of an epoch that stalls
MAX_FAILURES = 5  # of workers that die, between two starts of ours: Ray starts the others anew at once


def fit(job: Job) -> tuple[Arrays, Facts] | None:
    """Train to the end of the budget, or from where an earlier call stopped → the best weights and a report of the epochs; None where
    another driver has committed the model meanwhile, and with that cleared the checkpoints. StoppedError where nothing moves any more,
    or the command's limits are reached."""
    if (done := final(job.model)) is not None:
        return done
    try:
        _train(job)
    except Exception:
        if job.model.committed:
            return None
        raise
    if (done := final(job.model)) is not None:
        return done
    if job.model.committed:
        return None
    raise StoppedError(f"{job.model.url}: training ended without final weights. Run the same command again to go on")


def _train(job: Job) -> None:
    """Until an attempt ends by itself."""
    with session():
        asked = asked_by(job)
        capacity.check(asked)
        labels, tries = _labels(asked), 1
        while True:
            watch = _attempt(job, replace(asked, labels=labels))
            if watch is None or final(job.model) is not None or job.model.committed:
                return
            if watch.beat is None and labels and asked.fallback:
                say(stage="train", stalled=watch.stalled, placed="on any node")
                labels = {}
                continue
            tries = 1 + (1 if watch.beat is not None and watch.beat.ended else tries)
            if watch.beat is None or tries > TRIES:
                raise StoppedError(_stopped(watch, tries))
            say(stage="train", stalled=watch.stalled, resumed=tries - 1)


def asked_by(job: Job) -> Asked:
    """By each training worker, and as few of them as training can begin with."""
    cluster, bundle = limits().cluster, {"GPU" if job.use_gpu else "CPU": 1.0}  # for one on a GPU Ray Train asks for no CPU
    return Asked(bundle, cluster.train_labels, "cluster.train_labels", cluster.fallback, together=job.min_workers or job.workers)


def _labels(asked: Asked) -> dict[str, str]:
    """Ray Train knows no fallback: labels that no node can have are left out here."""
    seen = capacity.look()
    in_vain = asked.fallback and seen is not None and seen.never(replace(asked, fallback=False))
    return {} if in_vain else dict(asked.labels)


def _attempt(job: Job, asked: Asked) -> Watch | None:
    """None where training ended by itself; the watch where it had to be ended for standing still."""
    watch = Watch(asked)
    try:
        with TemporaryDirectory(prefix="raysynth-train-") as scratch, watch:
            _run(job, watch, Path(scratch))
    except KeyboardInterrupt:
        if watch.error is not None:  # the watch's own, not the user's
            raise watch.error from None
        raise
    except Exception as error:
        if watch.error is not None:
            raise watch.error from None
        if watch.stalled is not None:
            return watch
        if (cause := _cause(error)) is not None:
            raise cause from None
        if (failure := getattr(error, "controller_failure", None)) is not None:
            told = str(failure).strip().split("\n")[-1]
            raise RaysynthError(
                f"train: Ray could not bring its {job.workers} workers together: {told}. Its logs say more"
            ) from error
        raise
    return None


def _run(job: Job, watch: Watch, scratch: Path) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

    from raysynth.cluster.meeting import MeetingConfig

    idle = (DatasetsCallback, PlacementGroupCleanerCallback)

    class Interruptible(TorchTrainer):
        def _register_sigint_handler(self, controller: Any) -> None:
            """Ray's handler would end the process with Ray's own code, in every later stage too; checkpoints are on the store."""
            watch.controller = controller

        def _create_default_callbacks(self) -> list[Any]:
            """Without two that start a process each for nothing: no dataset is given here, and bundles die with the controller."""
            return [one for one in super()._create_default_callbacks() if not isinstance(one, idle)]

    fewest = job.workers if job.min_workers is None else job.min_workers
    Interruptible(
        work,
        train_loop_config={"job": job, "key": watch.key},
        torch_config=MeetingConfig(backend="nccl" if job.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=job.workers if fewest == job.workers else (fewest, job.workers),
            use_gpu=job.use_gpu,
            label_selector=dict(watch.asked.labels) or None,
        ),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=MAX_FAILURES), storage_path=str(scratch), name=job.model.id),
    ).fit()


def _cause(error: BaseException) -> RaysynthError | None:
    """raysynth's own error that a worker raised, out of Ray's wrapping."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", {})
    for inner in (*failures.values(), getattr(error, "controller_failure", None), getattr(error, "cause", None)):
        if isinstance(inner, RaysynthError):
            return inner
        if inner is not None and (found := _cause(inner)) is not None:
            return found
    return None


def _stopped(watch: Watch, tries: int) -> str:
    cluster = limits().cluster
    if watch.beat is None:
        return (
            f"cluster.start_seconds: {cluster.start_seconds:g}, and training has not begun: {watch.stalled}. "
            "See what holds up the nodes (ray status), or raise it, and run the same command again to go on"
        )
    return (
        f"cluster.stall_seconds: {cluster.stall_seconds:g}: training was ended and resumed {tries - 2} times, and again {watch.stalled}. "
        "Ray's logs on the nodes say why; run the same command again to go on from the last epoch"
    )
