"""A text → where personal values stand in it: e-mail, phone, card, Chinese id number, IBAN, IP, URL.

Numbers with check digits are taken only where those agree.
"""

import re
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from ipaddress import AddressValueError, IPv6Address
from typing import Literal, get_args

from raysynth.check_digits import IBAN_CHARACTERS, iban_check, id_check, luhn_check

PersonalKind = Literal["email", "phone", "card", "id_number", "iban", "ip", "url", "name"]
KINDS: tuple[PersonalKind, ...] = get_args(PersonalKind)
PRECEDENCE: tuple[PersonalKind, ...] = ("id_number", "card", "iban", "url", "email", "ip", "phone", "name")  # of equally long ones

_MAESTRO = ("50", "56", "57", "58", "63", "67")  # such cards may have twelve digits
_CARD_GROUPS = 5  # of four digits or more, in nineteen
_LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_COUNTRY_CODE = "1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[0-9]{3}"  # ITU-T E.164
_GAP = "[ \u2010-\u2015-]?"  # what may stand between the groups of a number, and of phone numbers outside of China
_DOT_GAP = "[ .\u2010-\u2015-]?"
_LOOSE_GAP = "[ .()/\u2010-\u2015-]{0,2}"
UNSPACED = (
    "\u0e00-\u0eff\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_SPACED = (  # other scripts, without the punctuation of Arabic and of India
    "\u0250-\u060b\u060d-\u061a\u061c-\u061e\u0620-\u06d3\u06d5-\u0963\u0966-\u0dff\u0f00-\u10ff\u1200-\u1dff\u1f00-\u1fff"
    "\u2c00-\u2dff\ua000-\uabff\ufb00-\ufdff\ufe70-\ufefe\U00010000-\U0001efff"
)
_BEYOND = UNSPACED + _SPACED  # what is not Latin
_WORD = f"{_LATIN}0-9{_SPACED}"
_TOP_DOMAINS = (
    "中国|中國|公司|网络|網絡|网址|网店|商城|商店|集团|企业|中文网|在线|香港|台湾|台灣|新加坡|みんな|한국|ไทย"  # unspaced ones
)

