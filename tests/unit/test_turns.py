"""Conversations as lists of turns: read in many shapes, cleaned turn by turn, learnt with a token for each role, and written as they are."""

import json
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth.codecs.tabular import Tabular
from raysynth.codecs.text import Text
from raysynth.draws import Draws
from raysynth.errors import DataError, RecipeError
from raysynth.formats import FORMATS, decode, encode
from raysynth.generators.base import Trained
from raysynth.generators.language_model import LanguageModel
from raysynth.generators.text_vae import TextVae
from raysynth.layout import Tokens
from raysynth.metrics.base import Seen
from raysynth.metrics.fidelity.text_lengths import TextLengths
from raysynth.mixing import check as check_mix
from raysynth.near_duplicates import Bands, cut_keys
from raysynth.profile import Profile, audit, infer_schema
from raysynth.recipe import Recipe
from raysynth.recipe_files import load_recipe, parse_recipe
from raysynth.schema import FILE, ROW, TURNS, Column, Schema
from raysynth.sources.examples import Examples
from raysynth.stages import prepare
from raysynth.stages.input_profile import Seen as InputSeen
from raysynth.stages.input_profile import profiler
from raysynth.stages.model_parts import check_codec
from raysynth.stages.prepare_text import texts_of
from raysynth.stages.reader import Reader
from raysynth.training import initialise
from raysynth.turns import anew, as_text, rows_as_texts, told_as_texts, turns_of
from raysynth.where import parse_where, satisfied

ROOT = Path(__file__).parents[2]
CHAT = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "你好"}]
SCHEMA = Schema((Column("mood", "category", pa.string()), Column("note", "text", pa.string()), Column("chat", "turns", TURNS)))
WORDS = ["hello", "again", "快递", "很慢", "why", "soon"]
KIND = {"schema": {"columns": {"chat": {"kind": "turns"}}}}


def read(*cells: str | None) -> tuple[list[Any], dict[int, str]]:
    turns, wrong = turns_of(pa.array(cells, pa.string()))
    return turns.to_pylist(), wrong


def rows(count: int = 90, chats: list[Any] | None = None) -> pa.Table:
    noise = np.random.default_rng(4)

    def said() -> str:
        return " ".join(noise.choice(WORDS, noise.integers(0, 4)))

    made = [[{"role": ("user", "assistant")[turn % 2], "content": said()} for turn in range(1 + row % 5)] for row in range(count)]
    whole: list[Any] = [None if row % 11 == 7 else turns for row, turns in enumerate(made)] if chats is None else chats
    return pa.table(
        {
            "mood": noise.choice(["good", "bad"], len(whole)).tolist(),
            "note": [said() for _ in whole],
            "chat": pa.array(whole, TURNS),
            FILE: [f"{row % 3}.jsonl" for row in range(len(whole))],
            ROW: pa.array(range(len(whole)), pa.int64()),
        }
    )


def settled(table: pa.Table, **options: Any) -> Text:
    codec = Text(SCHEMA, seed=3, **options)
    codec.settle(codec.observe(table))
    return codec


def layout_of(codec: Text) -> Tokens:
    assert isinstance(codec.layout, Tokens)
    return codec.layout


@cache
def codec() -> Text:
    return settled(rows())


# Reading


@pytest.mark.parametrize(
    "cell",
    [
        '[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "你好", "weight": 1}]',
        '[{"from": "user", "value": " Hello"}, {"from": "assistant", "value": "你好"}]',
        '[{"speaker": "user", "text": "Hello"}, {"content": "你好", "role": "assistant", "text": null}]',
    ],
)
def test_the_usual_shapes_are_one_shape(cell: str) -> None:
    assert read(cell) == ([CHAT], {})


def test_bare_texts_alternate_between_two_roles_and_numbers_are_roles_too() -> None:
    assert read('["a", "b", ""]')[0] == [[{"role": role, "content": text} for role, text in (("1", "a"), ("2", "b"), ("1", ""))]]
    assert read('[{"speaker": 0, "text": "e\\u0301"}]')[0] == [[{"role": "0", "content": "é"}]]


