"""The same recipe on s3://: the same part hashes as on disk, on a healthy server and on one that fails three requests in ten."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import s3_servers

from raysynth.pipeline import run_to
from raysynth.recipe_files import load_recipe
from raysynth.runs import Run

RECIPE = """
evaluate: null
name: wine
source: examples://wine
train: {max_epochs: 1}
generate: {rows: 2500, rows_per_part: 500, workers: 1}
"""


def run(recipe: Path, url: str, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "raysynth", "run", str(recipe), "--set", f"run={url}"]
    clean = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert s3_servers.SECRET not in done.stderr + done.stdout


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("s3") / "wine.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def on_disk(cluster: None, recipe: Path) -> list[str]:
    url = str(recipe.parent / "run")
    run_to(load_recipe(recipe, [f"run={url}"]))
    return names(url)


def names(url: str) -> list[str]:
    folder = Run(url).current("synthetic")
    assert folder is not None
    return folder.manifest()["name"].to_pylist()


@pytest.mark.slow
def test_moto_holds_the_same_parts_as_the_disk_and_another_reader_opens_them(
    recipe: Path, on_disk: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_servers.moto(tmp_path) as endpoint:
        environment = s3_servers.environment(endpoint)
        run(recipe, "s3://bucket/runs/wine", environment)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert names("s3://bucket/runs/wine") == on_disk
        import boto3

        client = boto3.client("s3", endpoint_url=endpoint)
        listed = client.list_objects_v2(Bucket="bucket", Prefix="runs/wine/synthetic/")["Contents"]
        keys = [entry["Key"] for entry in listed if entry["Key"].endswith(".parquet") and "_raysynth" not in entry["Key"]]
        rows = 0
        for key in keys:
            client.download_file("bucket", key, str(tmp_path / "part.parquet"))
            rows += pq.ParquetFile(tmp_path / "part.parquet").metadata.num_rows
        assert rows == 2500


def test_a_server_with_keys_that_fails_three_requests_in_ten_gets_the_same_parts_and_a_reader_sees_nothing_or_everything(
    recipe: Path, on_disk: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "s3://bucket/runs/wine"
    with s3_servers.rclone(tmp_path) as endpoint, s3_servers.faulty(endpoint, share=0.3, seed=1) as proxy:
        for name, value in s3_servers.environment(endpoint).items():
            monkeypatch.setenv(name, value)
        seen: list[int | None] = []
        ended = threading.Event()
        reader = threading.Thread(target=follow, args=(url, seen, ended))
        reader.start()
        try:
            run(recipe, url, s3_servers.environment(proxy.url))
        finally:
            ended.set()
            reader.join()
        assert sum(proxy.faults.values()) > 20
        assert names(url) == on_disk
        assert {*seen} == {None, 2500}, "before the commit nothing, after it everything"


def follow(url: str, seen: list[int | None], ended: threading.Event) -> None:
    """Reads through run.json alone, as a consumer would: the rows of all the parts that it leads to."""
    while not ended.wait(0.2) or not seen or seen[-1] is None:
        folder = Run(url).current("synthetic")
        found = (
            None if folder is None else [pq.ParquetFile(pa.BufferReader(folder.store.read(part))) for part in folder.part_urls()]
        )
        seen.append(None if found is None else sum(file.metadata.num_rows for file in found))
        if ended.is_set() and seen[-1] is None:
            return
