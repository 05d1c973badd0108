"""Pictures over HTTP, without Ray and with a generator that draws blots: the same bytes in every format as in the batch, and never more at
once than the server may hold."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pyarrow as pa
import pytest
from blots import SEED, SIDE, on_shelf
from here import Server
from pictures_of import SCHEMA
from typer.testing import CliRunner

from raysynth import formats
from raysynth.cli import app
from raysynth.pictures import pictures
from raysynth.runs import Run, read_rows
from raysynth.schema import IMAGE
from raysynth.serving import service


@pytest.fixture(scope="module", autouse=True)
def shelf() -> Iterator[None]:
    with on_shelf():
        yield


@pytest.fixture(scope="module")
def server(published_blots: str, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(published_blots, tmp_path_factory.mktemp("server"), "blots", max_picture_bytes=60 * SIDE * SIDE)


@pytest.mark.parametrize("format", formats.FORMATS)
def test_every_format_gives_the_pictures_of_the_batch(server: Server, published_blots: str, format: str) -> None:
    synthetic = Run(published_blots).current("synthetic")
    assert synthetic is not None
    part = read_rows(synthetic.part_urls()[0])
    answer = server.sample({"rows": 40, "seed": SEED}, format)
    assert answer.status_code == 200, answer.text
    assert formats.decode(format, answer.content, SCHEMA.arrow, 40).equals(part)
    if format == "parquet":
        assert answer.content == synthetic.store.read(synthetic.part_urls()[0])
    assert [None if pixels is None else pixels.shape for pixels in pictures(part["photo"])] == [(SIDE, SIDE, 1)] * 40
    assert set(part["height"].to_pylist()) == {SIDE}


def test_pictures_meet_conditions_and_some_columns_do(server: Server) -> None:
    answer = server.sample({"rows": 9, "seed": 3, "where": {"shape": "ring"}, "columns": ["shape", "photo"]}, "json").json()
    assert answer["columns"] == ["shape", "photo"]
    assert {row[0] for row in answer["rows"]} == {"ring"}
    assert all(row[1]["bytes"].startswith("iVBORw0KGgo") and row[1]["path"] is None for row in answer["rows"])


def test_more_pictures_than_may_be_held_are_refused_and_what_is_sent_is_cut_small(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = server.sample({"rows": 61, "seed": SEED})
    assert refused.status_code == 413
    assert "a sample of such pictures has at most 60. POST /v1/jobs" in refused.json()["detail"]
    whole = server.sample({"rows": 60, "seed": SEED}).content
    monkeypatch.setattr(service, "PIECE_BYTES", 7 * SIDE * SIDE)
    pieces = pa.ipc.open_stream(server.sample({"rows": 60, "seed": SEED}).content)
    batches = list(pieces)
    assert max(batch.num_rows for batch in batches) == 7
    assert pa.Table.from_batches(batches).equals(formats.decode("arrow", whole, SCHEMA.arrow))


def test_the_card_tells_of_a_column_of_images(server: Server) -> None:
    card = server.ask("GET", "/v1/models/blots").json()
    assert card["schema"][0] == {"name": "photo", "kind": "image", "type": str(IMAGE), "nullable": True, "derived": False}


def test_preview_tells_a_picture_in_words(published_blots: str) -> None:
    told = CliRunner().invoke(app, ["preview", published_blots, "-n", "3"])
    assert told.exit_code == 0, told.output
    rows = [json.loads(line) for line in told.output.splitlines()]
    assert len(rows) == 3
    assert all(row["photo"].startswith(f"PNG {SIDE} × {SIDE}, ") and row["photo"].endswith(" bytes") for row in rows)


def test_the_client_and_what_it_loads_need_no_library_of_pictures() -> None:
    code = "import raysynth.client, sys; print(sorted({'torch', 'cv2', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
