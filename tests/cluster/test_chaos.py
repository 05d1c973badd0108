"""Three hosts, and in each of four stages another thing that dies while S3 fails too: worker, raylet, driver, a host cut off and back."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from isolation import isolated, require_namespaces

SEED = 11  # raylet in prepare, a host taken for dead in train, driver in generate, worker in mix


def chaos(folder: Path, *seeds: int) -> list[dict[str, Any]]:
    """What each seed's run came to."""
    require_namespaces()
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp") as short:
        words = ["--inside", str(folder), short, *map(str, seeds)]
        script = Path(__file__).parent / "chaos.py"
        printed = isolated(script, *words, home=folder / "home", short=Path(short), timeout_seconds=1800 * (1 + len(seeds)))
    found = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    judged = [line for line in found if "broken" in line]
    assert [line["seed"] for line in judged] == list(seeds)
    return [{**line, "told": [told for told in found if told["seed"] == line["seed"] and "told" in told]} for line in judged]


def test_whatever_dies_the_run_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    [run] = chaos(tmp_path, SEED)
    assert run["broken"] == [], run
    assert run["faults_of_s3"] > 10


@pytest.mark.slow
def test_at_ten_other_moments_too(tmp_path: Path) -> None:
    broken = [run for run in chaos(tmp_path, *range(10)) if run["broken"]]
    assert not broken, "\n".join(json.dumps(run) for run in broken)  # whole: pytest would cut the time line
