"""How a plan's missing parts are cut into tasks."""

from hypothesis import given
from hypothesis import strategies as st

from raysynth.cluster.parts import _cut  # pyright: ignore[reportPrivateUsage]

ranges = st.lists(st.integers(0, 900), min_size=1, max_size=6).map(
    lambda sizes: [range(1000 * number, 1000 * number + size) for number, size in enumerate(sizes)]
)


@given(ranges=ranges, workers=st.integers(1, 40))
def test_tasks_are_all_parts_once_and_shrink_to_single_ones(ranges: list[range], workers: int) -> None:
    tasks = _cut(ranges, workers)
    assert [part for task in tasks for part in task] == [part for piece in ranges for part in piece]
    left = sum(map(len, ranges))
    for task in tasks:
        assert 1 <= len(task) <= max(1, min(64, left // (2 * workers)))
        left -= len(task)
    assert not tasks or len(tasks[-1]) == 1


def test_what_one_worker_does_last_is_a_little_of_its_share() -> None:
    assert [len(task) for task in _cut([range(1600)], 16)][:3] == [50, 48, 46]
    assert [len(task) for task in _cut([range(5)], 2)] == [1] * 5
