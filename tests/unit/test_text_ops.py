"""What each op for text does to a text, English or Chinese, and what it never touches."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth.draws import Draws
from raysynth.errors import MissingExtraError, RecipeError
from raysynth.ops.base import Op
from raysynth.ops.text._codes import EDGES, Texts
from raysynth.ops.text._lexicon import Lexicon
from raysynth.ops.text._sentences import Sentences
from raysynth.ops.text._shapes import LOOKALIKES
from raysynth.ops.text._texts import CHUNK_BYTES, edits, ragged
from raysynth.parts import find
from raysynth.schema import FILE, ROW, Column, Kind, Schema

SCHEMA = Schema((Column("said", "text", pa.string()),))
NAMES = ["text.words", "text.typos", "text.ocr", "text.case", "text.sentences", "text.synonyms"]

ENGLISH = "The food was good, but the waiter did not smile. We waited long! Would we come again?"
CHINESE = "味道很好，就是送得太慢了。下次还会再来！土豆不错"
ODD = [
    "",
    " ",
    "\n",
    "a",
    "好",
    "👩‍👩‍👧‍👦👍🏽 1️⃣ 🇨🇳",
    "cafe\u0301 n\u0303o 葛\U000e0100城",
    "\x00\x01\x1f\x7f",
    "مرحبا بالعالم. كيف حالك؟",
    "שלום good 好 مرحبا 12",
    "((((((((((",
    "....!!!!????。。。。",
    "<<<<[[[[{{{{@@@@////",
    "ABC" * 50,
]
texts = st.text(
    st.sampled_from("abcdeg not. ,!?'\"()-\n1<{[@/\0好不你三。，！…é\u0301\u200d👍\ufe0f\U000e0100"), max_size=60
) | st.text(max_size=40)


def table_of(said: list[str | None]) -> pa.Table:
    columns: dict[str, Any] = {
        FILE: pa.array(["a"] * len(said), pa.string()),
        ROW: pa.array(range(len(said)), pa.int64()),
        "said": pa.array(said, pa.string()),
    }
    return pa.table(columns)


@pytest.fixture(scope="module")
def thesaurus(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("table") / "table.jsonl"
    rows = [
        {"word": "good", "synonyms": ["great", "fine"]},
        {"word": "long", "synonyms": "lengthily|for ages"},
        {"word": "味道", "synonyms": ["口味", "滋味"]},
        {"word": "土豆", "synonyms": ["马铃薯"]},
        {"word": "不错", "synonyms": ["挺好"]},
    ]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return str(path)


def made_by(name: str, said: list[str | None], *, seed: int = 1, first: int = 0, **options: Any) -> list[Any]:
    op: Op = find("ops", name)(SCHEMA, **options)
    rows = table_of(said)
    made = op(rows, Draws.range(seed, "augment", first, first + len(said)))
    assert made.schema.equals(rows.schema)
    assert made["said"].is_valid().equals(rows["said"].is_valid())
    return made["said"].to_pylist()


def options_of(name: str, thesaurus: str) -> dict[str, Any]:
    return {"table": thesaurus} if name == "text.synonyms" else {}


def words(text: str) -> list[str]:
    """What stands between blanks and punctuation, and single Chinese characters."""
    return re.findall(f"[\u3400-\u9fff]|[^\\s\u3400-\u9fff{re.escape(EDGES)}]+", text)


def is_subsequence(short: list[str], long: list[str]) -> bool:
    left = iter(long)
    return all(word in left for word in short)


def distance(one: str, other: str) -> int:
    """Insertions, deletions, replacements and exchanges of neighbours (optimal string alignment)."""
    rows = [list(range(len(other) + 1))]
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b)))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                row[-1] = min(row[-1], rows[-2][j - 2] + 1)
        rows.append(row)
    return rows[-1][-1]


# All of them


@pytest.mark.parametrize("name", NAMES)
def test_english_and_chinese_texts_are_both_changed_and_each_copy_is_another(name: str, thesaurus: str) -> None:
    options = options_of(name, thesaurus)
    for text in (ENGLISH, CHINESE):
        copies = made_by(name, [text] * 200, **options)
        assert sum(copy != text for copy in copies) >= 190, (text, copies[:3])
        assert len(set(copies)) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_nulls_empty_and_odd_texts_come_through(name: str, thesaurus: str) -> None:
    options = options_of(name, thesaurus)
    made = made_by(name, [None, *ODD, None], **options)
    assert made[0] is None and made[-1] is None and made[1:4] == ["", " ", "\n"]
    assert made[ODD.index("👩‍👩‍👧‍👦👍🏽 1️⃣ 🇨🇳") + 1] == "👩‍👩‍👧‍👦👍🏽 1️⃣ 🇨🇳"
    assert made_by(name, [], **options) == []
    assert made_by(name, [None, None], **options) == [None, None]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(said=st.lists(texts, max_size=6), cut=st.integers(0, 6))
def test_a_text_is_changed_alike_whatever_stands_beside_it(name: str, thesaurus: str, said: list[str], cut: int) -> None:
    options = options_of(name, thesaurus)
    whole = made_by(name, [*said], **options)
    assert made_by(name, [*said[:cut]], **options) + made_by(name, [*said[cut:]], first=min(cut, len(said)), **options) == whole


@pytest.mark.parametrize("name", NAMES)
def test_short_texts_among_many_are_changed_as_if_alone(name: str, thesaurus: str) -> None:
    options = options_of(name, thesaurus) | ({} if name == "text.sentences" else {"share": 0.5})
    parts = ["good", " ", "not", ".", "好", "味道", "。", "\n", "long ", "(a)", "<b>", "7", "é\u0301", "d, ", "!"]
    picks = np.random.default_rng(5).integers(0, len(parts), (100, 5))
    rows = table_of(["".join(parts[pick] for pick in row) for row in picks.tolist()])
    op: Op = find("ops", name)(SCHEMA, **options)
    draws = Draws.range(1, "augment", 0, rows.num_rows)
    alone = [op(rows.slice(row, 1), draws.take(np.array([row]))) for row in range(rows.num_rows)]
    assert pa.concat_tables(alone).equals(op(rows, draws))


@pytest.mark.parametrize("name", NAMES)
def test_texts_of_several_pieces_of_a_column_are_changed_by_their_own_draws(name: str, thesaurus: str) -> None:
    options = options_of(name, thesaurus)
    said = [ENGLISH, CHINESE, None] * (CHUNK_BYTES // 150)
    assert sum(len(text.encode()) for text in said if text) > CHUNK_BYTES
    made = made_by(name, [*said], **options)
    assert made_by(name, said[-6:], first=len(said) - 6, **options) == made[-6:]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "line", ["a" * 300_000, "!" * 300_000 + "x", "好" * 100_000, "{" * 300_000, "<b" * 100_000, ENGLISH * 3000], ids=len
)
def test_a_very_long_line_takes_no_more_than_its_share_of_time(name: str, thesaurus: str, line: str) -> None:
    made_by(name, [line], **options_of(name, thesaurus))


KEPT = [
    "{name}",
    "{first name}",
    "[MASK]",
    "<b>",
    "</b>",
    "<a href='x y'>",
    "https://example.com/a?b=c",
    "www.example.org",
    "a.b@example.com",
]
KEPT += [
    "@小明",
    "30",
    "3.50",
    "-7",
    "2024-11-24",
    "%s",
    "$100",
    "#tag",
    "https://zh.wikipedia.org/wiki/中文",
    "josé@correo.es",
    "12:30",
]


@pytest.mark.parametrize("name", NAMES)
def test_addresses_placeholders_and_tags_stay_as_they_are(name: str, thesaurus: str) -> None:
    options = options_of(name, thesaurus)
    for token in KEPT:
        if name == "text.ocr" and token in ("30", "3.50", "-7", "2024-11-24", "12:30"):
            continue
        for text in (f"they said {token} was good and long", f"{token} 味道很好，土豆 {token} 不错"):
            share = {} if name == "text.sentences" else {"share": 1.0}
            for made in made_by(name, [text] * 20, **options, **share):
                assert made.count(token) == text.count(token), (token, made)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "text.sentences"])
def test_the_share_is_met_and_the_most_is_not_passed(name: str, thesaurus: str) -> None:
    said = [ENGLISH[:50] + " " + CHINESE[:14]] * 16
    options = options_of(name, thesaurus) | ({"acts": ("final",)} if name == "text.case" else {})
    few, many = (made_by(name, [*said], share=share, **options) for share in (0.01, 0.6))
    assert np.mean([distance(said[0], made) for made in few]) < np.mean([distance(said[0], made) for made in many])
    if name in ("text.typos", "text.ocr"):
        least = made_by(name, [*said], share=1.0, most=3, **options)
        assert max(distance(said[0], made) for made in least) <= (3 if name == "text.typos" else 9)


def test_only_text_columns_are_taken() -> None:
    kinds: dict[str, Kind] = {"said": "text", "town": "category", "note": "text", "made": "text"}
    schema = Schema(tuple(Column(name, kind, pa.string(), derived=name == "made") for name, kind in kinds.items()))
    assert find("ops", "text.words")(schema).columns == ["said", "note"]
    assert find("ops", "text.words")(schema, columns=("note",)).columns == ["note"]
    for wrong in (("town",), ("made",), ("nowhere",)):
        with pytest.raises(RecipeError, match=f"'{wrong[0]}' is no text column that is learnt. Those are: said, note"):
            find("ops", "text.words")(schema, columns=wrong)
    with pytest.raises(RecipeError, match="no text column to change"):
        find("ops", "text.typos")(Schema((Column("town", "category", pa.string()),)))


def test_large_strings_and_a_column_in_chunks_keep_their_type() -> None:
    schema = Schema((Column("said", "text", pa.large_string()),))
    chunks = pa.chunked_array([[ENGLISH], [], [CHINESE, None]], pa.large_string())
    columns: dict[str, Any] = {FILE: ["a"] * 3, ROW: [0, 1, 2], "said": chunks}
    rows = pa.table(columns)
    made = find("ops", "text.words")(schema)(rows, Draws.range(1, "augment", 0, 3))
    assert made["said"].type == pa.large_string()
    assert made["said"].to_pylist() == made_by("text.words", [ENGLISH, CHINESE, None])


# Words


@settings(max_examples=25, deadline=None)
@given(text=texts, seed=st.integers(0, 99))
def test_swapping_keeps_all_words_and_all_characters(text: str, seed: int) -> None:
    (made,) = made_by("text.words", [text], acts=("swap",), share=0.5, seed=seed)
    assert Counter(made) == Counter(text)
    assert Counter(words(made)) == Counter(words(text))


@settings(max_examples=25, deadline=None)
@given(text=texts, seed=st.integers(0, 99))
def test_deleting_only_deletes_and_never_the_last_word(text: str, seed: int) -> None:
    (made,) = made_by("text.words", [text], acts=("delete",), share=1.0, seed=seed)
    assert is_subsequence(list(made), list(text))
    assert is_subsequence(words(made), words(text))
    assert bool(words(made)) == bool(words(text))


@settings(max_examples=25, deadline=None)
@given(text=texts, seed=st.integers(0, 99))
def test_inserting_only_says_words_twice(text: str, seed: int) -> None:
    (made,) = made_by("text.words", [text], acts=("insert",), share=0.3, seed=seed)
    assert is_subsequence(words(text), words(made))
    assert set(words(made)) == set(words(text))


def test_words_are_changed_and_the_punctuation_about_them_is_not() -> None:
    said: list[str | None] = ['He said: "no (really), thanks".'] * 60
    assert set(made_by("text.words", said, acts=("swap",), share=0.01)) == {
        'said He: "no (really), thanks".',
        'He no: "said (really), thanks".',
        'He said: "really (no), thanks".',
        'He said: "no (thanks), really".',
    }
    assert set(made_by("text.words", said, acts=("delete",), share=0.01)) == {
        'He said: "no (really), thanks".',
        'said: "no (really), thanks".',
        'He: "no (really), thanks".',
        'He said: "no, thanks".',
        'He said: "no (really),".',
    }
    assert set(made_by("text.words", ["好，3个5。"] * 20, acts=("delete",))) == {"好，3个5。", "3个5。"}


def test_negations_are_never_deleted() -> None:
    for text, kept in (
        ("We do not like it", "not"),
        ("It isn't good", "isn't"),
        ("it does n't matter", "n't"),
        ("they Never came", "Never"),
        ("他不喜欢", "不"),
    ):
        assert all(kept in made for made in made_by("text.words", [text] * 30, acts=("delete",), share=1.0))


def test_a_number_in_words_stays_whole() -> None:
    for text, kept in (("we paid three hundred dollars there", "three hundred"), ("我们花了三百二十元买的", "三百二十")):
        assert all(kept in made for made in made_by("text.words", [text] * 50, share=0.5))


# Typos and OCR


@settings(max_examples=25, deadline=None)
@given(text=texts, seed=st.integers(0, 99), most=st.integers(1, 4))
def test_typos_are_few_and_touch_letters_alone(text: str, seed: int, most: int) -> None:
    (made,) = made_by("text.typos", [text], share=1.0, most=most, seed=seed)
    assert distance(text, made) <= most
    others = [
        [one for one in line if not (one.isascii() and one.isalpha()) and not "\u4e00" <= one <= "\u9fff"] for line in (text, made)
    ]
    assert others[0] == others[1]


def test_each_slip_is_what_it_says() -> None:
    neighbours = made_by("text.typos", ["g"] * 100, acts=("neighbour",))
    assert set(neighbours) == set("ftyhvb")
    assert set(made_by("text.typos", ["G"] * 100, acts=("neighbour",))) == set("FTYHVB")
    assert set(made_by("text.typos", ["ab"] * 50, acts=("swap",), share=0.01)) == {"ab", "ba"}
    assert set(made_by("text.typos", ["ab"] * 50, acts=("drop",), share=0.01)) == {"a", "b"}
    assert set(made_by("text.typos", ["ab"] * 50, acts=("double",), share=0.01)) == {"aab", "abb"}
    assert set(made_by("text.typos", ["未"] * 50, acts=("lookalike",))) == {"末"}
    assert made_by("text.typos", ["a", "好"], acts=("drop",)) == ["a", "好"]


def test_homophones_have_the_sound_of_what_they_stand_for() -> None:
    pypinyin = pytest.importorskip("pypinyin")
    for made in made_by("text.typos", ["今天天气很好"] * 50, acts=("homophone",), share=0.5):
        assert made != "今天天气很好"
        assert pypinyin.lazy_pinyin(made) == pypinyin.lazy_pinyin("今天天气很好")


def test_without_pypinyin_the_act_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pypinyin", None)
    with pytest.raises(
        MissingExtraError, match=r"'homophone' needs the package 'pypinyin'. Install it: pip install 'raysynth\[text\]'"
    ):
        find("ops", "text.typos")(SCHEMA, acts=("homophone",))


def test_lookalikes_are_many_mutual_and_neither_numbers_nor_negations() -> None:
    assert len(LOOKALIKES) > 500
    assert all(one in LOOKALIKES[other] for one, others in LOOKALIKES.items() for other in others)
    assert not set(LOOKALIKES) & set("一二三四五六七八九十百千万亿零两不没无未非别莫勿否") - {"未"}
    assert {"己", "巳"} == set(LOOKALIKES["已"]) and LOOKALIKES["未"] == "末"


def test_ocr_mistakes_letters_pairs_and_digits_and_makes_no_other_number() -> None:
    assert set(made_by("text.ocr", ["0"] * 50)) == {"O", "o"}
    assert {"corn", "com"} & set(made_by("text.ocr", ["corn"] * 200))
    assert "modern".replace("rn", "m") in made_by("text.ocr", ["modern"] * 200)
    for made in made_by("text.ocr", ["1258069 47"] * 100, share=1.0):
        digits = [(old, new) for old, new in zip("1258069 47", made, strict=False) if new.isdigit()]
        assert all(old == new for old, new in digits)
    assert set(made_by("text.ocr", ["未来"] * 50)) == {"末来", "未米"}


# Case and sentences


def test_case_changes_sentences_one_by_one() -> None:
    text = "Good food. Bad wine!"
    assert set(made_by("text.case", [text] * 80, acts=("upper",), share=0.01)) == {"GOOD FOOD. Bad wine!", "Good food. BAD WINE!"}
    assert set(made_by("text.case", [text] * 80, acts=("lower",), share=1.0)) == {"good food. bad wine!"}
    assert set(made_by("text.case", [text] * 80, acts=("title",), share=1.0)) == {"Good Food. Bad Wine!"}
    assert set(made_by("text.case", ["Yes."] * 80, acts=("final",))) == {"Yes", "Yes.."}
    assert made_by("text.case", ["yes", "很好", "12"], acts=("final",)) == ["yes.", "很好。", "12."]
    assert set(made_by("text.case", ["很好，真的。"] * 20, acts=("width",))) == {"很好,真的."}
    assert set(made_by("text.case", ["很好,真的!"] * 20, acts=("width",))) == {"很好，真的！"}
    assert set(made_by("text.case", ["Write to A.B@example.com, [MASK] {Name}"] * 5, acts=("upper",))) == {
        "WRITE TO A.B@example.com, [MASK] {Name}"
    }


@settings(max_examples=25, deadline=None)
@given(text=texts, seed=st.integers(0, 99))
def test_case_keeps_letters_but_for_their_case_and_punctuation_but_for_the_last(text: str, seed: int) -> None:
    (made,) = made_by("text.case", [text], acts=("lower", "title", "final"), share=1.0, seed=seed)
    letters = [[one for one in line.casefold() if one.isalnum()] for line in (text, made)]
    assert letters[0] == letters[1]


@settings(max_examples=25, deadline=None)
@given(text=texts, seed=st.integers(0, 99))
def test_shuffled_sentences_keep_all_characters(text: str, seed: int) -> None:
    (made,) = made_by("text.sentences", [text], seed=seed)
    assert Counter(made) == Counter(text)


def test_no_sentence_stays_at_its_place() -> None:
    text = "One is here. Two is there! Three? Four"
    first = {"One is here", "Two is there", "Three", "Four"}
    seen = Counter(made_by("text.sentences", [text] * 600))
    assert len(seen) == 6, "the cycles of four"
    for made in seen:
        bodies = [body.strip() for body in made.replace("!", ".").replace("?", ".").split(".") if body.strip()]
        assert set(bodies) == first
        assert all(body != old for body, old in zip(bodies, ["One is here", "Two is there", "Three", "Four"], strict=True))
    assert min(seen.values()) > 60
    assert made_by("text.sentences", ["很好吃。送得快！下次再来", "Just one.", "a.b c.d 3.14 Mr. Smith"]) != []


def cut(text: str) -> list[str]:
    whole = Texts(pa.array([text]))
    found = Sentences.of(whole)
    return [text[start - 1 : gap - 1] for start, gap in zip(found.starts.tolist(), found.gaps.tolist(), strict=True)]


def test_sentences_are_cut_where_they_end() -> None:
    assert cut('It is 3.14. Mr. Smith met J. Doe. Really?! "Yes." ok') == [
        "It is 3.14.",
        "Mr. Smith met J. Doe.",
        "Really?!",
        '"Yes."',
        "ok",
    ]
    assert cut("很好吃!下次再来。“真的？”他说……好") == ["很好吃!", "下次再来。", "“真的？”", "他说……", "好"]
    assert cut("J.D. Drew missed U.S. games. Am I? I. No.") == ["J.D. Drew missed U.S. games.", "Am I?", "I.", "No."]
    assert cut("  one\n\n two\r\nthree  \n") == ["one", "two", "three"]
    assert cut("good . bad . ! ok") == ["good .", "bad . !", "ok"]
    assert cut("... and then. x") == ["... and then.", "x"]
    assert cut("see https://a.b/c?d=e.f! Now <b title='a. b'> x") == ["see https://a.b/c?d=e.f!", "Now <b title='a. b'> x"]
    assert cut("") == [] and cut(" \n ") == [] and cut("a") == ["a"]


# Synonyms


def test_synonyms_keep_case_and_what_stands_about_them(thesaurus: str) -> None:
    assert set(made_by("text.synonyms", ['Good? "GOOD", very good.'] * 100, table=thesaurus, share=1.0)) <= {
        f'{a}? "{b.upper()}", very {c}.' for a in ("Great", "Fine") for b in ("great", "fine") for c in ("great", "fine")
    }
    assert set(made_by("text.synonyms", ["味道不错，我的土豆"] * 50, table=thesaurus, share=1.0)) == {
        "口味挺好，我的马铃薯",
        "滋味挺好，我的马铃薯",
    }
    assert made_by("text.synonyms", ["We met Mr Good there"], table=thesaurus, share=1.0) == ["We met Mr Good there"]
    assert made_by("text.synonyms", ["A Very Good Title"], table=thesaurus, share=1.0)[0] in (
        "A Very Great Title",
        "A Very Fine Title",
    )
    assert made_by("text.synonyms", ["Bonjour tout le monde"], table=thesaurus) == ["Bonjour tout le monde"]


FORMS: dict[str, list[dict[str, Any]]] = {
    "words": [{"code": "A", "relation": "=", "words": ["美味", "好吃"]}, {"code": "B", "relation": "#", "words": ["吃饭", "喝水"]}],
    "lemmas": [{"synset": "1n", "lemmas": ["tasty", "good_tasting", "Tasty_Inc"]}],
    "values": [
        {"synset": "1", "type": "cmn:lemma", "value": "美味"},
        {"synset": "2", "type": "cmn:lemma", "value": "吃饭"},
        {"synset": "1", "type": "cmn:lemma", "value": "好+吃"},
        {"synset": "1", "type": "cmn:def", "value": "喝水"},
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_tables_that_are_known(form: str, tmp_path: Path) -> None:
    url = str(tmp_path / "table.parquet")
    pq.write_table(pa.Table.from_pylist(FORMS[form]), url)
    said = "so tasty" if form == "lemmas" else "美味，吃饭，喝水"
    assert made_by("text.synonyms", [said], table=url, share=1.0) == ["so good tasting" if form == "lemmas" else "好吃，吃饭，喝水"]


def test_csv_and_tsv_tables(tmp_path: Path) -> None:
    for name, comma in (("a.csv", ","), ("a.tsv", "\t")):
        (tmp_path / name).write_text(f"word{comma}synonyms\nfilm{comma}movie|picture\n", encoding="utf-8-sig")
        assert set(made_by("text.synonyms", ["a film"] * 20, table=str(tmp_path / name))) == {"a movie", "a picture"}


def test_a_longer_word_of_the_table_hides_the_shorter_ones_in_it(tmp_path: Path) -> None:
    url = str(tmp_path / "table.parquet")
    groups = [
        {"relation": "=", "words": ["中国", "华夏"]},
        {"relation": "=", "words": ["国人", "同胞"]},
        {"relation": "@", "words": ["中国人"]},
    ]
    pq.write_table(pa.Table.from_pylist(groups), url)
    assert made_by("text.synonyms", ["中国人", "中国大", "外国人"], table=url) == ["中国人", "华夏大", "外同胞"]


INDEX = """\
  1 This software and database is being provided to you, the LICENSEE
