"""Words and languages of Chinese, English, mixed and odd texts."""

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysynth.words import folded, joined, language, ngrams, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It's a well-known 3-star HOTEL!", ["it's", "a", "well-known", "3-star", "hotel", "!"]),
        ("很好吃，100分 Good", ["很", "好", "吃", ",", "100", "分", "good"]),
        ("Ｆｕｌｌ　ｗｉｄｔｈ", ["full", "width"]),
        ("don’t STRASSE straße", ["don't", "strasse", "strasse"]),
        ("e\u0301te\u0301 x\u0323\u0301y", ["été", "x\u0323\u0301y"]),
        ("-a- 'b' a_b", ["-", "a", "-", "'", "b", "'", "a", "_", "b"]),
        ("ok👍🏽👨‍👩‍👧🇩🇪❤️", ["ok", "👍🏽", "👨‍👩‍👧", "🇩🇪", "❤️"]),
        ("Привет, мир", ["привет", ",", "мир"]),
        ("ありがとう", list("ありがとう")),
        ("\x00a\x1b[3m", ["\x00", "a", "\x1b", "[", "3m"]),
        ("", []),
        (" \n\t\u3000", []),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The Chinese word 好 means good", "en"),
        ("苹果iPhone发布会", "zh"),
        ("用Python做数据", "zh"),
        ("用Python做", "en"),
        ("Привет, мир", ""),
        ("これはとてもよい本です", ""),
        ("שלום עולם", ""),
        ("12345 !?", ""),
        ("", ""),
    ],
)
def test_languages(text: str, found: str) -> None:
    assert language(text) == found


@given(st.text())
def test_any_text_has_words_without_spaces_that_stand_in_it_in_their_order(text: str) -> None:
    found, at = words(text), 0
    whole = normalize("NFKC", normalize("NFKC", text).casefold()).replace("’", "'")
    for word in found:
        assert word and not any(letter.isspace() for letter in word)
        at = whole.index(word, at) + len(word)
    assert len("".join(found)) == sum(not letter.isspace() for letter in whole)
    assert language(text) in ("zh", "en", "")


def test_texts_that_differ_in_form_case_and_spaces_fold_alike() -> None:
    assert folded("  Ｇｏｏｄ\n day ") == folded("good day") == "good day"
    assert folded("很 好") != folded("很好")


def test_ngrams_and_lines() -> None:
    assert list(ngrams(["a", "b", "c"], 2)) == [("a", "b"), ("b", "c")]
    assert list(ngrams(["a"], 2)) == []
    assert joined(words("很好吃，good  day")) == "很好吃 , good day"


def test_a_megabyte_is_no_trouble() -> None:
    assert len(words("好a " * 300_000)) == 600_000
    assert language("好a " * 300_000) == "zh"
