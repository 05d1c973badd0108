"""The feed of a training: each rank streams its own parts, keeps a bounded share of them, and makes as many steps as every other."""

from pathlib import Path

import numpy as np
import pytest

from raysynth.cluster import feed
from raysynth.cluster.feed import Feed, table_of
from raysynth.commits import parquet_bytes
from raysynth.layout import Batch
from raysynth.stores.base import store_for

PARTS, PART_ROWS = 6, 50
ROWS = PARTS * PART_ROWS


@pytest.fixture
def urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Parts whose rows are numbered through; read in this process, where Ray Data would be asked for them."""
    names = tuple(str(tmp_path / f"part-{part}.parquet") for part in range(PARTS))
    for part, name in enumerate(names):
        codes = np.arange(part * PART_ROWS, (part + 1) * PART_ROWS, dtype=np.int32)[:, None]
        store_for(name).put(name, parquet_bytes(table_of(Batch({"codes": codes}))))

    def stream(missing: list[str]) -> object:
        streamed.extend(missing)
        return (feed.batch_of(feed.load_part(store_for(url).read(url))) for url in missing)

    streamed.clear()
    monkeypatch.setattr(feed, "_stream", stream)
    return names


streamed: list[str] = []


def rows_of(made: Feed, epoch: int) -> list[int]:
    return [int(code) for batch in made.batches(epoch) for code in batch["codes"][:, 0]]


def feed_of(urls: tuple[str, ...], rank: int, world: int, *, rows: int = ROWS, batch_rows: int = 10) -> Feed:
    return Feed(urls, (), rows=rows, batch_rows=batch_rows, seed=3, rank=rank, world=world)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_ranks_of_an_epoch_see_every_row_once_and_stream_only_their_own_parts(urls: tuple[str, ...], world: int) -> None:
    seen: list[int] = []
    for rank in range(world):
        made = feed_of(urls, rank, world)
        streamed.clear()
        seen += rows_of(made, epoch=1)
        assert sorted(streamed) == sorted(made.mine(1)) and len(streamed) == PARTS // world
    assert sorted(seen) == list(range(ROWS))


def test_epochs_deal_the_parts_anew(urls: tuple[str, ...]) -> None:
    assert len({feed_of(urls, 0, 2).mine(epoch) for epoch in range(8)}) > 1


def test_a_rank_keeps_no_more_than_its_bound(urls: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Feed, "_KEPT_BYTES", 2 * PART_ROWS * 4)  # two parts of 50 int32
    made = feed_of(urls, 0, 1)
    whole = rows_of(made, epoch=0)
    streamed.clear()
    assert sorted(rows_of(made, epoch=1)) == sorted(whole)
    assert len(streamed) == PARTS - 2, "two are kept, the others are streamed again"


@pytest.mark.parametrize(("rows", "world"), [(PART_ROWS, 2), (PART_ROWS, 4), (1, 2)])
def test_fewer_parts_than_ranks_are_shared_by_rows(urls: tuple[str, ...], rows: int, world: int) -> None:
    batch_rows = max(1, min(10, rows // world))
    feeds = [feed_of(urls[:1], rank, world, rows=rows, batch_rows=batch_rows) for rank in range(world)]
    seen = [rows_of(made, epoch=0) for made in feeds]
    assert len({len(batches) for batches in seen}) == 1, "as many steps on every rank"
    assert len({row for rows in seen for row in rows}) == sum(len(rows) for rows in seen), "no row is seen by two"


def test_a_part_of_fewer_rows_than_ranks_is_seen_by_all(tmp_path: Path, urls: tuple[str, ...]) -> None:
    name = str(tmp_path / "one.parquet")
    store_for(name).put(name, parquet_bytes(table_of(Batch({"codes": np.array([[7]], np.int32)}))))
    assert [rows_of(feed_of((name,), rank, 2, rows=1, batch_rows=1), epoch=0) for rank in range(2)] == [[7], [7]]
