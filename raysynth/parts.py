"""A name in a recipe → the one class in the file of that name, with its options checked against its constructor."""

import ast
import inspect
import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from re import fullmatch, match
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import ErrorDetails

from raysynth.errors import MissingExtraError, RaysynthError, RecipeError

QUERIED = re.compile(r"\b(?!file:)[\w+.-]+://.*[?#][\w.~%+-]+=")
"""A remote URL with ?name=value or #name=value: a question mark alone stands for any character of a name."""
_PLAIN = {
    "a valid integer": "an integer",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid list": "a list",
    "a valid array": "a list",
    "a valid tuple": "a list",
    "a valid dictionary": "a mapping",
    "an object": "a mapping",
}


def available(shelf: str) -> list[str]:
    """The names on a shelf (`tabular`, `text.typos` in subfolders), sorted, found by reading the files without importing them."""
    names = (
        ".".join(path.relative_to(folder).with_suffix("").parts) for folder in _folders(shelf) for path in folder.rglob("*.py")
    )
    return sorted({name for name in names if _class_names(shelf, name)})


def find(shelf: str, name: str) -> type[Any]:
    """The class of that name. RecipeError on an unknown name, MissingExtraError where a package that it needs is not installed."""
    if not _class_names(shelf, name):
        known = available(shelf)
        raise RecipeError(f"'{name}' is not in raysynth/{shelf}.{nearest(name, known)} Available: {', '.join(known) or 'none'}")
    module_name = f"raysynth.{shelf}.{name}"
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "raysynth"):
            raise
        raise MissingExtraError(f"{shelf}.{name}: needs the package '{package}'. Install it: {_install(package)}") from None
    classes = [value for value in vars(module).values() if inspect.isclass(value) and _is_part(value, shelf, module_name)]
    if len(classes) != 1:
        raise RaysynthError(
            f"{module_name}: must define one public class with a base from raysynth/{shelf}/base.py (got {len(classes)})"
        )
    return classes[0]


def options_of(cls: type[Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only arguments of the constructor, all but `seed` (which the recipe gives once for everything)."""
    parameters = inspect.signature(cls).parameters
    return {name: item for name, item in parameters.items() if item.kind is item.KEYWORD_ONLY and name != "seed"}


def whole_options(shelf: str, use: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """`{use, **options}` with every default: one that changes in the code is then another part."""
    known = options_of(find(shelf, use))
    return {"use": use, **{name: item.default for name, item in known.items() if item.default is not item.empty}, **options}


def deciding(shelf: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """`{use, **options}` without the options that its class sets aside: those that decide nothing of what it makes."""
    aside: frozenset[str] = getattr(find(shelf, part["use"]), "aside", frozenset())
    return {name: value for name, value in part.items() if name not in aside}


def check_options(cls: type[Any], options: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The options as the constructor's annotations type them (a YAML list becomes a tuple where one is asked for).

    RecipeError lists every option that is unknown, missing, or of the wrong type.
    """
    known = options_of(cls)
    takes = f"{cls.__name__} takes: {', '.join(known) or 'no options'}"
    hints = get_type_hints(cls.__init__, include_extras=True)
    checked: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in options.items():
        if name not in known:
            problems.append(f"{key}.{name}: unknown option.{nearest(name, list(known))} {takes}")
            continue
        try:
            checked[name] = _typed(hints.get(name, Any), value)
        except ValidationError as error:
            reasons = " or ".join(dict.fromkeys(explain(item) for item in error.errors(include_url=False)))
            got = "" if "key" in name else f" (got {show(value)})"  # it may be the key itself
            problems.append(f"{key}.{name}: {reasons}{got}. {takes}")
    missing = [name for name, item in known.items() if item.default is item.empty and name not in options]
    problems += [f"{key}.{name}: must be given. {takes}" for name in missing]
    if problems:
        raise RecipeError("\n".join(problems))
    return checked


def explain(error: ErrorDetails) -> str:
    """Pydantic's reason in the words of raysynth's messages: `must be an integer`."""
    reason = (
        error["msg"].removeprefix("Value error, ").replace("Input should be", "must be").replace("True or False", "true or false")
    )
    for theirs, ours in _PLAIN.items():
        reason = reason.replace(theirs, ours)
    return reason.replace("Field required", "must be given")


def show(value: object) -> str:
    """The value for a message, cut at 80 characters; the credentials of a URL are left out, and its query, which may hold some."""
    text = repr(value)
    if "://" in text and "@" in text:
        return "a URL with '@'"
    if QUERIED.search(text):
        return "a URL with a query"
    return text if len(text) <= 80 else text[:77] + "…"


def nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def _typed(annotation: Any, value: Any) -> Any:
    config = ConfigDict(strict=True, allow_inf_nan=False)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=config)
    except PydanticUserError:  # a dataclass or a model brings its own configuration
        adapter = TypeAdapter(annotation)
    return adapter.validate_json(json.dumps(value, default=str), strict=True)  # JSON: in it a list may become a tuple or a set


def _folders(shelf: str) -> list[Path]:
    return [Path(folder) for folder in import_module(f"raysynth.{shelf}").__path__]


def _class_names(shelf: str, name: str) -> list[str]:
    """Public classes, in the file of that name, with a base that the file imports from the shelf's base.py, or from a private file
    beside it, which has what several parts share."""
    if not fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*", name):
        return []
    path = next(
        (path for folder in _folders(shelf) if (path := folder.joinpath(*name.split(".")).with_suffix(".py")).is_file()), None
    )
    if path is None or path.stem == "base":
        return []
    body = ast.parse(path.read_text(encoding="utf-8"), str(path)).body
    imports = [item for item in body if isinstance(item, ast.ImportFrom) and _has_bases(item.module or "", shelf)]
    bases = {alias.asname or alias.name for item in imports for alias in item.names}
    classes = [item for item in body if isinstance(item, ast.ClassDef) and not item.name.startswith("_")]
    return [item.name for item in classes if any(isinstance(base, ast.Name) and base.id in bases for base in item.bases)]


def _is_part(cls: type[Any], shelf: str, module_name: str) -> bool:
    own = cls.__module__ == module_name and not cls.__name__.startswith("_")
    return own and any(_has_bases(base.__module__, shelf) for base in cls.__bases__)


def _has_bases(module_name: str, shelf: str) -> bool:
    return fullmatch(rf"raysynth\.{shelf}\.(base|(\w+\.)*_\w+)", module_name) is not None


def _install(package: str) -> str:
    try:
        lines = requires("raysynth") or []
    except PackageNotFoundError:
        lines = []
    for line in lines:
        extra = fullmatch(r".*extra\s*==\s*['\"]([\w-]+)['\"].*", line)
        required = match(r"[\w.-]+", line)
        if extra and required and required[0].replace("-", "_").lower() == package.lower():
            return f"pip install 'raysynth[{extra[1]}]'"
    return f"pip install {package}"
