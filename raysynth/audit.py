"""A run → whether every committed byte is still there (verify), and rid of what no manifest lists (gc)."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from raysynth.errors import CorruptRunError, RecipeError, StoppedError
from raysynth.markers import HASH_CHARACTERS, canonical, digest
from raysynth.runs import READERS, SYSTEM, Folder, Run
from raysynth.stores.base import Stat, join

OUTCOME = f"{SYSTEM}/outcome.json"
TMP = "/".join([SYSTEM, "tmp", ""])
KEPT = (f"{SYSTEM}/plan.json", f"{SYSTEM}/profile.json", f"{SYSTEM}/timing.json", f"{SYSTEM}/hashes.json", OUTCOME, "_SUCCESS")
KEPT_BELOW = (f"{SYSTEM}/markers/", f"{SYSTEM}/replies/", f"{SYSTEM}/spent/")
LISTED = 1024


@dataclass
class Verification:
    """What verify saw. `problems`: a sentence for each missing or changed file; `foreign`: paths that no manifest lists."""

    parts: int = 0
    rows: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list[str])
    foreign: list[str] = field(default_factory=list[str])

    @property
    def whole(self) -> bool:
        return not self.problems


def verify(place: Run | Folder, deep: bool = True) -> Verification:
    """Every file of every committed folder against its manifest: there, of that size and, if `deep`, of that SHA-256."""
    seen = Verification()
    for folder, files in _contents(place):
        if OUTCOME not in files:
            if "_SUCCESS" in files:
                seen.problems.append(f"{folder.path}/{OUTCOME}: missing, although there is a _SUCCESS")
            continue
        try:
            if folder.committed:
                _verify_folder(folder, files, deep, seen)
        except CorruptRunError as error:
            seen.problems.append(str(error))
    if isinstance(place, Run):
        _verify_pointers(place, seen)
    return seen


def _contents(place: Run | Folder) -> list[tuple[Folder, dict[str, Stat]]]:
    """Each folder with its files by path within it, from one listing."""
    folders: dict[str, dict[str, Stat]] = {}
    depth = place.url.count("/") + (2 if isinstance(place, Run) else 0)
    for stat in place.store.list(place.url):
        steps = stat.url.split("/")
        if len(steps) > depth + 1:
            folders.setdefault("/".join(steps[: depth + 1]), {})["/".join(steps[depth + 1 :])] = stat
    return [(Folder(url), files) for url, files in folders.items()]


def _verify_folder(folder: Folder, files: dict[str, Stat], deep: bool, seen: Verification) -> None:
    outcome = folder.outcome() or {}
    unlisted, rows = set(files), 0
    with ThreadPoolExecutor(READERS) as pool:  # each holds one file in memory
        for listed in _listed(folder):
            seen.problems += filter(None, pool.map(partial(_problem, folder, files, deep), listed, listed.values()))
            unlisted.difference_update(listed)
            seen.parts += len(listed)
            seen.bytes += sum(entry["bytes"] for entry in listed.values())
            rows += sum(entry["rows"] for entry in listed.values())
    seen.rows += rows
    if rows != outcome["rows"]:
        seen.problems.append(f"{folder.path}: outcome.json says {outcome['rows']} rows, the manifest {rows}")
    if deep:
        seen.problems += [f"{folder.path}/{path}: changed, not the hash in its name" for path in _changed_markers(folder, files)]
    seen.foreign += [f"{folder.path}/{path}" for path in _foreign(folder, unlisted) if not path.startswith(TMP)]


def _problem(folder: Folder, files: dict[str, Stat], deep: bool, path: str, entry: dict[str, Any]) -> str:
    """What is wrong with a file that the manifest lists; '' if nothing is."""
    if path not in files:
        return f"{folder.path}/{path}: missing"
    if files[path].size_bytes != entry["bytes"]:
        return f"{folder.path}/{path}: {files[path].size_bytes} bytes, the manifest says {entry['bytes']}"
    if deep and digest(folder.store.read(files[path].url)) != entry["sha256"]:
        return f"{folder.path}/{path}: changed, its SHA-256 is not the manifest's"
    return ""


def _listed(folder: Folder) -> Iterator[dict[str, dict[str, Any]]]:
    """The manifest's entries by path, some at a time: a million of them as Python objects would take a GiB."""
    for batch in folder.manifest().to_batches(max_chunksize=LISTED):
        yield {"/".join(filter(None, (entry["sub"], entry["name"]))): entry for entry in batch.to_pylist()}


