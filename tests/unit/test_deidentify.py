"""De-identification: planted values are found and replaced by fakes that are valid in form and the same everywhere; ordinary text stays."""

import random
import re
import time
from collections.abc import Callable
from datetime import date, timedelta
from ipaddress import IPv6Address, ip_address, ip_network

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth import fakes
from raysynth.check_digits import IBAN_CHARACTERS, iban_check, id_check, luhn_check
from raysynth.deidentify import Deidentifier
from raysynth.errors import MissingExtraError
from raysynth.fakes import Fakes
from raysynth.names import Names, listed_names
from raysynth.personal import FINDERS, KINDS, Found, PersonalKind, find, ips

PLANTED = 500
NAMES = ["John Smith", "Mary-Jane O'Neil", "José García", "王小明", "欧阳娜娜", "李雷", "Rose", "Smith"]
CODED = st.characters(exclude_categories=("Cs",))

ENGLISH = [
    "Please reach me: {}.",
    "My details ({}) have changed, could you update them?",
    "{} is what I gave your colleague last week",
    "I typed {} and it was refused!",
    "As of 2024-05-12, it is {}, not the old one.",
]
CHINESE = ["请联系我：{}，谢谢", "我的信息是{}。已经改了", "{}这个不对", "昨天留的是{},今天再留一次", "资料（{}）请更新"]

Make = Callable[[random.Random], str]


def digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choice("0123456789") for _ in range(count))


def grouped(draw: random.Random, text: str, *sizes: int, gaps: str = " -") -> str:
    """The text as it is, or in groups of these sizes (the rest last) with the same of these gaps between them."""
    gap = draw.choice(["", *gaps])
    pieces: list[str] = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return gap.join([*pieces, *([text] if text else [])])


def email(draw: random.Random) -> str:
    word = "".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(draw.randint(3, 9)))
    others = ["张三", "иван.1985", "Nguyễn"]
    local = draw.choice(
        [
            *others,
            word,
            f"{word}{digits(draw, 3)}",
            f"{word}.{word[::-1]}",
            f"{word}_x",
            f"{digits(draw, 9)}",
            f"{word}+tag",
            word.upper(),
        ]
    )
    domains = [
        "qq.com",
        "163.com",
        "gmail.com",
        "mail.co.uk",
        "a-b.edu.cn",
        "x1.io",
        "sub.firma.de",
        "公司.cn",
        "例子.中国",
        "пример.рф",
    ]
    return f"{local}@{draw.choice(domains)}"


def mobile(draw: random.Random) -> str:
    number = f"1{draw.choice('3456789')}{digits(draw, 9)}"
    prefix = draw.choice(["", "", "+86 ", "+86", "86-", "(+86)"])
    if draw.random() < 0.2:
        return draw.choice(["", "86.", "+86."]) + ".".join([number[:3], number[3:7], number[7:]])
    return prefix + grouped(draw, number, *draw.choice([(3, 4, 4), (3, 4, 4), (4, 3, 4), (3, 8), (5, 6)]))


def american(draw: random.Random) -> str:
    area, office, line = f"{draw.randint(201, 989)}", f"{draw.randint(200, 999)}", digits(draw, 4)
    spelled = ["({}) {}-{}", "{}-{}-{}", "{}.{}.{}", "+1 {} {} {}", "1-{}-{}-{}", "{} {} {}", "+1{}{}{}", "{}{}{}"]
    return draw.choice(spelled).format(area, office, line)


def landline(draw: random.Random) -> str:
    area = draw.choice(["010", "021", "0755", "0571", "028"])
    local = f"{draw.choice('2345678')}{digits(draw, 7)}"
    spelled = [
        f"{area}-{local}",
        f"({area}){local}",
        f"{area} {local[:4]} {local[4:]}",
        f"+86 {area[1:]} {local}",
        f"{area}{local}",
    ]
    without_zero = [f"86-{area[1:]}-{local}", f"(86){area[1:]}-{local}", f"86 ({area[1:]}) {local[:4]} {local[4:]}"]
    return draw.choice([*spelled, *without_zero])


