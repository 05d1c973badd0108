"""YAML text that people write → plain values (dict, list, str, int, float, bool, None), without YAML's traps and bombs."""

import re
from typing import Any, cast

import yaml

from raysynth.errors import RecipeError

MAX_NESTING = 30


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: NO, off and 12:30 are text, 1e-3 is a number, dates stay text. A key given twice is refused."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (PyYAML's own attribute)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key_node.value}' is given twice", key_node.start_mark)
            seen.add(key_node.value)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


def _construct_integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(node.value).replace("_", "")
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _construct_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = str(node.value).lower().replace("_", "")
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_number)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def read_yaml(text: str, name: str) -> Any:
    """One document → plain values. RecipeError, with the line, on what is not YAML, on anchors and on deep nesting."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                raise RecipeError(
                    f"{name}, line {_line(event)}: anchors (&) and aliases (*) are not allowed in a recipe. Write the value out"
                )
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_NESTING:
                raise RecipeError(f"{name}, line {_line(event)}: is nested deeper than {MAX_NESTING}")
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{name}: is not valid YAML: {' '.join(str(error).split())}") from None


def lay_over(values: dict[str, Any], override: str) -> None:
    """Set `a.b=c` in nested mappings, in place; c is YAML. RecipeError where a step is not a mapping."""
    key, equals, text = override.partition("=")
    steps = key.strip().split(".")
    if not equals or not all(steps):
        raise RecipeError(f"--set {override}: must look like train.workers=4")
    for depth, step in enumerate(steps[:-1]):
        inner = values[step] if values.get(step) is not None else {}
        if not isinstance(inner, dict):
            here = ".".join(steps[: depth + 1])
            raise RecipeError(f"--set {override}: {here} is {repr(inner)[:80]} and has no keys. Set {here} as a whole")
        values[step] = inner
        values = cast("dict[str, Any]", inner)
    values[steps[-1]] = read_yaml(text, f"--set {key}")