def test_an_empty_list_is_a_missing_conversation() -> None:
    assert read("[]", None, " [ ] ") == ([None, None, None], {})


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("Hello", "it is no JSON"),
        ('{"role": "user"}', "it is no list"),
        ("[" * 100_000, "it is no JSON"),
        ('["a", null]', "turn 1 has no role and content"),
        ('[{"role": "user", "content": "a"}, null]', "turn 2 is null"),
        ('[{"content": "a"}]', "turn 1 has no role (under one of the keys role, from, speaker)"),
        ('[{"role": "user", "content": null}]', "turn 1 has no content (under one of the keys content, value, text)"),
        ('[{"role": "user", "content": [{"type": "text"}]}]', "turn 1: its content is no text"),
        ('[{"role": true, "content": "a"}]', "turn 1: its role is no text"),
        ('[{"role": " ", "content": "a"}]', "turn 1: its role is empty"),
        ('[{"role": "user", "content": "\\ud83d"}]', "turn 1: its content has half of a surrogate pair"),
    ],
)
def test_what_is_no_conversation_says_why_and_repeats_nothing_of_it(cell: str, why: str) -> None:
    found, wrong = read("[]", cell)
    assert found == [None, None] and list(wrong) == [1] and wrong[1].startswith(why)


def test_turns_are_made_anew_wherever_they_lie_in_memory() -> None:
    turns = pa.array([CHAT, None, [], CHAT[1:], CHAT], TURNS).slice(1, 3)
    made = anew(turns, lambda texts: pa.array([f"{text}!" for text in texts.to_pylist()], pa.string()))
    assert made.to_pylist() == [None, [], [{"role": "assistant!", "content": "你好!"}]]
    assert as_text(pa.array([CHAT, None], TURNS)).to_pylist() == ["user: Hello\nassistant: 你好", None]


# What a column is


def kinds_of(cells: list[Any]) -> tuple[str, list[str]]:
    table = pa.table({FILE: ["a"] * len(cells), ROW: pa.array(range(len(cells)), pa.int64()), "chat": cells})
    profile = Profile.observe(table)
    schema = infer_schema(profile)
    return schema["chat"].kind, [warning for warning in audit(profile)["warnings"] if "chat" in warning]


def test_lists_that_name_their_roles_are_turns_and_other_lists_are_not() -> None:
    texts = [json.dumps(CHAT[: 1 + row % 2]) for row in range(40)]
    assert kinds_of(texts)[0] == kinds_of([json.loads(text) for text in texts])[0] == "turns"
    assert kinds_of([*texts, "[]"])[0] == "turns"
    assert kinds_of(["[]", "[]"])[0] == kinds_of(['["a"]', '["b", "c"]'])[0] == "json"
    kind, warnings = kinds_of([*texts, '[{"role": "user"}]'])
    assert kind == "json" and "all but 1 of its values are conversations; schema.columns.chat.kind: turns" in warnings[-1]