def international(draw: random.Random) -> str:
    national = str(draw.randint(200_000_000, 999_999_999))
    code = draw.choice(["44", "49", "33", "81", "852", "7", "351"])
    spelled = [
        f"+{code} {national[:2]} {national[2:5]} {national[5:]}",
        f"+{code}{national}",
        f"00{code} {national}",
        f"+{code} (0){national[:3]} {national[3:]}",
    ]
    return draw.choice(spelled)


def phone(draw: random.Random) -> str:
    return draw.choice([mobile, mobile, american, landline, international])(draw)


def card(draw: random.Random) -> str:
    prefix, length = draw.choice(
        [
            ("4", 16),
            ("4", 13),
            ("51", 16),
            ("55", 16),
            ("34", 15),
            ("37", 15),
            ("6011", 16),
            ("62", 16),
            ("62", 19),
            ("35", 16),
            ("36", 14),
        ]
    )
    number = prefix + digits(draw, length - len(prefix) - 1)
    number += luhn_check(number)
    return grouped(draw, number, *((4, 6) if length < 16 else (4, 4, 4, 4)), gaps=" -.")


def id_number(draw: random.Random) -> str:
    born = date(1930, 1, 1) + timedelta(draw.randrange(33_000))
    number = f"{draw.randint(11, 65)}{digits(draw, 4)}{born:%Y%m%d}{digits(draw, 3)}"
    number += id_check(number)
    return grouped(draw, draw.choice([number, number.lower()]), *draw.choice([(18,), (6, 8, 4)]))


def iban(draw: random.Random) -> str:
    country = draw.choice(sorted(IBAN_CHARACTERS))
    length = IBAN_CHARACTERS[country] - 4
    bank = (
        "".join(draw.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(4))
        if country in ("GB", "NL", "IE", "LC", "MT")
        else digits(draw, 4)
    )
    account = bank + digits(draw, length - 4)
    whole = country + iban_check(country, account) + account
    return draw.choice([whole, " ".join(re.findall(".{1,4}", whole)), whole.lower()])


def ip(draw: random.Random) -> str:
    four = ".".join(str(draw.randint(0, 255)) for _ in range(4))
    six = IPv6Address(draw.getrandbits(128))
    short = IPv6Address((0x2A02 << 112) + draw.getrandbits(32))
    padded = ".".join(f"{int(group):03}" for group in four.split("."))
    return draw.choice([four, four, padded, str(six), str(short), six.exploded.upper()])


def url(draw: random.Random) -> str:
    host = f"{draw.choice(['shop', 'blog', 'my-site'])}{digits(draw, 3)}.{draw.choice(['com', 'cn', 'co.uk', 'example'])}"
    path = draw.choice(["", "/", "/user/42", "/a?id=3&x=y#top", ":8080/p_(1)", "/张三/档案?名=王小明&x=y", "/иван", "/cv_李雷.pdf"])
    return draw.choice(
        [
            f"https://{host}{path}",
            f"http://{host}{path}",
            f"www.{host}{path}",
            f"HTTPS://WWW.{host}{path}",
            f"ftp://u:p@{host}{path}",
            f"postgresql://admin:s3cret!^pw@{host}{path}",
            f"mongodb+srv://{draw.choice(['例子.中国', 'www.пример.рф', 'my例子.com'])}{path}",
        ]
    )


def name(draw: random.Random) -> str:
    return draw.choice([*NAMES, "Mary-Jane O’Neil", "JOHN\nSMITH", "José \n\tGarcía"])


GENERATORS: dict[PersonalKind, Make] = {
    "email": email,
    "phone": phone,
    "card": card,
    "id_number": id_number,
    "iban": iban,
    "ip": ip,
    "url": url,
    "name": name,
}
RECALL = {"card": 0.98, "id_number": 0.98, "iban": 0.98}


@pytest.fixture(scope="module")
def deidentifier() -> Deidentifier:
    return Deidentifier(7, KINDS, NAMES)


def planted(kind: PersonalKind, templates: list[str]) -> list[tuple[str, str]]:
    draw = random.Random(f"{kind} {templates[0]}")  # noqa: S311
    values = [GENERATORS[kind](draw) for _ in range(PLANTED)]
    return [(value, draw.choice(templates).format(value)) for value in values]


