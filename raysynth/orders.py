"""Order: a data set that is asked of a model. All that decides its bytes → its folder's id, its plan and, part by part, its files.

The batch path (stages/generate.py) and the server's jobs fill orders alike, so that equal orders are equal bytes.
"""

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.commits import Table
from raysynth.errors import NondeterminismError
from raysynth.runs import Plan, part_rows, rows_plan
from raysynth.sampler import Sampler

ROWS_VERSION = 1
PARTS_PER_FOLDER = 10_000
_PART_BYTES = 128 << 20


@dataclass(frozen=True)
class Order:
    """`digest`: the model's. `rows_per_part` None: about 128 MiB. `cpu`: as generate.cpu of a recipe. `device`: cpu or cuda.
    `filters`: {asked, digest, path}: what was asked, the digest of what they go by, and where in the model's run that lies. `unique`: the
    columns that no two rows share the values of."""

    digest: str
    seed: int
    rules: tuple[str, ...]
    rows: int
    rows_per_part: int | None
    where: Mapping[str, Any]
    max_attempts: int
    cpu: str
    device: str = "cpu"
    filters: Mapping[str, Any] | None = None
    unique: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What decides the bytes of the rows, and nothing else."""
        return {
            "stage": "generate",
            "rows_version": ROWS_VERSION,
            "model": self.digest,
            "seed": self.seed,
            "rules": list(self.rules),
            "rows": self.rows,
            "rows_per_part": self.rows_per_part,
            "where": dict(self.where),
            "max_attempts": self.max_attempts,
            "fingerprint": fingerprint(self.cpu, self.device),
            **({} if self.filters is None else {"filters": {key: self.filters[key] for key in ("asked", "digest")}}),
            **({"unique": list(self.unique)} if self.unique else {}),
        }

    def plan(self, columns: int) -> Plan:
        plan = rows_plan(self.rows, self.rows_per_part or rows_per_part(columns))
        told = {
            "model": self.digest,
            "seed": self.seed,
            "rules": list(self.rules),
            "where": dict(self.where),
            "max_attempts": self.max_attempts,
        }
        told |= {} if self.filters is None else {"filters": dict(self.filters)}
        told |= {"unique": {"columns": list(self.unique)}} if self.unique else {}
        return Plan(plan.parts, {**plan.facts, **told})


def files_of(sampler: Sampler, plan: Plan, between: Callable[[], None] | None = None) -> Callable[[int], Iterable[Table]]:
    """For write_task: a part's number → its one file. `between`: see Sampler.pieces."""

    def files(part: int) -> Iterable[Table]:
        numbers = part_rows(plan, part)
        sampler.rejects.clear()
        rows = sampler.pieces([(sampler.seed, np.arange(numbers.start, numbers.stop, dtype=np.uint64))], between=between)
        yield f"{part // PARTS_PER_FOLDER:04d}", rows, {"rejects": dict(sampler.rejects)}

    return files


def rows_per_part(columns: int) -> int:
    """About 128 MiB of Arrow a part, at eight bytes a cell (a formula of the columns: no measurement enters a plan)."""
    return max(1000, _PART_BYTES // (8 * max(1, columns)) // 1000 * 1000)


def fingerprint(cpu: str, device: str = "cpu") -> dict[str, str]:
    """What the last bits of a row depend on beside the model (design, section 6). Of a GPU no more than that it is one: which it will be
    is not known when the plan is made, so that its bytes only are the same where all are of one model."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    versions = {"torch": torch.__version__.split("+")[0], "numpy": np.__version__, "pyarrow": pa.__version__}
    return {
        "device": device if device == "cuda" else f"cpu-{platform.machine()}",
        "capability": capability,
        "asked": cpu,
        **versions,
    }


def check_fingerprint(planned: Mapping[str, str]) -> None:
    """NondeterminismError, which names the host and what is another, on a machine that would make other bytes than the plan's."""
    here = fingerprint(planned["asked"], "cuda" if planned["device"] == "cuda" else "cpu")
    names = [name for name in {**here, **planned} if here.get(name) != planned.get(name)]
    other = [f"{name} {here.get(name)}, the plan's is {planned.get(name)}" for name in names]
    if other:
        raise NondeterminismError(
            f"host {platform.node()} would make other bytes than the plan's: {'; '.join(other)}. Keep it out of this run by "
            "cluster.row_labels, or give it what the plan's machines have"
        )
