"""Inside namespaces: one recipe on a Ray of its own, on one to three hosts, with two training workers, moved from three hosts to one, and on
hosts of another CPU; prints a JSON line for each step. FOLDER SHORT some|all → lines."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from hosts import Cluster, cluster, write_recipe

from raysynth.draws import Draws
from raysynth.generators.base import Trained
from raysynth.models import load_model
from raysynth.runs import Run, read_rows

LONGER = "train.max_epochs=24"  # long enough to be killed in, and for the models of one worker and of two to come near one another
FEWER = "generate.rows=3000"  # of the same model: the first parts are the same
OTHER_CPU = 'import os\nos.environ["ATEN_CPU_CAPABILITY"] = "default"\n'
began = time.monotonic()


def tell(step: str, **facts: object) -> None:
    print(json.dumps({"step": step, "at_seconds": round(time.monotonic() - began, 1), **facts}), flush=True)


def tell_run(made: Cluster, step: str, run: str, **facts: object) -> None:
    makers = {folder: made.makers(run, folder) for folder in ("prepared", "synthetic", "mixed")}
    tell(step, names=made.names(run), problems=made.problems(run), makers=makers, **facts)


def markers(made: Cluster, run: str) -> dict[str, int]:
    found = made.place(run).glob("synthetic/*/_raysynth/markers/*")
    return {path.name: path.stat().st_mtime_ns for path in found}


def loss_of(made: Cluster, run: str) -> float:
    """Of the run's model, on the run's validation rows."""
    found = Run(str(made.place(run)))
    model, prepared = found.current("model"), found.current("prepared")
    assert model is not None and prepared is not None
    loaded = load_model(model)
    batch = loaded.codec.encode(pa.concat_tables([read_rows(url) for url in prepared.part_urls("validation")]))
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.arrays.items()}
    assert isinstance(loaded.generator, Trained)
    with torch.no_grad():
        return float(loaded.generator.eval().loss(tensors, "model", Draws.range(0, "validation", 0, batch.rows)))


def on_more_and_more_hosts(made: Cluster, recipe: Path, *, counts: tuple[int, ...]) -> None:
    for hosts in (1, 2, 3):
        made.add(hosts)
        tell(f"host {hosts} is up")
        if hosts not in counts:
            continue
        made.driver(recipe, f"hosts-{hosts}", f"generate.workers={hosts}").end()
        tell_run(made, f"hosts-{hosts}", f"hosts-{hosts}")


def with_two_training_workers(made: Cluster, recipe: Path) -> None:
    made.driver(recipe, "one", LONGER, command="train").end()
    made.driver(recipe, "pair", LONGER, "train.workers=2", command="train").end()
    killed = made.driver(recipe, "pair-killed", LONGER, "train.workers=2", command="train")
    killed.wait_for("model/*/_raysynth/tmp/checkpoints/epoch-*", 2)
    killed.kill()
    committed = "model" in made.names("pair-killed")
    made.driver(recipe, "pair-killed", LONGER, "train.workers=2", command="train").end()
    runs = ("one", "pair", "pair-killed")
    tell("pair", names=[made.names(run)["model"] for run in runs], losses=[loss_of(made, run) for run in runs], committed=committed)


def moved_to_one_host(made: Cluster, recipe: Path) -> None:
    killed = made.driver(recipe, "moved", "generate.workers=3")
    killed.wait_for("synthetic/*/_raysynth/markers/*", 3)
    killed.kill()
    committed, before = "synthetic" in made.names("moved"), markers(made, "moved")
    shared = {folder: made.makers("moved", folder) for folder in ("prepared", "synthetic")}
    for number in (2, 3):
        made.hosts[number].end_processes()
    made.driver(recipe, "moved", "generate.workers=2").end()
    after = markers(made, "moved")
    kept = all(after[name] == before[name] for name in before)
    tell_run(made, "moved", "moved", committed=committed, kept=kept, shared=shared)


def on_hosts_of_another_cpu(made: Cluster, recipe: Path) -> None:
    """Host 4 asks for the plain instructions by its environment, which the plan's pins overrule; host 5 has no others, whatever is asked.
    The head computes nothing here, so that all the work is theirs."""
    made.hosts[1].end_processes()
    made.add(1, cpus=0)
    made.add(4, ATEN_CPU_CAPABILITY="default")
    made.driver(recipe, "hosts-1", FEWER, "generate.workers=2", command="generate").end()
    tell("joins", names=made.names("hosts-1"), makers=made.makers("hosts-1", "synthetic"))
    made.hosts[4].end_processes()
    other = made.folder / "other-cpu"
    other.mkdir()
    (other / "sitecustomize.py").write_text(OTHER_CPU)
    made.add(5, PYTHONPATH=":".join(filter(None, (str(other), os.environ.get("PYTHONPATH")))))
    driver = made.driver(recipe, "hosts-2", FEWER, "generate.workers=2", command="generate")
    tell("refuses", code=driver.process.wait(600), told=driver.told(), makers=made.makers("hosts-2", "synthetic"))


def main() -> None:
    folder, short, whole = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "all"
    recipe = write_recipe(folder)
    with cluster(folder, short) as made:
        made.driver(recipe, "golden", "generate.workers=1", on=None).end()
        tell_run(made, "golden", "golden")
        on_more_and_more_hosts(made, recipe, counts=(1, 2, 3) if whole else ())
        if whole:
            with_two_training_workers(made, recipe)
        moved_to_one_host(made, recipe)
        if whole:
            on_hosts_of_another_cpu(made, recipe)


if __name__ == "__main__":
    main()