@pytest.mark.parametrize("templates", [ENGLISH, CHINESE], ids=["en", "zh"])
@pytest.mark.parametrize("kind", KINDS)
def test_planted_values_are_found_and_nothing_else_is_touched(
    kind: PersonalKind, templates: list[str], deidentifier: Deidentifier
) -> None:
    items = planted(kind, templates)
    made, counts = deidentifier.column(pa.array([text for _, text in items]))
    found = [value not in text and bare(value) not in bare(text) for (value, _), text in zip(items, made.to_pylist(), strict=True)]
    assert sum(found) / PLANTED >= RECALL.get(kind, 0.95)
    assert sum(found) == PLANTED  # what is above is the promise, this is what there is
    assert counts[kind] >= 0.95 * PLANTED
    for (value, text), replaced in zip(items, made.to_pylist(), strict=True):
        before, _, after = text.partition(value)
        if kind == "url" and (value.endswith("/") or not value.isascii()) and re.match("[\u4e00-\u9fff]", after):
            after = ""  # Chinese behind a slash or behind Chinese is taken for more of the path
        assert replaced is not None and replaced.startswith(before) and replaced.endswith(after)


def bare(text: str) -> str:
    return re.sub("[ .-]", "", text)


ORDINARY = [
    "The film runs 1234567 minutes and cost $12,345,678.90 in 2019-2020.",
    "Order 20240512123456789 shipped at 12:30:45, version 1.2.3.4.5, std::vector<a::b> at 0x7fff5fbff8c0",
    "1600000000000 ms since 1970; pi is 3.14159265358979 and e 2.71828182845905",
    "ISBN 978-3-16-148410-0, issue #12345678, commit 9f13812345678abcd13812345678",
    "Meet at 5pm @ the bar, email me later, see www or http",
    "他的电话号码不对，2024年5月12日12时30分，订单20240512000000001234",
    "股票代码600519，涨幅3.14%，成交13.8亿元，13812元",
    "will rose may john",
    "ratio 1::2, 10:30, a:b:c:d, ::, C::D",
    "at 10:30:45, MAC:00:1A:2b:3c:4d:5e, IP:12:30:45, std:a::b, v:1::2, firmware 2.06.01.00, 1.02.03.04, 0.256.000.300",
    "86.1380013 138.0013 1380.013.8000.1 86-1010 1986-10-88888888, 86 105 2024, 4111.1111 1.4111.1111.1111.1111",
    "",
]


def test_ordinary_texts_stay_as_they_are(deidentifier: Deidentifier) -> None:
    texts = pa.array([*ORDINARY, None])
    made, counts = deidentifier.column(texts)
    assert made.to_pylist() == texts.to_pylist() and not counts


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "name"])
def test_a_fake_is_valid_in_form_and_of_a_range_that_is_nobodys(kind: PersonalKind, deidentifier: Deidentifier) -> None:
    for value, _ in planted(kind, ENGLISH)[:200]:
        made = deidentifier.text(value)
        assert made != value
        (found,) = find(made, [FINDERS[kind]])
        assert (found.start, found.stop, found.kind) == (0, len(made), kind), (value, made)
        assert is_reserved(found), made
        if kind in ("card", "id_number", "iban", "phone"):
            assert re.sub("[0-9A-Za-z]", "x", made) == re.sub("[0-9A-Za-z]", "x", value)
        if value.isupper():
            assert made.upper() == made


def is_reserved(found: Found) -> bool:
    value = found.value
    match found.kind:
        case "email":
            return value.rpartition("@")[2] in ("example.org", "example.com", "example.net")
        case "url":
            return re.search(r"//(www\.)?[a-z0-9]+\.example\.org|^www\.[a-z0-9]+\.example\.org", value.lower()) is not None
        case "ip":
            nets = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
            return any(ip_address(value) in ip_network(net) for net in nets if (":" in net) == (":" in value))
        case "card":
            return value.startswith(("424242", "555555", "378282", "620000", "356600", "305693"))
        case "id_number":
            return value.startswith("99")
        case "iban":
            return all(character in "0TES" for character in value[4:8])
        case "phone":
            country, number = value.split(":")
            return (
                number[3:8] == "55501"
                if country == "1"
                else not (country == "86" and number[0] == "1" and len(number) == 11) or number.startswith("154")
            )
        case _:
            return True


