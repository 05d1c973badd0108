"""`raysynth plan` as a process: a probe of the first rows costs every stage, and neither Ray nor the run's folder is touched."""

import json
import subprocess
import sys
from pathlib import Path

RECIPE = """
source: a.csv
run: run
derive: {even: "n % 2 == 0"}
rules: ["x >= 0"]
augment: [tabular.jitter]
train: {max_epochs: 3}
generate: {rows: 500}
mix: {}
evaluate: {target: even, sample_rows: 300}
"""


def test_a_plan_costs_every_stage_writes_nothing_and_starts_no_ray(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,word,x\n" + "".join(f"{n},word {n % 7},{n / 7}\n" for n in range(1500)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    before = sorted(tmp_path.rglob("*"))
    code = "import sys; from raysynth import cli; sys.argv[1:] = ['plan', 'recipe.yaml']; "
    code += "import atexit; atexit.register(lambda: sys.stderr.write('ray' if 'ray' in sys.modules else 'no ray')); cli.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.endswith("no ray"), done.stderr
    told = json.loads(done.stdout)["plan"]["cost"]
    assert list(told["stages"]) == ["prepare", "augment", "train", "generate", "mix", "evaluate"]
    for stage in told["stages"].values():
        spent = stage["cpu_seconds"]
        assert 0 < spent["low"] < spent["expected"] < spent["high"] and "a probe of the first 1,500 rows" in stage["estimated_from"]
    assert sorted(tmp_path.rglob("*")) == before
