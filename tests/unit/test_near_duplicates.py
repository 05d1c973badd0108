"""Near-duplicates: the kernels of both shuffles, called as the cluster calls them, and the law that no cut of the input changes a row."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth import near_duplicates
from raysynth.errors import MissingExtraError
from raysynth.near_duplicates import (
    Bands,
    candidates,
    check_rensa,
    cut_keys,
    cut_signatures,
    shared_keys,
    shingles_of,
    similar_pairs,
    surplus,
)

ENGLISH = [
    "the delivery was late and the food was cold when it arrived at our door",
    "great service and a friendly driver who called before he came up the stairs",
    "we ordered two pizzas and one of them was missing so we want our money back",
]
CHINESE = [
    "送餐太慢了,等了两个小时才到,菜都已经凉了,很不满意",
    "味道非常好,分量也很足,下次还会再来点这家的外卖",
    "送餐小哥态度很好,打电话很有礼貌,给五星好评",
]


def shards(texts: Sequence[str | None], cuts: Sequence[int] = ()) -> list[pa.Table]:
    """The rows of one file, cut there into shards."""
    table = pa.table({"_row": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.string())})
    edges = [0, *sorted(cuts), len(texts)]
    return [table.slice(start, stop - start) for start, stop in pairwise(edges)]


def lost(tables: Sequence[pa.Table], threshold: float = 0.8, *, buckets: int = 3, columns: Sequence[str] = ("text",)) -> list[int]:
    """The rows left out, as the stage finds them."""
    bands = Bands.of(threshold)
    cuts = [cut_keys(bands, buckets, part, table, columns) for part, table in enumerate(tables)]
    shared = candidates(shared_keys(bucket, [cut[bucket] for cut in cuts]) for bucket in range(buckets))
    signed = [cut_signatures(bands, buckets, part, tables[part], columns, keys) for part, keys in shared.items()]
    pairs = [similar_pairs(bands, bucket, [cut[bucket] for cut in signed]) for bucket in range(buckets)] if signed else []
    return sorted(int(row) for rows in surplus(pairs).values() for row in rows)


@pytest.mark.parametrize("texts", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_of_nearly_equal_texts_the_lowest_row_stays(texts: list[str]) -> None:
    rows = [*texts, texts[1] + "!", texts[0], texts[2].replace(",", ", ") + " 。", None, "", texts[0] + " " + texts[1]]
    assert lost(shards(rows)) == [3, 4, 5]
    assert 4 in lost(shards(rows), threshold=1.0) and 3 not in lost(shards(rows), threshold=1.0)


def test_different_texts_stay_whatever_they_share() -> None:
    assert lost(shards([*ENGLISH, *CHINESE, "ok", "good", "好", "好的", "ok good", "👍", "👎"])) == []


def test_short_texts_are_compared_as_a_whole_and_wordless_ones_never() -> None:
    assert lost(shards(["Ok", "ok", "好的", "好的", "", "", None, None, " "])) == [1, 3]


def test_who_is_alike_through_another_is_left_out_too() -> None:
    words = [f"w{n}" for n in range(60)]
    chain = [
        " ".join(words[start : start + 50]) for start in (0, 4, 8)
    ]  # 44 of 52 shingles shared by neighbours, 40 of 56 by the ends
    assert lost(shards(chain), 0.75) == [1, 2]
    assert lost(shards([chain[0], chain[2]]), 0.85) == []


def test_a_pair_far_apart_in_many_shards_is_found() -> None:
    texts = [f"row number {n} says {n * 7} things about {n % 13} and {n % 17} of them {n * n}" for n in range(400)]
    rows = [*texts, texts[3], texts[399]]
    assert lost(shards(rows, cuts=range(50, 402, 50)), 0.95) == [400, 401]


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_no_cut_into_shards_or_buckets_changes_a_row(data: st.DataObject) -> None:
    words = st.lists(st.sampled_from(["a", "b", "c", "好", "吃", "不"]), min_size=0, max_size=12).map(" ".join)
    texts = data.draw(st.lists(st.none() | words, min_size=1, max_size=30))
    cuts = data.draw(st.lists(st.integers(0, len(texts)), max_size=4))
    whole = lost(shards(texts), 0.5, buckets=1)
    assert lost(shards(texts, cuts), 0.5, buckets=data.draw(st.integers(1, 7))) == whole


def test_many_copies_and_a_crowded_band_cost_no_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "MOST_COMPARED", 5)
    monkeypatch.setattr(near_duplicates, "_PAIRS_KEPT", 50)
    monkeypatch.setattr(near_duplicates, "_COMPARED_AT_ONCE", 7)
    base = " ".join(f"w{n}" for n in range(80))
    texts = [*[base] * 300, *(f"{base} tail{n}" for n in range(100))]
    assert lost(shards(texts, cuts=[100, 301])) == list(range(1, 400))


def test_several_columns_count_together() -> None:
    table = pa.table({"_row": [0, 1, 2], "q": [ENGLISH[0]] * 3, "a": [CHINESE[0], CHINESE[0], CHINESE[1]]})
    assert lost([table], columns=("q", "a")) == [1]
    assert lost([table], columns=("q",)) == [1, 2]


def test_shingles_are_three_words_or_five_chinese_characters() -> None:
    assert [shingle.split("\x1f") for shingle in shingles_of("Good food, thanks")] == [
        ["good", "food", ","],
        ["food", ",", "thanks"],
    ]
    assert ["".join(shingle.split("\x1f")) for shingle in shingles_of("味道非常好吃")] == ["味道非常好", "道非常好吃"]
    assert shingles_of("ok") == ["ok"] and shingles_of(" \n") == [] and shingles_of("a", "1") == ["1a"]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.97, 1.0])
def test_bands_miss_one_pair_in_a_hundred_at_most(threshold: float) -> None:
    bands = Bands.of(threshold)
    assert bands.count * bands.width <= near_duplicates.PERMUTATIONS
    assert 1 - (1 - threshold**bands.width) ** bands.count >= 0.99


def test_signatures_estimate_the_jaccard_index_and_never_change() -> None:
    pairs = [(" ".join(f"w{n}x{k}" for n in range(40)), " ".join(f"w{n}x{k}" for n in range(6, 46))) for k in range(200)]
    table = shards([text for pair in pairs for text in pair])[0]
    ((_, signed),) = near_duplicates._signatures(table, ["text"])  # pyright: ignore[reportPrivateUsage]
    estimates = (signed[::2] == signed[1::2]).mean(axis=1)
    # 32 of 44 shingles: the mean of 200 estimates, each with a standard error of 0.04
    assert abs(estimates.mean() - 32 / 44) < 0.02 and estimates.std() < 0.06
    assert signed[0, :3].tolist() == [3255490002, 660206305, 3232806684]


def test_found_pairs_are_near_all_there_are() -> None:
    """Against the exact index of all pairs: at the threshold ± two standard errors nothing is promised, beyond it all."""
    draw = np.random.default_rng(1)
    base = [[f"v{n}" for n in draw.integers(0, 5000, 30)] for _ in range(100)]
    near = [
        [*words[:keep], *(f"u{n}" for n in draw.integers(0, 5000, 30 - keep))]
        for words, keep in zip(base, draw.integers(15, 31, 100), strict=True)
    ]
    sets = [set(shingles_of(" ".join(words))) for words in (*base, *near)]
    exact = np.array([len(sets[n] & sets[100 + n]) / len(sets[n] | sets[100 + n]) for n in range(100)])
    gone = np.isin(np.arange(100, 200), lost(shards([" ".join(words) for words in (*base, *near)])))
    assert gone[exact >= 0.9].all() and not gone[exact <= 0.7].any() and (exact >= 0.9).sum() > 5 < (exact <= 0.7).sum()


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"near_duplicates: needs the package 'rensa'.*raysynth\[text\]"):
        check_rensa()
