"""What stands behind a key of a recipe, in any of the ways in which it may be written → one form of it; a reason where it cannot be that."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from raysynth.errors import RecipeError, StoreError
from raysynth.expressions import Expression
from raysynth.parts import QUERIED
from raysynth.sources._files import matched
from raysynth.where import NO_SHARES, is_shares

FORMATS = {
    "examples": r"examples://.+",
    "parquet": r".+\.(parquet|pq)",
    "csv": r".+\.(csv|tsv)(\.gz)?",
    "jsonl": r".+\.(jsonl|ndjson)(\.gz)?",
    "images": r".+\.(jpe?g|jpe|jfif|png|webp|zip|tar|tar\.gz|tgz)",
    "idx": r".+(idx[1-4]?-ubyte|\.idx[1-4]?)(\.gz)?",
    "text": r".+\.txt(\.gz)?",
}
NO_LANGUAGE = "must be a code of ISO 639 in lower case, such as en"


def refused(reason: str) -> PydanticCustomError:
    return PydanticCustomError("recipe", "{reason}", {"reason": reason})


def parsable(text: str) -> str:
    try:
        Expression.parse(text, "expression")
    except RecipeError as error:
        raise refused(str(error).removeprefix("expression: ")) from None
    return text


def without_credentials(url: str) -> str:
    if re.match(r"[\w+.-]+://[^/]*@", url):
        raise refused("must hold no user name or password; credentials come from the environment")
    if QUERIED.match(url):
        raise refused("must hold no query (?name=value), which may be a secret; credentials come from the environment")
    if not url.strip():
        raise refused("must be a path or a URL")
    return url


def condition(value: Any) -> Any:
    if isinstance(value, Mapping):
        bounds = cast("Mapping[str, Any]", value)
        if set(bounds) == {"starts"} and isinstance(bounds["starts"], str) and bounds["starts"]:
            return value
        if set(bounds) == {"shares"}:
            if not is_shares(bounds["shares"]):
                raise refused(NO_SHARES)
            return value
        right = set(bounds) <= {"min", "max", "over", "under"} and all(_is_scalar(bound) for bound in bounds.values())
        if not bounds or not right or {"min", "over"} <= set(bounds) or {"max", "under"} <= set(bounds):
            raise refused(
                "a range takes min or over, and max or under; how a text begins is {starts: …}, and how often each value is had {shares: …}"
            )
    elif isinstance(value, list):
        if not value or not all(_is_scalar(item) for item in cast("list[Any]", value)):
            raise refused("a set takes one or more values")
    elif not _is_scalar(value):
        raise refused("must be a value, a list of values, or a range such as {min: 1, under: 9}")
    return value


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def with_format(value: Any) -> Any:
    """`examples://flights` or a mapping without `use` → a mapping with it, by the ending of the URL, or by what lies in the folder."""
    named: dict[str, Any] = {"url": value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
    url = named.get("url")
    if not isinstance(url, str) or "use" in named:
        return named if named else value
    if use := format_of(url) or _format_within(without_credentials(url)):
        return {"use": use, **named}
    raise refused("the format cannot be told from the URL. Write source: {use: parquet, url: …} (or csv, jsonl, images, idx, text)")


def format_of(name: str) -> str | None:
    return next((use for use, pattern in FORMATS.items() if re.fullmatch(pattern, name, re.IGNORECASE)), None)


def _format_within(url: str) -> str | None:
    """What most files of a folder or glob are, as it is listed; hidden ones do not count."""
    try:
        _, files = matched(url, lambda _: True)
    except StoreError as error:
        raise refused(
            f"the format cannot be told from the URL, nor from what lies there: {error}. Write source: {{use: parquet, url: …}}"
        ) from None
    found = Counter(filter(None, (format_of(file.path) for file in files if not re.search(r"(^|/)[._]", file.path))))
    order = list(FORMATS)
    return min(found, key=lambda use: (-found[use], order.index(use)), default=None)


def named_part(value: Any, default: str | None = None) -> Any:
    if isinstance(value, str):
        return {"use": value}
    if default is not None and isinstance(value, Mapping) and "use" not in value:
        return {"use": default, **value}
    return value


def language_codes(codes: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if codes is not None and not (codes and all(map(is_language, codes))):
        raise refused("must be one or more codes of ISO 639 in lower case, such as [zh, en]")
    return codes


def is_language(code: str) -> bool:
    return re.fullmatch("[a-z]{2,3}", code) is not None


def fixed(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


def columns_or_all(value: Any) -> Any:
    names = cast("list[Any]", value) if isinstance(value, list | tuple) else []
    if value is None or value is True or (names and all(isinstance(name, str) for name in names)):
        return tuple(names) or value
    raise refused("must be a list of one or more columns, or true: all of them")


Text = Annotated[str, AfterValidator(parsable)]
Url = Annotated[str, AfterValidator(without_credentials)]
UseGpu = Literal["auto", True, False]