def test_one_value_has_one_fake_however_and_wherever_it_is_written() -> None:
    spelled = {
        "phone": ["13812345678", "+86 138 1234 5678", "138-1234-5678", "0086-13812345678", "138.1234.5678", "86.138.1234.5678"],
        "landline": ["86-10-88888888", "+86 10 88888888", "0086-10-88888888"],
        "card": ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "4111.1111.1111.1111"],
        "id_number": ["11010519491231002X", "11010519491231002x", "110105 19491231 002X"],
        "email": ["Bob@Example.com".replace("Example", "Firm"), "bob@firm.com"],
        "e-mail": ["Иван@Пример.рф", "иван@пример.рф"],
        "url": ["http://firm.com/张三", "http://FIRM.com/%E5%BC%A0%E4%B8%89", "http://admin:pw@firm.com/张三"],
        "ip": ["2001:DB9::1", "2001:db9:0:0::1", "2001:0db9:0000:0000:0000:0000:0000:0001"],
    }
    one, other = Deidentifier(7, KINDS, NAMES), Deidentifier(7, KINDS, NAMES)
    for kind, texts in spelled.items():
        made = {re.sub("[^0-9a-z@:]", "", one.text(text).lower())[-11:] for text in texts}
        assert len(made) == 1, (kind, made)
        assert one.text(f"我的是{texts[0]}。") == other.text(f"我的是{texts[0]}。") and one.text(texts[0]) in one.text(
            f"It is {texts[0]}, ok?"
        )
    assert one.text("010-88888888")[4:] == one.text("+86 10 8888 8888").replace(" ", "")[-8:]
    assert one.text(spelled["card"][0]) != Deidentifier(8, KINDS, NAMES).text(spelled["card"][0])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("见https://例子.中国/张三。好", "https://例子.中国/张三"),
        ("https://пример.рф/иван, да", "https://пример.рф/иван"),
        ("在https://a.example.org/张三/档案?name=王小明，谢谢", "https://a.example.org/张三/档案?name=王小明"),
        ("在https://a.example.org/用户:张三,今天", "https://a.example.org/用户:张三"),
        ("请看https://a.example.com/x谢谢", "https://a.example.com/x"),
        ("请看https://a.example.com/x,谢谢.再见", "https://a.example.com/x"),
        ("请看https://a.example.com谢谢！", "https://a.example.com"),
        ("www.a.example.com/张三 好", "www.a.example.com/张三"),
        ("redis://:p^s|w@cache:6379/0 up", "redis://:p^s|w@cache:6379/0"),
        ("邮箱zhang@example.com", "zhang@example.com"),
        ("我的邮箱是张三@example.com谢谢", "张三@example.com"),
        ("发给user@例子.中国谢谢", "user@例子.中国"),
    ],
)
def test_a_value_of_another_script_ends_where_the_text_goes_on(text: str, found: str) -> None:
    assert [text[one.start : one.stop] for one in find(text, list(FINDERS.values()))] == [found]


@pytest.mark.parametrize(
    "address", ["2001:db8:85a3::8a2e:370:7334", "fe80::1", "2001:db8:1:2:3:4:5:6", "::ffff:10.0.0.1", "2001:db8::"]
)
@pytest.mark.parametrize("label", ["IP:", "IPv6:", "IP地址:", "client.addr:", "(host:", ""])
def test_an_address_is_found_behind_a_label(label: str, address: str) -> None:
    (found,) = find(f"{label}{address}, ok", [ips])
    assert found.value == str(IPv6Address(address)) and (found.start, found.stop) == (len(label), len(label) + len(address))