def test_the_schema_of_turns_goes_through_json_and_parquet(tmp_path: Path) -> None:
    assert Schema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA
    pq.write_table(rows().select(SCHEMA.names), tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").schema == SCHEMA.arrow


def test_no_table_is_made_of_turns_and_the_error_says_what_to_do() -> None:
    with pytest.raises(RecipeError, match=r"column 'chat' is of kind turns\. Say generator: \{use: language_model\}"):
        Tabular(SCHEMA)
    with pytest.raises(RecipeError, match="column 'chat'"):
        check_codec(parse_recipe({"source": "a.jsonl"}), SCHEMA)
    check_codec(parse_recipe({"source": "a.jsonl", "generator": {"use": "language_model"}}), SCHEMA)


# prepare


def recipe_of(source: Path, text: dict[str, Any] | None, **more: Any) -> Recipe:
    asked = {"source": str(source), "prepare": {"text": text}, "evaluate": None, "generator": {"use": "language_model"}}
    return parse_recipe(asked | more)


def prepared(recipe: Recipe) -> tuple[pa.Table, list[dict[str, Any]], str]:
    """As the stage does it, without Ray: the rows of all splits, the quarantine, and what the profile tells."""
    source, texts = prepare.source_of(recipe), texts_of(recipe)
    shards = source.shards(source.files())
    look = profiler(source, texts, prepare._kinds(recipe))  # pyright: ignore[reportPrivateUsage]
    seen = reduce(lambda one, two: one.merge(two), map(look, shards), InputSeen())
    schema = prepare.schema_of(recipe, seen.raw)
    files_of = prepare.make_files(recipe, Reader(source, tuple(shards), schema, {}, texts), {})
    found = [(sub, table) for part in range(len(shards)) for sub, table, *_ in files_of(part) if table is not None]
    bad = [row for sub, table in found if sub == "quarantine" for row in table.to_pylist()]
    kept = pa.concat_tables([table for sub, table in found if sub != "quarantine"]).sort_by([(ROW, "ascending")])
    return kept, bad, json.dumps(seen.to_json(schema), ensure_ascii=False)


def test_turns_come_from_json_lines_and_from_parquet_alike(tmp_path: Path) -> None:
    chats = [[{"from": turn["role"], "value": turn["content"]} for turn in CHAT], [], None]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"chat": chat}) for chat in chats), encoding="utf-8")
    pq.write_table(pa.table({"chat": chats}), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        kept, bad, _ = prepared(recipe_of(tmp_path / name, None))
        assert kept["chat"].type == TURNS and not bad
        assert kept["chat"].to_pylist() == [CHAT, None, None]


def test_rows_that_are_no_conversations_are_set_apart_with_the_reason(tmp_path: Path) -> None:
    lines = [{"chat": CHAT}, {"chat": ["a", "b"]}, {"chat": [{"role": "user"}]}, {"chat": 5}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    kept, bad, _ = prepared(recipe_of(tmp_path / "a.jsonl", None, **KIND))
    assert kept[ROW].to_pylist() == [0, 1]
    assert [(row[ROW], row["reason"][:40]) for row in bad] == [
        (2, "column 'chat': turn 1 has no content (un"),
        (3, "column 'chat': it is no list. Turns are "),
    ]


def test_personal_values_are_replaced_in_every_turn_and_told_nowhere(tmp_path: Path) -> None:
    values = ["zhang.san@corp-mail.cn", "13912345678"]
    chat = [
        {"role": "user", "content": f"Ｍｙ mail:\n{values[0]}"},
        {"role": "agent", "content": f"\n{values[1]}，好的 {values[0]}"},
    ]
    broken = [{"role": "user", "content": f"call\n{values[1]}"}, None]
    lines = [{"chat": chat}] * 30 + [{"chat": broken}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    kept, bad, told = prepared(recipe_of(tmp_path / "a.jsonl", {"deidentify": ["email", "phone"]}, **KIND))
    first, second = (turn["content"] for turn in kept["chat"][0].as_py())
    assert first.startswith("My mail:\n") and first.split("\n")[1] in second, "one person stays one person"
    assert len(bad) == 1 and kept.num_rows == 30
    everything = told + str(bad) + str(kept.to_pylist())
    assert [value for value in values if value in everything] == []
    assert json.loads(told)["deidentified"] == {"chat": {"email": 60, "phone": 31}}


def test_a_row_stays_where_each_of_its_turns_passes_the_filters(tmp_path: Path) -> None:
    said = ["The food was cold and late.", "送餐太慢了,菜都凉了", "Das Essen war leider kalt und kam zu spät.", "x" * 70]
    chats = [[{"role": "user", "content": text} for text in pair] for pair in (said[:2], said[1:3], said[::3], [])]
    pq.write_table(pa.table({"chat": chats}), tmp_path / "a.parquet")
    text = {"languages": ["zh", "en"], "max_characters": 60}
    assert prepared(recipe_of(tmp_path / "a.parquet", text))[0][ROW].to_pylist() == [0, 3]


def test_near_duplicates_are_judged_by_what_is_said_whoever_says_it() -> None:
    said = "the very same long sentence stands in both of the shards"
    pairs = [(said, "yes"), (said, "yes"), ("something else that nobody has said before today", "no")]
    chats = [[{"role": f"{row}{turn}", "content": text} for turn, text in enumerate(pair)] for row, pair in enumerate(pairs)]
    [keys] = cut_keys(Bands.of(0.8), 1, 0, rows(chats=[*chats, None, []]), ["chat"])
    found = {row: frozenset(keys.filter(pa.array(keys["row"].to_numpy() == row))["key"].to_pylist()) for row in range(5)}
    assert found[0] == found[1] and found[0].isdisjoint(found[2]) and not found[3] | found[4]


# The codec

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(["", "user", "你好", "<0x41>"])
CHATS = st.none() | st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXTS}), min_size=1, max_size=4
)


