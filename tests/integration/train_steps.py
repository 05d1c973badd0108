"""Trainings that lose workers, time and CPUs, each on a Ray of so many CPUs → FOLDER/told.json, which test_train_workers.py reads.

python tests/integration/train_steps.py FOLDER SHORT shrinks|stalls
(tests/integration/fakes in PYTHONPATH; SHORT: an empty folder of a short path)
"""

import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from raysynth.cluster.session import pin_cpu

pin_cpu()
os.environ["RAYSYNTH_TEST"] = WORD = uuid.uuid4().hex

from raysynth.audit import verify  # noqa: E402
from raysynth.cluster.checkpoints import checkpoints, unpack_facts  # noqa: E402
from raysynth.cluster.limits import limits  # noqa: E402
from raysynth.cluster.session import runtime_env, session  # noqa: E402
from raysynth.errors import StoppedError  # noqa: E402
from raysynth.pipeline import run_to  # noqa: E402
from raysynth.recipe import Recipe  # noqa: E402
from raysynth.recipe_files import parse_recipe  # noqa: E402
from raysynth.runs import Folder, Run  # noqa: E402
from raysynth.stages.first_rows import slowness  # noqa: E402

RECIPE = {
    "name": "wine",
    "source": "examples://wine",
    "evaluate": None,
    "generator": {"use": "tower", "step_seconds": 0.1},
    "generate": {"rows": 100, "workers": 1},
}
DEADLINE_SECONDS = 600
STALL_SECONDS = 30 * slowness()  # more than a busy machine takes to start a worker


def main(folder: Path, short: str, which: str) -> None:
    told = {}
    if which == "shrinks":
        with ray_of(2, f"{short}/2"):
            told["shrunk"] = a_worker_dies_and_the_time_ends(shrinking(folder))
    with ray_of(1, f"{short}/1"):
        if which == "shrinks":
            told["resumed"] = resumed(shrinking(folder))
        else:
            told["stalled"] = a_worker_hangs(folder)
        told["placed"] = no_node_has_the_labels(folder, fallback=which == "shrinks")
    (folder / "told.json").write_text(json.dumps(told))


def a_worker_dies_and_the_time_ends(recipe: Recipe) -> dict[str, object]:
    """Two workers; one is killed after the first epoch, and some epochs later the command's time is over."""
    seen = Seen(recipe)

    def disturb() -> None:
        seen.wait_for(1)
        os.kill(workers()[0], signal.SIGKILL)
        seen.wait_for(3)
        object.__setattr__(limits(), "began", time.monotonic() - 1e9)

    with alongside(disturb):
        try:
            run_to(recipe, "train")
            stopped = ""
        except StoppedError as error:
            stopped = str(error)
    model = only(recipe)
    return {
        "stopped": stopped,
        "committed": model.committed,
        "workers": seen.workers,
        "epochs": len(seen.workers),
        "left": len(checkpoints(model)),
    }


def resumed(recipe: Recipe) -> dict[str, object]:
    """The same run where only one worker has room."""
    seen, before = Seen(recipe), checkpoints(only(recipe))[-1][0]
    with alongside(seen.follow):
        made = run_to(recipe, "generate")
    assert made.model is not None and made.synthetic is not None
    report = json.loads(made.model.read("model.json"))["report"]
    rows = (made.synthetic.outcome() or {})["rows"]
    return {"before": before, "workers": seen.made, "report": report, "rows": rows, "whole": verify(Run(recipe.run)).whole}


def a_worker_hangs(folder: Path) -> dict[str, object]:
    """One worker, stopped for good after its first epoch: ended, and made again from there."""
    recipe = parse_recipe(
        RECIPE | {"run": str(folder / "hangs"), "train": {"max_epochs": 6}, "cluster": {"stall_seconds": STALL_SECONDS}}
    )
    seen, stopped = Seen(recipe), list[int]()

    def disturb() -> None:
        seen.wait_for(1)
        stopped.extend(workers())
        os.kill(stopped[0], signal.SIGSTOP)
        seen.follow()

    with alongside(disturb):
        made = run_to(recipe, "train")
    assert made.model is not None
    report = json.loads(made.model.read("model.json"))["report"]
    return {"report": report, "alive": Path(f"/proc/{stopped[0]}").exists(), "committed": made.model.committed}


def no_node_has_the_labels(folder: Path, *, fallback: bool) -> str:
    """Labels that nobody has: without a fallback that is refused at once, with one any node will do. What was made, or why not."""
    cluster = {"train_labels": {"pool": "nowhere"}, "fallback": fallback}
    recipe = parse_recipe(RECIPE | {"run": str(folder / "labels"), "train": {"max_epochs": 1}, "cluster": cluster})
    try:
        return "a model" if run_to(recipe, "train").model is not None else "nothing"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def shrinking(folder: Path) -> Recipe:
    train, cluster = {"workers": 2, "min_workers": 1, "max_epochs": 12}, {"max_seconds": 10 * DEADLINE_SECONDS}
    return parse_recipe(RECIPE | {"run": str(folder / "shrinks"), "train": train, "cluster": cluster})


class Seen:
    """How many workers made each epoch, as the checkpoints tell while they are there."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.made: dict[int, int] = {}

    @property
    def workers(self) -> list[int]:
        return [self.made[epoch] for epoch in sorted(self.made)]

    def wait_for(self, epochs: int) -> None:
        """So many more than were seen before."""
        start = len(self.made)
        self.follow(lambda: len(self.made) >= start + epochs)

    def follow(self, until: Callable[[], bool] | None = None) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (until or finished.is_set)():
            assert time.monotonic() < deadline and not (until and finished.is_set()), f"only {len(self.made)} epochs were seen"
            for model in models(self.recipe):
                for epoch, name in checkpoints(model):
                    if epoch not in self.made:
                        try:
                            self.made[epoch] = unpack_facts(model, name)["report"]["workers"]
                        except FileNotFoundError:
                            continue
            time.sleep(0.02)


finished = threading.Event()


@contextmanager
def alongside(disturb: Callable[[], None]) -> Iterator[None]:
    """A thread beside the run; what fails in it fails the step."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            disturb()
        except BaseException as error:
            errors.append(error)

    finished.clear()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
    if errors:
        raise errors[0]


def models(recipe: Recipe) -> list[Folder]:
    """Those in the making too, of which nobody keeps a list."""
    return [Run(recipe.run).folder("model", path.name) for path in Path(recipe.run).glob("model/*")]


def only(recipe: Recipe) -> Folder:
    (model,) = models(recipe)
    return model


def workers() -> list[int]:
    """The training workers of this script."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            if WORD.encode() in (entry / "environ").read_bytes() and b"RayTrainWorker" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


@contextmanager
def ray_of(cpus: int, short: str) -> Iterator[None]:
    import ray

    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=256 << 20,
        _temp_dir=short,
        runtime_env=runtime_env(local=True),
    )
    try:
        with session():
            yield
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