def test_an_address_with_leading_zeros_is_the_one_without(deidentifier: Deidentifier) -> None:
    made, padded = deidentifier.text("192.168.1.10"), deidentifier.text("192.168.001.010")
    assert re.fullmatch(r"(?:[0-9]{3}\.){3}[0-9]{3}", padded)
    assert made == ".".join(str(int(group)) for group in padded.split("."))


def test_sites_stay_sites_and_pages_pages(deidentifier: Deidentifier) -> None:
    first, second, other = (deidentifier.text(f"http://{rest}") for rest in ("a.com/x", "a.com/y", "b.com/x"))
    assert first.rsplit("/", 1)[0] == second.rsplit("/", 1)[0] != other.rsplit("/", 1)[0]
    assert first.rsplit("/", 1)[1] != second.rsplit("/", 1)[1]
    assert deidentifier.text("see www.a.com/x.") == f"see www.{first.removeprefix('http://')}."


def test_names_are_whole_words_where_there_are_words_and_of_their_own_script(deidentifier: Deidentifier) -> None:
    text = deidentifier.text("Blacksmith Smithson John Smithe John Smith JOHN SMITH rose Rose 王小明说李雷和欧阳娜娜")
    han = "[\u4e00-\u9fff]"
    latin = r"Blacksmith Smithson John Smithe [A-Z]\w+ [A-Z]\w+ [A-Z]+ [A-Z]+ rose [A-Z]\w+"
    assert re.fullmatch(f"{latin} {han}{{3}}说{han}{{2}}和{han}{{3,4}}", text)
    assert not find(text, [Names(NAMES)])
    first, second = re.findall(r"([A-Z]\w+ [A-Z]\w+) ([A-Z]+ [A-Z]+) rose", text)[0]
    assert first.upper() == second
    assert re.match("[\u4e00-\u9fff]", Deidentifier(7, ["name"], NAMES, "zh_CN").text("John Smith"))


@pytest.mark.parametrize(
    "written", ["John Smith", "John\nSmith", "John \r\n\tSmith", "John\xa0Smith", "_John Smith_", "__John\nSmith__"]
)
@pytest.mark.parametrize("around", ["{}", " {}.", "a  b\n\n{}\n\n c", "王小明 说\n{}\n"])
def test_a_name_is_found_over_a_line_end_and_in_underscores(written: str, around: str) -> None:
    text = around.format(written)
    (found,) = find(text, [Names(["John Smith"])])
    assert text[found.start : found.stop] == written.strip("_") and found.value == "john smith"
    made = Deidentifier(7, ["name"], ["John Smith"])
    first, last = made.text("John Smith").split()
    assert made.text(text) == around.format(written.replace("John", first).replace("Smith", last))


@pytest.mark.parametrize("listed", ["Mary-Jane O'Neil", "Mary-Jane O’Neil"])
def test_a_name_is_the_same_with_any_apostrophe(listed: str) -> None:
    made = Deidentifier(7, ["name"], [listed])
    typed, printed = made.text("Mary-Jane O'Neil's cat"), made.text("Mary-Jane O’Neil’s cat")
    assert "Neil" not in typed and printed == typed.replace("'s", "’s")


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("13812345678@qq.com", ["email"]),
        ("http://a.com/?mail=bob@b.com&tel=13812345678", ["url"]),
        ("https://192.168.0.1/x", ["url"]),
        ("110105194912310021 11010519491231002X", ["id_number"]),
        ("4111111111111111 2024", ["card"]),
        ("2024 4111 1111 1111 1111 123", ["card"]),
        ("138 1234 5678 13987654321", ["phone", "phone"]),
        ("张三13812345678微信同号", ["phone"]),
        ("tel13812345678", ["phone"]),
        ("GB29 NWBK 6016 1331 9268 19 is mine", ["iban"]),
        ("<bob@b.com>;'al@b.com'...eve@b.com", ["email", "email", "email"]),
        ("card no. 9000 0000 0000 0002", []),
        ("(www.a.com), [http://b.cn/x]。http://c.cn/路", ["url", "url", "url"]),
        ("我的邮箱是张三@example.com谢谢, 邮箱zhang@公司.cn", ["email", "email"]),
        ("回复@小明.哈哈, 关注@sina.你好", []),
        ("x@bob@b.com", ["email"]),
        ("postgres://admin:s3cret!pw@10.0.0.1:5432/db", ["url"]),
        ("postgresql://admin:secret@db.example.com", ["url"]),
        ("bob@b.com-https://b.com", ["email", "url"]),
        (":// a://b http:// x:// 是://", []),
        ("fe80::1: down, ::ffff:10.0.0.1", ["ip", "ip"]),
    ],
)
def test_the_longest_reading_of_a_place_is_taken(text: str, kinds: list[str]) -> None:
    assert [found.kind for found in find(text, list(FINDERS.values()))] == kinds


