"""Common Chinese characters → those that are typed the same, from pypinyin."""

from raysynth.errors import MissingExtraError
from raysynth.ops.text._codes import NUMERALS


def homophones() -> dict[str, str]:
    """Character → the others with its pinyin, tones aside, of the first level of GB 2312. MissingExtraError without pypinyin."""
    try:
        from pypinyin import Style, lazy_pinyin
    except ModuleNotFoundError:
        raise MissingExtraError(
            "text.typos: the act 'homophone' needs the package 'pypinyin'. Install it: pip install 'raysynth[text]'"
        ) from None
    alike: dict[str, list[str]] = {}
    for character in _common():
        if character not in NUMERALS:
            alike.setdefault(lazy_pinyin(character, style=Style.NORMAL)[0], []).append(character)
    return {one: "".join(other for other in same if other != one) for same in alike.values() for one in same if len(same) > 1}


def _common() -> str:
    """The 3,755 characters of the first level: rows 16 to 55 of GB 2312, the last without its last five."""
    codes = (bytes((row, cell)) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF))
    return "".join(code.decode("gb2312", errors="ignore") for code in codes)