_mail_domain = re.compile(
    rf"@(?:(?:[{_WORD}](?:[{_WORD}-]{{0,61}}[{_WORD}])?|[{UNSPACED}][{UNSPACED}{_WORD}-]{{0,62}})\.){{1,8}}"
    rf"(?:xn--[A-Za-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}|{_TOP_DOMAINS}|[{_SPACED}]{{2,24}})"
)
_mailbox = re.compile(rf"(?:[{_WORD}_%+-][{_WORD}._%+'-]{{0,62}})?[{_WORD}_%+]")  # from the @ backwards, as is the next
_unspaced_mailbox = re.compile(rf"[{UNSPACED}](?:[{UNSPACED}{_WORD}._%+'-]{{0,62}}[{UNSPACED}{_WORD}_%+])?")
_before_mailbox = re.compile("^.*(?:[是给到找]|(?:邮箱|信箱|邮件|地址)为?)(?=.)")
_MAILBOX_CHARACTERS = 64
_IN_URLS = rf"{_LATIN}0-9._~:/?#\[\]@!$&'()*+,;=%-"
_NO_PAUSE = r"(?<![,;!)\]'*])"  # NFKC makes a comma of a Chinese one: behind it the text goes on
_ONWARDS = rf"(?:[{_IN_URLS}]++|{_NO_PAUSE}[{_BEYOND}]++)*+"
_PATH = (  # other scripts belong to a URL from where they look like a path on: text may follow it without a blank
    rf"[{_IN_URLS}]++(?:(?:(?<=[/?=&%#@_+-])[{_BEYOND}]|{_NO_PAUSE}[{_BEYOND}]++(?=[/?=&%_]|[.-][A-Za-z0-9{_BEYOND}])){_ONWARDS})?"
)
_url = re.compile(  # of a scheme the end
    rf"(?<=[A-Za-z0-9+]{{2}})://(?:[!#-.0-;=?A-~]{{1,128}}@)?(?:(?:[{_LATIN}0-9-]++\.)*+[{_BEYOND}]{_ONWARDS}|{_PATH})"
    rf"|(?<![A-Za-z0-9.])[Ww]{{3}}\.{_PATH}"
)
_SCHEME_CHARACTERS = 21
_scheme = re.compile("[A-Za-z][A-Za-z0-9+]+$")
_host = re.compile(
    rf"(?:://)?(?:[^/@]*@)?(?:[{_LATIN}0-9{_BEYOND}][{_LATIN}0-9{_BEYOND}-]*(?:\.[{_LATIN}0-9{_BEYOND}-]+)*|\[[0-9A-Fa-f:.]+\])"
)
_ip4 = re.compile(r"(?<![0-9.vV])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9]|\.[0-9])")
_ip6 = re.compile(
    r"(?<![0-9A-Za-z:.])(?P<label>[0-9A-Za-z.]*:)?"  # `IP:fe80::1`; of `fe80::1` alone it is the first group
    r"(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3}|[0-9A-Fa-f]{1,4})?(?![0-9A-Za-z])"
)
_id_number = re.compile(
    rf"(?<![0-9])[1-9][0-9]{{5}}{_GAP}(?:18|19|20)[0-9]{{2}}{_GAP}[0-9]{{4}}{_GAP}[0-9]{{3}}[0-9Xx](?![0-9A-Za-z])"
)
_digit_groups = re.compile(
    rf"(?<![0-9])(?:[0-9]{{4}}(?:\.[0-9]{{4,6}}){{1,3}}\.[0-9]{{1,7}}|[0-9]{{4,19}}(?:{_GAP}[0-9]{{1,19}})*)(?![0-9])"
)  # of dots two at least: one is a decimal's
_card_words = re.compile(r"(?i)(?:card|visa|amex|credit|debit|pan|卡)\W{0,3}(?:(?:no|number|nr|num|is|号|号码|是|为)\W{0,3}){0,2}$")
_no_card = re.compile("00.*|861[3-9][0-9]{9}|1[0-9]{12}")
_iban = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}[0-9]{2}(?=[ -]?[0-9A-Za-z])")
_CHINA = rf"(?:\(?(?:\+|00)?86\)?{_GAP})?"
_AREA = "(?:10|2[0-9]|[3-9][0-9]{2})"
_SOME_GAP = rf"(?:\){_GAP}|{_GAP[:-1]})"
_phone = re.compile(
    r"(?<![0-9])(?:"
    rf"(?P<mobile>{_CHINA}1[3-9](?:[0-9]{_GAP}[0-9]{{4}}{_GAP}[0-9]{{4}}|[0-9]{{2}}{_GAP}[0-9]{{3}}{_GAP}[0-9]{{4}}"
    rf"|[0-9]{_GAP}[0-9]{{3}}{_GAP}[0-9]{{5}}|[0-9]{{2}}{_GAP}[0-9]{{4}}{_GAP}[0-9]{{3}}|[0-9]{{3}}{_GAP}[0-9]{{6}})"
    r"|(?:(?:\+|00)?86\.)?1[3-9](?:[0-9]\.[0-9]{4}\.[0-9]{4}|[0-9]{2}\.[0-9]{3}\.[0-9]{4}))"  # two dots: one is a decimal's
    rf"|(?P<landline>(?:{_CHINA}\(?0{_AREA}\)?{_GAP}|\(?86{_SOME_GAP}\(?{_AREA}{_SOME_GAP})[2-9][0-9]{{2,3}}{_GAP}[0-9]{{4}})"
    rf"|(?P<american>(?:\+|00)1{_DOT_GAP}\(?[0-9]{{3}}\)?{_DOT_GAP}[0-9]{{3}}{_DOT_GAP}[0-9]{{4}}"
    rf"|(?:1{_DOT_GAP})?\([0-9]{{3}}\) ?[0-9]{{3}}{_DOT_GAP}[0-9]{{4}}"
    rf"|(?:1{_DOT_GAP})?[0-9]{{3}}(?P<dash>[.\u2010-\u2015-])[0-9]{{3}}(?P=dash)[0-9]{{4}}"
    rf"|(?:1{_DOT_GAP})?[2-9][0-9]{{2}}{_DOT_GAP}[2-9][0-9]{{2}}{_DOT_GAP}[0-9]{{4}})"  # bare digits: such as can be dialled
    rf"|(?P<trunk>(?:\(0[1-9][0-9]{{1,4}}\) ?|0[1-9][0-9]{{1,4}}{_GAP[:-1]})[0-9]{{3,8}}(?:{_GAP}[0-9]{{3,4}})?)"
    rf"|(?P<other>\+[1-9](?:{_LOOSE_GAP}[0-9]){{7,14}}|00[1-9](?:{_LOOSE_GAP}[0-9]){{8,14}})"
    r")(?![0-9])"
)
_extension = re.compile(r"(?i) ?(?:x|ext\.?|extension|#|转) ?[0-9]{1,6}")
_country_code = re.compile(_COUNTRY_CODE)
_groups = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Found:
    """One value: its place in the text, its kind, and the `value` that is the same however it is written: by that its fake is chosen.

    A phone's value is `country code:number`, without the zeros that only dialling needs; where it says no country, 0 is the code."""

    start: int
    stop: int
    kind: PersonalKind
    value: str


