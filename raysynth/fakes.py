"""A personal value → the fake that stands for it everywhere: a hash of (seed, kind, value) picks it, whatever text, row or shard it is in.

Fakes are valid in form, keep the spelling of what was found (separators, capitals), and lie where no one's values do, as far as such
ranges exist: example.org, .com and .net (RFC 2606), 192.0.2.0/24, 198.51.100.0/24 and 203.0.113.0/24 (RFC 5737), 2001:db8::/32
(RFC 3849), North American 555-0100 to 555-0199, the prefixes of test cards, the Chinese region 99, banks whose code begins with 0000 or
TEST. Whoever knows the seed can test a guess, so that texts with fakes are pseudonymous, not anonymous.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from functools import lru_cache
from ipaddress import IPv6Address
from itertools import zip_longest
from typing import Any, Literal
from urllib.parse import unquote

from raysynth.check_digits import iban_check, id_check, luhn_check
from raysynth.draws import word
from raysynth.errors import MissingExtraError
from raysynth.names import plain
from raysynth.personal import PersonalKind

Locale = Literal["en_US", "zh_CN"]

POOL_DRAWS = 1024  # of faker, whose distinct ones are a pool
_POOL_SEED = 20_260_101
_DOMAINS = ("example.org", "example.com", "example.net")
_NETWORKS = ("192.0.2", "198.51.100", "203.0.113")
_AREAS = [str(area) for area in range(201, 990) if area % 100 != 11 and area // 10 % 10 != 9 and area not in (555, 911)]
_CHINESE_MAIL = re.compile(r"@(?:(?:qq|163|126|sina|sohu|foxmail|aliyun|139|188|21cn)\.com|yeah\.net|.+\.(?:cn|hk|tw|mo))$")
_CANDIDATES = 32
_FIRST_BIRTHDAY = date(1950, 1, 1)
_BIRTHDAYS = 20_000  # days: to 2004
_CARD_PREFIXES = (
    ("34", "378282"),
    ("37", "378282"),
    ("35", "356600"),
    ("3", "305693"),
    ("2", "555555"),
    ("5", "555555"),
    ("6", "620000"),
)
_scheme = re.compile("[A-Za-z][A-Za-z0-9+]*://")
_padded = re.compile(r"(?:^|\.)0[0-9]{2}(?:\.|$)")  # 192.168.001.010
_letter_or_digit = re.compile("[0-9A-Za-z]")
_digit = re.compile("[0-9]")
_han = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


class Fakes:
    """`fake(kind, found, value)`: what takes the place of `found`, by its `value` (personal.Found). `locale` None: of each value's own
    script. `names`: of real people, which no fake is. MissingExtraError where names or addresses are asked for without faker."""

    def __init__(self, seed: int, locale: Locale | None = None, names: Iterable[str] = ()) -> None:
        self.seed = seed
        self.locale: Locale | None = locale
        self._real = frozenset(word for name in map(plain, names) for word in (name.casefold(), *name.casefold().split()))

    def fake(self, kind: PersonalKind, found: str, value: str) -> str:
        match kind:
            case "email":
                return _in_case_of(found, self._email(value))
            case "phone":
                return self._phone(found, value)
            case "card":
                prefix = next((prefix for start, prefix in _CARD_PREFIXES if value.startswith(start)), "424242")
                digits = prefix + self._digits("card", value, len(value) - 7)
                return _laid_over(found, digits + luhn_check(digits))
            case "id_number":
                return _laid_over(found, self._id_number(value))
            case "iban":
                return _laid_over(found, self._iban(value))
            case "ip":
                made = _in_case_of(found, self._ip(value))
                return ".".join(group.zfill(3) for group in made.split(".")) if _padded.search(found) else made
            case "url":
                return self._url(found)
            case "name":
                return _in_case_of(found, _spaced_as(found, self._name(found, value)))

    def _email(self, value: str) -> str:
        pools = _pools(self.locale or ("zh_CN" if _CHINESE_MAIL.search(value) or _han.search(value) else "en_US"))
        first, last = self._pick("email", value, pools["latin_first"]), self._pick("email.last", value, pools["latin_last"])
        domain = self._pick("email.domain", value.rpartition("@")[2], _DOMAINS)
        return f"{first}.{last}{self._digits('email', value, 4)}@{domain}".lower()

    def _phone(self, found: str, value: str) -> str:
        """The digits of the subscriber are replaced; country and, in China, area stay as they are written."""
        country, number = value.split(":")
        if country == "1":
            number = f"{self._pick('phone', value, _AREAS)}55501{self._digits('phone', value, 2)}"
        elif country == "86" and len(number) == 11 and number[0] == "1":
            number = "154" + self._digits("phone", value, 8)
        elif country == "86":
            area = 2 if number[0] in "12" else 3
            number = f"{number[:area]}{2 + self._number('phone', value) % 7}{self._digits('phone', value, len(number) - area - 1)}"
        else:
            number = number[:1] + self._digits("phone", value, len(number) - 1)
        return _laid_over(found, number, _digit)

    def _id_number(self, value: str) -> str:
        born = _FIRST_BIRTHDAY + timedelta(self._number("id_number", value) % _BIRTHDAYS)
        digits = f"99{self._digits('id_number.region', value, 4)}{born:%Y%m%d}{self._digits('id_number.order', value, 3)}"
        return digits + id_check(digits)

    def _iban(self, value: str) -> str:
        """Letters where the country has letters, digits where it has digits; the bank is nobody's."""
        country, account = value[:2], value[4:]
        digits, letters = self._digits("iban", value, len(account)), self._digits("iban.letters", value, len(account))
        made = "".join(
            ("0" if place < 4 else digits[place])
            if old.isdigit()
            else ("TEST"[place] if place < 4 else "ABCDEFGHKM"[int(letters[place])])
            for place, old in enumerate(account)
        )
        return country + iban_check(country, made) + made

    def _ip(self, value: str) -> str:
        number = self._number("ip", value)
        if ":" not in value:
            return f"{_NETWORKS[number % 3]}.{1 + number // 3 % 254}"
        return str(IPv6Address((0x20010DB8 << 96) + number % 2**96))

    def _url(self, found: str) -> str:
        """One site stays one site and one page one page: what stands before the first / and the whole are hashed apart."""
        scheme, rest = found[: (start := found.find("://") + 3 if _scheme.match(found) else 0)], found[start:]
        site, slash, path = rest.partition("/")
        host = site.rpartition("@")[2].casefold().removeprefix("www.")
        name = f"{'www.' if site.casefold().startswith('www.') else ''}site{self._digits('url', host, 8)}.example.org"
        page = f"page{self._digits('url.page', f'{host}/{unquote(path)}', 8)}" if path else ""
        return f"{scheme}{name}{slash}{page}"

    def _name(self, found: str, value: str) -> str:
        """The first of a few candidates with no word that is a real name; where all have one, the last of them."""
        locale = self.locale or ("zh_CN" if _han.match(found) else "en_US")
        made = ""
        for candidate in range(_CANDIDATES):
            made = self._candidate(locale, found, f"{value}/{candidate}")
            if self._real.isdisjoint([made.casefold(), *made.casefold().split()]):
                break
        return made

    def _candidate(self, locale: Locale, found: str, value: str) -> str:
        pools = _pools(locale)
        last = self._pick("name.last", value, pools["last"])
        if locale == "zh_CN":
            return last + self._pick("name", value, pools["given_1" if len(found) == 2 else "given_2"])
        return " ".join([*(self._pick(f"name.{place}", value, pools["first"]) for place in range(1, len(found.split()))), last])

    def _pick(self, purpose: str, value: str, pool: Sequence[str]) -> str:
        return pool[int(word(self.seed, "deidentify", purpose, value)) % len(pool)]

    def _number(self, purpose: str, value: str) -> int:
        """128 bits."""
        high, low = (int(word(self.seed, "deidentify", purpose, value, half)) for half in (0, 1))
        return high << 64 | low

    def _digits(self, purpose: str, value: str, count: int) -> str:
        return f"{self._number(f'{purpose}.digits', value) % 10**count:0{count}}" if count else ""


