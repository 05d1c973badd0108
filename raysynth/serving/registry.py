"""URLs of runs → the models that they have published, each with its card; looked at anew now and then: new versions are taken up."""

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysynth.errors import DataError, RaysynthError
from raysynth.filter_files import load_filters, shown
from raysynth.filters.base import Filter
from raysynth.markers import canonical
from raysynth.models import Model, load_model
from raysynth.runs import Folder, Run
from raysynth.sampler import Sampler
from raysynth.schema import Schema
from raysynth.stores.base import join

log = logging.getLogger("raysynth.serving")

KEPT_SAMPLERS = 64  # conditions of one model that stay prepared


@dataclass(frozen=True)
class Published:
    """One published model. `version` changes with whatever the publication says; `digest`: the model's; `rows` and `facts` (seed, rules,
    where, max_attempts): those of its data set."""

    id: str
    run: str
    version: str
    digest: str
    rows: int
    model: Folder
    synthetic: Folder
    evaluation: Folder | None
    told: Mapping[str, Any]

    @property
    def key(self) -> str:
        """What a loaded model is kept under."""
        return f"{self.id}@{self.version}"

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.synthetic.plan().facts

    @property
    def filters(self) -> Folder | None:
        """Where what the rules that are filters go by lies."""
        told = self.facts.get("filters")
        return None if told is None else Folder(join(self.run, told["path"]))


def read_published(url: str) -> Published:
    """DataError if the run has published nothing, or nothing that a model made."""
    run = Run(url)
    told = run.published()
    if told is not None:
        _check_shape(told, url)
    if told is None:
        raise DataError(f"run '{url}': nothing is published there. Run: raysynth run RECIPE")
    if not told.get("model") or "synthetic" not in told["folders"]:
        raise DataError(f"run '{url}': it was published without a model. Publish it again: raysynth publish RECIPE")
    evaluation = Folder(join(run.url, "evaluation", told["evaluation"])) if told.get("evaluation") else None
    model = Folder(join(run.url, "model", told["model"]))
    hashes = dict(zip(*(model.manifest()[name].to_pylist() for name in ("name", "sha256")), strict=True)) if model.committed else {}
    if "model.json" not in hashes:
        raise DataError(f"run '{url}': its model {model.path} is not there. Copy the whole run, or publish it again")
    return Published(
        id=told["name"],
        run=run.url,
        version=hashlib.sha256(canonical(told)).hexdigest()[:12],
        digest=hashes["model.json"],
        rows=told["folders"]["synthetic"]["rows"],
        model=model,
        synthetic=Folder(join(run.url, "synthetic", told["folders"]["synthetic"]["id"])),
        evaluation=evaluation,
        told=told,
    )


def _check_shape(told: Mapping[str, Any], url: str) -> None:
    """DataError where published.json is not what `raysynth publish` writes."""
    try:
        whole = isinstance(told["name"], str) and isinstance(told["gates"], list) and isinstance(told["forced"], bool)
        whole = whole and all(isinstance(entry["id"], str) for entry in told["folders"].values())
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise DataError(f"run '{url}': its published.json is not whole. Publish it again: raysynth publish RECIPE")


class Served:
    """A published model in memory, its samplers by condition."""

    def __init__(self, published: Published) -> None:
        self.published = published
        self.model: Model = load_model(published.model)
        self.facts = dict(published.facts)
        self.filters = filters_of(published.filters, self.facts.get("filters"), self.model.schema)
        self.card = card_of(published, self.model, self.facts)
        self._samplers: OrderedDict[bytes, Sampler] = OrderedDict()
        self._changing = threading.Lock()

    def sampler(self, where: Mapping[str, Any]) -> Sampler:
        """With the data set's rules. RecipeError on a condition that does not fit the columns. From any thread: shares that only have a
        name are settled by a second's rows."""
        key = canonical(where)
        sampler = self._samplers.get(key) or self._made(where)
        with self._changing:
            sampler = self._samplers.setdefault(key, sampler)
            self._samplers.move_to_end(key)
            if len(self._samplers) > KEPT_SAMPLERS:
                self._samplers.popitem(last=False)
        return sampler

    def _made(self, where: Mapping[str, Any]) -> Sampler:
        return Sampler(
            self.model,
            seed=self.facts["seed"],
            rules=self.facts["rules"],
            filters=self.filters,
            where=where,
            max_attempts=self.facts["max_attempts"],
        )


