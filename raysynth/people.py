"""A text → the names of people in it, as presidio (extra `presidio`) finds them by spaCy models that the user has installed."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raysynth.errors import MissingExtraError, RecipeError
from raysynth.names import plain
from raysynth.personal import Found

KEY = "prepare.text.presidio"
_HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WINDOW_CHARACTERS = 10_000  # at a time: models refuse a million, and their memory grows with the text
OVERLAP_CHARACTERS = 200
_chinese = re.compile(f"[{_HAN}]")
_others = re.compile(f"[^{_HAN}]+")
_letter = re.compile(r"[^\W\d_]")
_possessive = re.compile("['’]s?$")


class People:
    """`models`: language → a spaCy model for it, by the name of its package or as a folder. Those of Chinese and Japanese look through texts
    with Chinese characters, all others through what stands between such. MissingExtraError without presidio, RecipeError on a model that is
    not there.

    It is what goes to the workers: a worker loads the models when it meets its first text, and refuses others than these."""

    def __init__(self, models: Mapping[str, str]) -> None:
        for package, install in (("presidio_analyzer", "presidio-analyzer"), ("spacy", "spacy")):
            if find_spec(package) is None:
                raise MissingExtraError(f"{KEY}: needs the package '{install}'. Install it: pip install 'raysynth[presidio]'")
        self.models = tuple(sorted((language, model, _digest(language, model)) for language, model in models.items()))

    def facts(self) -> dict[str, str]:
        """Language → the digest of its model."""
        return {language: sha256 for language, _, sha256 in self.models}

    def __call__(self, text: str) -> Iterator[Found]:
        for language, model, sha256 in self.models:
            for start, stop in _pieces(text, language):
                yield from _analyzer(language, model, sha256)(text[start:stop], start)


def _pieces(text: str, language: str) -> Iterator[tuple[int, int]]:
    """From and up to: what a model of the language looks through, in windows that share some characters, so that no name is cut in all."""
    if language in ("zh", "ja"):
        runs = [(0, len(text))] if _chinese.search(text) else []
    else:
        runs = [run.span() for run in _others.finditer(text) if _letter.search(run[0])]
    for start, stop in runs:
        for at in range(start, max(start + 1, stop - OVERLAP_CHARACTERS), WINDOW_CHARACTERS - OVERLAP_CHARACTERS):
            yield at, min(stop, at + WINDOW_CHARACTERS)


@lru_cache(maxsize=4)
def _analyzer(language: str, model: str, sha256: str) -> Callable[[str, int], list[Found]]:
    """A piece of a text, and where it begins there → the names in it: without an `'s` behind, none of a single character."""
    if _digest(language, model) != sha256:
        raise RecipeError(
            f"{KEY}.{language}: the model '{model}' of this node is not that of the node that began. Install the same"
        )
    recognizer = _recognizer(language, model)

    def found(piece: str, begins: int) -> list[Found]:
        results: list[Any] = recognizer(piece)
        names = [(begins + result.start, _possessive.sub("", piece[result.start : result.end]).rstrip()) for result in results]
        return [Found(start, start + len(name), "name", plain(name).casefold()) for start, name in names if len(name) > 1]

    return found


def _recognizer(language: str, model: str) -> Callable[[str], Any]:
    """presidio's own, which takes what the model holds for a person; none of its patterns, which personal.py has with check digits."""
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry  # pyright: ignore[reportMissingImports]
    from presidio_analyzer.nlp_engine import SpacyNlpEngine  # pyright: ignore[reportMissingImports]
    from presidio_analyzer.predefined_recognizers import SpacyRecognizer  # pyright: ignore[reportMissingImports]

    only: Any = SpacyRecognizer(supported_language=language, supported_entities=["PERSON"])
    registry: Any = RecognizerRegistry(recognizers=[only], supported_languages=[language])
    engine: Any = SpacyNlpEngine(models=[{"lang_code": language, "model_name": model}])
    analyzer: Any = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])
    return partial(analyzer.analyze, language=language, entities=["PERSON"])


def _digest(language: str, model: str) -> str:
    """Of all files of a model. spaCy would fetch one that is not there from the network: it never gets so far."""
    if (folder := _folder(model)) is None:
        raise RecipeError(
            f"{KEY}.{language}: no spaCy model '{model}' is installed here, and there is no folder of this name with a meta.json. Install "
            "one on every node (python -m spacy download en_core_web_sm), or give its folder"
        )
    return _digest_of(folder)


def _folder(model: str) -> Path | None:
    """Where the model's meta.json lies, which each has: other packages are none."""
    if (Path(model) / "meta.json").is_file():
        return Path(model)
    package = find_spec(model) if model.isidentifier() else None
    folder = Path(package.origin).parent if package is not None and package.origin else None
    return folder if folder is not None and (folder / "meta.json").is_file() else None


@lru_cache(maxsize=8)
def _digest_of(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        with path.open("rb") as data:
            found.update(f"{path.relative_to(folder).as_posix()} {hashlib.file_digest(data, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()
