"""Fields → decision trees that draw one field after another, each given those before it.

Sequential CART (Reiter, "Using CART to generate partially synthetic, public use microdata", Journal of Official Statistics 2005; synthpop:
Nowok et al., Journal of Statistical Software 2016), held back from copying: a field has several trees, each grown on a random half of the
rows and then filled with all, and a leaf's law is drawn towards those of the nodes above it. A row takes one tree of each field by chance.

A node's law is never written down: it is the rows under it. One of their codes is drawn, or, with odds `shrink` to their number, one of
the node's parent: just what the average of the two laws would give. `where` restricts the rows that may be drawn; a row is then accepted
in proportion to the mass that its restricted draws had, so that it follows the law of the rows that are drawn without.

Shapes: N rows, B rows that are drawn, F fields, S codes of a field, V what a field's trees read, M nodes of a field's trees.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Limits

from raysynth.codecs.base import Stats
from raysynth.draws import Draws
from raysynth.generators._acceptance import Bounds, Masks
from raysynth.generators._growing import Nodes, grown, halves
from raysynth.generators._reading import Reading, normal_place, reading_of
from raysynth.generators.base import Fitted
from raysynth.layout import Array, Arrays, Batch, Facts, Fields, FieldsGiven, Given, Layout

TASK_FIELDS = 4
MOST_DRAWS = 150  # for one accepted row: at 200, a law that is clipped at all would be below sampler.LEAST_ACCEPTANCE
MOST_LAWS = 256  # of conditions, that are kept
MOST_ROWS, MOST_CELLS = 400_000, 40_000_000  # that are learnt from: every second, fourth … row of more
Count = Annotated[int, Limits(ge=1, le=1000)]
Rows = Annotated[int, Limits(ge=1, le=1_000_000)]
Share = Annotated[float, Limits(gt=0, le=1)]
Weight = Annotated[float, Limits(ge=0, le=1e6)]


@dataclass(frozen=True)
class Forest:
    """The trees of one field: what they read, where the root of each is, and their nodes."""

    reading: Reading
    roots: NDArray[np.int32]
    nodes: Nodes

    def leaves(self, read_VB: NDArray[np.float32], root_B: NDArray[np.int32]) -> NDArray[np.int32]:
        """(B,) the leaf in which each row ends."""
        nodes, node_B = self.nodes, root_B.copy()
        active = np.arange(len(node_B))
        while len(active):
            node = node_B[active]
            asked = nodes.reads[node]
            inner = asked >= 0
            active, node, asked = active[inner], node[inner], asked[inner]
            goes_left = read_VB[asked, active] <= nodes.cuts[node]
            node_B[active] = np.where(goes_left, nodes.left[node], nodes.right[node])
        return node_B

    def state(self, name: str) -> Arrays:
        own = {"roots": self.roots, **vars(self.nodes)}
        return {f"{name}.{key}": array for key, array in own.items()} | self.reading.state(f"{name}.reading")

    @classmethod
    def of(cls, arrays: Arrays, name: str) -> Self:
        nodes = Nodes(**{key: arrays[f"{name}.{key}"] for key in Nodes.__dataclass_fields__})
        return cls(Reading.of(arrays, f"{name}.reading"), arrays[f"{name}.roots"], nodes)


class Law:
    """What may be drawn from the nodes of a forest where only some codes are allowed. `mass` (M,): how likely they are in each."""

    def __init__(self, forest: Forest, shrink: float, mask: NDArray[np.bool_] | None) -> None:
        nodes = self.nodes = forest.nodes
        self.shrink = shrink
        self.allowed: NDArray[np.int64] | None = None
        self.start, self.count = nodes.start, (nodes.stop - nodes.start).astype(np.float64)
        self.mass = np.ones(len(nodes.reads))
        if mask is not None:
            allowed = mask[nodes.codes]
            before = np.concatenate([[0], np.cumsum(allowed)])
            self.allowed, self.start = np.flatnonzero(allowed), before[nodes.start]
            kept, every = (before[nodes.stop] - self.start).astype(np.float64), self.count
            self.count = kept
            self.mass = kept / every
            for node in _downwards(forest):
                above = self.mass[nodes.above[node]]
                self.mass[node] = (kept[node] + shrink * above) / (every[node] + shrink)

    def draw(self, node_B: NDArray[np.int32], up_B: NDArray[np.float64], place_B: NDArray[np.float64]) -> Array:
        """(B,) codes. Two uniform numbers of each row: how far up it goes, and which row it takes there."""
        node_B, up_B = node_B.copy(), up_B.copy()
        active = np.arange(len(node_B))
        while len(active):
            node = node_B[active]
            above = self.nodes.above[node]
            odds = self.shrink * self.mass[above] * (above != node)
            whole = self.count[node] + odds
            share = np.divide(odds, whole, out=np.zeros_like(odds), where=whole > 0)
            goes = up_B[active] < share
            active, above, share = active[goes], above[goes], share[goes]
            node_B[active] = above
            up_B[active] /= share
        place = self.start[node_B] + np.minimum(
            (place_B * self.count[node_B]).astype(np.int64), np.maximum(self.count[node_B] - 1, 0).astype(np.int64)
        )
        if self.allowed is None:
            return self.nodes.codes[place]
        if not len(self.allowed):
            return np.zeros(len(node_B), self.nodes.codes.dtype)
        return self.nodes.codes[self.allowed[np.minimum(place, len(self.allowed) - 1)]]


def _downwards(forest: Forest) -> list[NDArray[np.int64]]:
    """The nodes below the roots, level by level."""
    levels: list[NDArray[np.int64]] = []
    level = forest.roots.astype(np.int64)
    while len(level):
        inner = level[forest.nodes.reads[level] >= 0]
        level = np.concatenate([forest.nodes.left[inner], forest.nodes.right[inner]]).astype(np.int64)
        if len(level):
            levels.append(level)
    return levels


@dataclass(frozen=True)
class Forests(Stats):
    """Of some fields: what a task makes."""

    of_field: Mapping[int, Forest]

    def merge(self, other: Self) -> Self:
        return type(self)({**self.of_field, **other.of_field})


class Trees(Fitted):
    """`trees` of each field; `leaf`: rows of the growing half in a leaf, at least: the more, the more privacy and the less fidelity;
    `shrink`: rows' worth of the parent's law in each node's; `read_share` of what there is to read is looked at for each split."""

    accepts: ClassVar[tuple[type[Layout], ...]] = (Fields,)
    version: ClassVar[int] = 2
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scikit-learn", "scipy")
    kernel_rows = 16_384
    chunk_rows = 1

    def __init__(
        self,
        layout: Fields,
        *,
        trees: Count = 10,
        leaf: Rows = 16,
        shrink: Weight = 5.0,
        read_share: Share = 0.6,
    ) -> None:
        self.fields, self.trees, self.leaf, self.shrink = layout.fields, trees, leaf, shrink
        self.read_share = read_share
        self.order = _order(layout)
        self.forests: dict[int, Forest] = {}
        self.bounds = Bounds(MOST_DRAWS)
        self.laws: dict[tuple[int, bytes], Law] = {}

    # --- fitting -------------------------------------------------------------------------------------------------------------

    def tasks(self) -> list[str]:
        return [str(start) for start in range(0, len(self.order), TASK_FIELDS)]

    def fit(self, task: str, rows: Iterable[Batch]) -> Forests:
        start = int(task)
        codes_NF = _some_of(rows, max(1, min(MOST_ROWS, MOST_CELLS // max(1, len(self.order)))))
        return Forests(
            {self.order[at]: self._forest(at, codes_NF) for at in range(start, min(start + TASK_FIELDS, len(self.order)))}
        )

    def _forest(self, at: int, codes_NF: NDArray[np.int32]) -> Forest:
        """Of the field that stands there in the order."""
        number, field = self.order[at], self.fields[self.order[at]]
        reading = reading_of(self.fields, self.order[:at], number, codes_NF)
        read_VN, target_N = reading.read(codes_NF.T), codes_NF[:, number]
        aims_S = normal_place(target_N, field) if field.ranks is not None and field.size > 2 else None
        made = [
            grown(read_VN, target_N, aims_S, half, seed, leaf=self.leaf, share=self.read_share)
            for seed, half in enumerate(halves(len(target_N), self.trees, number))
        ]
        nodes, roots = Nodes.joined(made, field.size)
        return Forest(reading, roots, nodes)

    def merge(self, stats: list[Stats]) -> None:
        self.forests = {field: forest for made in stats for field, forest in cast("Forests", made).of_field.items()}

    # --- sampling ------------------------------------------------------------------------------------------------------------

    def sample(self, draws: Draws, given: Given | None) -> Batch:
        masks = dict(given.masks) if isinstance(given, FieldsGiven) else {}
        codes_BF, weight_B = self._propose(draws, masks)
        if not masks:
            return Batch({"codes": codes_BF})
        return Batch(
            {"codes": codes_BF}, draws.uniform("accept") * self.bounds.of(masks, self.kernel_rows, self._weights) < weight_B
        )

    def _weights(self, draws: Draws, masks: Masks) -> NDArray[np.float64]:
        return self._propose(draws, masks)[1]

    def _propose(self, draws: Draws, masks: Masks) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """(B, F) codes within the masks, and (B,) the mass that the masks had where they were drawn."""
        codes_FB = np.zeros((len(self.fields), len(draws)), np.int32)
        weight_B = np.ones(len(draws))
        for field in self.order:
            forest, law = self.forests[field], self._law(field, masks.get(field))
            tree_B, up_B, place_B = draws.uniform(f"field-{field}", 3).T
            root_B = forest.roots[np.minimum((tree_B * len(forest.roots)).astype(np.int64), len(forest.roots) - 1)]
            node_B = forest.leaves(forest.reading.read(codes_FB), root_B)
            codes_FB[field] = law.draw(node_B, up_B, place_B)
            if field in masks:
                weight_B *= law.mass[node_B]
        return np.ascontiguousarray(codes_FB.T), weight_B

    def _law(self, field: int, mask: NDArray[np.bool_] | None) -> Law:
        key = (field, b"" if mask is None else mask.tobytes())
        if key not in self.laws:
            if len(self.laws) > MOST_LAWS + len(self.fields):
                self.laws.clear()
            self.laws[key] = Law(self.forests[field], self.shrink, mask)
        return self.laws[key]

    # --- what is stored ------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[Arrays, Facts]:
        arrays = {name: array for field, forest in self.forests.items() for name, array in forest.state(str(field)).items()}
        return arrays, {"fields": sorted(self.forests)}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        self.forests = {field: Forest.of(arrays, str(field)) for field in facts["fields"]}
        self.laws.clear()
        self.bounds = Bounds(MOST_DRAWS)


def _order(layout: Fields) -> list[int]:
    """Narrow columns first, the fields of one column together; those of one code tell nothing and are none of it."""
    widest: dict[str, int] = {}
    for field in layout.fields:
        widest[field.column] = max(widest.get(field.column, 0), field.size)
    columns = list(widest)
    varied = [number for number, field in enumerate(layout.fields) if field.size > 1]
    return sorted(varied, key=lambda i: (widest[layout.fields[i].column], columns.index(layout.fields[i].column), i))


def _some_of(batches: Iterable[Batch], most: int) -> NDArray[np.int32]:
    """(N, F) codes, of every so many-th row, a power of two, so that there are at most so many."""
    kept: list[NDArray[np.int32]] = []
    step, seen, held = 1, 0, 0
    for batch in batches:
        codes = batch["codes"]
        kept.append(codes[-seen % step :: step])
        seen, held = seen + len(codes), held + len(kept[-1])
        while held > most:
            step *= 2
            kept = [np.concatenate(kept)[::2]]
            held = len(kept[0])
    return np.concatenate(kept) if kept else np.zeros((0, 0), np.int32)