def test_a_moment_in_milliseconds_is_a_card_only_where_the_text_says_so() -> None:
    number = "160000000000"
    number += luhn_check(number)
    assert [found.kind for found in find(f"My card number is {number}", [FINDERS["card"]])] == ["card"]
    assert [found.kind for found in find(f"卡号：{number}", [FINDERS["card"]])] == ["card"]
    assert not find(f"order {number}", [FINDERS["card"]])


def test_kinds_that_are_not_asked_for_stay() -> None:
    text = "bob@b.com 13812345678"
    assert Deidentifier(7, ["phone"]).text(text).startswith("bob@b.com 154")


@settings(deadline=None, max_examples=150)
@given(st.text(CODED | st.sampled_from("0123456789+-() .@:/%X卡"), max_size=60))
def test_odd_texts_never_crash_and_the_screen_misses_nothing(text: str) -> None:
    made, counts = ODD.column(pa.array([text, None]))
    assert made.to_pylist() == [ODD.text(text), None]
    assert bool(counts) == (made[0].as_py() != text) or counts  # a fake may by chance be what was there


ODD = Deidentifier(7, [kind for kind in KINDS if kind != "name"])


UNITS = (
    "a.a@ @a. 好@ @好. 好@好. 是a@b.cn aa:// ://好 ://a. http://好, http://好/ http://a.com好- www.a/好 a: : 86-10- 1111. O’ _ J_"
)


@pytest.mark.parametrize("unit", ["a", "1", "1 ", "1.1.", "好1", "www.", "+1 (", "13812345678 ", "John \n", *UNITS.split()])
def test_the_time_of_a_long_line_grows_as_its_length(unit: str, deidentifier: Deidentifier) -> None:
    began = time.process_time()
    deidentifier.text(unit * (100_000 // len(unit)))
    assert time.process_time() - began < 1  # a tenth of a megabyte


def test_clean_texts_cost_next_to_nothing() -> None:
    texts = pa.array(["送餐很快,味道不错,下次还来", "the delivery was late and the food cold"] * 50_000)
    began = time.process_time()
    ODD.column(texts)
    assert time.process_time() - began < 1  # 100,000 rows in one CPU-second


def test_a_list_of_names_is_normalised_and_a_letter_is_none() -> None:
    assert listed_names("\ufeffＪohn  Smith\r\n\n 王小明 \nJohn Smith\n".encode()) == ["John Smith", "王小明"]
    with pytest.raises(ValueError, match="line 2 has one character"):
        listed_names(b"Ann\nB\n")


def test_without_faker_names_and_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faker", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'faker'.*raysynth\[text\]"):
        Deidentifier(7, ["email"])
    assert Deidentifier(7, ["phone"]).text("13812345678") != "13812345678"


def test_no_fake_has_a_name_of_the_list() -> None:
    names = [*fakes._pools("en_US")["last"][::2], *fakes._pools("zh_CN")["last"]]  # pyright: ignore[reportPrivateUsage]
    made = Deidentifier(7, ["name"], [name for name in names if len(name) > 1])
    assert not any(find(made.text(name), [Names(made.names)]) for name in made.names)


def test_pools_are_of_a_fixed_seed() -> None:
    made = Fakes(7)
    assert made.fake("name", "John Smith", "john smith") == Fakes(7).fake("name", "John Smith", "john smith")
    assert len(fakes._pools("zh_CN")["last"]) > 100  # pyright: ignore[reportPrivateUsage]