def came_back(codec: Text, table: pa.Table) -> bool:
    back = codec.decode(codec.encode(table), Draws.range(1, "decode", 0, table.num_rows))
    return back.to_pylist() == table.select(SCHEMA.names).to_pylist()


@settings(max_examples=10, deadline=None)
@given(chats=st.lists(CHATS, min_size=1, max_size=4))
def test_every_conversation_comes_out_as_it_went_in(chats: list[Any]) -> None:
    assert came_back(settled(rows(chats=chats), max_tokens=400), rows(chats=chats))


def test_statistics_know_neither_cut_nor_order_and_the_state_is_all_there_is() -> None:
    table, twin = rows(), Text(SCHEMA, seed=3)
    pieces = [table.slice(50), table.slice(0, 20), table.slice(20, 30)]
    twin.settle(reduce(lambda one, two: one.merge(two), map(twin.observe, pieces)))
    arrays, facts = codec().state()
    assert twin.layout == codec().layout and json.dumps(twin.state()[1]) == json.dumps(facts)
    other = Text(SCHEMA, seed=3)
    other.load(arrays, json.loads(json.dumps(facts)))
    assert other.layout == codec().layout and came_back(other, rows().slice(0, 20))
    assert layout_of(codec()).roles == (None, (layout_of(codec()).vocabulary - 2, layout_of(codec()).vocabulary - 1))


def test_texts_without_turns_have_the_tokens_they_always_had() -> None:
    schema = Schema(SCHEMA.columns[:2])
    plain = Text(schema, seed=3)
    plain.settle(plain.observe(rows()))
    assert isinstance(plain.layout, Tokens) and plain.layout.roles == () and "roles" not in plain.state()[1]


def test_a_role_that_no_train_row_has_cuts_the_conversation_there() -> None:
    chat = [*CHAT, {"role": "system", "content": "again"}, *CHAT]
    table = rows(chats=[chat])
    batch = codec().encode(table)
    assert (batch["tokens"] == Tokens.END).sum() == 1, "the note's: it is no whole row"
    assert codec().decode(batch, Draws.range(1, "decode", 0, 1))["chat"].to_pylist() == [CHAT]


def test_a_thousand_turns_and_one_role_are_a_conversation() -> None:
    table = rows(chats=[[{"role": "only", "content": "hello"}] * 1000] * 3)
    assert came_back(settled(table), table)


def test_too_many_roles_are_refused_by_name_however_rows_are_cut() -> None:
    table = rows(chats=[[{"role": f"person {row:02}", "content": "hello"}] for row in range(40)])
    made = Text(SCHEMA, seed=3)
    with pytest.raises(DataError, match=r"column 'chat': its turns have more than 16 roles \(person 00, person 01, person 02, …\)"):
        made.settle(made.observe(table.slice(20)).merge(made.observe(table.slice(0, 20))))


def test_no_conversation_at_all_is_no_trouble() -> None:
    table = rows(chats=[None] * 5)
    assert came_back(settled(table), table)


# The generators


@pytest.mark.parametrize("use", ["language_model", "text_vae", "repetition"])
def test_every_conversation_that_is_drawn_begins_with_a_role_of_its_column(use: str) -> None:
    """Of generators that know nothing yet, which draw any token that they may."""
    table, schema = rows(), Schema((*SCHEMA.columns, Column("other", "turns", TURNS)))
    table = table.append_column("other", pa.array([[{"role": "bot", "content": "hello"}]] * table.num_rows, TURNS))
    made = Text(schema, seed=3, max_tokens=400)
    made.settle(made.observe(table))
    shape = Tokens(layout_of(made).fields, layout_of(made).vocabulary, 60, layout_of(made).nullable, layout_of(made).roles)

    def untrained() -> Trained:
        if use == "text_vae":
            return TextVae(shape, width=16, latent=4)
        return LanguageModel(shape, width=16, layers=1, heads=2, repetition=1.0 if use == "language_model" else 1.5)

    generator = initialise(untrained, 3)
    assert generator.table is not None  # type: ignore[attr-defined]
    generator.table.forget()  # type: ignore[attr-defined]
    batch = generator.sample(Draws.range(1, "row", 0, 300), None)
    back = made.decode(batch, Draws.range(1, "decode", 0, 300))
    ended = np.cumsum(batch["tokens"] == Tokens.END, axis=1)[:, -1]
    assert (ended > 0).sum() > 20 and (ended > 1).any()
    first_ids = {name: set(ids) for name, ids in zip(("note", "chat", "other"), (set(), *shape.roles[1:]), strict=True)}  # type: ignore[misc]
    every = first_ids["chat"] | first_ids["other"]
    for tokens in batch["tokens"].tolist():
        begun, inside = True, 0
        for token in tokens[: tokens.index(Tokens.PAD) if Tokens.PAD in tokens else None]:
            name = ("note", "chat", "other")[inside]
            if begun and name != "note":
                assert token in first_ids[name] or (token == Tokens.NULL and name == "chat")
            assert token not in every - first_ids[name]
            begun, inside = token == Tokens.END, inside + (token == Tokens.END)
            if inside == 3:
                break
    assert back["other"].type == TURNS


