"""Filters: what each turns down, alike in any batch and after a load; made rows obey them, in the batch, over HTTP's sampler and in jobs."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shop

from raysynth.errors import CorruptRunError, DataError, RecipeError, RuleError
from raysynth.filter_files import FILTERS, made_filter, named_apart, shown
from raysynth.filters.base import Filter
from raysynth.filters.text import near_copy
from raysynth.knowledge import Knowledge, Triple
from raysynth.models import load_model
from raysynth.orders import Order
from raysynth.parts import available
from raysynth.pipeline import check_columns
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Run, folder_id, read_rows
from raysynth.sampler import Sampler
from raysynth.schema import FILE, ROW, TURNS, Column, Schema
from raysynth.serving.api import AskJob
from raysynth.serving.jobs import JobStore, job_id, job_sampler, record_of
from raysynth.serving.registry import Served, read_published
from raysynth.stores.base import join

SEED = 4
SCHEMA = Schema(
    (
        Column("text", "text", pa.string()),
        Column("mood", "category", pa.string()),
        Column("company", "category", pa.string()),
        Column("company_sector", "category", pa.string()),
        Column("stars", "integer", pa.int64()),
    )
)
KNOWN = Knowledge(
    (
        Triple("Acme", "sector", "bank"),
        Triple("Acme", "alias", "ACM Group"),
        Triple("Beta", "sector", "investment bank"),
        Triple("腾讯", "sector", "互联网"),
        Triple("腾讯", "行业", "游戏"),
        Triple("腾讯", "行业", "社交"),
        Triple("阿里", "行业", "电商"),
    ),
    {"banned": ("red flag", "违禁")},
    ("company",),
    {"triples": "0", "lexicons.banned": "1"},
)
GOOD = ["great", "tasty", "warm", "fresh", "好吃", "热情", "干净"]
BAD = ["cold", "late", "stale", "rude", "难吃", "凉了", "很差"]
OPTIONS: dict[str, dict[str, Any]] = {
    "knowledge.agrees": {},
    "text.consistent": {"column": "text"},
    "text.label": {"label": "mood"},
    "text.language": {"column": "text", "languages": ["zh"]},
    "text.length": {"column": "text", "min_words": 3, "max_characters": 30},
    "text.mentions": {"column": "text", "of": "company"},
    "text.near_copy": {"column": "text", "words": 3},
    "text.toxicity": {"column": "text"},
    "text.without": {"column": "text", "lexicon": "banned"},
}


def made(use: str, schema: Schema = SCHEMA, /, **options: Any) -> Filter:
    one = made_filter("rules.0", use, options, schema, SEED)
    one.know(KNOWN)
    return one


def settled(use: str, schema: Schema = SCHEMA, /, **options: Any) -> Filter:
    one = made(use, schema, **options)
    if one.learns:
        one.settle(one.observe(train_rows()))
    return one


def train_rows(rows: int = 400) -> pa.Table:
    noise = np.random.default_rng(2)
    moods = noise.choice(["good", "bad"], rows).tolist()
    texts = [" ".join(noise.choice(GOOD if mood == "good" else BAD, 3).tolist()) for mood in moods]
    return table(text=texts, mood=moods)


def table(**columns: Any) -> pa.Table:
    rows = len(next(iter(columns.values())))
    found = {column.name: pa.array(columns.get(column.name, [None] * rows), column.type) for column in SCHEMA}
    ids = {FILE: pa.array(["a.csv"] * rows, pa.string()), ROW: pa.array(range(rows), pa.int64())}
    return pa.table({**found, **ids})


def mixed_rows() -> pa.Table:
    """Rows of which each filter turns some down, and lets some pass."""
    texts = [
        "Acme is a bank, great",
        "腾讯的行业是电商",
        "腾讯的行业是游戏",
        "a red flag of shit",
        "很差 凉了 难吃 " * 5,
        "great",
        None,
        "",
    ]
    companies = ["ACM Group", "腾讯", "腾讯", "Acme", "Nobody", None, "Acme", "Beta"]
    sectors = ["bank", "互联网", "bank", None, None, None, "bank", "Bank"]
    return table(
        text=texts, company=companies, company_sector=sectors, mood=["good", "bad", "good", "bad", "good", "good", None, "bad"]
    )


def held(one: Filter, *texts: str | None) -> list[bool]:
    return one.holds(table(text=list(texts))).tolist()


# What every filter must do


def test_the_table_of_options_has_every_filter() -> None:
    assert sorted(OPTIONS) == available("filters")


@pytest.mark.parametrize("use", OPTIONS)
def test_what_a_filter_says_of_a_row_depends_on_no_other_row_and_outlives_a_load(use: str) -> None:
    one, rows = settled(use, **OPTIONS[use]), mixed_rows()
    together = one.holds(rows)
    assert together.dtype == np.bool_ and {True, False} == set(together.tolist()), together
    assert [bool(one.holds(rows.slice(row, 1))[0]) for row in range(rows.num_rows)] == together.tolist()
    assert one.holds(rows.take(np.arange(rows.num_rows)[::-1])).tolist() == together[::-1].tolist()
    assert one.holds(rows.slice(0, 0)).tolist() == []
    again = made_filter("rules.0", use, OPTIONS[use], SCHEMA, SEED)
    again.load(*one.state())
    assert again.holds(rows).tolist() == together.tolist()
    assert one.name == {"knowledge.agrees": use, "text.mentions": f"{use}(text, company)"}.get(use, one.name)


@pytest.mark.parametrize("use", ["text.near_copy", "text.label"])
def test_what_is_learnt_does_not_depend_on_how_the_rows_were_cut(use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_copy, "MOST_RUNS", 100)
    rows, one = train_rows(), made(use, **OPTIONS[use])
    pieces = [one.observe(rows.slice(start, stop - start)) for start, stop in ((0, 7), (7, 300), (300, 400))]
    assert pieces[0] is not None and pieces[1] is not None and pieces[2] is not None
    one.settle(pieces[0].merge(pieces[1]).merge(pieces[2]))
    other = settled(use, **OPTIONS[use])
    for name, array in one.state()[0].items():
        assert np.array_equal(array, other.state()[0][name]), name
    assert one.state()[1] == other.state()[1]


# What each turns down


def test_a_copy_is_turned_down_by_the_share_that_it_repeats() -> None:
    learnt = table(text=["the quick brown fox jumps over the lazy dog today", "今天天气很好我们一起出去玩吧", "short one", None])
    one = made("text.near_copy", column="text", words=4, most=0.5)
    one.settle(one.observe(learnt))
    copies = [
        "The QUICK brown fox  jumps over the lazy dog today",
        "今天天气很好我们一起出去玩",
        "ok: the quick brown fox jumps over the lazy dog",
    ]
    assert held(one, *copies) == [False] * 3
    assert held(one, "the quick brown cat jumps over a lazy dog", "明天天气不好我们在家看书", "short one", "", None) == [True] * 5
    none = made("text.near_copy", column="text", words=4, most=0.0)
    none.settle(none.observe(learnt))
    mostly_new = "a very long text that has nothing of it but the quick brown fox and goes on"
    assert (held(one, mostly_new), held(none, mostly_new)) == ([True], [False])


def test_of_more_runs_than_are_kept_a_sample_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(1)
    texts = [" ".join(map(str, noise.integers(0, 10**6, 20))) for _ in range(60)]
    monkeypatch.setattr(near_copy, "MOST_RUNS", 300)
    one = made("text.near_copy", column="text", words=4)
    one.settle(one.observe(table(text=texts[:30])))
    assert len(one.state()[0]["runs"]) == 300, "of 510"
    assert held(one, *texts) == [False] * 30 + [True] * 30


def test_a_judge_of_labels_agrees_with_unseen_texts_and_turns_down_what_says_something_else() -> None:
    one = settled("text.label", label="mood")
    noise = np.random.default_rng(9)
    texts = [" ".join(noise.choice(words, 2)) for words in (GOOD, BAD) for _ in range(50)]
    right, wrong = ["good"] * 50 + ["bad"] * 50, ["bad"] * 50 + ["good"] * 50
    assert one.holds(table(text=texts, mood=right)).mean() > 0.97
    assert one.holds(table(text=texts, mood=wrong)).mean() < 0.03
    assert one.holds(table(text=["great", "great", None], mood=[None, "new", "bad"])).all(), "null, and a label it never learnt"


def test_a_judge_that_cannot_learn_is_refused() -> None:
    one = made("text.label", label="mood")
    with pytest.raises(RecipeError, match=r"label: a judge of 'mood' takes 30 train rows .*there are 29 rows, and 2 labels"):
        one.settle(one.observe(train_rows(29)))
    with pytest.raises(RecipeError, match="0 rows, and 0 labels"):
        one.settle(None)
    same = made("text.label", label="mood")
    with pytest.raises(RecipeError, match="40 rows, and 1 labels"):
        same.settle(same.observe(table(text=["x"] * 40, mood=["good"] * 40)))


def test_lengths_languages_and_words_that_are_not_wanted() -> None:
    length = made("text.length", column="text", min_characters=2, max_words=3)
    assert held(length, "a", "你好吗", "one two three", "one two three four", "你好吗?", None) == [
        False,
        True,
        True,
        False,
        False,
        True,
    ]
    language = made("text.language", column="text", languages=["en"])
    told = ["this is a plain English sentence", "这是一个中文句子。", "Dies ist ein deutscher Satz ohne Fehler.", "ok"]
    assert held(language, *told) == [True, False, False, True]
    without = made("text.without", column="text", terms=["ass", "坏"])
    assert held(without, "first class", "an ASS!", "你好坏", "好") == [True, False, False, True]
    lexicon = made("text.without", column="text", lexicon="banned")
    assert held(lexicon, "a Red  Flag", "a red or a flag", "这是违禁品") == [False, True, False]
    toxic = made("text.toxicity", column="text")
    assert held(toxic, "what a lovely day", "you bastard", "他妈的", "豆乳很好喝") == [True, False, False, True]
    assert held(made("text.toxicity", column="text", allow=["bastard"]), "you bastard") == [True]


def test_a_text_mentions_what_its_row_is_about_by_any_of_its_names() -> None:
    one = made("text.mentions", column="text", of="company")
    texts = ["ACME wins", "the acm group wins", "Acmes wins", "nobody", "腾讯控股上涨", "腾 讯", None, "x"]
    companies = ["Acme", "Acme", "Acme", "Acme", "腾讯", "腾讯", "Acme", None]
    assert one.holds(table(text=texts, company=companies)).tolist() == [True, True, False, False, True, True, True, True]


def test_a_contradiction_is_another_tail_of_a_relation_that_the_text_speaks_of() -> None:
    one = made("text.consistent", column="text")
    assert held(one, "Acme's sector is investment bank", "ACM Group, sector: 互联网", "腾讯的行业是电商") == [False] * 3
    fine = [
        "Acme's sector is bank",
        "Acme is no investment bank",  # of no relation that is known
        "the sector of Acme is fishing",  # nothing that is known as a sector
        "Beta: sector investment bank",
        "the sector of Beta is investment bank, unlike Acme",  # that of another head which it names
        "腾讯的行业是游戏不是电商",
        "",
        None,
    ]
    assert held(one, *fine) == [True] * len(fine)


def test_columns_of_facts_agree_with_the_triples() -> None:
    one = made("knowledge.agrees")
    companies = ["Acme", "acm group", "Acme", "Nobody", "Nobody", None, None]
    sectors = ["bank", "bank", "互联网", None, "bank", None, "bank"]
    assert one.holds(table(company=companies, company_sector=sectors)).tolist() == [True, True, False, True, False, True, False]


def test_turns_are_asked_as_texts() -> None:
    schema = Schema((Column("talk", "turns", TURNS),))
    one = made_filter("rules.0", "text.without", {"column": "talk", "terms": ["shit"]}, schema, SEED)
    assert one.schema["talk"].kind == "text"


# What is refused


@pytest.mark.parametrize(
    ("use", "options", "told"),
    [
        ("text.length", {"column": "txt", "min_words": 1}, r"rules.0: column: 'txt' is no column of texts. Those are: text, mood"),
        ("text.length", {"column": "text"}, "give one of min_characters"),
        ("text.length", {"column": "text", "min_words": 5, "max_words": 4}, r"min_words: must be at most max_words, 4 \(got 5\)"),
        ("text.near_copy", {"column": "stars"}, "'stars' is no column of texts"),
        ("text.near_copy", {"column": "text", "most": 1.0}, r"rules.0.most: must be less than 1"),
        ("text.near_copy", {}, r"rules.0.column: must be given"),
        ("text.label", {"label": "text"}, "'text' is no column of labels. Those could be: mood"),
        ("text.label", {"label": "mood", "columns": ["mood"]}, "is the label itself"),
        ("text.language", {"column": "text", "languages": ["xx"]}, "no language 'xx' is told apart"),
        ("text.mentions", {"column": "text", "of": "text"}, "is the text itself"),
        ("text.without", {"column": "text"}, "give either the name of a lexicon or terms"),
        ("text.without", {"column": "text", "terms": [" "]}, "each must have a word"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(use: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        made(use, **options)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"use": "text.near_cpy", "column": "text"}, r"rules.1.use: 'text.near_cpy' is not in raysynth/filters. Did you mean"),
        ({"use": "text.near_copy", "most": "x", "column": "text"}, r"rules.1.most: must be a number"),
        ({"use": "text.near_copy", "column": "stars"}, r"rules.1: column: 'stars' is no column of texts"),
        ({"use": "knowledge.agrees"}, r"rules.1: it goes by facts, and the recipe has none"),
        (
            {"use": "text.without", "column": "text", "lexicon": "bnned"},
            r"rules.1: lexicon: there is no 'bnned' in knowledge.lexicons",
        ),
        ({"us": 1}, r"rules\[1\].use: must be given"),
    ],
)
def test_a_recipe_that_asks_for_what_cannot_be_is_refused_before_anything_is_made(rule: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        check_columns(parse_recipe({"source": "a.csv", "rules": ["stars > 1", rule]}), SCHEMA)


def test_rules_of_both_kinds_keep_their_places() -> None:
    rules = [{"use": "text.length", "column": "text", "max_words": 9}, "stars > 1"]
    recipe = parse_recipe({"source": "a.csv", "rules": rules})
    assert recipe.expressions == {"rules.1": "stars > 1"} and list(recipe.filters) == ["rules.0"]
    assert parse_recipe(recipe.model_dump(mode="json", by_alias=True)) == recipe
    assert recipe.defaults_view()["rules"][0]["options"]["min_words"] is None
    assert (
        shown({"use": "text.length", "column": "text", "min_words": None, "max_words": 9})
        == "text.length: column text, max_words 9"
    )


def test_two_filters_of_one_name_are_told_apart() -> None:
    one, two = (made("text.length", column="text", max_words=most) for most in (3, 4))
    assert [found.name for found in named_apart([one, two])] == ["text.length(text)", "text.length(text) #2"]


def test_an_order_without_filters_is_what_it_was_and_one_with_them_is_named_by_what_they_go_by() -> None:
    def order(filters: Mapping[str, Any] | None) -> Order:
        return Order("d", 1, ("a > 1",), 10, 5, {}, 9, "avx2", filters=filters)

    told = {"asked": [{"use": "text.length"}], "digest": "abc", "path": "filters/123"}
    assert "filters" not in order(None).facts() and "filters" not in order(None).plan(3).facts
    assert order(told).facts() == order({**told, "path": "filters/123.2"}).facts()
    assert len({folder_id(order(one).facts()) for one in (None, told, {**told, "digest": "abd"}, {**told, "asked": []})}) == 4


# Made rows


ASKED: list[dict[str, Any]] = [
    {"use": "text.without", "column": "grade", "terms": ["plain"]},
    {"use": "text.label", "label": "sold", "columns": ["grade"]},
]


@pytest.fixture(scope="module")
def run(published_run: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    copy = tmp_path_factory.mktemp("filtered") / "run"
    shutil.copytree(published_run.removeprefix("file://"), copy)
    return Run(shop.filtered(str(copy), rows=300, filters=ASKED))


def parts(run: Run) -> pa.Table:
    synthetic = run.current("synthetic")
    assert synthetic is not None
    return pa.concat_tables([read_rows(url) for url in synthetic.part_urls()])


def test_every_made_row_obeys_and_the_rejects_are_counted(run: Run) -> None:
    rows = parts(run)
    served = Served(read_published(run.url))
    assert rows.num_rows == 300
    assert all(one.holds(rows).all() for one in served.filters)
    free = Sampler(served.model, seed=shop.SEED, rules=shop.RULES).range(0, 300)
    assert not any(one.holds(free).all() for one in served.filters), "else it proves nothing"
    synthetic = run.current("synthetic")
    assert synthetic is not None
    rejects = [part.extra["rejects"] for marker in synthetic.markers() for part in marker.parts]
    assert all(count["filter text.without(grade)"] > 0 and count["filter text.label(sold)"] > 0 for count in rejects)


def test_the_server_and_its_jobs_give_the_rows_of_the_batch(run: Run, tmp_path: Path) -> None:
    served, rows = Served(read_published(run.url)), parts(run)
    assert served.sampler({}).range(0, 300).equals(rows)
    assert served.sampler({}).range(37, 41).equals(rows.slice(37, 4))
    assert served.card["rules"][1:] == [shown(asked) for asked in ASKED]
    jobs = JobStore(str(tmp_path / "jobs"))
    ask = AskJob.model_validate({"model": "shop", "rows": 300, "seed": shop.SEED, "rows_per_part": shop.ROWS_PER_PART})
    record = jobs.add(record_of(ask, served, id=job_id("me", "1"), owner="me", created="2026-01-01T00:00:00", drawn_seed=1))[0]
    record = jobs.find(record.id)
    for task in jobs.tasks(record, 1):
        jobs.make(record, job_sampler(record), task)
    assert jobs.finish(record) == "completed"
    synthetic = run.current("synthetic")
    assert synthetic is not None
    assert jobs.folder(record).manifest()["name"].equals(synthetic.manifest()["name"]), "the same bytes"


def test_filters_that_are_gone_or_others_are_refused(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.url.removeprefix("file://"), tmp_path / "run")
    published = read_published(str(tmp_path / "run"))
    assert published.filters is not None
    stored = published.filters.read(FILTERS)
    published.filters.store.replace(join(published.filters.url, FILTERS), stored + b" ")
    with pytest.raises(CorruptRunError, match=r"filters.json: its bytes are not those that were committed"):
        Served(published)
    published.filters.store.delete(published.filters.system_url("outcome.json"))
    with pytest.raises(DataError, match="the filters of the model are not there"):
        Served(published)


def test_a_filter_that_hardly_any_row_passes_is_named_by_the_probe(run: Run) -> None:
    model = load_model(read_published(run.url).model)
    never = made_filter("rules.0", "text.length", {"column": "grade", "min_characters": 100}, model.schema, SEED)
    with pytest.raises(RuleError, match=r"of 10,000 probe rows .* most were turned down by filter text.length\(grade\)"):
        Sampler(model, seed=1, rules=("grade is not None",), filters=(never,)).check_acceptance()


def test_a_probe_that_is_sure_of_its_answer_draws_no_more(run: Run) -> None:
    model = load_model(read_published(run.url).model)
    sampler = Sampler(model, seed=1, rules=shop.RULES)
    calls: list[int] = []
    draw = sampler._draw
    sampler._draw = lambda draws: calls.append(1) or draw(draws)  # type: ignore[method-assign]
    sampler.check_acceptance()
    assert len(calls) == 1