def _changed_markers(folder: Folder, files: dict[str, Stat]) -> list[str]:
    markers = [path for path in files if path.startswith(f"{SYSTEM}/markers/")]
    return [path for path in markers if not path.endswith(f"-{digest(folder.store.read(files[path].url))[:HASH_CHARACTERS]}.json")]


def _foreign(folder: Folder, unlisted: Iterable[str]) -> list[str]:
    """Of the paths that the manifest does not list those that have no business to be there, sorted."""
    manifest = (folder.outcome() or {})["committed"]["manifest"]
    known = {*KEPT, f"{SYSTEM}/{manifest}"}
    return sorted(path for path in unlisted if path not in known and not path.startswith(KEPT_BELOW))


def _verify_pointers(run: Run, seen: Verification) -> None:
    try:
        names = {folder.name for folder in run.history()}
        seen.problems += [
            f"{name}: run.json points at a folder that is not committed" for name in names if run.current(name) is None
        ]
        for name, entry in ((run.published() or {}).get("folders") or {}).items():
            if not Folder(join(run.url, name, entry["id"])).committed:
                seen.problems.append(f"{name}/{entry['id']}: published.json points at it, and it is not committed")
    except CorruptRunError as error:
        seen.problems.append(str(error))


def gc(run: Run, older_than_seconds: float = 86_400, abandon: str | None = None, dry_run: bool = False) -> list[str]:
    """Delete what no manifest lists in committed folders, if older than that, and what is left in abandoned ones → the paths.
    `abandon`: `<name>/<id>` of an unfinished folder; a later run uses `<id>.2`. RecipeError if that one is committed or absent."""
    doomed = [] if abandon is None else _abandon(run, abandon, dry_run)
    for folder, files in _contents(run):
        outcome = folder.outcome() if OUTCOME in files else None
        if outcome is None:
            continue
        if "abandoned" in outcome:
            paths = [path for path in files if path != OUTCOME]
        else:
            unlisted = set(files).difference(*_listed(folder))
            paths = [path for path in _foreign(folder, unlisted) if _age_seconds(files[path]) >= older_than_seconds]
        doomed += [f"{folder.path}/{path}" for path in paths]
    doomed = sorted(set(doomed))
    if not dry_run:
        for path in doomed:
            run.store.delete(join(run.url, path))
    return doomed


def _abandon(run: Run, path: str, dry_run: bool) -> list[str]:
    """The mark is the outcome itself, put if absent: either a commit comes first or this does, never both."""
    folder = Folder(join(run.url, path))
    files = [f"{folder.path}/{stat.url.removeprefix(folder.url + '/')}" for stat in run.store.list(folder.url)]
    if path.count("/") != 1 or not files:
        raise RecipeError(f"--abandon '{path}': no such folder in this run. Give it as <name>/<id>, such as synthetic/0123456789ab")
    if not dry_run and folder.outcome() is None:
        run.store.put(folder.system_url("outcome.json"), canonical({"abandoned": True}))
    if folder.committed:
        raise RecipeError(f"--abandon '{path}': is committed, and committed folders are never deleted")
    if not dry_run and not folder.abandoned:
        raise StoppedError(f"--abandon '{path}': could not be marked. Try again")
    return [] if not dry_run else [file for file in files if not file.endswith(f"/{OUTCOME}")]


def _age_seconds(stat: Stat) -> float:
    """0 where the store does not say when the object was written: then only `older_than_seconds` 0 deletes it."""
    return 0.0 if stat.modified_seconds is None else max(0.0, time.time() - stat.modified_seconds)