def emails(text: str) -> Iterator[Found]:
    stop = 0
    for match in _mail_domain.finditer(text):
        backwards = text[max(stop, match.start() - _MAILBOX_CHARACTERS) : match.start()][::-1]
        if mailbox := _unspaced_mailbox.match(backwards) or _mailbox.match(backwards):
            start, stop = match.start() - mailbox.end(), match.end()
            if before := _before_mailbox.match(text[start : match.start()]):
                start += before.end()
            yield Found(start, stop, "email", text[start:stop].casefold())


def urls(text: str) -> Iterator[Found]:
    for match in _url.finditer(text):
        found, start = _without_punctuation(match[0]), match.start()
        host = _host.match(found)
        if found.startswith(":"):
            scheme = _scheme.search(text, max(0, start - _SCHEME_CHARACTERS), start)
            start = scheme.start() if scheme else -1
        elif host and host[0].count(".") < 2:
            continue
        if host and start >= 0:
            stop = match.start() + len(found)
            yield Found(start, stop, "url", text[start:stop])


def ips(text: str) -> Iterator[Found]:
    for match in _ip4.finditer(text):
        groups = match[0].split(".")
        if all(
            int(group) < 256 and (len(group) == 3 or group == str(int(group))) for group in groups
        ):  # 010 is ten, 01 a version's
            yield Found(match.start(), match.end(), "ip", ".".join(str(int(group)) for group in groups))
    for match in _ip6.finditer(text) if text.count(":") > 1 else ():
        for start in sorted({match.start(), max(match.start(), match.end("label"))}):
            found = text[start : match.end()]
            found = found.removesuffix(":") if not found.endswith("::") else found
            if _is_ip6(found):
                yield Found(start, start + len(found), "ip", str(IPv6Address(found)))
                break


def id_numbers(text: str) -> Iterator[Found]:
    for match in _id_number.finditer(text):
        value = re.sub("[^0-9X]", "", match[0].upper())
        if _is_day(value[6:14]) and value[17] == id_check(value[:17]) and _stands_alone(text, match.start(), match.end()):
            yield Found(match.start(), match.end(), "id_number", value)


def cards(text: str) -> Iterator[Found]:
    """A run of digit groups may hold more than the card (a year before, a code behind), so each run of groups in it is tried."""
    for match in _digit_groups.finditer(text):
        groups = [(match.start() + group.start(), match.start() + group.end()) for group in _groups.finditer(match[0])]
        first = 0
        while first < len(groups):
            most = min(len(groups), first + _CARD_GROUPS)
            stop = next((stop for stop in range(most, first, -1) if _is_card(text, groups[first:stop])), 0)
            if stop:
                start, end = groups[first][0], groups[stop - 1][1]
                yield Found(start, end, "card", _digits(text[start:end]))
            first = stop or first + 1


def ibans(text: str) -> Iterator[Found]:
    for match in _iban.finditer(text):
        length = IBAN_CHARACTERS.get(match[0][:2].upper())
        if length is None:
            continue
        stop, value = _gather(text, match.start(), length)
        if len(value) == length and not _is_ascii_word(text[stop : stop + 1]) and iban_check(value[:2], value[4:]) == value[2:4]:
            yield Found(match.start(), stop, "iban", value)


def phones(text: str) -> Iterator[Found]:
    for match in _phone.finditer(text):
        start, stop = match.start(), match.end()
        extension = _extension.match(text, stop)
        if not _stands_alone(text, start, extension.end() if extension else stop):
            continue
        digits = _digits(match[0])
        if match["mobile"]:
            country, number = "86", digits[-11:]
        elif match["landline"]:
            country, number = "86", digits.removeprefix("00").removeprefix("86")
        elif match["american"]:
            country, number = "1", digits[-10:]
        elif match["trunk"]:
            country, number = "0", digits if 10 <= len(digits) <= 11 else ""
        else:
            digits = digits.lstrip("0")
            code = _country_code.match(digits)
            country = code[0] if code else ""
            number = digits.removeprefix(country)
        if len(number := number.lstrip("0")) >= 6:
            yield Found(start, stop, "phone", f"{country}:{number}")