# Scores, conditions and what is written


def test_metrics_see_conversations_as_texts() -> None:
    schema, table = told_as_texts(SCHEMA), rows_as_texts(rows())
    assert [column.kind for column in schema] == ["category", "text", "text"] and table.select(schema.names).schema == schema.arrow
    seen = Seen(dict.fromkeys(("train", "holdout", "synthetic"), table), {}, {})
    metric = TextLengths(schema)
    assert metric.score(seen, {})[0].columns == {"note": 1.0, "chat": 1.0}


@pytest.mark.parametrize("asked", ["Hello", [CHAT], {"min": 3}, {"starts": "Hello"}, [None, "Hello"]])
def test_nothing_but_their_absence_can_be_asked_of_conversations(asked: Any) -> None:
    with pytest.raises(RecipeError, match=r"where\.chat: of conversations only those that are missing"):
        parse_where({"chat": asked}, SCHEMA)


def test_no_mix_is_made_by_what_is_said() -> None:
    for key in ("stratify_by", "partition_by"):
        asked = parse_recipe({"source": "a.jsonl", "mix": {key: "chat" if key == "stratify_by" else ["chat"]}}).mix
        assert asked is not None
        with pytest.raises(RecipeError, match=f"mix.{key}: 'chat'"):
            check_mix(asked, SCHEMA)


def test_missing_conversations_can_be_asked_for() -> None:
    where = parse_where({"chat": None}, SCHEMA)
    assert codec().condition(where) is None
    assert satisfied(where, rows()).tolist() == rows()["chat"].is_null().to_pylist()


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_turns_back(format: str) -> None:
    odd = [[{"role": "=1+1", "content": 'a "b"\n,\t\\'}], [], None, CHAT]
    table = rows(chats=odd).select(SCHEMA.names)
    data = b"".join(encode(format, table.schema, [table.slice(0, 1), table.slice(1)]))
    assert decode(format, data, table.schema, 4).equals(table)


def test_turns_are_nested_in_json_and_a_text_of_json_in_csv() -> None:
    table = pa.table({"chat": pa.array([CHAT], TURNS)})
    assert json.loads(b"".join(encode("json", table.schema, [table])))["rows"] == [[CHAT]]
    line = b"".join(encode("csv", table.schema, [table])).decode().splitlines()[1]
    assert json.loads(line[1:-1].replace('""', '"')) == CHAT


# What there is to try it with


def test_the_conversations_of_the_example_are_whole_and_in_two_languages() -> None:
    source = Examples("examples://conversations")
    [table] = [table for shard in source.shards(source.files()) for table, _ in source.read(shard)]
    kinds = {column.name: column.kind for column in infer_schema(Profile.observe(table), source.kinds())}
    assert kinds == {"language": "category", "topic": "category", "turns": "turns"}
    turns, wrong = turns_of(table["turns"].combine_chunks())
    lengths = [len(chat) for chat in turns.to_pylist()]
    assert not wrong and min(lengths) == 2 and sum(length > 2 for length in lengths) > 90
    parts = [Examples(f"examples://conversations-{language}") for language in ("en", "zh")]
    apart = [table for part in parts for shard in part.shards(part.files()) for table, _ in part.read(shard)]
    assert sum(table.num_rows for table in apart) == len(lengths) and set(apart[1]["language"].to_pylist()) == {"zh"}


def test_the_recipe_of_conversations_loads() -> None:
    recipe = load_recipe(ROOT / "jobs/recipes/conversations.yaml")
    assert recipe.source.url == "examples://conversations" and recipe.generator.use == "language_model"