def filters_of(folder: Folder | None, told: Mapping[str, Any] | None, schema: Schema) -> tuple[Filter, ...]:
    """The filters of a data set, as `told` in its plan. DataError where they are not there, or are others."""
    if folder is None or told is None:
        return ()
    if not folder.committed:
        raise DataError(f"{folder.url}: the filters of the model are not there. Copy the whole run, or publish it again")
    loaded = load_filters(folder, schema)
    if loaded.digest != told["digest"]:
        raise DataError(f"{folder.url}: it holds other filters than those of the published rows. Publish them again")
    return loaded.filters


def card_of(published: Published, model: Model, facts: Mapping[str, Any]) -> dict[str, Any]:
    """All that GET /v1/models/{id} says; nothing of it is a real row."""
    told, evaluation = published.told, published.evaluation
    return {
        "id": published.id,
        "digest": model.digest,
        "seed": facts["seed"],
        "rules": _rules(facts),
        "where": facts["where"],
        "rows": facts["rows"],
        "schema": model.schema.to_json(),
        "profile": evaluation.read_json("histograms.json") if evaluation is not None else {},
        "scores": evaluation.read_json("scores.json")["scores"] if evaluation is not None else [],
        "gates": told["gates"],
        "forced": told["forced"],
        "provenance": {
            "run": published.run.rsplit("/", 1)[1],
            "model": published.model.path,
            "synthetic": published.synthetic.path,
            "evaluation": evaluation.path if evaluation is not None else None,
            "real_rows": told.get("real_rows"),
            "versions": told.get("versions", {}),
        },
    }


def _rules(facts: Mapping[str, Any]) -> list[str]:
    """What a row obeys; and what only the published rows do, for it says nothing of one row."""
    unique = facts.get("unique")
    told = [] if unique is None else [f"unique in the published rows alone: {', '.join(unique['columns'])}"]
    return [*facts["rules"], *(shown(asked) for asked in facts.get("filters", {}).get("asked", ())), *told]


class Registry:
    """The models of some runs. A run that cannot be read keeps its last version; one that is no longer published is no longer served."""

    def __init__(self, runs: Sequence[str], refresh_seconds: float) -> None:
        self._runs = runs
        self._refresh_seconds = refresh_seconds
        self._models: dict[str, Published] = {}
        self._looked = -1e9

    @property
    def fresh(self) -> bool:
        """Whether `models` answers without reading the store."""
        return time.monotonic() - self._looked < self._refresh_seconds

    def models(self) -> dict[str, Published]:
        """By id. Blocking: it may read the store."""
        if not self.fresh:
            self._look()
        return self._models

    def _look(self) -> None:
        known = {published.run: published for published in self._models.values()}
        found: dict[str, Published] = {}
        for url in self._runs:
            try:
                published = read_published(url)
            except (RaysynthError, OSError, KeyError, TypeError, ValueError) as error:
                gone = isinstance(error, DataError) or Run(url).url not in known
                log.warning("%s: %s; %s", url, error, "not served" if gone else "its last version stays")
                if gone:
                    continue
                published = known[Run(url).url]
            found.setdefault(published.id, published)
        self._models, self._looked = found, time.monotonic()


def check_runs(runs: Sequence[str]) -> dict[str, Published]:
    """Before anything starts. DataError names the run that is not published, or two that bear one name."""
    found: dict[str, Published] = {}
    for url in runs:
        published = read_published(url)
        if published.id in found:
            raise DataError(
                f"run '{url}': its model is called '{published.id}', and so is that of '{found[published.id].run}'. "
                "Serve one of them, or give one recipe another name"
            )
        found[published.id] = published
    return found
