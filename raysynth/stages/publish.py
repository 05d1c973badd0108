"""Committed synthetic rows → published.json and the data card, after the listing was found equal to the manifest."""

from typing import Any

import yaml

from raysynth.audit import verify
from raysynth.errors import CorruptRunError
from raysynth.recipe import Recipe
from raysynth.runs import Folder, Run
from raysynth.stores.base import join


def run(recipe: Recipe, run: Run, synthetic: Folder) -> dict[str, Any]:
    """CorruptRunError, and published.json as it was, if a listed part is missing or has another size."""
    found = verify(synthetic, deep=False)
    if not found.whole:
        raise CorruptRunError(f"{synthetic.url}: not whole: {'; '.join(found.problems[:5])}. Nothing was published")
    published = run.published()
    if published is None or published["folders"].get("synthetic", {}).get("id") != synthetic.id:
        published = run.publish([synthetic], {"gates": [], "forced": False})
        run.store.replace(join(run.url, "README.md"), _card(recipe, synthetic, published).encode())
    return published


def _card(recipe: Recipe, synthetic: Folder, published: dict[str, Any]) -> str:
    rows = published["folders"]["synthetic"]["rows"]
    front = yaml.safe_dump({"pretty_name": recipe.name, "tags": ["synthetic", "raysynth"]}, sort_keys=False)
    recipe_text = yaml.safe_dump(recipe.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"run"}), sort_keys=False)
    return (
        f"---\n{front}---\n# {recipe.name}\n{rows:,} synthetic rows in `{synthetic.path}`; no real row is among them by intent, and no "
        f"privacy measure has been taken yet (`raysynth evaluate` comes with a later release).\n\n"
        f"## How to make it again\n`raysynth run recipe.yaml`, with\n```yaml\n{recipe_text}```\n"
    )
