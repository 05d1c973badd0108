import numpy as np
import pyarrow as pa

from raysynth.drift import drift
from raysynth.profile import Profile
from raysynth.schema import FILE, ROW


def profile(name: str, **columns: list[object]) -> Profile:
    rows = len(next(iter(columns.values())))
    ids = {FILE: pa.array([name] * rows).dictionary_encode(), ROW: pa.array(range(rows), pa.int64())}
    return Profile.observe(pa.table(ids | {key: pa.array(values) for key, values in columns.items()}))


def test_shards_of_one_distribution_do_not_drift_and_a_shifted_one_is_named() -> None:
    noise = np.random.default_rng(1)
    shards = {
        name: profile(
            name,
            same=noise.normal(size=2000).tolist(),
            shifted=(noise.normal(size=2000) + (3 if name == "c" else 0)).tolist(),
            mix=noise.choice(["a", "b"], 2000, p=[0.9, 0.1] if name == "b" else [0.5, 0.5]).tolist(),
            holes=[None if name == "a" and i % 2 else 1.0 for i in range(2000)],
        )
        for name in "abcd"
    }
    whole = Profile()
    for seen in shards.values():
        whole = whole.merge(seen)
    found = {item.column: item for item in drift(shards, whole)}
    assert set(found) == {"shifted", "mix", "holes"}
    assert (found["shifted"].shard, found["mix"].shard, found["holes"].shard) == ("c", "b", "a")
    assert "missing" in found["holes"].measure and "variation" in found["mix"].measure


def test_one_shard_alone_or_a_tiny_one_says_nothing() -> None:
    big, tiny = profile("a", x=list(range(1000))), profile("b", x=[10_000] * 10)
    assert drift({"a": big}, big) == []
    assert all(item.shard != "b" for item in drift({"a": big, "b": tiny}, big.merge(tiny)))
