"""The endpoint generator through the whole flow, against a server with faults: exact rows, no paid call twice, a stop at the budget."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from drivers import DEADLINE_SECONDS, Driver
from fakes_llm import FakeLLM

from raysynth.runs import Folder, Run, read_rows

ROWS, WORKERS, CONCURRENCY = 300, 2, 4
RECIPE = f"""
name: reviews
evaluate: null
source: SOURCE
schema: {{columns: {{said: {{kind: text}}, label: {{kind: category}}}}}}
generator: {{use: endpoint, url: URL, model: m, timeout_seconds: 5.0, backoff_seconds: 0.05, concurrency: {CONCURRENCY}, shots: 2}}
knowledge: {{triples: TRIPLES}}
generate: {{rows: {ROWS}, rows_per_part: 20, workers: {WORKERS}, where: {{label: [good, bad]}}}}
"""
FAULTS = {3: "slow", 5: "broken", 10: "rubbish", 12: "cut", 20: "busy", 31: "rubbish"}


@pytest.fixture
def server() -> Iterator[FakeLLM]:
    with FakeLLM(slow_seconds=6.0) as fake:
        fake.seconds = 0.02
        yield fake


def recipe_for(server: FakeLLM, folder: Path) -> Path:
    rows = [{"label": ["good", "bad", "so-so"][row % 3], "said": f"真实 {row}, a real text of {row} words"} for row in range(200)]
    (folder / "reviews.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "facts.csv").write_text("head,relation,tail\ngood,opposite,bad\n")
    path, files = folder / "reviews.yaml", {"SOURCE": "reviews.jsonl", "TRIPLES": "facts.csv"}
    text = RECIPE.replace("URL", server.url)
    for name, file in files.items():
        text = text.replace(name, str(folder / file))
    path.write_text(text)
    return path


def synthetic(url: Path) -> Folder:
    folder = Run(str(url)).current("synthetic")
    assert folder is not None
    assert [path.name for path in (url / "synthetic").iterdir()] == [folder.id], "one data set, whatever was stopped"
    return folder


def check_rows(url: Path) -> None:
    table = pa.concat_tables([read_rows(part) for part in synthetic(url).part_urls()])
    assert table.num_rows == ROWS
    assert set(table["label"].to_pylist()) == {"good", "bad"}
    assert len(set(table["said"].to_pylist())) == ROWS


def wait_until_answered(server: FakeLLM, count: int, driver: Driver) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while server.answered.total() < count:
        assert driver.process.poll() is None and time.monotonic() < deadline, driver.url.with_suffix(".log").read_text()[-3000:]
        time.sleep(0.01)


@pytest.mark.slow
def test_faults_a_dead_server_and_a_kill_leave_exact_rows_and_repeat_no_stored_call(server: FakeLLM, tmp_path: Path) -> None:
    server.faults = lambda call: FAULTS.get(call, "error" if call % 7 == 0 else None)
    recipe, url = recipe_for(server, tmp_path), tmp_path / "run"
    first = Driver(recipe, url)
    wait_until_answered(server, 60, first)
    server.stop()
    time.sleep(0.5)
    server.start()
    wait_until_answered(server, 140, first)
    first.kill()
    time.sleep(0.5)  # until the server has answered those that are no more
    stored, answered = len(list(url.glob("synthetic/*/_raysynth/replies/*/*.json"))), server.answered.total()
    assert stored >= 100
    Driver(recipe, url).end()
    check_rows(url)
    told = ["The opposite of good is bad." in body["messages"][0]["content"] for body in server.bodies]
    assert 0 < sum(told) < len(told), "where the row is known to be good"
    repeated = server.answered.total() - len(server.answered)
    assert repeated <= answered - stored <= WORKERS * CONCURRENCY, "only those in flight when all was killed"


@pytest.mark.slow
def test_an_op_that_asks_keeps_its_replies_with_the_augmented_rows(server: FakeLLM, tmp_path: Path) -> None:
    recipe, url = recipe_for(server, tmp_path), tmp_path / "run"
    recipe.write_text(f"{recipe.read_text()}augment: [{{use: text.paraphrase, url: '{server.url}', model: m, concurrency: 1}}]\n")
    first = Driver(recipe, url)
    first.wait_for("augmented/*/_raysynth/replies/*/*.json", 20)
    first.kill()
    time.sleep(0.5)
    kept, answered = len(list(url.glob("augmented/*/_raysynth/replies/*/*.json"))), server.answered.total()
    Driver(recipe, url, "generate.rows=20").end()
    augmented = Run(str(url)).current("augmented")
    assert augmented is not None
    rows = pa.concat_tables([read_rows(part) for part in augmented.part_urls()])
    assert rows.num_rows == server.answered.total() - (repeated := server.answered.total() - len(server.answered)) - 20
    assert all("写" in text for text in rows["said"].to_pylist())
    assert repeated <= answered - kept <= WORKERS


@pytest.mark.slow
def test_at_the_budget_it_stops_with_exit_code_4_and_goes_on_once_that_is_raised(server: FakeLLM, tmp_path: Path) -> None:
    recipe, url = recipe_for(server, tmp_path), tmp_path / "run"
    stopped = Driver(recipe, url, "generator.max_tokens=12000")
    assert stopped.process.wait(timeout=DEADLINE_SECONDS) == 4
    log = url.with_suffix(".log").read_text()
    assert "generator.max_tokens: 12,000: " in log
    assert 12000 - 120 <= server.tokens <= 12000 + 120 * WORKERS * CONCURRENCY
    Driver(recipe, url, "generator.max_tokens=1000000", "generator.concurrency=3").end()
    check_rows(url)
    assert server.calls.total() == len(server.calls) == ROWS, "no call was made twice"
    assert '"tokens_read": 30000' in url.with_suffix(".log").read_text()