def check_faker(key: str) -> None:
    """MissingExtraError where faker, which makes the pools of names, is not installed."""
    try:
        import faker  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ModuleNotFoundError:
        raise MissingExtraError(f"{key}: needs the package 'faker'. Install it: pip install 'raysynth[text]'") from None


@lru_cache(maxsize=2)
def _pools(locale: Locale) -> dict[str, list[str]]:
    """Names and name parts, distinct, in the order of a fixed seed. `latin_…`: as addresses spell them."""
    check_faker("prepare.text.deidentify")
    from faker import Faker

    made: Any = Faker(locale)
    made.seed_instance(_POOL_SEED)
    chinese = locale == "zh_CN"
    drawn = {
        "last": made.last_name,
        "first": made.first_name,
        "latin_last": made.last_romanized_name if chinese else made.last_name,
        "latin_first": made.first_romanized_name if chinese else made.first_name,
    }
    pools = {name: list(dict.fromkeys(draw() for _ in range(POOL_DRAWS))) for name, draw in drawn.items()}
    for length in (1, 2):
        pools[f"given_{length}"] = [name for name in pools["first"] if len(name) == length]
    return pools


def _laid_over(found: str, characters: str, places: re.Pattern[str] = _letter_or_digit) -> str:
    """The characters in the last places of `found` that the pattern matches, in the case of what stood there."""
    slots = [match.start() for match in places.finditer(found)][-len(characters) :]
    made = list(found)
    for slot, character in zip(slots, characters[-len(slots) :], strict=True):
        made[slot] = character.lower() if found[slot].islower() else character
    return "".join(made)


def _spaced_as(found: str, made: str) -> str:
    """With a line end between two words where there was one."""
    blanks = re.findall(r"\s+", found)
    return "".join(word + blank for word, blank in zip_longest(made.split(" "), blanks[: made.count(" ")], fillvalue=""))


def _in_case_of(found: str, made: str) -> str:
    return made.upper() if found.isupper() else made
