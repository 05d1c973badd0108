"""Trees on rows whose law is known: what they draw follows it, conditioned rows are those that a filter leaves, and no train row is copied
more often than chance has it."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from raysynth.draws import Draws
from raysynth.generators.trees import Trees, _some_of
from raysynth.layout import Batch, Field, Fields, FieldsGiven

SIZES = (3, 20, 20, 12)
LAYOUT = Fields(
    (
        Field("kind", "kind", 3),
        Field("one", "one", 20, tuple(range(20))),
        Field("two", "two", 20, tuple(range(20))),
        Field("word", "word", 12),
    )
)
ROWS = 6000
CODES = NDArray[np.int32]


def law(rows: int, seed: int) -> CODES:
    """`two` is told by `one`, the other way round for kind 2; `word` by the difference of the two alone."""
    noise = np.random.default_rng(seed)
    kind = noise.choice(3, rows, p=[0.5, 0.3, 0.2])
    one = noise.integers(0, 20, rows)
    two = np.clip(np.where(kind == 2, 19 - one, one) + noise.integers(-4, 5, rows), 0, 19)
    word = np.clip((one - two + 4) // 2 + 3 + noise.integers(-1, 2, rows), 0, 11)
    return np.stack([kind, one, two, (5 * word) % 12], axis=1).astype(np.int32)


@cache
def fitted(leaf: int = 16) -> Trees:
    made = Trees(LAYOUT, leaf=leaf)
    made.merge([made.fit(task, [Batch({"codes": law(ROWS, 1)})]) for task in made.tasks()])
    return made


def drawn(given: FieldsGiven | None = None, rows: int = 40_000) -> CODES:
    made = fitted().sample(Draws.range(3, "generate", 0, rows), given)
    return made["codes"] if made.accepted is None else made["codes"][made.accepted]


def apart(one: CODES, two: CODES, fields: tuple[int, ...]) -> float:
    """Total variation distance of the two laws of these fields."""
    sizes = [SIZES[field] for field in fields]
    shares = [
        np.bincount(np.ravel_multi_index(tuple(rows[:, fields].T), sizes), minlength=int(np.prod(sizes))) / len(rows)
        for rows in (one, two)
    ]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


@pytest.mark.parametrize("fields", [(0,), (1,), (3,), (0, 3), (1, 2), (0, 1, 2)])
def test_rows_follow_the_law_of_the_rows_that_were_learnt(fields: tuple[int, ...]) -> None:
    """As near to new rows of the law as the train rows are, but for a little."""
    new = law(40_000, 2)
    assert apart(drawn(), new, fields) < apart(law(ROWS, 1), new, fields) + 0.05


@pytest.mark.parametrize(
    "masks", [{1: np.arange(20) < 4}, {3: np.arange(12) % 3 == 0}, {2: np.arange(20) >= 17, 0: np.array([False, True, True])}]
)
def test_conditioned_rows_are_those_that_a_filter_leaves(masks: dict[int, NDArray[np.bool_]]) -> None:
    free, asked = drawn(rows=200_000), drawn(FieldsGiven(masks), rows=100_000)
    kept = free[np.all([mask[free[:, field]] for field, mask in masks.items()], axis=0)]
    assert len(asked) > 2000 and all(mask[asked[:, field]].all() for field, mask in masks.items())
    for fields in ((0,), (1,), (2,), (3,), (0, 1)):
        noise = apart(kept[::2], kept[1::2], fields)
        assert apart(asked, kept, fields) < 2 * noise + 0.03, fields


def test_what_no_train_row_has_is_never_accepted() -> None:
    masks = {3: np.zeros(12, np.bool_)}
    made = fitted().sample(Draws.range(3, "generate", 0, 2000), FieldsGiven(masks))
    assert made.accepted is not None and not made.accepted.any()


def test_the_likelihood_of_a_train_row_is_hardly_that_of_a_new_one() -> None:
    """How often a whole row is drawn again that was learnt from, beside one that was not: the law has many times as many rows."""
    made = {tuple(row) for row in drawn(rows=100_000).tolist()}
    known, new = ({tuple(row) for row in law(ROWS, seed).tolist()} for seed in (1, 9))
    shares = [len(made & rows) / len(rows) for rows in (known, new - known)]
    assert shares[0] < shares[1] + 0.12, shares


def test_every_second_row_is_left_out_of_too_many_however_they_are_cut() -> None:
    codes = np.arange(1000, dtype=np.int32)[:, None]
    for cuts in ([], [1, 7, 400], [999], list(range(3, 1000, 3))):
        pieces = [Batch({"codes": piece}) for piece in np.split(codes, cuts)]
        assert _some_of(pieces, 100)[:, 0].tolist() == list(range(0, 1000, 16))


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_few_rows_fields_of_one_code_and_no_fields_are_drawn(rows: int) -> None:
    for sizes in ((), (1,), (1, 3, 1, 2)):
        codes = (
            np.stack([np.arange(rows) % size for size in sizes], axis=1).astype(np.int32)
            if sizes
            else np.zeros((rows, 0), np.int32)
        )
        made = Trees(Fields(tuple(Field(str(n), str(n), size) for n, size in enumerate(sizes))))
        made.merge([made.fit(task, [Batch({"codes": codes})]) for task in made.tasks()])
        found = made.sample(Draws.range(1, "generate", 0, 50), None)["codes"]
        assert found.shape == (50, len(sizes)) and found.dtype == np.int32
        assert all(set(found[:, n]) <= set(codes[:, n]) for n in range(len(sizes)))