FINDERS: Mapping[PersonalKind, Callable[[str], Iterator[Found]]] = {
    "id_number": id_numbers,
    "card": cards,
    "iban": ibans,
    "url": urls,
    "email": emails,
    "ip": ips,
    "phone": phones,
}


def find(text: str, finders: Sequence[Callable[[str], Iterator[Found]]]) -> list[Found]:
    """What the finders find, in the order of the text. Where values overlap, the longest is taken, of equally long ones by PRECEDENCE."""
    found = [value for finder in finders for value in finder(text)]
    if len(found) > 1:
        kept: list[Found] = []  # in the order of the text
        for value in sorted(found, key=lambda value: (value.start - value.stop, PRECEDENCE.index(value.kind), value.start)):
            at = bisect(kept, value.start, key=_start)
            if (at == 0 or kept[at - 1].stop <= value.start) and (at == len(kept) or value.stop <= kept[at].start):
                kept.insert(at, value)
        return kept
    return found


def screen(kinds: Iterable[PersonalKind]) -> str:
    """A pattern of RE2 (Arrow's) without which no text has a value of these kinds, names aside."""
    digits = r"[0-9](?:[ .()/\x{2010}-\x{2015}-]{0,3}[0-9]){6}"
    needed: dict[PersonalKind, str] = {
        "id_number": digits,
        "card": digits,
        "phone": digits,
        "iban": r"[A-Za-z]{2}[0-9]{2}(?:[ -]?[0-9A-Za-z]){11}",
        "url": "://|[Ww][Ww][Ww][.]",
        "email": "@",
        "ip": r"[0-9](?:[.][0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:",
    }
    return "|".join(dict.fromkeys(needed[kind] for kind in sorted(kinds) if kind in needed))


def _start(found: Found) -> int:
    return found.start


def _is_card(text: str, groups: Sequence[tuple[int, int]]) -> bool:
    """Groups of digits are a card's where all but the last have four or more and the check digit agrees. What is rather a phone with a
    prefix, or milliseconds since 1970, is one only where the text says `card`."""
    start, stop = groups[0][0], groups[-1][1]
    digits = _digits(text[start:stop])
    if (
        not (13 if digits[:2] not in _MAESTRO else 12) <= len(digits) <= 19
        or any(end - begin < 4 for begin, end in groups[:-1])
        or len(set(digits)) == 1
    ):
        return False
    if luhn_check(digits[:-1]) != digits[-1] or not _stands_alone(text, start, stop):
        return False
    return _no_card.fullmatch(digits) is None or _card_words.search(text[max(0, start - 24) : start]) is not None


def _stands_alone(text: str, start: int, stop: int) -> bool:
    """The number is no piece of another, of a decimal or of a code of letters and digits; a word may touch it (`tel13800138000`)."""
    before, after = text[max(0, start - 24) : start], text[stop : stop + 2]
    if re.search(r"[0-9]$|[0-9]\.$|[0-9][A-Za-z]{1,23}$", before):
        return False
    return re.match(r"[0-9A-Za-z]|\.[0-9]", after) is None


def _gather(text: str, start: int, length: int) -> tuple[int, str]:
    """So many letters and digits from `start`, one space or dash between any two: where they end, and them in capitals."""
    at, value = start, ""
    while len(value) < length and at < len(text):
        if _is_ascii_word(text[at]):
            value += text[at].upper()
        elif text[at] not in " -" or not _is_ascii_word(text[at + 1 : at + 2]):
            break
        at += 1
    return at, value


def _without_punctuation(url: str) -> str:
    """What ends the sentence is not the URL's, nor is the bracket that it stands in."""
    while url and (
        url[-1] in ".,;:!?'*~_" or (url[-1] == ")" and url.count("(") < url.count(")")) or (url[-1] == "]" and "[" not in url)
    ):
        url = url[:-1]
    return url


def _is_ip6(text: str) -> bool:
    """`1::2` and `a::b` are no addresses in a text."""
    groups = [group for group in text.split(":") if group]
    told = len(groups) == 8 or (len(groups) >= 2 and any(map(str.isdigit, text)) and (len(groups) > 2 or max(map(len, groups)) > 2))
    try:
        return told and bool(IPv6Address(text))
    except AddressValueError:
        return False


def _is_day(digits: str) -> bool:
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return False
    return True


def _digits(text: str) -> str:
    return "".join(_groups.findall(text))


def _is_ascii_word(character: str) -> bool:
    return character.isascii() and character.isalnum()
