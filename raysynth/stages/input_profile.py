"""The input's shards → its profile, in one pass: the raw one, which decides the schema, and what may be told of it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

from raysynth.cluster.rows import map_ordered
from raysynth.errors import UnreadableError
from raysynth.profile import Profile
from raysynth.schema import Kind, Schema
from raysynth.sources.base import Shard, Source
from raysynth.stages.prepare_text import Texts, text_columns


@dataclass(frozen=True)
class Seen:
    """The input's profile, which decides the schema; and what of its texts may be told: their profile when personal values are replaced
    (empty where nothing is), and column → kind → how many there were."""

    raw: Profile = field(default_factory=Profile)
    told: Profile | None = None
    personal: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])

    def merge(self, other: "Seen") -> "Seen":
        personal = {
            name: self.personal.get(name, Counter()) + other.personal.get(name, Counter())
            for name in {*self.personal, *other.personal}
        }
        told = other.told if self.told is None else self.told if other.told is None else self.told.merge(other.told)
        return Seen(self.raw.merge(other.raw), told, personal)

    def to_json(self, schema: Schema) -> dict[str, Any]:
        """profile.json. Of texts, and of other columns with a personal value in them, it tells what is told: such a cell may be a bad one,
        and in no prepared row."""
        if self.told is None:
            return self.raw.to_json()
        texts, columns = text_columns(schema), dict(self.raw.columns)
        for name in columns:
            if name in texts or self.personal.get(name):
                columns[name] = self.told.columns[name]
        found = {name: dict(sorted(self.personal.get(name, Counter()).items())) for name in texts}
        return {**Profile(self.raw.rows, columns).to_json(), "deidentified": found}


def profile_of(source: Source, shards: list[Shard], texts: Texts | None, kinds: Mapping[str, Kind], *, workers: int) -> Seen:
    """One pass over all shards; merging in their order gives one result however they are cut. `kinds`: what is said of the columns."""
    seen: list[Seen] = map_ordered(shards, partial(profiler, source, texts, kinds), workers=workers)
    return reduce(lambda left, right: left.merge(right), seen, Seen())


def profiler(source: Source, texts: Texts | None, kinds: Mapping[str, Kind]) -> Callable[[Shard], Seen]:
    """On a worker: a shard → what is seen of it."""

    def profile(shard: Shard) -> Seen:
        seen = Seen()
        try:
            for table, _ in source.read(shard):
                raw = Profile.observe(table)
                seen = seen.merge(Seen(raw) if texts is None or not texts.replaces else Seen(raw, *texts.profiled(table, kinds)))
        except UnreadableError:  # it is told in the second pass, which sets it apart
            return Seen()
        return seen

    return profile
