"""Knowledge: what a file of triples says, found in texts of two languages and joined to rows; facts then steer what is made."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth.codecs.tabular import Tabular
from raysynth.errors import RecipeError
from raysynth.filter_files import made_filter
from raysynth.generators.autoregressive import Autoregressive
from raysynth.knowledge import FactColumn, Knowledge, Triple
from raysynth.knowledge_files import read_knowledge
from raysynth.models import Model
from raysynth.pipeline import check_columns
from raysynth.recipe import Recipe
from raysynth.recipe_files import parse_recipe
from raysynth.sampler import Sampler
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.stages import prepare
from raysynth.stages.first_rows import first_rows
from raysynth.stages.known import joined_facts, knowledge_of
from raysynth.terms import Terms, key_of
from raysynth.training import fit, initialise
from raysynth.words import words

TRIPLES = """head,relation,tail
Acme,sector,bank
Acme,founded in,1999
Acme,alias,ACM Group
Acme,product,loans
Acme,product,cards
Beta Corp,sector,insurance
Beta Corp,alias,BC
腾讯,行业,互联网
腾讯,别名,腾讯控股
Other,alias,BC
"""


def known(folder: Path, text: str = TRIPLES, of: tuple[str, ...] = (), name: str = "t.csv") -> Knowledge:
    (folder / name).write_text(text, encoding="utf-8")
    return read_knowledge(str(folder / name), {}, of)


def test_the_facts_of_a_text_are_those_of_the_heads_that_it_names(tmp_path: Path) -> None:
    knowledge = known(tmp_path)
    assert knowledge.about("Shares of BETA  corp fell, those of the acm group rose") == [
        "The sector of Beta Corp is insurance.",
        "The sector of Acme is bank.",
        "Acme founded in 1999.",
        "The product of Acme is loans.",
        "The product of Acme is cards.",
    ]
    assert knowledge.about("今天腾讯控股上涨，腾讯很好") == ["腾讯的行业是互联网。"]
    assert knowledge.about("BC's rival: Acme's") == knowledge.about("Acme")
    assert knowledge.about("Acmes and Betas and 腾 讯x") == ["腾讯的行业是互联网。"], (
        "whole words; of Chinese each character is one"
    )
    assert knowledge.about("acme", most=2) == ["The sector of Acme is bank.", "Acme founded in 1999."]
    assert knowledge.about("") == []


def test_a_tail_is_the_only_one_and_names_are_the_same_however_they_are_written(tmp_path: Path) -> None:
    knowledge = known(tmp_path)
    assert (knowledge.tail("ＡＣＭＥ", "sector"), knowledge.tail("acm  group", "sector")) == ("bank", "bank")
    assert knowledge.tails("Acme", "product") == ("loans", "cards")
    assert [knowledge.tail(*asked) for asked in (("Acme", "product"), ("Acme", "size"), ("Nobody", "sector"))] == [None] * 3
    assert knowledge.tail("BC", "sector") is None, "a name that two heads have names neither"
    assert (knowledge.names("ACM Group"), knowledge.names("Nobody")) == (["Acme", "ACM Group"], ["Nobody"])


def test_the_same_facts_come_from_every_format(tmp_path: Path) -> None:
    rows = [line.split(",") for line in TRIPLES.splitlines()]
    lines = [json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows[1:]]
    found = [
        known(tmp_path),
        known(tmp_path, "\ufeff" + TRIPLES.replace(",", "\t"), name="t.tsv"),
        known(tmp_path, "\n\n".join(lines), name="t.jsonl"),
        known(
            tmp_path, "\n".join(f"{row[2]},x,{row[0]},{row[1]}" for row in [["head", "relation", "tail"], *rows[1:]]), name="b.csv"
        ),
    ]
    assert len({knowledge.triples for knowledge in found}) == 1
    assert Knowledge.from_json(json.loads(json.dumps(found[0].to_json()))).triples == found[0].triples


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("t.csv", b"", r"must begin with a line of the columns head, relation, tail \(got \[\]\)"),
        ("t.csv", b"a,b,c\n1,2,3", r"must begin with a line of the columns"),
        ("t.csv", b"head,relation,tail\n", "has no triple"),
        ("t.csv", b"head,relation,tail\na,b,c\na,b\n", r"line 3: must have 3 cells \(got 2\)"),
        ("t.csv", b"head,relation,tail\na, ,c\n", "line 2: relation is empty"),
        ("t.csv", b'head,relation,tail\n"a,b,c\n', "line 2: unexpected end of data"),
        ("t.csv", b"head,relation,tail\na,b," + b"x" * 501, "tail has 501 characters, and at most 500 may be"),
        ("t.csv", b"head,relation,tail\na,b,\xff", "line 2: is no UTF-8"),
        ("t.csv", b"head,relation,tail\na,__,c", "line 2: relation is '__', which says nothing"),
        ("t.txt", b"x", r"must end in .csv, .tsv or .jsonl"),
        ("t.jsonl", b'{"head": "a"}', "line 1: must be such as"),
        ("t.jsonl", b"\n[1]", "line 2: must be such as"),
        ("t.jsonl", b'{"head": "a", "relation": "b", "tail": null}', r"must be texts \(got None\)"),
        ("t.jsonl", b'{"head": "\\ud800", "relation": "b", "tail": "c"}', "half of a surrogate pair"),
    ],
)
def test_a_line_that_is_not_right_is_named(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RecipeError, match=told) as error:
        read_knowledge(str(tmp_path / name), {})
    assert str(error.value).startswith(f"knowledge.triples: '{tmp_path / name}'")


def test_lexicons_have_a_term_a_line(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes("red  flag\r\n\n违禁\nＡ\n".encode())
    assert read_knowledge(None, {"banned": str(tmp_path / "l.txt")}).lexicons == {"banned": ("red flag", "违禁", "A")}
    (tmp_path / "l.txt").write_text("\n")
    with pytest.raises(RecipeError, match=r"knowledge.lexicons.banned: '.*l.txt' has no term"):
        read_knowledge(None, {"banned": str(tmp_path / "l.txt")})
    with pytest.raises(RecipeError, match=r"knowledge.lexicons.banned: '.*none.txt' is not there"):
        read_knowledge(None, {"banned": str(tmp_path / "none.txt")})


some_words = st.lists(st.sampled_from(["a", "b", "c", "好", "的"]), max_size=12)


@settings(max_examples=150, deadline=None)
@given(text=some_words, terms=st.lists(some_words.filter(bool).map(tuple), max_size=6))
def test_terms_are_found_as_by_trying_each_at_each_place(text: list[str], terms: list[tuple[str, ...]]) -> None:
    found = list(Terms(terms).found(text))
    anywhere = {term for term in terms for at in range(len(text)) if tuple(text[at : at + len(term)]) == term}
    assert bool(found) == bool(anywhere) and set(found) <= anywhere
    expected, at = list[tuple[str, ...]](), 0
    while at < len(text):
        here = [term for term in terms if tuple(text[at : at + len(term)]) == term]
        expected += [max(here, key=len)] if here else []
        at += len(expected[-1]) if here else 1
    assert found == expected
    assert all(key_of(" ".join(term)) == term for term in terms) and words(" ".join(text)) == text


# Facts as columns


def test_each_relation_of_one_tail_a_head_is_a_column(tmp_path: Path) -> None:
    knowledge = known(tmp_path, of=("company",))
    assert knowledge.columns == (
        FactColumn("company_sector", "company", "sector"),
        FactColumn("company_founded_in", "company", "founded in"),
        FactColumn("company_行业", "company", "行业"),
    )
    rows = knowledge.joined(pa.table({"company": ["acm group", None, "Nobody", "腾讯"]}))
    assert rows["company_sector"].to_pylist() == ["bank", None, None, None]
    assert rows["company_founded_in"].to_pylist() == ["1999", None, None, None]
    assert rows["company_行业"].to_pylist() == [None, None, None, "互联网"]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("a,b/c,d", r"the relation 'b/c' gives no name of a column \('company_b/c'\)"),
        ("a,b c,d\na,b_c,e", "two relations give a column 'company_b_c'"),
        ("a,b,c\na,b,d", "no relation of knowledge.triples has one tail for each head"),
        ("\n".join(f"a,r{number},b" for number in range(65)), "would add 65 columns, and at most 64 may be"),
    ],
)
def test_relations_that_give_no_column_are_refused(tmp_path: Path, lines: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        _ = known(tmp_path, f"head,relation,tail\n{lines}", of=("company",)).columns


def recipe_of(folder: Path, **more: Any) -> Recipe:
    (folder / "t.csv").write_text(TRIPLES, encoding="utf-8")
    company = ["Acme", "acm group", "Beta Corp", "Nobody"] * 50
    rows = pa.table({"company": company, "amount": [number * 7 % 100 for number in range(200)]})
    pyarrow.csv.write_csv(rows, folder / "rows.csv")
    asked = {"triples": str(folder / "t.csv"), "of": ["company"]}
    return parse_recipe({"source": str(folder / "rows.csv"), "run": str(folder / "run"), "knowledge": asked, **more})


def test_prepare_joins_facts_that_derived_columns_and_rules_may_use(tmp_path: Path) -> None:
    recipe = recipe_of(
        tmp_path, derive={"banking": "company_sector == 'bank'"}, rules=["banking is not None", {"use": "knowledge.agrees"}]
    )
    first = first_rows(recipe, prepare.check_source(recipe))
    assert [(column.name, column.kind, column.derived) for column in first.schema][2:] == [
        ("company_sector", "category", False),
        ("company_founded_in", "category", False),
        ("company_行业", "category", False),
        ("banking", "boolean", True),
    ]
    rows = pa.concat_tables(first.splits.values())
    expected = {"Acme": "bank", "acm group": "bank", "Beta Corp": "insurance", "Nobody": None}
    assert rows["company_sector"].to_pylist() == [expected[name] for name in rows["company"].to_pylist()]
    assert rows["banking"].to_pylist() == [
        None if expected[name] is None else expected[name] == "bank" for name in rows["company"].to_pylist()
    ]
    check_columns(recipe, first.schema)


@pytest.mark.parametrize(
    ("knowledge", "told"),
    [
        ({"of": ["firm"]}, r"knowledge.of: no column 'firm'. Columns: company, amount"),
        ({"of": ["amount"]}, "column 'amount' is of kind integer, and heads are names"),
    ],
)
def test_columns_that_hold_no_heads_are_refused(tmp_path: Path, knowledge: dict[str, Any], told: str) -> None:
    recipe = recipe_of(tmp_path)
    values = recipe.model_dump(mode="json", by_alias=True)
    recipe = parse_recipe({**values, "knowledge": {**values["knowledge"], **knowledge}})
    with pytest.raises(RecipeError, match=told):
        first_rows(recipe, prepare.check_source(recipe))


def test_a_fact_may_not_take_the_place_of_a_column(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    pyarrow.csv.write_csv(pa.table({"company": ["Acme"] * 9, "company_sector": ["x"] * 9}), tmp_path / "rows.csv")
    with pytest.raises(RecipeError, match="the relation 'sector' would make a column 'company_sector', and there is one already"):
        first_rows(recipe, prepare.check_source(recipe))


def test_the_prepared_rows_are_named_by_the_facts_that_are_joined_and_by_nothing_else(tmp_path: Path) -> None:
    def facts(knowledge: Knowledge | None) -> dict[str, Any]:
        return joined_facts(knowledge)

    one = knowledge_of(recipe_of(tmp_path))
    assert facts(None) == {}
    other = known(tmp_path, TRIPLES + "Beta Corp,size,big\n", of=("company",))
    assert len({json.dumps(facts(found)) for found in (one, other)}) == 2
    assert one is not None and facts(one) == {"knowledge": {"of": ["company"], "triples": one.sha256["triples"]}}


# Facts that steer


def test_made_rows_agree_with_the_facts_and_can_be_asked_for_by_them(tmp_path: Path) -> None:
    lines = [f"Firm {number},sector,{('bank', 'farm', 'shop')[number % 3]}" for number in range(6)]
    knowledge = known(tmp_path, "\n".join(["head,relation,tail", *lines]), of=("company",))
    noise = np.random.default_rng(3)
    companies = [f"Firm {number}" for number in noise.integers(0, 6, 600)]
    rows = knowledge.joined(pa.table({"company": companies, "amount": noise.normal(size=600)}))
    schema = Schema(
        (
            Column("company", "category", pa.string()),
            Column("amount", "number", pa.float64()),
            Column("company_sector", "category", pa.string()),
        )
    )
    rows = rows.append_column(FILE, pa.array(["a"] * 600)).append_column(ROW, pa.array(range(600)))
    codec = Tabular(schema, seed=3)
    layout = codec.settle(codec.observe(rows))
    generator = initialise(lambda: Autoregressive(layout, hidden=8, embedding=4), 3)
    assert isinstance(generator, Autoregressive)
    batch = codec.encode(rows)
    fit(generator, batch, batch.take(slice(0, 100)), seed=3, max_epochs=2, batch_rows=100, learning_rate=5e-3)
    model = Model(schema, {}, codec, generator, "", {})
    agrees = made_filter("rules.0", "knowledge.agrees", {}, schema, 3)
    agrees.know(knowledge)
    free = Sampler(model, seed=3, where={"company_sector": "bank"}).range(0, 200)
    assert 0.05 < agrees.holds(free).mean() < 0.95, "a model that has hardly learnt contradicts the facts"
    sampler = Sampler(model, seed=3, filters=(agrees,), where={"company_sector": "bank"})
    made = sampler.range(0, 200)
    assert set(made["company_sector"].to_pylist()) == {"bank"} and set(made["company"].to_pylist()) == {"Firm 0", "Firm 3"}
    assert sampler.rejects["filter knowledge.agrees"] > 0
    cuts = [sampler.range(start, stop) for start, stop in pairwise((0, 1, 77, 200))]
    assert pa.concat_tables(cuts).equals(made)


def test_triples_are_triples() -> None:
    assert Triple("a", "alias", "b").is_alias and not Triple("a", "Alias of", "b").is_alias
