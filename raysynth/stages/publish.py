"""Committed synthetic and mixed rows → published.json and the data card, once the gates hold and the listing equals the manifests."""

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from raysynth.audit import verify
from raysynth.card import Card, card
from raysynth.errors import CorruptRunError, GateError
from raysynth.gates import Gate, judge
from raysynth.image_frames import image_columns
from raysynth.markers import canonical
from raysynth.progress import say
from raysynth.recipe import Recipe
from raysynth.runs import Folder, Run
from raysynth.schema import Schema
from raysynth.stages.evaluate import read_scores
from raysynth.stores.base import join


def run(
    recipe: Recipe,
    run: Run,
    prepared: Folder,
    model: Folder | None,
    synthetic: Folder,
    mixed: Folder | None,
    evaluation: Folder | None,
    *,
    force: bool = False,
) -> dict[str, Any]:
    """GateError if a gate fails (`force` publishes all the same, and says so), CorruptRunError if a listed part is missing or has
    another size; published.json then stays as it was. `model`: what made the synthetic rows, where they come from one: it is served."""
    scores = read_scores(evaluation) if evaluation is not None else []
    gates = judge(recipe.evaluate.gates if recipe.evaluate is not None else (), scores)
    failed = [gate for gate in gates if not gate.holds]
    if failed and not force:
        raise GateError(_refusal(failed, evaluation))
    folders = [folder for folder in (synthetic, mixed) if folder is not None]
    for folder in (*folders, *(_filters(run, synthetic) if model is not None else ())):
        _check_whole(folder)
    facts = {
        "name": recipe.name,
        "model": model.id if model else None,
        "evaluation": evaluation.id if evaluation else None,
        "gates": [asdict(gate) for gate in gates],
        "forced": bool(failed),
    }
    published = run.published()
    if published is None or _changed(published, folders, facts):
        published = run.publish(folders, facts)
        say(stage="publish", folders=[folder.path for folder in folders], forced=facts["forced"])
    _write_card(run, card(_card(recipe, prepared, model, folders, published, scores, gates)).encode())
    return published


def _filters(run: Run, synthetic: Folder) -> list[Folder]:
    """Where what the rows' filters go by lies, if they have filters: whoever serves the model needs it."""
    told = synthetic.plan().facts.get("filters")
    return [] if told is None else [Folder(join(run.url, told["path"]))]


def _write_card(run: Run, text: bytes) -> None:
    """Each time, since a driver may have died after it published."""
    url = join(run.url, "README.md")
    if not run.store.exists(url) or run.store.read(url) != text:
        run.store.replace(url, text)


def _refusal(failed: list[Gate], evaluation: Folder | None) -> str:
    told = "; ".join(
        f"'{gate.text}' ({', '.join(f'{name} = {_shown(value)}' for name, value in gate.values.items())})" for gate in failed
    )
    report = f" See {evaluation.url}/report.html." if evaluation is not None else ""
    return f"evaluate.gates: {told} does not hold, so nothing was published.{report} Mend the data or the gate, or publish --force"


def _shown(value: float | None) -> str:
    return "not to be had" if value is None else f"{value:.4g}"


def _check_whole(folder: Folder) -> None:
    found = verify(folder, deep=False)
    if not found.whole:
        raise CorruptRunError(f"{folder.url}: not whole: {'; '.join(found.problems[:5])}. Nothing was published")


def _changed(published: dict[str, Any], folders: list[Folder], facts: dict[str, Any]) -> bool:
    ids = {name: entry["id"] for name, entry in published["folders"].items()}
    told = {name: published.get(name) for name in facts}
    return ids != {folder.name: folder.id for folder in folders} or canonical(told) != canonical(facts)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("raysynth", "ray", "torch", "pyarrow", "numpy", "scikit-learn")}


def _again(recipe: Recipe) -> dict[str, Any]:
    """What makes the same once more: of the keys that are null, only `evaluate` means something else than no key."""
    told = recipe.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"run"})
    return told if recipe.evaluate is not None else {**told, "evaluate": None}


def _card(
    recipe: Recipe,
    prepared: Folder,
    model: Folder | None,
    folders: list[Folder],
    published: dict[str, Any],
    scores: list[dict[str, Any]],
    gates: list[Gate],
) -> Card:
    entries = published["folders"]
    return Card(
        name=recipe.name,
        recipe=_again(recipe),
        folders={folder.name: {**entries[folder.name], "path": folder.path} for folder in folders},
        scores=scores,
        gates=gates,
        forced=published["forced"],
        snapshot=prepared.plan().facts["snapshot"],
        versions=_versions(),
        model=model.path if model is not None else None,
        real_rows=(prepared.outcome() or {}).get("rows"),
        images=bool(image_columns(Schema.from_json(prepared.plan().facts["schema"]))),
        unique=next((folder.plan().facts.get("unique", {}) for folder in folders if folder.name == "synthetic"), {}),
    )
