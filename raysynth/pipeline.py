"""The stages in their order: each is given what the one before committed, and skips what is done."""

from dataclasses import dataclass

from raysynth.cluster.session import session
from raysynth.recipe import Recipe
from raysynth.runs import Folder, Run
from raysynth.stages import generate, prepare, publish, train

STAGES = ("prepare", "train", "generate", "publish")


@dataclass
class Made:
    """The folders that the stages made or found."""

    prepared: Folder | None = None
    model: Folder | None = None
    synthetic: Folder | None = None
    published: bool = False


def run_to(recipe: Recipe, last: str = STAGES[-1]) -> Made:
    """All stages up to `last`, on one connected Ray that is only started if something is left to make."""
    run, made = Run(recipe.run), Made()
    for warning in run.store.check(run.url, write=True):
        from raysynth.progress import say

        say(stage="store", warning=warning)
    with session():
        made.prepared = prepare.run(recipe, run)
        if last == "prepare":
            return made
        made.model = train.run(recipe, run, made.prepared)
        if last == "train":
            return made
        made.synthetic = generate.run(recipe, run, made.prepared, made.model)
        if last == "generate":
            return made
        publish.run(recipe, run, made.synthetic)
        made.published = True
    return made