film n 2 1 @ 2 1 00000100 00000200
movie n 1 1 @ 1 1 00000100
"""
DATA = """\
  1 This software and database is being provided to you, the LICENSEE
00000100 06 n 02 movie 0 film 0 001 @ 00000300 n 0000 | a form of entertainment
00000200 06 n 03 film 0 photographic_film 0 Film_Corp 0 000 | material
"""
ADJECTIVE_INDEX = "tasty a 1 1 & 1 1 00000100\nfilm a 1 1 & 1 0 00000100\n"
ADJECTIVE_DATA = "00000100 00 s 02 tasty 0 toothsome(p) 0 001 & 00000100 a 0000 | pleasing\n"


def test_wordnet_is_read_from_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, index, data in (("noun", INDEX, DATA), ("adj", ADJECTIVE_INDEX, ADJECTIVE_DATA), ("verb", "", ""), ("adv", "", "")):
        (tmp_path / f"index.{part}").write_text(index)
        (tmp_path / f"data.{part}").write_text(data)
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    for table in ("wordnet", str(tmp_path)):
        made = made_by("text.synonyms", ["a tasty film"] * 50, table=table, share=1.0)
        assert set(made) == {"a toothsome movie", "a toothsome photographic film"}


def test_without_wordnet_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    monkeypatch.setattr("raysynth.ops.text._thesaurus._DEBIAN", str(tmp_path / "none"))
    with pytest.raises(MissingExtraError, match="apt-get install wordnet-base"):
        find("ops", "text.synonyms")(SCHEMA, table="wordnet")


def test_tables_that_cannot_serve_are_refused_by_name(tmp_path: Path) -> None:
    files = {
        "a.csv": "head,tail\nx,y\n",
        "b.jsonl": "{",
        "c.parquet": "no",
        "d.txt": "x",
        "e.csv": "word,synonyms\nx,\n",
        "f.jsonl": "[1]",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(RecipeError, match=name):
            find("ops", "text.synonyms")(SCHEMA, table=str(tmp_path / name))
    with pytest.raises(RecipeError, match="nothing at"):
        find("ops", "text.synonyms")(SCHEMA, table=str(tmp_path / "absent.csv"))


def test_a_table_in_another_language_is_refused_when_the_rows_are_known(thesaurus: str) -> None:
    op: Op = find("ops", "text.synonyms")(SCHEMA, table=thesaurus)
    with pytest.raises(RecipeError, match=r"has a synonym of no word in the train rows \(said\)"):
        op.settle(op.observe(table_of(["Bonjour", "tout le monde"])))
    op.settle(op.observe(table_of(["", None])))


def test_settled_on_its_rows_it_changes_them_as_before(thesaurus: str) -> None:
    rows = table_of([ENGLISH, CHINESE, "Good"])
    one, other = (find("ops", "text.synonyms")(SCHEMA, table=thesaurus) for _ in range(2))
    other.settle(other.observe(rows.slice(0, 1)).merge(other.observe(rows.slice(1))))
    draws = Draws.range(1, "augment", 0, 3)
    assert one(rows, draws).equals(other(rows, draws))
    assert one.facts() == other.facts() and len(one.facts()["table_sha256"]) == 64


# What they share


def test_the_draws_of_a_text_are_the_first_of_a_row_of_draws() -> None:
    draws = Draws.range(3, "augment", 10, 14)
    counts = np.array([2, 0, 5, 1])
    whole = draws.words("a", 5)
    assert ragged(draws, "a", counts).tolist() == [
        word for row, count in zip(whole, counts, strict=True) for word in row[:count].tolist()
    ]


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 300), min_size=1, max_size=20), share=st.floats(0.01, 1), most=st.integers(1, 40))
def test_edits_lie_in_their_texts_in_order_and_no_more_than_asked(sizes: list[int], share: float, most: int) -> None:
    found = edits(Draws.range(1, "augment", 0, len(sizes)), "edit", np.array(sizes, np.int64), share=share, most=most)
    keys = list(zip(found.rows.tolist(), found.places.tolist(), strict=True))
    assert keys == sorted(set(keys))
    counts = np.bincount(found.rows, minlength=len(sizes))
    assert all(0 <= place < sizes[row] for row, place in keys)
    assert all(min(1, size) <= count <= min(most, size) for size, count in zip(sizes, counts.tolist(), strict=True))


def test_the_expected_number_of_edits_is_the_share() -> None:
    sizes = np.full(20_000, 7)
    found = edits(Draws.range(1, "augment", 0, len(sizes)), "edit", sizes, share=0.35, most=100)
    assert abs(len(found.rows) / len(sizes) - 7 * 0.35) < 0.02, "five standard errors of a fraction that is drawn"
    assert np.ptp(np.bincount(found.places) / len(sizes)) < 0.02, "each place is as likely"


@settings(max_examples=25, deadline=None)
@given(text=texts)
def test_a_lexicon_knows_its_words_in_any_case(text: str) -> None:
    lexicon = Lexicon.of(["not", "never", "不"])
    codes = np.frombuffer(("never" + text).encode("utf-32-le"), "<u4")
    starts = np.zeros(len(codes), np.int64)
    stops = np.arange(1, len(codes) + 1)
    expected = [("never" + text)[:stop].lower() in ("not", "never", "不") for stop in range(1, len(codes) + 1)]
    assert lexicon.holds(codes, starts, stops).tolist() == expected
