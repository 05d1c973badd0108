"""Numbers of people → their check digits: cards (ISO/IEC 7812-1), Chinese ids (GB 11643-1999) and IBANs (ISO 13616)."""

import re
from collections.abc import Mapping

IBAN_CHARACTERS: Mapping[str, int] = {
    country: int(length)
    for country, length in re.findall(
        "(..)([0-9]+)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 "
        "FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 "
        "MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 "
        "SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30",
    )
}
"""Country → how long its IBANs are (SWIFT's registry)."""


def luhn_check(digits: str) -> str:
    """The check digit that follows these."""
    doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(digits))]
    return str(-sum(number // 10 + number % 10 for number in doubled) % 10)


def id_check(digits: str) -> str:
    """The last character of a Chinese id number by the 17 before it (ISO 7064, MOD 11-2)."""
    return "10X98765432"[sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(digits)) % 11]


def iban_check(country: str, account: str) -> str:
    """The two check digits of an IBAN by its country and what follows them (ISO 7064, MOD 97-10)."""
    return f"{98 - int(''.join(str(int(letter, 36)) for letter in f'{account}{country}00')) % 97:02}"
